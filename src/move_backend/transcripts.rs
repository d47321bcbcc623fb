//! The transcripts of a home, on their way to a server: each is read as the rows that its thread would have there.
//!
//! Invariants:
//! 1. A thread's transcript is the one that the home's own store would open for it.
//! 2. What cannot be read, or stands in no list, refuses the move; what is no item (a torn end, a bad line) is told, and stays
//!    in the file that is put aside.
//! 3. Nobody wrote one since they were looked at: [`Transcripts::refuse_changed`] is asked when `move.json` is there, which
//!    keeps everybody from the right to write.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension};

use super::cell::{Cell, Unholdable};
use super::side::{Each, Files, Put, Side};
use super::sum::Sum;
use super::table::Table;
use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};
use crate::home::PreparedHome;
use crate::rollout::layout::FOLDERS;
use crate::rollout::{self, Reader, RolloutFile, layout, walk};

/// The domain of threads.
pub(super) const STATE: &str = "state";
/// Of what a plan lists, how many are named.
const NAMED: usize = 10;

/// The transcripts of a home that are their threads' histories. About 300 bytes of memory for each.
pub(super) struct Transcripts {
    home: PathBuf,
    /// By thread.
    of: BTreeMap<String, Transcript>,
    pub(super) folders: Vec<String>,
    /// All files as they were when they were looked at.
    seen: Sum,
    unreadable: Noted,
    unlisted: Noted,
    twice: Noted,
    torn: Noted,
    bad: Noted,
    copies: Noted,
    elsewhere: Noted,
}

struct Transcript {
    path: PathBuf,
    rank: Rank,
    items: u64,
}

/// Of several the least one counts: what the row says, plain, live, the longest.
type Rank = (bool, bool, bool, std::cmp::Reverse<i64>);

/// What a plan lists.
#[derive(Default)]
pub(super) struct Noted {
    count: u64,
    first: Vec<String>,
}

impl Noted {
    pub(super) fn note(&mut self, what: impl Into<String>) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(what.into());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn told(&self) -> String {
        let more = self.count - self.first.len() as u64;
        let named = self.first.join(", ");
        if more == 0 { named } else { format!("{named}, and {more} more") }
    }

    fn warn(&self, warnings: &mut Vec<String>, what: &str) {
        if !self.is_empty() {
            warnings.push(format!("{what}: {}", self.told()));
        }
    }
}

/// What a transcript was found to hold.
pub(super) struct Held {
    pub(super) items: u64,
    bad: u64,
    torn: bool,
}

/// Gives each item of a transcript: its number, its type, its line.
///
/// A last line that lacks only its newline is one, as for whoever resumes the thread.
pub(super) fn items_of(path: &Path, each: &mut dyn FnMut(u64, &str, &str) -> Result<()>) -> Result<Held> {
    let mut reader = Reader::open(path)?;
    let mut items = 0;
    while let Some(line) = reader.next()? {
        each(items, &line.kind, line.text)?;
        items += 1;
    }
    let mut torn = reader.torn_bytes() > 0 || reader.is_passing();
    if let Some(line) = reader.unfinished() {
        each(items, &line.kind, line.text)?;
        items += 1;
        torn = false;
    }
    Ok(Held { items, bad: reader.bad_lines(), torn })
}

/// The row of a history that nobody writes.
pub(super) fn history_row<'a>(table: &Table, thread: &'a str, items: u64) -> Vec<Cell<'a>> {
    let cell = |name: &str| match name {
        "thread_id" => Cell::Text(thread.into()),
        "items" => Cell::Integer(number(items)),
        _ => Cell::Null,
    };
    table.columns.iter().map(|column| cell(&column.name)).collect()
}

/// The row of an item.
pub(super) fn item_row<'a>(
    table: &Table,
    thread: &'a str,
    seq: u64,
    kind: &'a str,
    text: &'a str,
) -> Vec<Cell<'a>> {
    let cell = |name: &str| match name {
        "thread_id" => Cell::Text(thread.into()),
        "seq" => Cell::Integer(number(seq)),
        "kind" => Cell::Text(rollout::stored_kind(kind).into()),
        "item" => Cell::Blob(text.as_bytes()),
        _ => Cell::Null,
    };
    table.columns.iter().map(|column| cell(&column.name)).collect()
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A text of a row.
pub(super) fn text_of<'c>(table: &Table, cells: &'c [Cell<'_>], column: &str) -> Option<&'c str> {
    let at = table.columns.iter().position(|one| one.name == column)?;
    match cells.get(at) {
        Some(Cell::Text(text)) => Some(text),
        _ => None,
    }
}

/// What a row says of the file that its transcript was: nothing of another one.
const STAMP: [&str; 3] = ["rollout_size", "rollout_mtime_ns", "rollout_inode"];

/// Gives a thread's row, with this as the place of its transcript, which nobody has read yet.
pub(super) fn placed(
    table: &Table,
    cells: &[Cell<'_>],
    odd: &[(usize, Unholdable)],
    place: Cell<'_>,
    each: &mut Each<'_>,
) -> Result<()> {
    let mut place = Some(place);
    let mut cells = cells.to_vec();
    let mut changed = Vec::with_capacity(4);
    for (at, (column, cell)) in table.columns.iter().zip(&mut cells).enumerate() {
        if column.name == "rollout_path" {
            *cell = place.take().unwrap_or(Cell::Null);
            changed.push(at);
        } else if STAMP.contains(&&*column.name) {
            *cell = Cell::Null;
            changed.push(at);
        }
    }
    let odd: Vec<_> = odd.iter().filter(|(column, _)| !changed.contains(column)).copied().collect();
    each(&cells, &odd)
}

impl Transcripts {
    /// Looks at all of them, to their ends.
    ///
    /// # Errors
    /// Of the database.
    pub(super) fn look(home: &PreparedHome, state: &Connection) -> Result<Self> {
        let mut found = Self {
            home: home.path().to_owned(),
            of: BTreeMap::new(),
            folders: folders_of(home.path()),
            seen: Sum::default(),
            unreadable: Noted::default(),
            unlisted: Noted::default(),
            twice: Noted::default(),
            torn: Noted::default(),
            bad: Noted::default(),
            copies: Noted::default(),
            elsewhere: Noted::default(),
        };
        for folder in found.folders.clone() {
            for file in walk(&home.path().join(folder))? {
                match file {
                    Ok(file) => {
                        found.seen.add(&as_it_is(&file));
                        found.consider(file, state)?;
                    }
                    Err(error) => found.unreadable.note(error.to_string()),
                }
            }
        }
        for one in found.of.values_mut() {
            match items_of(&one.path, &mut |_, _, _| Ok(())) {
                Ok(held) => {
                    one.items = held.items;
                    let path = one.path.display().to_string();
                    if held.torn {
                        found.torn.note(path.clone());
                    }
                    if held.bad > 0 {
                        found.bad.note(format!("{path} ({})", held.bad));
                    }
                }
                Err(error) => found.unreadable.note(error.to_string()),
            }
        }
        found.compare(state)?;
        Ok(found)
    }

    /// Keeps it if it is the history of its thread.
    fn consider(&mut self, file: RolloutFile, state: &Connection) -> Result<()> {
        let path = file.path.display().to_string();
        let id = match rollout::id_of(&file.path) {
            Ok(id) => id,
            Err(error) => {
                self.unreadable.note(error.to_string());
                return Ok(());
            }
        };
        let row = "SELECT rollout_path, archived_at IS NOT NULL FROM thread WHERE id = ?1";
        let row: Option<(Option<String>, bool)> =
            state.prepare_cached(row)?.query_row([&id], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let Some((hint, archived)) = row else {
            // Of one that is being deleted nothing is to be kept.
            let going = "SELECT 1 FROM tombstone WHERE thread_id = ?1";
            if !state.prepare_cached(going)?.exists([&id])? {
                self.unlisted.note(path);
            }
            return Ok(());
        };
        let hint = hint.map(PathBuf::from);
        let hinted = hint.is_some_and(|hint| hint == file.path || layout::plain(&hint) == file.path);
        if !hinted && file.id_in_name().as_deref() != Some(&*id) {
            self.unlisted.note(path);
            return Ok(());
        }
        let rank = (!hinted, file.compressed, file.archived, std::cmp::Reverse(file.stamp.size));
        match self.of.get(&id).map(|other| other.rank <= rank) {
            Some(true) => {
                self.copies.note(path);
                return Ok(());
            }
            Some(false) => {
                let other = self.of.remove(&id).map(|other| other.path.display().to_string());
                self.copies.note(other.unwrap_or_default());
            }
            None => {}
        }
        if file.archived != archived {
            self.unlisted.note(path);
        }
        self.of.insert(id, Transcript { path: file.path, rank, items: 0 });
        Ok(())
    }

    /// What the database knows of threads and histories beside these.
    fn compare(&mut self, state: &Connection) -> Result<()> {
        let mut placed =
            state.prepare("SELECT id, rollout_path FROM thread WHERE rollout_path IS NOT NULL")?;
        let mut rows = placed.query([])?;
        while let Some(row) = rows.next()? {
            // What is no text is told as a value that cannot be held.
            let (Ok(id), Ok(path)) = (row.get::<_, String>(0), row.get::<_, String>(1)) else { continue };
            if !self.of.contains_key(&id) {
                self.elsewhere.note(path);
            }
        }
        let mut there = state.prepare("SELECT thread_id FROM thread_history")?;
        let mut rows = there.query([])?;
        while let Some(row) = rows.next()? {
            let Ok(id) = row.get::<_, String>(0) else { continue };
            if self.of.contains_key(&id) {
                self.twice.note(id);
            }
        }
        Ok(())
    }

    /// Sentences about what does not come along.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut told = Vec::new();
        self.unreadable.warn(&mut told, "transcripts that cannot be read, which refuses the move");
        self.unlisted.warn(&mut told, "transcripts that no list shows as they are, which refuses the move");
        self.twice.warn(&mut told, "threads with a transcript and a history in rows, which refuses the move");
        self.torn.warn(&mut told, "a torn last line stays in the file that is put aside");
        self.bad.warn(&mut told, "lines that are no records stay in the file that is put aside");
        self.copies.warn(&mut told, "more transcripts of a thread than the one that counts are put aside");
        self.elsewhere.warn(
            &mut told,
            "these transcripts are gone or outside this home and stay where they are; their threads have no history on the \
             server",
        );
        told
    }

    /// Refuses what would be lost.
    ///
    /// # Errors
    /// `Corrupt`, `Conflict`.
    pub(super) fn refuse(&self) -> Result<()> {
        let refused = |kind, what: &str, noted: &Noted, advice: &'static str| {
            Err(Error::new(kind, format!("{what}: {}", noted.told())).at_path(&self.home).advise(advice))
        };
        if !self.unreadable.is_empty() {
            return refused(
                ErrorKind::Corrupt,
                "these transcripts cannot be read",
                &self.unreadable,
                "mend them, or move them out of the home; nothing was changed",
            );
        }
        if !self.unlisted.is_empty() {
            return refused(
                ErrorKind::Conflict,
                "no list shows these transcripts as they are",
                &self.unlisted,
                "run: rowhouse reindex; one that it does not take has to leave the home; nothing was changed",
            );
        }
        if !self.twice.is_empty() {
            return refused(
                ErrorKind::Conflict,
                "these threads have a transcript and a history in rows",
                &self.twice,
                "move the transcripts that do not count out of the home; nothing was changed",
            );
        }
        Ok(())
    }

    /// Refuses to go on when somebody writes a transcript, or wrote one since they were looked at. Nobody begins to once
    /// `move.json` is there.
    ///
    /// # Errors
    /// `Busy`.
    pub(super) fn refuse_changed(&self, home: &PreparedHome) -> Result<()> {
        rollout::refuse_writers(home)?;
        let mut seen = Sum::default();
        let folders = folders_of(home.path());
        for folder in &folders {
            for file in walk(&home.path().join(folder))? {
                seen.add(&as_it_is(&file?));
            }
        }
        if folders == self.folders && seen == self.seen {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Busy, "somebody wrote transcripts of this home meanwhile")
            .at_path(home.path())
            .advise("end the programs that use it, and try again; nothing was changed"))
    }

    fn each_item(&self, table: &Table, each: &mut Each<'_>) -> Result<()> {
        for (id, one) in &self.of {
            items_of(&one.path, &mut |seq, kind, text| each(&item_row(table, id, seq, kind, text), &[]))?;
        }
        Ok(())
    }
}

/// Those that are there, and no links: what a link leads to is outside the home.
fn folders_of(home: &Path) -> Vec<String> {
    let is_there = |name: &&str| home.join(name).symlink_metadata().is_ok_and(|found| found.is_dir());
    FOLDERS.into_iter().filter(is_there).map(str::to_owned).collect()
}

fn as_it_is(file: &RolloutFile) -> [Cell<'_>; 4] {
    let stamp = &file.stamp;
    let path = Cell::Blob(file.path.as_os_str().as_encoded_bytes());
    [path, Cell::Integer(stamp.size), Cell::Integer(stamp.mtime_ns), Cell::Integer(stamp.inode)]
}

/// Databases in files, and the transcripts beside them.
pub(super) struct WithTranscripts<'f, 't> {
    pub(super) files: Files<'f>,
    /// When threads are moved.
    pub(super) transcripts: Option<&'t Transcripts>,
}

impl Side for WithTranscripts<'_, '_> {
    fn tables(&mut self, domain: &Domain) -> Result<Vec<Table>> {
        self.files.tables(domain)
    }

    fn read(&mut self, domain: &str, table: &Table, each: &mut Each<'_>) -> Result<()> {
        let Some(transcripts) = self.transcripts.filter(|_| domain == STATE) else {
            return self.files.read(domain, table, each);
        };
        match &*table.name {
            // Its history is where its row is.
            "thread" => self.files.read(domain, table, &mut |cells, odd| {
                let moved = text_of(table, cells, "id").is_some_and(|id| transcripts.of.contains_key(id));
                if moved { placed(table, cells, odd, Cell::Null, each) } else { each(cells, odd) }
            }),
            "thread_history" => {
                self.files.read(domain, table, each)?;
                let mut of = transcripts.of.iter();
                of.try_for_each(|(id, one)| each(&history_row(table, id, one.items), &[]))
            }
            "thread_item" => {
                self.files.read(domain, table, each)?;
                transcripts.each_item(table, each)
            }
            _ => self.files.read(domain, table, each),
        }
    }

    fn fill(
        &mut self,
        domain: &str,
        table: &Table,
        rows: &mut dyn FnMut(&mut Put<'_>) -> Result<()>,
    ) -> Result<()> {
        self.files.fill(domain, table, rows)
    }

    fn settle(&mut self, domain: &str, tables: &[Table]) -> Result<()> {
        self.files.settle(domain, tables)
    }
}
