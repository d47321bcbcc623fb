//! A closure lent to another thread for as long as its owner waits.
//!
//! Invariants, kept by `job::Job` and checked under Miri in `models/`:
//! 1. A lent closure is called only by the thread that claimed its job (state Running).
//! 2. The owner does not return, or unwind, before the job is in a state from which it can never be claimed again.

/// What a job runs: a closure it owns, or one it was lent.
pub(crate) enum Body<C, T> {
    Owned(Box<dyn Fn(&C) -> T + Send>),
    Lent(Lent<C, T>),
}

/// A borrowed closure without its lifetime.
pub(crate) struct Lent<C, T> {
    closure: *const (),
    call: unsafe fn(*const (), &C) -> T,
}

impl<C, T> Lent<C, T> {
    /// Forgets the lifetime of `closure`.
    ///
    /// # Safety
    /// The closure must stay where it is, and its owner must not use it, until nobody can call [`Lent::call`] any
    /// more.
    pub(crate) unsafe fn new<F: Fn(&C) -> T + Send>(closure: &F) -> Self {
        Self { closure: std::ptr::from_ref(closure).cast(), call: call_as::<F, C, T> }
    }

    /// Calls the closure.
    ///
    /// # Safety
    /// The promise of [`Lent::new`] must still hold, and no other thread may be inside this call.
    unsafe fn call(&self, context: &C) -> T {
        // SAFETY: `closure` was made from an `&F` and `call` for the same `F` in `new`; the caller of this function
        // vouches that the closure is still there and that it is called by one thread at a time.
        unsafe { (self.call)(self.closure, context) }
    }
}

/// # Safety
/// `closure` points to a live `F` that no other thread uses.
unsafe fn call_as<F: Fn(&C) -> T, C, T>(closure: *const (), context: &C) -> T {
    // SAFETY: by this function's contract.
    let closure = unsafe { &*closure.cast::<F>() };
    closure(context)
}

impl<C, T> Body<C, T> {
    /// Calls the closure.
    ///
    /// # Safety
    /// For a lent closure, the promise of [`Lent::new`] must still hold; and no other thread may be inside.
    pub(crate) unsafe fn call(&self, context: &C) -> T {
        match self {
            Self::Owned(closure) => closure(context),
            // SAFETY: by this function's contract.
            Self::Lent(lent) => unsafe { lent.call(context) },
        }
    }
}

// SAFETY: the pointer leads to an `F: Send` (see `Lent::new`), which is handed over as a whole: its owner does not
// touch it while another thread may call it, so moving the pointer is moving the use of an `F: Send`.
unsafe impl<C, T> Send for Lent<C, T> {}
