//! The right to write a thread's transcript: one writer across all processes.
//!
//! A flock on `<home>/locks/rollout-<id>.lock`. It is named after the thread, not after a path, so that it stays the same
//! lock while the transcript moves to the archive or is compressed, and nothing is put beside transcripts that somebody else's
//! program looks after.
//!
//! Invariants, and where they are tested (`tests/rollout_lease.rs`):
//! 1. At most one process has it; the kernel frees it when that process ends, however it ends. A fork lets go of its copy.
//! 2. A lock file that has no owner is removed: by the owner, under the lock. Whoever then gets the lock of a file that
//!    has lost its name begins anew, so that two never hold two files of one name.
//! 3. The file says who owns it, for a person's eyes; only the lock decides.
//! 4. Who waits for it touches the file, and the owner can see that without a lock, a thread or a poll:
//!    [`is_wanted`](WriterLease::is_wanted).

use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::home::{self, PreparedHome};
use crate::move_backend::marker::refuse_cutting_over;
use crate::presence::Held;
use crate::processes;
use crate::sqlite::connect::pause;
use crate::sqlite::holders::{self, Holder};
use crate::sqlite::now_unix_ms;

/// How often who waits says so.
const ASKS_EVERY: Duration = Duration::from_millis(250);
/// How long after that the owner takes him as waiting.
const ASKED_FOR: Duration = Duration::from_secs(2);

/// The right to write a thread's transcript. Ends when it is dropped.
pub struct WriterLease {
    held: Held,
    path: PathBuf,
    id: String,
    /// When the file was last touched by this owner, as the file says.
    touched: (i64, i64),
}

/// What a lock file says.
#[derive(Debug, Serialize, Deserialize)]
struct Owner {
    pid: u32,
    /// In clock ticks since the system started.
    start: u64,
    boot: String,
    program: String,
    /// In milliseconds since 1970.
    since: u64,
    /// Bytes of the transcript that it found: what comes before was written by others.
    #[serde(default)]
    found: u64,
}

impl Owner {
    fn this_process(found: u64) -> Self {
        let pid = std::process::id();
        Self {
            pid,
            start: processes::stat(pid).map_or(0, |stat| stat.start_time),
            boot: boot(),
            program: processes::command(pid),
            since: now_unix_ms(),
            found,
        }
    }

    /// True when that process still runs.
    fn lives(&self) -> bool {
        self.boot == boot() && processes::stat(self.pid).is_some_and(|stat| stat.start_time == self.start)
    }
}

/// Another one after each start of the system; empty where it has no name.
fn boot() -> String {
    let read = home::read_file("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    String::from_utf8_lossy(&read).trim().to_owned()
}

impl WriterLease {
    /// Takes the lease of a thread; waits so long for another owner.
    ///
    /// # Errors
    /// `Conflict` naming the owner; `ReadOnly` in a home that may not be written; of the system.
    pub(super) fn take(home: &PreparedHome, id: &str, wait: Duration) -> Result<Self> {
        if let Some(why) = home.read_only() {
            return Err(why.clone());
        }
        let path = home.lock_path(&format!("rollout-{id}.lock"));
        let begun = Instant::now();
        let mut asked: Option<Instant> = None;
        loop {
            if let Some(held) = Held::try_alone(&path)? {
                if held.is_at(&path) {
                    // Who moves the home says so before it looks for owners: one of both sees the other.
                    refuse_cutting_over(home)?;
                    return Ok(Self::owned(held, path, id));
                }
                // Its owner removed it just before: the next one has the name.
                continue;
            }
            if begun.elapsed() >= wait {
                return Err(owned_by_another(&path));
            }
            if asked.is_none_or(|asked| asked.elapsed() >= ASKS_EVERY) {
                ask(&path);
                asked = Some(Instant::now());
            }
            pause();
        }
    }

    /// From where on somebody who has the lease of a thread writes it, in this process or another one; `None` where nobody
    /// has it, or that cannot be told. Creates nothing.
    pub(super) fn held_from(home: &PreparedHome, id: &str) -> Option<u64> {
        let path = home.lock_path(&format!("rollout-{id}.lock"));
        // Only an owner, or one that died, leaves the file there.
        let file = super::disk::open_to_read(&path).ok()?;
        let held = matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock));
        // A fork may have a copy of the descriptor.
        let _ = file.unlock();
        let owner = || serde_json::from_slice::<Owner>(&home::read_file(&path).ok()?).ok();
        held.then(|| owner().map_or(0, |owner| owner.found))
    }

    fn owned(held: Held, path: PathBuf, id: &str) -> Self {
        let mut lease = Self { held, path, id: id.to_owned(), touched: (0, 0) };
        lease.say(0);
        lease
    }

    /// Says that the transcript had so many bytes when this owner got it.
    pub(super) fn found(&mut self, bytes: u64) {
        if bytes > 0 {
            self.say(bytes);
        }
    }

    fn say(&mut self, found: u64) {
        let record = serde_json::to_vec(&Owner::this_process(found)).unwrap_or_default();
        let file = self.held.file();
        let written = file.set_len(0).and_then(|()| file.write_all_at(&record, 0));
        let touched = written.and_then(|()| file.metadata()).map(|found| (found.mtime(), found.mtime_nsec()));
        // The record is for a person's eyes: a full disk does not keep anybody from the lock.
        self.touched = touched.unwrap_or_default();
    }

    /// The thread.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// True while somebody waits for it. An owner whose client has gone hands the thread over then, by dropping this.
    /// Costs one `fstat`.
    pub fn is_wanted(&self) -> bool {
        let Ok(found) = self.held.file().metadata() else { return false };
        if (found.mtime(), found.mtime_nsec()) == self.touched {
            return false;
        }
        let touched = found.mtime().saturating_mul(1000) + found.mtime_nsec() / 1_000_000;
        // A clock that was set back makes it look wanted for longer: it is, or was.
        let ago = i64::try_from(now_unix_ms()).unwrap_or(i64::MAX).saturating_sub(touched);
        ago < ASKED_FOR.as_millis() as i64
    }

    /// Refuses to go on in a fork, or when somebody removed the lock file under the lock.
    ///
    /// # Errors
    /// `Closed`, `Conflict`.
    pub(super) fn check(&self) -> Result<()> {
        if !self.held.is_ours() {
            return Err(Error::new(ErrorKind::Closed, "the thread was opened by the parent of this process")
                .advise("resume it in this process"));
        }
        match self.held.file().metadata() {
            Ok(found) if found.nlink() > 0 => Ok(()),
            Ok(_) => Err(Error::new(ErrorKind::Conflict, "somebody removed the lock of this thread")
                .at_path(&self.path)
                .advise("resume the thread")),
            Err(error) => Err(Error::io("look at the lock", &self.path, error)),
        }
    }
}

impl Drop for WriterLease {
    fn drop(&mut self) {
        if self.held.is_ours() && self.held.is_at(&self.path) {
            // Who waits has the file open, finds that it has no name any more, and takes another.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl std::fmt::Debug for WriterLease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriterLease").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Refuses to go on while somebody writes a thread of this home.
///
/// # Errors
/// `Busy`, naming the owner; of the system.
#[cfg(feature = "postgres")]
pub(crate) fn refuse_writers(home: &PreparedHome) -> Result<()> {
    let folder = home.lock_path("");
    let failed = |error| Error::io("look for the locks of threads", &folder, error);
    let entries = match std::fs::read_dir(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        let id = name.to_str().and_then(|name| name.strip_prefix("rollout-")?.strip_suffix(".lock"));
        if let Some(id) = id
            && WriterLease::held_from(home, id).is_some()
        {
            return Err(owned_by_another(&folder.join(&name)).as_kind(ErrorKind::Busy));
        }
    }
    Ok(())
}

/// Tells the owner that somebody waits.
fn ask(path: &Path) {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let now = Timestamps { last_access: now, last_modification: now };
    let _ = utimensat(CWD, path, &now, AtFlags::SYMLINK_NOFOLLOW);
}

fn owned_by_another(path: &Path) -> Error {
    Error::new(ErrorKind::Conflict, "another process writes this thread")
        .at_path(path)
        .held_by(holders::flock_holder(path).or_else(|| recorded(path)))
        .retry_in(Duration::from_secs(1))
        .advise("read it meanwhile, close it there, or end that process")
}

/// Who the file says it is, where the system does not tell.
fn recorded(path: &Path) -> Option<Holder> {
    let owner: Owner = serde_json::from_slice(&home::read_file(path).ok()?).ok()?;
    let home = path.parent().and_then(Path::parent);
    owner.lives().then(|| holders::named(owner.pid, home, path))
}
