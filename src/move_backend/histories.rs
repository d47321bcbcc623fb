//! The histories of a server, on their way into transcripts.
//!
//! Invariants:
//! 1. Which history becomes a transcript, where and of which bytes, `rollout::becoming` says. All others stay rows, and are told.
//! 2. They are written below the folder that has no name yet, and get their place with two renames.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use tokio_postgres::types::Type;

use super::cell::Cell;
use super::side::{Each, Files, OnServer, Put, Side, Source, Target};
use super::sum::Sum;
use super::table::Table;
use super::transcripts::{Noted, STATE, history_row, items_among, placed, sum_of, text_of};
use super::transfer::Told;
use super::{MoveStep, OnProgress};
use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};
use crate::home;
use crate::postgres::bulk::Received;
use crate::rollout;
use crate::rollout::becoming::{Becoming, put_line};
use crate::rollout::layout::FOLDERS;

/// Those that become transcripts. About 300 bytes of memory for each.
#[derive(Default)]
pub(super) struct Histories {
    /// By thread.
    of: BTreeMap<String, History>,
    odd: Noted,
    /// All items, of these histories or not; `None` when a plan has to read them again, for what a file cannot hold.
    items: Option<Sum>,
}

struct History {
    items: u64,
    becoming: Becoming,
    /// One of its items is longer than a value of a file.
    too_long: bool,
}

fn unreadable() -> Error {
    Error::new(ErrorKind::Corrupt, "the server sent an item that cannot be read")
}

impl Histories {
    /// Reads all of them.
    ///
    /// # Errors
    /// Of the server.
    pub(super) fn look(
        server: &mut OnServer<'_, '_>,
        items: &Table,
        progress: &mut OnProgress<'_>,
    ) -> Result<Self> {
        let mut found = Self::default();
        let schema = server.of(STATE)?;
        let rows = format!(
            "COPY (SELECT h.thread_id, h.items, t.archived_at IS NOT NULL, t.created_at FROM {schema}.thread_history AS h \
             LEFT JOIN {schema}.thread AS t ON t.id = h.thread_id) TO STDOUT (FORMAT binary)"
        );
        let types = [Type::TEXT, Type::INT8, Type::BOOL, Type::INT8];
        server.bulk.copy_out(&rows, &types, &mut |row: &Received| {
            let get = || -> std::result::Result<_, tokio_postgres::Error> {
                Ok((
                    row.try_get::<String>(0)?,
                    row.try_get::<i64>(1)?,
                    row.try_get::<bool>(2)?,
                    row.try_get::<Option<i64>>(3)?,
                ))
            };
            let (id, items, archived, created_at) = get().map_err(|_| unreadable())?;
            let history = History {
                items: u64::try_from(items).unwrap_or_default(),
                becoming: Becoming::of(archived, created_at),
                too_long: false,
            };
            found.of.insert(id, history);
            Ok(())
        })?;
        let at = |name: &str| items.columns.iter().position(|column| column.name == name);
        let places = [at("thread_id"), at("seq"), at("kind"), at("item")];
        let (mut sum, mut too_long) = (Sum::default(), false);
        let mut told = Told::new(progress, MoveStep::Planning, STATE, items, 0);
        server.read(STATE, items, &mut |cells, odd| {
            sum.add(cells);
            let [
                Some(Cell::Text(id)),
                Some(Cell::Integer(seq)),
                Some(Cell::Text(kind)),
                Some(Cell::Blob(item)),
            ] = places.map(|at| cells.get(at?))
            else {
                return Err(unreadable());
            };
            match found.of.get_mut(&**id) {
                Some(history) => {
                    history.too_long |= !odd.is_empty();
                    history.becoming.see(id, *seq, kind, item);
                }
                None => too_long |= !odd.is_empty(),
            }
            told.row();
            Ok(())
        })?;
        let Self { of, odd, .. } = &mut found;
        of.retain(|id, history| {
            let whole = history.becoming.is_whole(history.items);
            if !whole {
                odd.note(id.clone());
                too_long |= history.too_long;
            }
            whole
        });
        found.items = Some(sum).filter(|_| !too_long);
        Ok(found)
    }

    /// The folders of a home that they will be in.
    pub(super) fn folders(&self) -> Vec<String> {
        let is_used = |folder: &&str| self.of.values().any(|history| history.place().starts_with(folder));
        FOLDERS.into_iter().filter(is_used).map(str::to_owned).collect()
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        if self.odd.is_empty() {
            return Vec::new();
        }
        vec![format!(
            "these histories do not begin with the session_meta of a thread, or lack items: they come along as rows, which a \
             home in files does not show: {}",
            self.odd.told()
        )]
    }

    /// Where the transcript of a thread will be, below the home, and whether it says what a user said.
    pub(super) fn place_of(&self, thread: &str) -> Option<(&Path, bool)> {
        let history = self.of.get(thread)?;
        Some((history.place(), history.becoming.has_said()))
    }

    fn get(&self, table: &Table, cells: &[Cell<'_>], column: &str) -> Option<(&str, &History)> {
        let id = text_of(table, cells, column)?;
        self.of.get_key_value(id).map(|(id, history)| (&**id, history))
    }
}

impl History {
    /// Below the home.
    fn place(&self) -> &Path {
        self.becoming.place()
    }
}

/// A server whose histories are to become transcripts: its rows as they will be there.
pub(super) struct FromHistories<'b, 's, 'h> {
    pub(super) server: OnServer<'b, 's>,
    pub(super) histories: &'h Histories,
    pub(super) home: &'h Path,
}

impl Side for FromHistories<'_, '_, '_> {
    fn tables(&mut self, domain: &Domain) -> Result<Vec<Table>> {
        self.server.tables(domain)
    }

    fn look(&mut self, domain: &str, table: &Table, each: &mut Each<'_>) -> Result<Sum> {
        match self.histories.items {
            Some(items) if (domain, &*table.name) == (STATE, "thread_item") => Ok(items),
            _ => self.read(domain, table, each).map(|()| Sum::default()),
        }
    }
}

impl Source for FromHistories<'_, '_, '_> {
    fn read(&mut self, domain: &str, table: &Table, each: &mut Each<'_>) -> Result<()> {
        let (histories, home) = (self.histories, self.home);
        match (domain, &*table.name) {
            (STATE, "thread") => self.server.read(domain, table, &mut |cells, odd| {
                let Some((_, history)) = histories.get(table, cells, "id") else { return each(cells, odd) };
                let place = home.join(history.place());
                placed(table, cells, odd, Cell::Text(place.to_string_lossy()), each)
            }),
            // Who wrote it there is nobody here.
            (STATE, "thread_history") => self.server.read(domain, table, &mut |cells, odd| match histories
                .get(table, cells, "thread_id")
            {
                Some((id, history)) => each(&history_row(table, id, history.items), &[]),
                None => each(cells, odd),
            }),
            // A line may be longer than a value of a database.
            (STATE, "thread_item") => self.server.read(domain, table, &mut |cells, odd| {
                let is_line = histories.get(table, cells, "thread_id").is_some();
                each(cells, if is_line { &[] } else { odd })
            }),
            _ => self.server.read(domain, table, each),
        }
    }
}

/// New files of a home, and new transcripts.
pub(super) struct ToTranscripts<'f, 'h> {
    files: Files<'f>,
    histories: &'h Histories,
    /// What will be the home.
    folder: &'h Path,
    /// The table of items.
    items: Option<Table>,
    /// What the transcripts hold of it, as read back.
    held: Sum,
}

impl<'f, 'h> ToTranscripts<'f, 'h> {
    pub(super) fn new(files: Files<'f>, histories: &'h Histories, folder: &'h Path) -> Self {
        Self { files, histories, folder, items: None, held: Sum::default() }
    }
}

impl Side for ToTranscripts<'_, '_> {
    fn tables(&mut self, domain: &Domain) -> Result<Vec<Table>> {
        self.files.tables(domain)
    }

    /// Each transcript is read once, for the row of its history and for those of its items.
    fn look(&mut self, domain: &str, table: &Table, each: &mut Each<'_>) -> Result<Sum> {
        self.files.read(domain, table, each)?;
        match (domain, &*table.name, &self.items) {
            (STATE, "thread_history", Some(items)) => {
                for (id, history) in &self.histories.of {
                    let held = sum_of(&self.folder.join(history.place()), id, items)?;
                    each(&history_row(table, id, held.rows), &[])?;
                    self.held = self.held.and(held);
                }
                Ok(Sum::default())
            }
            (STATE, "thread_item", _) => Ok(self.held),
            _ => Ok(Sum::default()),
        }
    }
}

impl Target for ToTranscripts<'_, '_> {
    fn prepare(&mut self, domain: &str, tables: &[Table]) -> Result<()> {
        if domain == STATE {
            self.items = Some(items_among(tables)?.clone());
        }
        self.files.prepare(domain, tables)
    }

    fn fill(
        &mut self,
        domain: &str,
        table: &Table,
        rows: &mut dyn FnMut(&mut Put<'_>) -> Result<()>,
    ) -> Result<()> {
        let histories = self.histories;
        match (domain, &*table.name) {
            (STATE, "thread_history") => self.files.fill(domain, table, &mut |put| {
                rows(&mut |cells| match histories.get(table, cells, "thread_id") {
                    // It is counted when it is read.
                    Some(_) => Ok(()),
                    None => put(cells),
                })
            }),
            (STATE, "thread_item") => {
                let mut writer = Writer { folder: self.folder, days: BTreeSet::new(), open: None };
                self.files.fill(domain, table, &mut |put| {
                    rows(&mut |cells| match histories.get(table, cells, "thread_id") {
                        Some((id, history)) => writer.write(id, history, line(table, cells)),
                        None => put(cells),
                    })
                })?;
                writer.end()?;
                sync(self.folder)
            }
            _ => self.files.fill(domain, table, rows),
        }
    }

    fn settle(&mut self, domain: &str, tables: &[Table]) -> Result<()> {
        self.files.settle(domain, tables)
    }
}

fn line<'c>(table: &Table, cells: &'c [Cell<'_>]) -> &'c [u8] {
    let at = table.columns.iter().position(|column| column.name == "item");
    match at.and_then(|at| cells.get(at)) {
        Some(Cell::Blob(bytes)) => bytes,
        // It would be found when both sides are compared.
        _ => &[],
    }
}

/// Writes one transcript after the other: items come in the order of threads and numbers.
struct Writer<'h> {
    folder: &'h Path,
    /// Folders that are there.
    days: BTreeSet<PathBuf>,
    open: Option<(String, PathBuf, BufWriter<File>)>,
}

impl Writer<'_> {
    fn write(&mut self, id: &str, history: &History, line: &[u8]) -> Result<()> {
        if self.open.as_ref().is_none_or(|(open, ..)| open != id) {
            self.end()?;
            let path = self.folder.join(history.place());
            let day = history.place().parent().unwrap_or(history.place());
            if !self.days.contains(day) {
                rollout::create_folders(self.folder, day)?;
                self.days.insert(day.to_owned());
            }
            let file = BufWriter::new(home::create_private_file(&path)?);
            self.open = Some((id.to_owned(), path, file));
        }
        let Some((_, path, file)) = &mut self.open else { return Ok(()) };
        put_line(file, line).map_err(|error| Error::io("write the transcript", path, error))
    }

    fn end(&mut self) -> Result<()> {
        let Some((_, path, file)) = self.open.take() else { return Ok(()) };
        let file = file.into_inner().map_err(std::io::IntoInnerError::into_error);
        let ended = file.and_then(|file| if cfg!(target_os = "linux") { Ok(()) } else { file.sync_all() });
        ended.map_err(|error| Error::io("write the transcript", &path, error))
    }
}

/// Makes all transcripts durable, and their folders: one call for all of them, since one for each would take hours.
pub(super) fn sync(folder: &Path) -> Result<()> {
    #[cfg(target_os = "linux")]
    {
        let synced = home::open_to_read(folder).and_then(|opened| Ok(rustix::fs::syncfs(opened)?));
        synced.map_err(|error| Error::io("make the transcripts durable", folder, error))?;
    }
    home::sync_folder(folder)
}
