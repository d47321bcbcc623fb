//! The transcripts of a home, on their way to a server: each is read as the rows that its thread would have there.
//!
//! Invariants:
//! 1. A thread's transcript is the one that the home's own store would open for it.
//! 2. What cannot be read, or stands in no list, refuses the move; what is no item (a torn end, a bad line) is told, and stays
//!    in the file that is put aside.
//! 3. Each is opened twice: when it is looked at, to its end, and when it is copied. What was read at first is summed up as the
//!    rows of its items, so that neither a plan nor the comparison reads it once more.
//! 4. Nobody wrote one since they were looked at: [`Transcripts::refuse_changed`] is asked when `move.json` is there, which
//!    keeps everybody from the right to write.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension};

use super::cell::{Cell, Unholdable};
use super::side::{Each, Files, Side, Source};
use super::sum::Sum;
use super::table::Table;
use super::transfer::Told;
use super::{MoveStep, OnProgress};
use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};
use crate::home::PreparedHome;
use crate::rollout::becoming::LONGEST_FIRST;
use crate::rollout::layout::FOLDERS;
use crate::rollout::{self, Reader, RolloutFile, RolloutLine, layout, walk};

/// The domain of threads.
pub(super) const STATE: &str = "state";
/// Of what a plan lists, how many are named.
const NAMED: usize = 10;

/// The transcripts of a home that are their threads' histories. About 400 bytes of memory for each.
pub(super) struct Transcripts {
    home: PathBuf,
    /// By thread.
    of: BTreeMap<String, Transcript>,
    pub(super) folders: Vec<String>,
    /// All files as they were when they were looked at.
    seen: Sum,
    /// Their items.
    items: Sum,
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
    found: Content,
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

/// The items of a transcript, and what else is in it; or why it cannot be read to its end.
type Content = std::result::Result<(Sum, Held), String>;

/// What a transcript was found to hold beside its items.
pub(super) struct Held {
    bad: u64,
    torn: bool,
}

/// Gives each item of a transcript, and its number.
///
/// A last line that lacks only its newline is one, as for whoever resumes the thread.
pub(super) fn items_of(
    path: &Path,
    each: &mut dyn FnMut(u64, &RolloutLine<'_>) -> Result<()>,
) -> Result<Held> {
    let mut reader = Reader::open(path)?;
    let mut items = 0;
    while let Some(line) = reader.next()? {
        each(items, &line)?;
        items += 1;
    }
    let mut torn = reader.torn_bytes() > 0 || reader.is_passing();
    if let Some(line) = reader.unfinished() {
        each(items, &line)?;
        torn = false;
    }
    Ok(Held { bad: reader.bad_lines(), torn })
}

/// What a transcript holds, as rows of its items.
pub(super) fn sum_of(path: &Path, thread: &str, items: &Table) -> Result<Sum> {
    let mut sum = Sum::default();
    items_of(path, &mut |seq, line| {
        sum.add(&item_row(items, thread, seq, line));
        Ok(())
    })?;
    Ok(sum)
}

/// The thread of a transcript by its first line, and what it holds.
fn look_at(path: &Path, items: &Table, told: &mut Told<'_, '_>) -> Result<(String, Content)> {
    let (mut id, mut sum) = (None, Sum::default());
    let held = items_of(path, &mut |seq, line| {
        let id = match &mut id {
            Some(id) => id,
            none => none.insert(thread_of(path, line)?),
        };
        sum.add(&item_row(items, id, seq, line));
        told.row();
        Ok(())
    });
    match (id, held) {
        (Some(id), held) => Ok((id, held.map(|held| (sum, held)).map_err(|error| error.to_string()))),
        (None, Ok(held)) => Ok((rollout::id_of(path)?, Ok((sum, held)))),
        (None, Err(error)) => Err(error),
    }
}

fn thread_of(path: &Path, first: &RolloutLine<'_>) -> Result<String> {
    let found = rollout::beginning(first.text.as_bytes());
    match found.ok().filter(|_| first.number == Some(1) && first.text.len() < LONGEST_FIRST) {
        Some((id, _)) => Ok(id),
        // It says what is wrong with it.
        None => rollout::id_of(path),
    }
}

/// The table of items.
pub(super) fn items_among(tables: &[Table]) -> Result<&Table> {
    tables.iter().find(|table| table.name == "thread_item").ok_or_else(|| {
        Error::new(ErrorKind::Conflict, "the table thread_item is missing")
            .advise("somebody changed a schema by hand; nothing was changed")
    })
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
    line: &RolloutLine<'a>,
) -> Vec<Cell<'a>> {
    let cell = |name: &str| match name {
        "thread_id" => Cell::Text(thread.into()),
        "seq" => Cell::Integer(number(seq)),
        "kind" => Cell::Text(rollout::stored_kind(&line.kind).into()),
        "item" => Cell::Blob(line.text.as_bytes()),
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

impl Transcript {
    fn items(&self) -> u64 {
        self.found.as_ref().map_or(0, |(sum, _)| sum.rows)
    }
}

impl Transcripts {
    /// Looks at all of them, to their ends.
    ///
    /// # Errors
    /// Of the database.
    pub(super) fn look(
        home: &PreparedHome,
        state: &Connection,
        items: &Table,
        progress: &mut OnProgress<'_>,
    ) -> Result<Self> {
        let mut told = Told::new(progress, MoveStep::Planning, STATE, items, 0);
        let mut found = Self {
            home: home.path().to_owned(),
            of: BTreeMap::new(),
            folders: folders_of(home.path()),
            seen: Sum::default(),
            items: Sum::default(),
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
                        match look_at(&file.path, items, &mut told) {
                            Ok((id, held)) => found.consider(file, id, held, state)?,
                            Err(error) => found.unreadable.note(error.to_string()),
                        }
                    }
                    Err(error) => found.unreadable.note(error.to_string()),
                }
            }
        }
        for one in found.of.values() {
            match &one.found {
                Ok((sum, held)) => {
                    found.items = found.items.and(*sum);
                    if held.torn {
                        found.torn.note(one.path.display().to_string());
                    }
                    if held.bad > 0 {
                        found.bad.note(format!("{} ({})", one.path.display(), held.bad));
                    }
                }
                Err(why) => found.unreadable.note(why.clone()),
            }
        }
        found.compare(state)?;
        Ok(found)
    }

    /// Keeps it if it is the history of its thread.
    fn consider(&mut self, file: RolloutFile, id: String, found: Content, state: &Connection) -> Result<()> {
        let path = file.path.display().to_string();
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
        self.of.insert(id, Transcript { path: file.path, rank, found });
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
            items_of(&one.path, &mut |seq, line| each(&item_row(table, id, seq, line), &[]))?;
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

    fn look(&mut self, domain: &str, table: &Table, each: &mut Each<'_>) -> Result<Sum> {
        match self.transcripts {
            Some(transcripts) if (domain, &*table.name) == (STATE, "thread_item") => {
                self.files.read(domain, table, each).map(|()| transcripts.items)
            }
            _ => self.read(domain, table, each).map(|()| Sum::default()),
        }
    }
}

impl Source for WithTranscripts<'_, '_> {
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
                of.try_for_each(|(id, one)| each(&history_row(table, id, one.items()), &[]))
            }
            "thread_item" => {
                self.files.read(domain, table, each)?;
                transcripts.each_item(table, each)
            }
            _ => self.files.read(domain, table, each),
        }
    }
}
