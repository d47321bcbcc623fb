//! The primitives that `handoff` is built from, and its clock, in one place, so that a model checker can stand in for
//! them (see `models/`).

pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
pub(crate) use std::time::Instant;

pub(crate) mod thread {
    pub(crate) use std::thread::{Thread, current, park, park_timeout};
}
