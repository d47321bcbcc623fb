//! Copies what an open connection still reads of files that are not at their paths any more.
//!
//! Invariants:
//! 1. The copy is made page by page through the connection's own descriptors, in one snapshot; the files at the paths are
//!    not looked at.
//! 2. It is one file (mode 0600) in a folder of its own in the home's `quarantine/`, beside a manifest that says what it
//!    is. A folder without a manifest is an unfinished copy.
//! 3. Processes that lost the same files make one copy between them: who holds the lock for it looks whether there is one.

use std::path::{Path, PathBuf};
use std::time::Instant;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};

use super::connect::{Spec, lock_until};
use super::core::Core;
use super::ffi;
use crate::error::{Error, ErrorKind, Result};
use crate::home;

const MANIFEST: &str = "manifest.json";

/// Pages between two looks at the clock: 8 MiB.
const STEP: i32 = 2048;

/// A finished copy.
pub(super) struct Saved {
    pub(super) copy: PathBuf,
    /// It was copied from the database that is still at the path, only its log was gone.
    pub(super) of_the_same_file: bool,
}

/// What the manifest says.
#[derive(Serialize, Deserialize)]
struct Manifest {
    version: u32,
    domain: String,
    reason: String,
    at: String,
    program: String,
    program_version: String,
    source: Source,
}

/// What was copied. Inodes would not tell: their numbers are used again.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Source {
    /// The random number from the database's creation.
    generation: u32,
    /// The header of its log, which holds random numbers of its own (<https://sqlite.org/fileformat.html>, section 4.1).
    log_header: Vec<u8>,
    log_pages: u64,
}

/// Copies everything that the write connection reads. What is not done by `until` is given up.
///
/// # Errors
/// `Full` when there is no room, `Timeout`; of SQLite when the pages cannot be read any more.
pub(super) fn save(
    spec: &Spec,
    core: &Core,
    why: &Error,
    of_the_same_file: bool,
    until: Instant,
) -> Result<Saved> {
    let connection = core.tx.connection();
    let source = Source {
        generation: core.identity.marks().generation(),
        // An empty log has none.
        log_header: ffi::read_log_header(connection).map(Vec::from).unwrap_or_default(),
        log_pages: ffi::checkpoint_noop(connection)?.log,
    };
    let name = spec.domain.name();
    let home = spec.path.parent().unwrap_or(&spec.path);
    let file = format!("{name}.sqlite");
    let quarantine = home::private_folder(home, "quarantine")?;
    let _lock = lock_until(&spec.init_lock.with_file_name(format!("{name}.copy")), until)
        .map_err(|error| error.worded("another process is copying what the removed files held"))?;
    if let Some(found) = made_already(&quarantine, name, &source) {
        return Ok(Saved { copy: found.join(&file), of_the_same_file });
    }
    check_room(connection, &quarantine)?;
    let now = jiff::Timestamp::now();
    let folder = Unfinished(home::new_private_folder(
        &quarantine,
        &format!("{name}-{}-{}", now.as_millisecond(), std::process::id()),
    )?);
    let copy = folder.0.join(&file);
    drop(home::create_private_file(&copy)?);
    copy_pages(connection, &copy, until)?;
    let manifest = Manifest {
        version: 1,
        domain: name.to_owned(),
        reason: why.message().to_owned(),
        at: now.to_string(),
        program: spec.program.0.clone(),
        program_version: spec.program.1.clone(),
        source,
    };
    let text = serde_json::to_vec_pretty(&manifest).expect("texts and numbers are JSON");
    home::write_atomically(&folder.0.join(MANIFEST), &text)?;
    spec.bound_quarantine(&folder.0);
    std::mem::forget(folder);
    Ok(Saved { copy, of_the_same_file })
}

/// The folder of a copy that is being made; it goes when that fails.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Without a manifest it counts for nothing, should it stay.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The folder of a finished copy of the same files at the same length.
fn made_already(quarantine: &Path, name: &str, source: &Source) -> Option<PathBuf> {
    // Without its random numbers one empty log is like another.
    if source.log_header.is_empty() {
        return None;
    }
    let folders = std::fs::read_dir(quarantine).ok()?;
    folders.filter_map(|entry| Some(entry.ok()?.path())).find(|folder| {
        let text = home::read_file(folder.join(MANIFEST));
        text.ok()
            .and_then(|text| serde_json::from_slice::<Manifest>(&text).ok())
            .is_some_and(|found| found.domain == name && found.source == *source)
    })
}

fn check_room(connection: &Connection, folder: &Path) -> Result<()> {
    let number = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let needed = number("page_count")?.saturating_mul(number("page_size")?).cast_unsigned();
    // Something must be left for the manifest.
    home::refuse_too_full(needed.saturating_add(1), folder, "keeping what its removed files held").map_err(
        |error| {
            error.advise("free some space on that disk; until then the program keeps the removed files open")
        },
    )
}

#[allow(clippy::disallowed_methods, reason = "a file of our own in the quarantine, no database of the home")]
fn copy_pages(connection: &Connection, copy: &Path, until: Instant) -> Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut target = Connection::open_with_flags(copy, flags)?;
    {
        let backup = Backup::new(connection, &mut target)?;
        loop {
            match backup.step(STEP)? {
                StepResult::Done => break,
                StepResult::More if Instant::now() >= until => {
                    return Err(Error::new(
                        ErrorKind::Timeout,
                        "what its removed files held was not copied by the deadline",
                    )
                    .advise("try again with a longer deadline; the removed files stay open until then"));
                }
                StepResult::More => {}
                _ => return Err(Error::new(ErrorKind::Busy, "the pages are being changed right now")),
            }
        }
    }
    // One file, that needs no other beside it to be read.
    target.query_row("PRAGMA journal_mode=DELETE", [], |_| Ok(()))?;
    Ok(())
}
