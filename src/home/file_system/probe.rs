//! Do locks hold here, and is mapped memory shared? Tried out on a private temporary file.
//!
//! SQLite needs byte-range locks that two processes see of each other (`F_SETLK`) and a shared mapping
//! (<https://sqlite.org/wal.html>), the turn needs flock(2). Two openings of one file stand for two processes: locks of
//! the kind `F_OFD_SETLK` belong to an opening, conflict with those of another one and with `F_SETLK`.
//!
//! Invariant: the file has no name any more before anything is tried, so that nothing is left behind whatever happens.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::FlockOperation;

/// What a file system does wrong, in words; `Ok(None)` when all is well.
///
/// # Errors
/// When no file can be made or opened: that says nothing about locks.
#[expect(clippy::disallowed_methods, reason = "a temporary file of its own")]
pub(super) fn fault(folder: &Path) -> io::Result<Option<&'static str>> {
    let named = tempfile::Builder::new().prefix(".rowhouse-probe-").tempfile_in(folder)?;
    let second = OpenOptions::new().read(true).write(true).open(named.path())?;
    let (mut first, name) = named.into_parts();
    name.close()?;
    first.write_all(&[0; 4096])?;
    let found = if !byte_locks_hold(&first, &second) {
        Some("byte-range locks do not hold")
    } else if !flocks_hold(&first, &second) {
        Some("file locks (flock) do not hold")
    } else if !memory_is_shared(&first, &second) {
        Some("mapped memory is not shared")
    } else {
        None
    };
    Ok(found)
}

fn byte_locks_hold(first: &File, second: &File) -> bool {
    let (take, leave) = (libc::F_WRLCK, libc::F_UNLCK);
    // What SQLite itself takes. It belongs to this process, and this process has no other lock on this file.
    if lock(first, libc::F_SETLK, take).is_err() {
        return false;
    }
    let refused = match lock(second, libc::F_OFD_SETLK, take) {
        // A kernel without such locks: what two processes see of each other cannot be told from one.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            return lock(first, libc::F_SETLK, leave).is_ok();
        }
        answer => is_conflict(&answer),
    };
    refused
        && lock(second, libc::F_OFD_GETLK, take).is_ok_and(|holder| holder != leave)
        && lock(first, libc::F_SETLK, leave).is_ok()
        && lock(second, libc::F_OFD_SETLK, take).is_ok()
        && is_conflict(&lock(first, libc::F_OFD_SETLK, take))
        && lock(first, libc::F_GETLK, take).is_ok_and(|holder| holder != leave)
        && lock(second, libc::F_OFD_SETLK, leave).is_ok()
        && lock(first, libc::F_GETLK, take).is_ok_and(|holder| holder == leave)
}

/// One call on the bytes where SQLite has its locks; answers the kind of lock that the kernel wrote back.
fn lock(file: &File, command: libc::c_int, kind: libc::c_int) -> io::Result<libc::c_int> {
    // SAFETY: `flock` is plain numbers, for which zero is a value.
    let mut wanted: libc::flock = unsafe { std::mem::zeroed() };
    wanted.l_type = kind as libc::c_short;
    wanted.l_whence = libc::SEEK_SET as libc::c_short;
    (wanted.l_start, wanted.l_len) = (120, 8);
    // SAFETY: the descriptor is open, and these commands read and write one `flock`, which outlives the call.
    let answer = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut wanted) };
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(libc::c_int::from(wanted.l_type)) }
}

fn is_conflict<T>(answer: &io::Result<T>) -> bool {
    answer.as_ref().is_err_and(|error| matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)))
}

fn flocks_hold(first: &File, second: &File) -> bool {
    let (take, leave) = (FlockOperation::NonBlockingLockExclusive, FlockOperation::Unlock);
    rustix::fs::flock(first, take).is_ok()
        && rustix::fs::flock(second, take) == Err(rustix::io::Errno::WOULDBLOCK)
        && rustix::fs::flock(first, leave).is_ok()
        && rustix::fs::flock(second, take).is_ok()
}

fn memory_is_shared(first: &File, second: &File) -> bool {
    let mapped = |file| MmapOptions::new().len(4096).map_raw(file);
    let (Ok(one), Ok(other)) = (mapped(first), mapped(second)) else { return false };
    write(&one, 1, 11);
    write(&other, 2, 22);
    let mut byte = [0];
    read(&other, 1) == 11
        && read(&one, 2) == 22
        && first.read_at(&mut byte, 2).is_ok_and(|read| read == 1)
        && byte == [22]
        && second.write_at(&[33], 3).is_ok()
        && read(&one, 3) == 33
}

fn write(map: &MmapRaw, at: usize, value: u8) {
    assert!(at < map.len());
    // SAFETY: inside the mapping, of a file that has these bytes, has no name, and is never cut. Nothing else in this
    // process points there.
    unsafe { map.as_mut_ptr().add(at).write_volatile(value) };
}

fn read(map: &MmapRaw, at: usize) -> u8 {
    assert!(at < map.len());
    // SAFETY: as in `write`.
    unsafe { map.as_ptr().add(at).read_volatile() }
}
