//! How a caller's job gets to the writer and its answer back.
//!
//! - [`lend`]: a closure on the caller's stack, callable from another thread while the caller waits.
//! - [`job`]: one job, its states, and the waiting for its answer.
//! - [`lanes`]: the bounded queue, one lane for normal and one for background work.
//! - [`gate`]: the writer's own state, entered by the writer or, when nobody waits, by a caller itself.
//!
//! Nothing here knows SQLite: the context a job runs on and the error it answers are type parameters, and the
//! primitives come from `crate::sync`. So the same files run under Miri and under a model checker (`models/`).

pub(crate) mod gate;
pub(crate) mod job;
pub(crate) mod lanes;
pub(crate) mod lend;
