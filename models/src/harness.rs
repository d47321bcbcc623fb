//! What a model needs besides `crate::sync`: to be run often, threads, chance, and deadlines of each kind.

use crate::sync::Instant;

#[cfg(feature = "shuttle")]
mod kind {
    use std::time::Duration;

    use ::shuttle::rand::{Rng, thread_rng};
    use ::shuttle::scheduler::{PctScheduler, RandomScheduler};
    use ::shuttle::{Config, FailurePersistence, Runner};

    use super::Instant;

    pub(crate) use ::shuttle::thread::{Scope, scope};

    /// How many orders of one model are tried, unless `ROWHOUSE_MODEL_ITERATIONS` says so.
    const ITERATIONS: usize = 2000;
    /// How many preemptions an order of the second kind has at most.
    const PREEMPTIONS: usize = 3;

    /// Tries a model in many orders: half of them random, half with few preemptions at random places.
    ///
    /// # Panics
    /// When the model does, or when all its threads wait for each other.
    pub fn check(model: fn()) {
        let iterations = std::env::var("ROWHOUSE_MODEL_ITERATIONS")
            .ok()
            .and_then(|n| n.parse().ok())
            .unwrap_or(ITERATIONS);
        let mut config = Config::new();
        config.stack_size = 0x2_0000;
        config.failure_persistence = FailurePersistence::Print;
        config.silence_warnings = true;
        let run = move || {
            Instant::reset();
            model();
        };
        Runner::new(RandomScheduler::new(iterations.div_ceil(2)), config.clone()).run(run);
        Runner::new(PctScheduler::new(PREEMPTIONS, iterations.div_ceil(2)), config).run(run);
    }

    /// True in one of `n` cases.
    pub(crate) fn chance(n: u32) -> bool {
        thread_rng().gen_ratio(1, n)
    }

    /// A deadline that comes while others are at it.
    pub(crate) fn soon() -> Instant {
        Instant::now() + Duration::from_nanos(thread_rng().gen_range(0..6))
    }

    /// No deadline.
    pub(crate) fn never() -> Instant {
        Instant::never()
    }
}

#[cfg(not(feature = "shuttle"))]
mod kind {
    use std::hash::{BuildHasher, RandomState};
    use std::time::Duration;

    use super::Instant;

    pub(crate) use std::thread::{Scope, scope};

    const ROUNDS: usize = if cfg!(miri) { 2 } else { 200 };

    /// Runs a model a few times.
    ///
    /// # Panics
    /// When the model does.
    pub fn check(model: fn()) {
        for _ in 0..ROUNDS {
            model();
        }
    }

    fn below(n: u64) -> u64 {
        RandomState::new().hash_one(0) % n
    }

    /// True in one of `n` cases.
    pub(crate) fn chance(n: u32) -> bool {
        below(n.into()) == 0
    }

    /// A deadline that comes while others are at it. Miri's clock goes by steps of its own, not by time.
    pub(crate) fn soon() -> Instant {
        Instant::now() + Duration::from_micros(below(if cfg!(miri) { 20_000 } else { 60 }))
    }

    /// A deadline so late that who waits for it was forgotten.
    pub(crate) fn never() -> Instant {
        Instant::now() + Duration::from_hours(1)
    }
}

pub use kind::check;
pub(crate) use kind::{Scope, chance, never, scope, soon};

/// A deadline that has passed.
pub(crate) fn past() -> Instant {
    Instant::now()
}

/// Any of them.
pub(crate) fn some_time() -> Instant {
    match (chance(3), chance(3)) {
        (true, _) => never(),
        (false, true) => past(),
        (false, false) => soon(),
    }
}

/// Panics without a word on the terminal.
pub(crate) fn burst() -> ! {
    std::panic::resume_unwind(Box::new("on purpose"))
}
