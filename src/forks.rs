//! Is this still the process that opened the runtime? Asked before every call, so without a system call.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

/// How many forks lie between the first process that asked and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// A number that is another one in a forked child.
pub(crate) fn generation() -> u32 {
    static WATCHING: Once = Once::new();
    WATCHING.call_once(|| {
        // SAFETY: the handler only adds to an atomic, which is allowed between fork and exec; it is a plain function,
        // so it stays valid. A failure (no memory) leaves forks unnoticed, as they would be without this call.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
    FORKS.load(Ordering::Relaxed)
}

/// The same, where [`generation`] was called before.
pub(crate) fn current() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

unsafe extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}
