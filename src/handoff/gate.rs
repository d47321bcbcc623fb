//! The writer's own state, and who may enter it.
//!
//! The writer enters with [`Gate::enter`]. A caller may enter by itself, and save two thread switches, when nobody is
//! in line: with company its commit would only delay everybody else's common one.
//!
//! Invariants:
//! 1. One at a time is inside.
//! 2. A caller passes by itself only when the line is empty: jobs of one caller keep their order, and a crowd is
//!    served in batches.
//! 3. While somebody else wants to be inside (`reserve`), no caller passes by itself.

use crate::sync::{AtomicUsize, Mutex, MutexGuard, Ordering};

pub(crate) struct Gate<K> {
    inside: Mutex<K>,
    /// Callers that wait for an answer, and submitted jobs without one.
    line: AtomicUsize,
    reserved: AtomicUsize,
}

impl<K> Gate<K> {
    pub(crate) fn new(inside: K) -> Self {
        Self { inside: Mutex::new(inside), line: AtomicUsize::new(0), reserved: AtomicUsize::new(0) }
    }

    /// Enters when nobody is inside, in line, or has it reserved.
    pub(crate) fn pass(&self) -> Option<MutexGuard<'_, K>> {
        if self.line.load(Ordering::SeqCst) != 0 || self.reserved.load(Ordering::SeqCst) != 0 {
            return None;
        }
        let guard = self.inside.try_lock()?;
        // Somebody may have joined between the look and the lock; its job was first.
        (self.line.load(Ordering::SeqCst) == 0).then_some(guard)
    }

    /// Enters, waiting for whoever is inside.
    pub(crate) fn enter(&self) -> MutexGuard<'_, K> {
        self.inside.lock()
    }

    /// Enters when nobody is inside.
    pub(crate) fn try_enter(&self) -> Option<MutexGuard<'_, K>> {
        self.inside.try_lock()
    }

    /// Joins the line until [`leave`](Self::leave).
    pub(crate) fn join(&self) {
        self.line.fetch_add(1, Ordering::SeqCst);
    }

    /// Leaves the line.
    pub(crate) fn leave(&self) {
        self.line.fetch_sub(1, Ordering::SeqCst);
    }

    /// Keeps callers from passing by themselves until [`release`](Self::release).
    pub(crate) fn reserve(&self) {
        self.reserved.fetch_add(1, Ordering::SeqCst);
    }

    /// Ends a [`reserve`](Self::reserve).
    pub(crate) fn release(&self) {
        self.reserved.fetch_sub(1, Ordering::SeqCst);
    }

    /// True while somebody waits to get in by [`reserve`](Self::reserve).
    pub(crate) fn is_reserved(&self) -> bool {
        self.reserved.load(Ordering::SeqCst) != 0
    }
}
