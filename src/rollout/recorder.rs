//! Writes a thread's transcript.
//!
//! Invariants, and where they are tested:
//! 1. A recorder has its thread's lease, so it is the only writer (`tests/rollout_lease.rs`).
//! 2. A call of [`append`](Recorder::append) is one write(2) that ends with a newline, and nothing is held back in this
//!    process: when it dies, the system has every line that was written. What came after the last
//!    [`flush`](Recorder::flush) does not survive a power cut (`tests/rollout_crashes.rs`).
//! 3. Lines that could not be written stay, in their order, and go first the next time: no line is lost, doubled, or
//!    merged with another (`tests/rollout_recorder.rs`).
//! 4. Once something was said about the thread, the last 64 KiB of the transcript say it, and no later word drops it; where
//!    another program appended more than that, from the next word on (`tests/rollout_recorder.rs`).
//! 5. A file is created with the first item; until then nothing in the home changes.

use std::path::{Path, PathBuf};

use super::append_file::AppendFile;
use super::archive::{rename_durably, unfinished};
use super::item::Item;
use super::lease::WriterLease;
use super::new_rollout::NewRollout;
use super::rollouts::{LastSaid, said_before};
use super::said::{REPEATED_AFTER, UserFacts};
use super::torn::TornTail;
use super::{Rollouts, disk, layout};
use crate::error::{Error, ErrorKind, Result};
use crate::home;
use crate::stores::threads::Change;

/// Bytes of unwritten lines beyond which nothing more is taken.
const MOST_UNWRITTEN: u64 = 64 << 20;
const FIRST_LINE: usize = super::windows::WIDEST as usize;

/// The one writer of a thread's transcript; see [`Rollouts::create`] and [`Rollouts::resume`].
///
/// Dropping it lets the thread go; what was appended is written, and not made durable: [`release`](Self::release) does
/// that as well.
#[derive(Debug)]
#[must_use = "dropped, it lets the thread go"]
pub struct Recorder {
    rollouts: Rollouts,
    id: String,
    /// `None` until there is a file.
    lease: Option<WriterLease>,
    file: AppendFile,
    /// The line the file will begin with, until it does.
    first_line: Option<Item>,
    said: UserFacts,
    /// Bytes since the last snapshot, where there is one.
    since_said: u64,
    /// What was said may stand before this place, where nobody has looked yet.
    unread_before: Option<u64>,
    torn: Option<TornTail>,
    /// The name that the file is to get; it has another one until it is shown.
    to_be: Option<PathBuf>,
}

/// What became of items that were taken.
#[derive(Debug)]
#[must_use = "lines that are only kept are lost with this process"]
pub enum Appended {
    /// They are in the file, between these two places.
    Written {
        /// Where the first of them begins.
        from: u64,
        /// Where the next line will begin.
        to: u64,
    },
    /// They could not be written, for this reason, and are kept in memory: the next append or flush writes them first. They
    /// must not be given again.
    Kept(Error),
}

impl Appended {
    /// The reason when they are only kept.
    ///
    /// # Errors
    /// That reason.
    pub fn written(self) -> Result<(u64, u64)> {
        match self {
            Self::Written { from, to } => Ok((from, to)),
            Self::Kept(error) => Err(error),
        }
    }
}

impl Recorder {
    pub(super) fn begin(rollouts: &Rollouts, new: &NewRollout) -> Result<Self> {
        let id = new.thread_id()?;
        let first_line = new.first_line(&id)?;
        if first_line.text().len() >= FIRST_LINE {
            return Err(Error::new(ErrorKind::Invalid, "what a transcript begins with is longer than 4 MiB"));
        }
        let name = layout::name(&id, new.started());
        Ok(Self {
            rollouts: rollouts.clone(),
            file: AppendFile::new(rollouts.home.path(), rollouts.live_path(Path::new(&name))),
            id,
            lease: None,
            first_line: Some(first_line),
            said: UserFacts::default(),
            since_said: 0,
            unread_before: None,
            torn: None,
            to_be: None,
        })
    }

    pub(super) fn unseen(mut self) -> Self {
        let path = self.path().to_owned();
        self.file.moved(unfinished(&path), false);
        self.to_be = Some(path);
        self
    }

    /// Makes everything that was appended durable, and then gives the file its name, in one step.
    ///
    /// # Errors
    /// As [`flush`](Self::flush); `Conflict` when a transcript of that name is there meanwhile.
    pub(crate) fn show(&mut self) -> Result<()> {
        let Some(path) = self.to_be.clone() else { return Ok(()) };
        self.flush()?;
        if let Some(lease) = &mut self.lease {
            lease.found(self.file.end());
        }
        let shown = rename_durably(self.path(), &path);
        if shown.is_ok() || (path.symlink_metadata().is_ok() && self.path().symlink_metadata().is_err()) {
            self.file.moved(path, shown.is_ok());
            self.to_be = None;
        }
        shown
    }

    pub(super) fn resumed(
        rollouts: &Rollouts,
        lease: WriterLease,
        file: AppendFile,
        said: LastSaid,
        torn: Option<TornTail>,
    ) -> Self {
        let (said, since_said, unread_before) = match said {
            LastSaid::Here(said, until) => (*said, file.end().saturating_sub(until), None),
            LastSaid::NotBehind(offset) => {
                (UserFacts::default(), 0, Some(offset).filter(|offset| *offset > 0))
            }
        };
        Self {
            rollouts: rollouts.clone(),
            id: lease.id().to_owned(),
            lease: Some(lease),
            file,
            first_line: None,
            said,
            since_said,
            unread_before,
            torn,
            to_be: None,
        }
    }

    /// The thread.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The transcript; until the first item it is not there.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Where the transcript is, or is to be.
    pub(crate) fn final_path(&self) -> &Path {
        self.to_be.as_deref().unwrap_or_else(|| self.path())
    }

    /// Where the next line begins, those included that could not be written yet.
    pub fn end(&self) -> u64 {
        self.file.end()
    }

    /// Bytes that could not be written yet.
    pub fn unwritten(&self) -> u64 {
        self.file.unwritten()
    }

    /// The right to write this thread; `None` until there is a file.
    pub fn lease(&self) -> Option<&WriterLease> {
        self.lease.as_ref()
    }

    /// What the user said about the thread so far. Where another program appended more than 64 KiB since, what stands
    /// before that is looked for at the next [`say`](Self::say), and is not here until then.
    pub fn said(&self) -> &UserFacts {
        &self.said
    }

    /// What was found behind the last whole line when the thread was resumed.
    pub fn torn(&self) -> Option<&TornTail> {
        self.torn.as_ref()
    }

    /// True while another process waits for this thread: an owner whose client has gone calls [`release`](Self::release)
    /// then. Costs one `fstat`.
    pub fn is_wanted(&self) -> bool {
        self.lease.as_ref().is_some_and(WriterLease::is_wanted)
    }

    /// Appends lines, all with one write. The first ones create the file.
    ///
    /// An empty list does nothing. An error means that nothing was taken; lines that were taken and could not be written are
    /// [`Kept`](Appended::Kept).
    ///
    /// # Errors
    /// `Conflict`, naming the owner, when another process began this thread, or when the lock was removed; `Invalid` for a
    /// `thread_metadata` line, which [`say`](Self::say) writes; `Full` when 64 MiB of lines could not be written already;
    /// `Closed` in a fork; `ReadOnly`.
    pub fn append(&mut self, items: &[Item]) -> Result<Appended> {
        items.iter().try_for_each(Item::refuse_said)?;
        if items.is_empty() {
            return Ok(Appended::Written { from: self.file.end(), to: self.file.end() });
        }
        self.get_ready()?;
        // Made before anything is taken, so that nothing can fail half way; most lines need none.
        let bytes: u64 = items.iter().map(line_bytes).sum();
        let needs_one = !self.said.is_empty() && self.since_said + bytes > REPEATED_AFTER;
        let snapshot = needs_one.then(|| self.said.snapshot()).transpose()?;
        let from = self.file.end();
        if self.since_said > REPEATED_AFTER {
            self.repeat(snapshot.as_ref());
        }
        for item in items {
            self.push(item);
            if self.since_said > REPEATED_AFTER {
                self.repeat(snapshot.as_ref());
            }
        }
        Ok(self.write(from))
    }

    /// Makes the file, with its first line alone, where there is none yet.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn persist(&mut self) -> Result<Appended> {
        let from = self.file.end();
        if self.first_line.is_some() {
            self.get_ready()?;
        }
        Ok(self.write(from))
    }

    /// Appends what the user said about the thread, on top of what was said before. What is known already is not written
    /// again.
    ///
    /// # Errors
    /// As [`append`](Self::append): words that are only [`Kept`](Appended::Kept) count as said, and take effect with the
    /// next write that succeeds. `Invalid` when all that was said is longer than 31 KiB; of the system, when what was said
    /// before cannot be read.
    pub fn say(&mut self, facts: UserFacts) -> Result<Appended> {
        self.read_what_was_said()?;
        let all = self.said.clone().then(facts);
        if all == self.said {
            return Ok(Appended::Written { from: self.file.end(), to: self.file.end() });
        }
        let snapshot = all.snapshot()?;
        self.get_ready()?;
        let from = self.file.end();
        self.said = all;
        self.repeat(Some(&snapshot));
        Ok(self.write(from))
    }

    /// Makes everything that was appended durable: fsync of the file, and of its folders where the file is new. Lines that
    /// could not be written are tried again first.
    ///
    /// # Errors
    /// `Full`, `ReadOnly` or `Io`: then what came after the last good flush may be lost with the power, and the next flush
    /// writes it again; as [`append`](Self::append).
    pub fn flush(&mut self) -> Result<()> {
        if let Some(lease) = &self.lease {
            lease.check()?;
        }
        self.file.sync()
    }

    /// Flushes, and lets the thread go: another process can have it at once.
    ///
    /// # Errors
    /// As [`flush`](Self::flush), with the recorder, so that nothing is lost with it.
    #[expect(clippy::result_large_err, reason = "it is the recorder")]
    pub fn release(mut self) -> Result<(), (Self, Error)> {
        match self.flush() {
            Ok(()) => Ok(()),
            Err(error) => Err((self, error)),
        }
    }

    /// Lets the thread go without a flush. Lines that could not be written are lost; tells how many bytes.
    pub fn discard(self) -> u64 {
        self.file.unwritten()
    }

    /// The same, and keeps the right to write the thread; `None` when there is no file yet.
    pub(crate) fn into_lease(mut self) -> Option<WriterLease> {
        self.lease.take()
    }

    /// Archives the thread: says so, flushes, and moves the transcript to `archived_sessions`, durably. What is archived
    /// stays as it is.
    ///
    /// # Errors
    /// `Conflict` when a transcript of that name is there already, `Invalid` when nothing was appended yet; as
    /// [`flush`](Self::flush). What it was to say may then be said by a later write; a thread is archived when its
    /// transcript was moved.
    pub fn archive(&mut self, at_unix_ms: i64) -> Result<()> {
        if layout::lies_archived(self.path()) {
            return Ok(());
        }
        let target = self.rollouts.archived_path(self.path());
        self.refuse_taken(&target)?;
        let said = UserFacts { archived_at: Change::Set(at_unix_ms), ..UserFacts::default() };
        self.say(said)?.written()?;
        self.move_to(target)
    }

    /// Takes the thread back from the archive. Where another program moved the transcript back already, it says so, once;
    /// else what is not archived stays as it is.
    ///
    /// # Errors
    /// As [`archive`](Self::archive).
    pub fn unarchive(&mut self) -> Result<()> {
        let said = UserFacts { archived_at: Change::Clear, ..UserFacts::default() };
        if !layout::lies_archived(self.path()) {
            if self.file.exists() {
                self.say(said)?.written()?;
            }
            return Ok(());
        }
        let target = self.rollouts.live_path(self.path());
        self.refuse_taken(&target)?;
        self.say(said)?.written()?;
        self.move_to(target)
    }

    /// Looks further back for what was said, once: a snapshot without it would be the end of it.
    fn read_what_was_said(&mut self) -> Result<()> {
        let Some(before) = self.unread_before else { return Ok(()) };
        if let Some((said, until)) = said_before(self.path(), before)? {
            self.said = said;
            self.since_said = self.file.end().saturating_sub(until);
        }
        self.unread_before = None;
        Ok(())
    }

    fn refuse_taken(&self, target: &Path) -> Result<()> {
        if !self.file.exists() {
            return Err(
                Error::new(ErrorKind::Invalid, "the thread has no transcript yet").at_path(self.path())
            );
        }
        for taken in [target.to_owned(), home::with_ending(target, ".zst")] {
            if taken.symlink_metadata().is_ok() {
                return Err(Error::new(ErrorKind::Conflict, "a transcript of that name is there already")
                    .at_path(&taken)
                    .advise("move one of the two away"));
            }
        }
        Ok(())
    }

    fn move_to(&mut self, target: PathBuf) -> Result<()> {
        self.flush()?;
        self.rollouts.create_folders_of(&target)?;
        let above = target.parent().and_then(Path::parent).unwrap_or(&target);
        disk::sync_folders(self.rollouts.home.path(), above)?;
        let moved = super::archive::rename_durably(self.path(), &target);
        // It may have failed after the rename, when only the names were not durable yet.
        if moved.is_ok() || (target.symlink_metadata().is_ok() && self.path().symlink_metadata().is_err()) {
            self.file.moved(target, moved.is_ok());
        }
        moved
    }

    /// Takes the lease and makes the folders, for the first item; afterwards looks whether the lease is still there.
    fn get_ready(&mut self) -> Result<()> {
        if self.file.unwritten() > MOST_UNWRITTEN {
            return Err(Error::new(ErrorKind::Full, "64 MiB of lines wait to be written")
                .at_path(self.path())
                .advise("free some space on that disk, and flush"));
        }
        if let Some(lease) = &self.lease {
            return lease.check();
        }
        let lease = WriterLease::take(&self.rollouts.home, &self.id, std::time::Duration::ZERO)?;
        if self.final_path().symlink_metadata().is_ok() {
            return Err(Error::new(ErrorKind::Conflict, "the thread has a transcript already")
                .at_path(self.final_path())
                .advise("resume it"));
        }
        self.rollouts.create_folders_of(self.path())?;
        if self.to_be.is_some() {
            self.rollouts.remove_abandoned(self.path(), &lease)?;
        }
        self.lease = Some(lease);
        if let Some(first) = self.first_line.take() {
            self.push(&first);
        }
        Ok(())
    }

    fn push(&mut self, item: &Item) {
        self.file.push(item.text().as_bytes());
        self.file.push(b"\n");
        if !self.said.is_empty() {
            self.since_said += line_bytes(item);
        }
    }

    fn repeat(&mut self, snapshot: Option<&Item>) {
        if let Some(snapshot) = snapshot {
            self.push(snapshot);
            self.since_said = 0;
        }
    }

    fn write(&mut self, from: u64) -> Appended {
        match self.file.write() {
            Ok(()) => Appended::Written { from, to: self.file.end() },
            Err(error) => Appended::Kept(error),
        }
    }
}

/// What it takes in the file, its newline included.
fn line_bytes(item: &Item) -> u64 {
    item.text().len() as u64 + 1
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if self.lease.as_ref().is_some_and(|lease| lease.check().is_ok()) {
            if self.to_be.is_some() {
                self.file.remove();
            } else {
                self.file.remove_if_never_written();
            }
        }
    }
}

/// Creates the folders of a path below a home that are not there.
pub(crate) fn create_folders(home: &Path, below: &Path) -> Result<()> {
    let mut folder = home.to_owned();
    for name in below.components() {
        let name = name.as_os_str().to_str().unwrap_or_default();
        folder = disk::create_folder(&folder, name)?;
    }
    Ok(())
}
