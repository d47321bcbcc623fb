//! One pass over a whole file: walk after walk, each in steps on a connection of its own.
//!
//! Invariants:
//! 1. Every step opens the file anew, so no page comes from a cache, and nobody's snapshot lasts for longer than a step.
//! 2. What a step finds wrong is looked at once more, by another connection, before it counts.
//!
//! Tests: `tests/background_checks.rs`.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::plan;
use super::walk::{Look, Walk};
use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::connect::Patience;
use crate::sqlite::ffi;
use crate::sqlite::generation::Counted;
use crate::sqlite::shared::Shared;

/// How long a step reads.
pub(super) const STEP: Duration = Duration::from_millis(10);
/// A file of so many pages may be checked by SQLite itself in the last step, when that takes no longer than
/// [`LONGEST_STEP`].
const SMALL: u64 = 4096;
/// No snapshot is held for longer, but for one entry that takes longer to read.
const LONGEST_STEP: Duration = Duration::from_millis(40);
/// How many instructions of SQLite's machine lie between two looks at the clock.
const LOOK_AT_CLOCK: i32 = 1000;

/// A pass under way.
pub(super) struct Pass {
    walks: std::vec::IntoIter<Walk>,
    current: Option<Walk>,
    /// Pages of the file.
    pub(super) pages: u64,
    /// Walks that read every page of their tree, and the others, that are done.
    trees: (u64, u64),
    compared: (u64, u64),
    pages_read: u64,
    pub(super) entries: u64,
    /// Walks that could not be made, because the program lacks a function that the schema needs, for one.
    pub(super) skipped: u64,
    whole: bool,
}

/// What a step did.
pub(super) enum Done {
    Step,
    Pass,
}

impl Pass {
    /// Looks what there is to do.
    pub(super) fn begin(shared: &Shared) -> Result<Self> {
        let connection = open(shared)?;
        let walks = plan::walks(&connection)?;
        let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        let trees = walks.iter().filter(|walk| reads_all(walk)).count() as u64;
        Ok(Self {
            trees: (0, trees),
            compared: (0, walks.len() as u64 - trees),
            walks: walks.into_iter(),
            current: None,
            pages: pages.cast_unsigned(),
            pages_read: 0,
            entries: 0,
            skipped: 0,
            whole: false,
        })
    }

    /// One step, which ends early when `stop` says so.
    ///
    /// # Errors
    /// `Corrupt` when there is damage, found twice. Others when it could not be looked at now.
    pub(super) fn step(&mut self, shared: &Shared, stop: &dyn Fn() -> bool) -> Result<Done> {
        let Some(walk) = self.current.take().or_else(|| self.walks.next()) else {
            if !std::mem::replace(&mut self.whole, true) && self.pages <= SMALL {
                let found = || open(shared).and_then(|connection| check_small(&connection));
                found().or_else(|error| if is_damage(&error) { found() } else { Err(error) })?;
            }
            return Ok(Done::Pass);
        };
        let mut next = walk.clone();
        let answer = self.walk(shared, &mut next, stop).or_else(|error| {
            if !is_damage(&error) {
                return Err(error);
            }
            next = walk.clone();
            self.walk(shared, &mut next, stop)
        });
        let ended = match answer {
            Ok(ended) => ended,
            Err(error) if may_be_skipped(&error) => {
                self.skipped += 1;
                true
            }
            Err(error) if is_damage(&error) && error.sqlite_code().is_some() => {
                return Err(error.worded(format!("the {} is damaged", named(&walk))));
            }
            Err(error) => return Err(error),
        };
        if ended {
            let part = if reads_all(&walk) { &mut self.trees } else { &mut self.compared };
            part.0 += 1;
        } else {
            self.current = Some(next);
        }
        Ok(Done::Step)
    }

    fn walk(&mut self, shared: &Shared, walk: &mut Walk, stop: &dyn Fn() -> bool) -> Result<bool> {
        let connection = open(shared)?;
        let until = Instant::now() + STEP;
        let stepped = walk.step(&connection, &mut || Instant::now() >= until || stop());
        if reads_all(walk) {
            self.pages_read += ffi::pages_read(&connection);
        }
        let stepped = stepped?;
        if stepped.mismatch {
            return Err(mismatch(walk));
        }
        if reads_all(walk) {
            self.entries += stepped.entries;
        }
        Ok(stepped.ended)
    }

    /// How far it is: reading every page is one half, comparing the other.
    pub(super) fn percent(&self) -> u8 {
        let part = |done: u64, all: u64| (50 * done).checked_div(all).unwrap_or(50).min(50);
        let (walked, all) = self.trees;
        let read = if walked == all { 50 } else { part(self.pages_read, self.pages).min(49) };
        u8::try_from(read + part(self.compared.0, self.compared.1)).unwrap_or(100)
    }
}

fn reads_all(walk: &Walk) -> bool {
    matches!(walk.look, Look::Rows | Look::Entries)
}

fn open(shared: &Shared) -> Result<Counted> {
    // A page that others change is waited for like any lock: not for long.
    let _patience = Patience::until(Instant::now() + STEP);
    shared.spec.open_checker()
}

/// SQLite's own check, which also looks at what belongs to no table. A file that it takes too long for is left at that.
fn check_small(connection: &Connection) -> Result<()> {
    let until = Instant::now() + LONGEST_STEP;
    connection.progress_handler(LOOK_AT_CLOCK, Some(move || Instant::now() >= until))?;
    let found = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    match found.map_err(Error::from) {
        Ok(found) if found == "ok" => Ok(()),
        Ok(_) => Err(Error::new(ErrorKind::Corrupt, "it fails SQLite's quick_check")),
        Err(error) if is_damage(&error) => Err(error),
        Err(_) => Ok(()),
    }
}

fn mismatch(walk: &Walk) -> Error {
    let index = walk.index.as_deref().unwrap_or_default();
    let text = match walk.look {
        Look::HasRow => format!("the index {index} has entries of rows that the table {} lacks", walk.table),
        _ => format!("the index {index} lacks entries of rows that the table {} has", walk.table),
    };
    Error::new(ErrorKind::Corrupt, text)
        .advise("restore a backup; or stop its programs and run `rowhouse compact`, which makes the indexes anew from what the tables have")
        .caused_by(TreesDiffer)
}

/// The mark of an error about two trees that are whole, and do not fit to each other.
#[derive(Debug)]
pub(super) struct TreesDiffer;

impl std::fmt::Display for TreesDiffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a page was lost, or an older one came back")
    }
}

impl std::error::Error for TreesDiffer {}

fn named(walk: &Walk) -> String {
    match &walk.index {
        Some(index) => format!("index {index} of the table {}", walk.table),
        None => format!("table {}", walk.table),
    }
}

pub(super) fn is_damage(error: &Error) -> bool {
    error.kind() == ErrorKind::Corrupt
}

/// Errors of a statement, not of the file: a table that is not there any more, a function that this program lacks.
fn may_be_skipped(error: &Error) -> bool {
    use rusqlite::ffi::{SQLITE_ERROR, SQLITE_SCHEMA, SQLITE_TOOBIG};
    error
        .sqlite_code()
        .is_some_and(|code| matches!(code & 0xFF, SQLITE_ERROR | SQLITE_SCHEMA | SQLITE_TOOBIG))
}
