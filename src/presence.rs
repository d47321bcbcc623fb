//! Who has a home open: a shared lock that ends with the process, however it ends.
//!
//! Every open database keeps one; whoever puts other files into the home's place (a restore) needs the lock alone.
//!
//! Invariants:
//! 1. While any database of a home is open in any process, nobody has the home alone; also while it is being opened
//!    again, or is waiting to be attached.
//! 2. A fork closes its copy, so that it does not keep the lock for its parent ([`forks`]).
//!
//! Tests: below; `tests/b2_restore.rs`.

pub(crate) mod live;

use std::fs::{File, TryLockError};
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::backup;
use crate::error::{Error, ErrorKind, Result};
use crate::forks;
use crate::home::{self, PreparedHome};
use crate::sqlite::connect::pause;
use crate::sqlite::holders::flock_holder;

/// A database's part in its process's presence. A clone is the same part.
#[derive(Clone, Default)]
pub(crate) struct Presence(Arc<Mutex<Option<Arc<Held>>>>);

impl Presence {
    /// Has the home open from now on; waits until `deadline` for somebody who has it alone. Where nothing may be written
    /// and the lock may not be read either, it goes without: such a user is found by what it has open.
    ///
    /// # Errors
    /// `Busy` naming who has it alone; of the system.
    pub(crate) fn enter(home: &PreparedHome, deadline: Instant) -> Result<Self> {
        let Some(held) = Held::open_to_share(home)? else { return Ok(Self::default()) };
        loop {
            match held.file.try_lock_shared() {
                Ok(()) => return Ok(Self(Arc::new(Mutex::new(Some(Arc::new(held)))))),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => pause(),
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::new(ErrorKind::Busy, had_alone(home))
                        .at_path(home.path())
                        .held_by(flock_holder(&lock_file(home)))
                        .retry_in(Duration::from_secs(1)));
                }
                Err(TryLockError::Error(error)) => return Err(Error::io("lock", &lock_file(home), error)),
            }
        }
    }

    /// Another part in the same presence: ends by itself.
    pub(crate) fn another(&self) -> Self {
        Self(Arc::new(Mutex::new(self.0.lock().clone())))
    }

    /// This part ends.
    pub(crate) fn leave(&self) {
        *self.0.lock() = None;
    }
}

/// What somebody does who has the home alone.
fn had_alone(home: &PreparedHome) -> &'static str {
    if backup::is_interrupted(home) {
        "a backup is being restored into this home"
    } else {
        "databases of this home are being repaired, compacted or moved, or a backup is about to be restored"
    }
}

/// Nobody has a database of the home open while this lives.
pub(crate) struct Alone(#[allow(dead_code, reason = "held, not read")] Held);

impl Alone {
    /// Has the home alone; `None` when somebody has it open.
    ///
    /// # Errors
    /// Of the system.
    pub(crate) fn try_enter(home: &PreparedHome) -> Result<Option<Self>> {
        Ok(Held::try_alone(&lock_file(home))?.map(Self))
    }
}

/// The lock file of a home.
pub(crate) fn lock_file(home: &PreparedHome) -> PathBuf {
    home.lock_path("home")
}

/// A lock file, open. The lock ends with this, also while a process that is just being started has a copy of the
/// descriptor; a fork closes its copy.
pub(crate) struct Held {
    file: ManuallyDrop<File>,
    owner: u32,
}

impl Held {
    fn open(path: &Path) -> Result<Self> {
        home::open_lock_file(path).map(Self::of)
    }

    /// Takes a lock that one has alone; `None` when somebody has it.
    ///
    /// # Errors
    /// Of the system.
    pub(crate) fn try_alone(path: &Path) -> Result<Option<Self>> {
        let held = Self::open(path)?;
        match held.file.try_lock() {
            Ok(()) => Ok(Some(held)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(Error::io("lock", path, error)),
        }
    }

    /// True while somebody has this lock alone. Makes no file, and needs to write none.
    ///
    /// # Errors
    /// Of the system.
    #[cfg(feature = "device-keys")]
    pub(crate) fn is_taken(path: &Path) -> Result<bool> {
        let held = match home::open_to_read(path) {
            Ok(file) => Self::of(file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(Error::io("open the lock file", path, error)),
        };
        match held.file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(Error::io("lock", path, error)),
        }
    }

    /// The open lock file.
    #[cfg(feature = "agent")]
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// False in a fork of the process that took it.
    pub(crate) fn is_ours(&self) -> bool {
        forks::current() == self.owner
    }

    /// True while it is what has this name.
    #[cfg(feature = "agent")]
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        home::is_at(&self.file, path)
    }

    fn open_to_share(home: &PreparedHome) -> Result<Option<Self>> {
        let path = lock_file(home);
        if home.read_only().is_none() {
            match Self::open(&path) {
                Err(error) if error.kind() == ErrorKind::ReadOnly => {}
                opened => return opened.map(Some),
            }
        }
        Ok(home::open_to_read(&path).ok().map(Self::of))
    }

    fn of(file: File) -> Self {
        let owner = forks::generation();
        forks::close_in_child(file.as_raw_fd());
        Self { file: ManuallyDrop::new(file), owner }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // In a fork the descriptor is closed already, and its number may be somebody else's.
        if self.is_ours() {
            forks::forget(self.file.as_raw_fd());
            let _ = self.file.unlock();
            // SAFETY: taken out once, here, where the value ends.
            drop(unsafe { ManuallyDrop::take(&mut self.file) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Home;

    #[test]
    fn many_have_it_open_or_one_has_it_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = Home::at(folder.path()).prepare().expect("a home");
        let enter = || Presence::enter(&home, Instant::now());
        let alone = || Alone::try_enter(&home).expect("a look");
        let (one, other) = (enter().expect("open"), enter().expect("open too"));
        let part = one.another();
        drop(one);
        assert!(alone().is_none());
        other.leave();
        assert!(alone().is_none(), "a part is left");
        part.leave();
        let held = alone().expect("nobody is there");
        assert!(alone().is_none(), "only one");
        let error = enter().err().expect("somebody has it alone");
        assert_eq!((error.kind(), error.path()), (ErrorKind::Busy, Some(home.path())));
        drop(held);
        enter().expect("open again");
    }

    /// Starting a process copies every descriptor until the other program runs.
    #[test]
    fn a_copied_descriptor_keeps_no_lock() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        let held = Held::try_alone(&path).expect("a lock file").expect("nobody has it");
        let _copy = held.file.try_clone().expect("a descriptor");
        drop(held);
        assert!(Held::try_alone(&path).expect("a lock file").is_some());
    }
}
