//! `crate::sync` over shuttle: the same names, so that shuttle decides who runs next at every use of one of them.
//!
//! Time is the model's own. It passes when shuttle's dice say so, whenever somebody looks at it. Waiting until
//! [`Instant::never`] is waiting without a deadline: who is not woken then hangs, and shuttle reports it. Waiting until
//! an earlier time ends at once, as if spuriously woken, and is tried again until that time has come.

use std::cell::Cell;
use std::ops::{Add, Deref, DerefMut, Sub};
use std::sync::PoisonError;
use std::time::Duration;

use ::shuttle::rand::{Rng, thread_rng};
use ::shuttle::sync as real;

pub(crate) use ::shuttle::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
pub(crate) use std::sync::Arc;

std::thread_local! {
    /// The time in ticks. One execution runs on one thread, its tasks by turns.
    static CLOCK: Cell<u64> = const { Cell::new(0) };
}

const NEVER: u64 = u64::MAX / 2;

/// Of the model's own clock; a tick counts as a nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(u64);

impl Instant {
    /// Looks at the clock; now and then time has passed.
    pub(crate) fn now() -> Self {
        CLOCK.with(|clock| {
            clock.set(clock.get() + u64::from(thread_rng().gen_ratio(1, 4)));
            Self(clock.get())
        })
    }

    /// A time that does not come.
    pub(crate) fn never() -> Self {
        Self(NEVER)
    }

    /// Starts the clock anew, for an execution.
    pub(crate) fn reset() {
        CLOCK.with(|clock| clock.set(0));
    }

    pub(crate) fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_nanos() as u64).min(NEVER))
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

pub(crate) struct Mutex<T>(real::Mutex<T>);

/// Empty only inside [`Condvar::wait_until`].
pub(crate) struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    guard: Option<real::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(real::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard { mutex: self, guard: Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)) }
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        use std::sync::TryLockError::{Poisoned, WouldBlock};
        let guard = match self.0.try_lock() {
            Ok(guard) => guard,
            Err(Poisoned(poisoned)) => poisoned.into_inner(),
            Err(WouldBlock) => return None,
        };
        Some(MutexGuard { mutex: self, guard: Some(guard) })
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard.as_ref().expect("held")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard.as_mut().expect("held")
    }
}

pub(crate) struct Condvar(real::Condvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Self(real::Condvar::new())
    }

    pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, until: Instant) {
        let held = guard.guard.take().expect("held");
        guard.guard = Some(if until == Instant::never() {
            self.0.wait(held).unwrap_or_else(PoisonError::into_inner)
        } else {
            drop(held);
            ::shuttle::thread::yield_now();
            guard.mutex.0.lock().unwrap_or_else(PoisonError::into_inner)
        });
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

pub(crate) mod thread {
    use std::time::Duration;

    pub(crate) use ::shuttle::thread::{Thread, current, park, yield_now};

    pub(crate) fn park_timeout(wait: Duration) {
        if wait.as_nanos() as u64 > super::NEVER / 2 { park() } else { yield_now() }
    }
}
