//! Is this still the process that opened the runtime? Asked before every call, so without a system call.
//!
//! And what a fork closes before it does anything else: a flock belongs to whoever has a descriptor of the same opening,
//! so a fork that keeps its copy of a lock file would keep its parent's turn after the parent's death. The values that
//! own those descriptors are never dropped in a fork.

use std::sync::Once;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

/// How many forks lie between the first process that asked and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// Descriptors that can be noted: those of 128 databases, and of 3,800 transcripts that are written. What comes on top is
/// not closed in a fork.
const DESCRIPTORS: usize = 4096;
const NONE: i32 = -1;

/// The open lock files of this process.
static LOCK_FILES: [AtomicI32; DESCRIPTORS] = [const { AtomicI32::new(NONE) }; DESCRIPTORS];

/// A number that is another one in a forked child.
pub(crate) fn generation() -> u32 {
    static WATCHING: Once = Once::new();
    WATCHING.call_once(|| {
        // SAFETY: the handler only uses atomics and close(2), which are allowed between fork and exec; it is a plain
        // function, so it stays valid. A failure (no memory) leaves forks unnoticed, as they would be without this
        // call.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
    FORKS.load(Ordering::Relaxed)
}

/// The same, where [`generation`] was called before.
pub(crate) fn current() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// Has forks close this descriptor, until [`forget`].
pub(crate) fn close_in_child(descriptor: i32) {
    replace(NONE, descriptor);
}

/// The descriptor is about to be closed here.
pub(crate) fn forget(descriptor: i32) {
    replace(descriptor, NONE);
}

fn replace(from: i32, to: i32) {
    let _ = LOCK_FILES
        .iter()
        .any(|slot| slot.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok());
}

unsafe extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    for slot in &LOCK_FILES {
        let descriptor = slot.swap(NONE, Ordering::AcqRel);
        if descriptor != NONE {
            // SAFETY: the fork's copy, which nobody uses any more.
            unsafe { libc::close(descriptor) };
        }
    }
}
