//! Those who still have the files of a damaged database open while they are moved and read.
//!
//! What was acknowledged must be in what a salvage reads. Two things see to that:
//!
//! - Whoever commits looks after the COMMIT, and before the acknowledgement, whether the main file is still at its path
//!   (`identity`). So what is acknowledged was in the log before the main file moved, and is read from there. With
//!   NORMAL durability the look may be 10 ms old; the lock below covers these.
//! - From before the first file moves until the new database is in its place, the mover has SQLite's own locks of the old
//!   log: nobody commits to it, nobody works it off, and nobody starts it anew while it is read
//!   (<https://sqlite.org/walformat.html>, section 2.3.1). Who waits for the lock meanwhile commits to the moved file
//!   later, is told so, and opens the new one.
//!
//! A process that was stopped in the middle of a commit has those locks itself. It is waited for a moment and not longer:
//! what it has committed by then is read, and what comes later is not acknowledged.
//!
//! The index is opened as a file here, which drops this process's own locks on it when it is closed: this process has no
//! connection to it but perhaps a reader that is about to end, and what that one reads does not change any more. A backup or
//! maintenance, which may have the write lock, is waited for.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::home;
use crate::sqlite::connect::pause;

/// The write lock, without which nobody commits or begins the log anew, and the checkpoint lock: each by itself, so that a
/// long checkpoint does not keep the first from being taken.
const LOCKS: [libc::off_t; 2] = [120, 121];
/// How long a commit or a checkpoint under way is waited for.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// Nobody changes the old files while this lives.
pub(super) struct Still(Vec<File>);

impl Still {
    /// Takes the locks in those of the indexes that are there.
    pub(super) fn hold(indexes: impl IntoIterator<Item = PathBuf>) -> Self {
        let until = Instant::now() + LONGEST_WAIT;
        let files: Vec<_> = indexes.into_iter().filter_map(|path| home::open_index(&path).ok()).collect();
        for lock in LOCKS {
            for file in &files {
                while !set_lock(file, lock, libc::F_WRLCK) && Instant::now() < until {
                    pause();
                }
            }
        }
        Self(files)
    }
}

impl Drop for Still {
    /// A process that forked meanwhile has copies of the descriptors.
    fn drop(&mut self) {
        for file in &self.0 {
            for lock in LOCKS {
                set_lock(file, lock, libc::F_UNLCK);
            }
        }
    }
}

/// A lock of the open file description (fcntl(2)): it conflicts with SQLite's. False while somebody has it.
fn set_lock(file: &File, at: libc::off_t, kind: libc::c_int) -> bool {
    // SAFETY: a plain structure of numbers, for which zeros are valid; `l_pid` must be zero for this kind of lock.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    (lock.l_start, lock.l_len) = (at, 1);
    // SAFETY: the descriptor is open for as long as `file` lives, and the call only reads the structure.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) == 0 }
}
