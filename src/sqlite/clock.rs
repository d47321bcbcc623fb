//! Times: until when to wait, and what to show.

use std::time::{Duration, Instant};

/// The instant in so much time; for a wait without end (`Duration::MAX`), a century.
pub(crate) fn instant_after(wait: Duration) -> Instant {
    later(Instant::now(), wait)
}

/// The same from `now` on.
pub(super) fn later(now: Instant, wait: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_hours(100 * 365 * 24);
    now.checked_add(wait).unwrap_or(now + CENTURY)
}

/// The wall clock to a few milliseconds, cheaply: for what is shown and stored, not for measuring.
pub(crate) fn now_unix_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    (now.tv_sec as u64) * 1000 + (now.tv_nsec as u64) / 1_000_000
}

/// The same in nanoseconds, and to one: it costs a little more.
#[cfg(feature = "agent")]
pub(crate) fn now_unix_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}
