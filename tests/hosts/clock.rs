//! A clock that is wrong, in one process: the C library's function by which Rust asks for the time, in front of it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

static AHEAD_S: AtomicI64 = AtomicI64::new(0);

/// From now on this process's wall clock is so far ahead. Clocks that only measure go as before.
pub fn set_ahead(by: Duration) {
    AHEAD_S.store(i64::try_from(by.as_secs()).expect("not so far"), Ordering::SeqCst);
}

/// What the wall clock says, in Unix milliseconds.
pub fn now_unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("not so far")
}

/// Since the machine started, in nanoseconds: one clock for all processes.
pub fn since_start_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).expect("it counts up") * 1_000_000_000
        + u64::try_from(now.tv_nsec).expect("a part of a second")
}

// SAFETY: the name and the signature are those of clock_gettime(2), and it does what is said there, but for the time.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(id: libc::clockid_t, at: *mut libc::timespec) -> libc::c_int {
    // SAFETY: the arguments are the caller's, who passes what the system call of this name takes.
    let result = unsafe { libc::syscall(libc::SYS_clock_gettime, id, at) };
    if result == 0 && id == libc::CLOCK_REALTIME {
        // SAFETY: the call above has just written there.
        unsafe { (*at).tv_sec += AHEAD_S.load(Ordering::SeqCst) };
    }
    result as libc::c_int
}
