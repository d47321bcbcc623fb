//! When to try again: a little later each time, at no moment that others choose too, and not past the deadline.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant};

use super::failure::{Class, Failure};
use crate::error::{Error, ErrorKind, Result};

const FIRST_WAIT: Duration = Duration::from_millis(1);
const LONGEST_WAIT: Duration = Duration::from_millis(250);
/// How often one piece of work is tried, whatever its deadline: what fails so often will not pass by trying.
const MOST: u32 = 1_000;

pub(super) struct Tries {
    deadline: Instant,
    failed: u32,
    /// Why the way to the server failed, when that was not for want of time.
    why: Option<Error>,
}

impl Tries {
    pub(super) fn until(deadline: Instant) -> Self {
        Self { deadline, failed: 0, why: None }
    }

    /// How often it has failed.
    pub(super) fn failed(&self) -> u32 {
        self.failed
    }

    /// Waits before the next try. `rest` is how, and may return early.
    ///
    /// # Errors
    /// The failure's own when it is not to be tried again, or there is no time left.
    pub(super) fn again(&mut self, failure: Failure, rest: impl FnOnce(Duration)) -> Result<()> {
        self.failed += 1;
        let left = self.deadline.saturating_duration_since(Instant::now());
        if failure.class == Class::Lost && failure.error.kind() != ErrorKind::Timeout {
            self.why = Some(failure.error.clone());
        }
        if failure.class == Class::Final || self.failed >= MOST || left.is_zero() {
            return Err(self.told(failure));
        }
        let grown = FIRST_WAIT.saturating_mul(1 << self.failed.min(10)).min(LONGEST_WAIT);
        rest(grown.mul_f64(0.5 + 0.5 * random()).min(left));
        Ok(())
    }

    fn told(&mut self, Failure { class, error, .. }: Failure) -> Error {
        match (class, error.kind()) {
            // That the last try had no time left says less than why those before it failed.
            (_, ErrorKind::Timeout) => self.why.take().unwrap_or(error).retry_in(LONGEST_WAIT),
            (Class::Final, _) | (_, ErrorKind::Closed) => error,
            _ => error.retry_in(LONGEST_WAIT),
        }
    }
}

/// From 0 to 1. Each state of the standard library's hasher has keys of its own.
pub(super) fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(tries: &mut Tries, class: Class) -> Option<Duration> {
        let error = Error::new(ErrorKind::Busy, "others go on writing what this needs");
        let mut waited = Duration::ZERO;
        tries.again(Failure { class, ..Failure::told(error) }, |time| waited = time).ok().map(|()| waited)
    }

    #[test]
    fn it_waits_longer_each_time_up_to_a_bound_and_never_past_the_deadline() {
        let mut tries = Tries::until(Instant::now() + Duration::from_hours(1));
        let waits: Vec<_> = (0..12).map(|_| again(&mut tries, Class::Again).expect("again")).collect();
        assert!(waits[0] <= Duration::from_millis(2), "{waits:?}");
        assert!(waits[11] >= LONGEST_WAIT / 2 && waits.iter().all(|one| *one <= LONGEST_WAIT), "{waits:?}");
        assert_eq!(again(&mut Tries::until(Instant::now()), Class::Again), None);
    }

    #[test]
    fn what_is_final_is_not_tried_again_and_nothing_is_for_ever() {
        let mut tries = Tries::until(Instant::now() + Duration::from_hours(1));
        assert_eq!(again(&mut tries, Class::Final), None);
        assert!((0..MOST).any(|_| again(&mut tries, Class::Lost).is_none()));
    }
    #[test]
    fn why_a_server_is_not_reached_is_told_also_when_the_last_try_had_no_time() {
        let mut tries = Tries::until(Instant::now() + Duration::from_hours(1));
        let refused = Failure::unreachable(&std::io::ErrorKind::ConnectionRefused.into());
        tries.again(refused, |_| {}).expect("again");
        tries.deadline = Instant::now();
        let told = tries.again(Failure::late(), |_| {}).expect_err("no time");
        assert_eq!(told.kind(), ErrorKind::Io, "{told}");
        let told = tries.again(Failure::late(), |_| {}).expect_err("no time");
        assert_eq!(told.kind(), ErrorKind::Timeout, "{told}");
    }
}
