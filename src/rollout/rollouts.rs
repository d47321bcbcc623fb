//! The transcripts of a home.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::append_file::AppendFile;
use super::lease::WriterLease;
use super::new_rollout::NewRollout;
use super::recorder::{Recorder, create_folders};
use super::said::{REPEATED_AFTER, UserFacts};
use super::{Position, Reader, RolloutLine, archive, disk, layout, torn};
use crate::error::{Error, ErrorKind, Result};
use crate::home::{Home, PreparedHome};
use crate::stores::threads::Change;
use crate::stores::threads::row::thread_id;

/// How far back the last snapshot can be: what may follow it, and its own length.
const SNAPSHOT_WITHIN: u64 = 2 * REPEATED_AFTER;

/// The transcripts of a home: new ones, and those that are there. Cheap to clone.
///
/// ```
/// # fn main() -> rowhouse::Result<()> {
/// use std::time::Duration;
/// use rowhouse::Home;
/// use rowhouse::rollout::{Item, NewRollout, Rollouts};
/// # let folder = tempfile::tempdir().expect("a folder");
/// let rollouts = Rollouts::open(&Home::at(folder.path()))?;
/// let mut recorder = rollouts.create(&NewRollout::default())?;
/// let message = serde_json::json!({"type": "user_message", "message": "Fix the parser"});
/// recorder.append(&[Item::new("event_msg", &message)?])?.written()?;
/// recorder.flush()?;
/// let id = recorder.id().to_owned();
///
/// // Whoever only reads never waits; a second writer is told who has it.
/// let mut reader = rollouts.attach(&id, None)?;
/// assert_eq!(reader.next()?.expect("a line").kind, "session_meta");
/// let refused = rollouts.resume(&id, None, Duration::ZERO).expect_err("it has a writer");
/// assert_eq!(refused.holder().map(|holder| holder.pid), Some(std::process::id()));
///
/// drop(recorder);
/// let recorder = rollouts.resume(&id, None, Duration::ZERO)?;
/// assert!(recorder.torn().is_none());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Rollouts {
    pub(super) home: PreparedHome,
}

impl Rollouts {
    /// The transcripts of this home. Creates the home where it is not there; no database is opened.
    ///
    /// # Errors
    /// `Unsupported` on a file system whose locks do not hold, `Invalid`, `ReadOnly`, `Full`, `Io`.
    pub fn open(home: &Home) -> Result<Self> {
        Ok(Self { home: home.prepare()? })
    }

    /// A recorder for a new thread. Nothing is written before its first item.
    ///
    /// # Errors
    /// `Invalid` for an id that is none, or a first line longer than 4 MiB.
    pub fn create(&self, new: &NewRollout) -> Result<Recorder> {
        Recorder::begin(self, new)
    }

    /// The same; nobody sees the thread before [`Recorder::show`], and it goes with a recorder that is dropped before.
    pub(crate) fn create_unseen(&self, new: &NewRollout) -> Result<Recorder> {
        Recorder::begin(self, new).map(Recorder::unseen)
    }

    /// A recorder for a thread that is there, from where it ended. Waits so long for another writer; meanwhile that one can
    /// see that it [is wanted](Recorder::is_wanted).
    ///
    /// A compressed transcript is decompressed. A torn last line is cut off and kept beside the file:
    /// [`Recorder::torn`].
    ///
    /// # Errors
    /// `Conflict` naming the writer; `NotFound`; `ReadOnly`; `Full` when there is no room to decompress it; `Corrupt`;
    /// `Invalid` when the hint leads to a transcript outside this home: its lock would say nothing to those who write
    /// there.
    pub fn resume(&self, id: &str, hint: Option<&Path>, wait: Duration) -> Result<Recorder> {
        let mut lease = self.lease(id, wait)?;
        // Looked for under the lease: whoever had it may have moved it.
        let mut path = self.own(&self.locate(lease.id(), hint)?.path)?;
        if layout::is_compressed(&path) {
            path = Self::decompress(&path)?;
        } else {
            archive::remove_compressed_copy(&path)?;
        }
        let file = disk::open_to_write(&path)
            .map_err(|error| Error::io("open the transcript to write it", &path, error))?;
        let (length, torn) = torn::mend(&file, &path)?;
        let said = said_at_end(&path)?;
        lease.found(length);
        Ok(Recorder::resumed(self, lease, AppendFile::opened(path, file, length), said, torn))
    }

    /// The right to change a thread, for what is not appending: every change goes through it. Waits so long for another
    /// owner.
    ///
    /// # Errors
    /// `Conflict` naming the owner; `ReadOnly`; `Invalid` for what is no id.
    pub fn lease(&self, id: &str, wait: Duration) -> Result<WriterLease> {
        WriterLease::take(&self.home, &thread_id(id)?, wait)
    }

    /// Where the home lies.
    pub(crate) fn home_path(&self) -> &Path {
        self.home.path()
    }

    /// The path of a transcript that may be changed: one in this home.
    pub(super) fn own(&self, path: &Path) -> Result<PathBuf> {
        let folder = path.parent().unwrap_or(path);
        let folder =
            fs::canonicalize(folder).map_err(|error| Error::io("find the transcript", path, error))?;
        if folder.starts_with(self.home.path()) {
            return Ok(folder.join(path.file_name().unwrap_or_default()));
        }
        Err(Error::new(ErrorKind::Invalid, "the transcript lies outside this home, and is only read there")
            .at_path(path)
            .advise("fork the thread into this home, or open the home it lies in"))
    }

    /// Whether somebody writes this thread now, in this process or another one; false where that cannot be told.
    ///
    /// # Errors
    /// `Invalid` for what is no id.
    pub fn has_writer(&self, id: &str) -> Result<bool> {
        Ok(self.written_from(id)?.is_some())
    }

    /// From which byte of the plain transcript on whoever writes this thread now writes it; `None` as
    /// [`has_writer`](Self::has_writer).
    pub(crate) fn written_from(&self, id: &str) -> Result<Option<u64>> {
        Ok(WriterLease::held_from(&self.home, &thread_id(id)?))
    }

    /// Where a transcript of this name lies while it is not archived.
    pub(super) fn live_path(&self, path: &Path) -> PathBuf {
        let name = path.file_name().unwrap_or_default();
        let folders = layout::folders(path).unwrap_or(["sessions", "0000", "00", "00"]);
        self.home.path().join(folders.iter().collect::<PathBuf>()).join(name)
    }

    /// Where it lies when it is archived.
    pub(super) fn archived_path(&self, path: &Path) -> PathBuf {
        self.home.path().join("archived_sessions").join(path.file_name().unwrap_or_default())
    }

    /// Creates the folders in which a transcript is to lie.
    pub(super) fn create_folders_of(&self, path: &Path) -> Result<()> {
        let folder = path.parent().unwrap_or(path);
        let below = folder.strip_prefix(self.home.path()).map_err(|_| {
            Error::new(ErrorKind::Invalid, "a transcript is created in its home only").at_path(path)
        })?;
        create_folders(self.home.path(), below)
    }
}

/// What a search for the last snapshot found.
pub(super) enum LastSaid {
    /// What it says, and where the line after it begins.
    Here(Box<UserFacts>, u64),
    /// There is none from here on.
    NotBehind(u64),
}

/// Looks at the end of a transcript for its last snapshot: as far as this library lets lines follow it. Other programs
/// may have appended more.
///
/// A writer that died within a write may have left one line of any length without the snapshot that belongs behind it, so
/// the last line is not counted.
fn said_at_end(path: &Path) -> Result<LastSaid> {
    let mut lines = Reader::backwards(path, None)?;
    let mut last_line = None;
    while let Some(line) = lines.next()? {
        if let Some((said, end)) = said_in(&line, path) {
            return Ok(LastSaid::Here(Box::new(said), end));
        }
        let offset = line.offset;
        if *last_line.get_or_insert(offset) - offset > SNAPSHOT_WITHIN {
            return Ok(LastSaid::NotBehind(offset));
        }
    }
    Ok(LastSaid::NotBehind(0))
}

/// The last snapshot before this place, however far back it is: reads the transcript from there to its beginning where
/// there is none.
///
/// # Errors
/// As [`Reader::backwards`].
pub(super) fn said_before(path: &Path, offset: u64) -> Result<Option<(UserFacts, u64)>> {
    let mut lines = Reader::backwards(path, Some(Position { offset, line: 0 }))?;
    while let Some(line) = lines.next()? {
        if let Some(said) = said_in(&line, path) {
            return Ok(Some(said));
        }
    }
    Ok(None)
}

/// What a line says, if it is a snapshot, and where the next one begins. Where the file lies has the last word about the archive.
fn said_in(line: &RolloutLine<'_>, path: &Path) -> Option<(UserFacts, u64)> {
    if line.kind != super::item::SNAPSHOT {
        return None;
    }
    let mut said = UserFacts::of_text(line.payload);
    if matches!(said.archived_at, Change::Set(_)) && !layout::lies_archived(path) {
        // Nobody said so yet: `unarchive` does.
        said.archived_at = Change::Leave;
    }
    Some((said, line.offset + line.text.len() as u64 + 1))
}
