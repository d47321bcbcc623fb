//! Models of how a caller's job gets to the writer and its answer back: the very files of `rowhouse`'s `handoff`,
//! without SQLite, driven by a miniature of its engine.
//!
//! | run | primitives | finds |
//! |---|---|---|
//! | `cargo test` | the real ones | that the models themselves hold |
//! | `scripts/models.sh` (feature `shuttle`) | shuttle's, on a clock of the model's own | orders: lost wake-ups, broken invariants |
//! | `scripts/miri.sh` | the real ones, under Miri | memory: races, use after free, aliasing |
//!
//! A model is a function; `tests/` says which there are.

// What only the engine uses is dead here.
#[allow(dead_code)]
#[path = "../../src/handoff/mod.rs"]
mod handoff;
#[cfg_attr(feature = "shuttle", path = "shuttle.rs")]
#[cfg_attr(not(feature = "shuttle"), path = "../../src/sync.rs")]
mod sync;

pub mod controls;
mod engine;
mod harness;
pub mod models;

pub use harness::check;
