//! The two locks of the turn, in one file and with one descriptor: on Linux the room is a flock(2), the lobby a lock of
//! the open file description on its first byte (`F_OFD_SETLK` in fcntl(2)). The two kinds do not see each other, and both
//! end with the descriptor. Elsewhere the lobby is a file of its own.
//!
//! Invariant: a lock that somebody has is waited for only in `wait_*`.

use std::fs::File;
use std::io::Result;
use std::os::fd::AsRawFd;
use std::path::Path;

use crate::forks;
use crate::home;

pub(in crate::sqlite) struct Locks {
    room: File,
    #[cfg(not(target_os = "linux"))]
    lobby: File,
}

impl Locks {
    pub(in crate::sqlite) fn open(path: &Path) -> crate::Result<Self> {
        let opened = Self {
            room: home::open_lock_file(path)?,
            #[cfg(not(target_os = "linux"))]
            lobby: home::open_lock_file(&path.with_extension("lobby"))?,
        };
        opened.descriptors().for_each(forks::close_in_child);
        Ok(opened)
    }

    #[cfg(target_os = "linux")]
    fn descriptors(&self) -> impl Iterator<Item = i32> {
        std::iter::once(self.room.as_raw_fd())
    }

    #[cfg(not(target_os = "linux"))]
    fn descriptors(&self) -> impl Iterator<Item = i32> {
        [self.room.as_raw_fd(), self.lobby.as_raw_fd()].into_iter()
    }

    pub(in crate::sqlite) fn try_room(&self) -> bool {
        self.room.try_lock().is_ok()
    }

    pub(in crate::sqlite) fn wait_for_room(&self) -> Result<()> {
        self.room.lock()
    }

    pub(in crate::sqlite) fn leave_room(&self) {
        // It can only fail for a descriptor that is not open.
        let _ = self.room.unlock();
    }
}

impl Drop for Locks {
    fn drop(&mut self) {
        self.descriptors().for_each(forks::forget);
    }
}

#[cfg(target_os = "linux")]
impl Locks {
    pub(in crate::sqlite) fn try_lobby(&self) -> bool {
        self.first_byte(libc::F_OFD_SETLK, libc::F_WRLCK).is_ok()
    }

    pub(in crate::sqlite) fn wait_for_lobby(&self) -> Result<()> {
        loop {
            match self.first_byte(libc::F_OFD_SETLKW, libc::F_WRLCK) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    pub(in crate::sqlite) fn leave_lobby(&self) {
        // It can only fail for a descriptor that is not open.
        let _ = self.first_byte(libc::F_OFD_SETLK, libc::F_UNLCK);
    }

    fn first_byte(&self, command: i32, kind: i32) -> Result<()> {
        // SAFETY: plain numbers, of which all zeros are a value.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        (lock.l_type, lock.l_whence, lock.l_len) = (kind as i16, libc::SEEK_SET as i16, 1);
        // SAFETY: the descriptor is open while `self` is borrowed; the command reads one `flock`.
        let answer = unsafe { libc::fcntl(self.room.as_raw_fd(), command, &raw const lock) };
        if answer == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    }
}

#[cfg(not(target_os = "linux"))]
impl Locks {
    pub(in crate::sqlite) fn try_lobby(&self) -> bool {
        self.lobby.try_lock().is_ok()
    }

    pub(in crate::sqlite) fn wait_for_lobby(&self) -> Result<()> {
        self.lobby.lock()
    }

    pub(in crate::sqlite) fn leave_lobby(&self) {
        let _ = self.lobby.unlock();
    }
}
