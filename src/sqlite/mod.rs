//! One database file: its handle, its threads.
//!
//! | file | what |
//! |---|---|
//! | [`database`], [`closing`] | the handle, from open to close |
//! | [`tx`] | what a job and a read see |
//! | [`entry`], [`writer`], [`batch`], [`core`] | the write path |
//! | [`turn`] | a process's place at the write lock |
//! | [`blocked`] | how long that lock has been somebody else's |
//! | [`readers`] | snapshots |
//! | [`checkpoint`] | keeps the write-ahead log short |
//! | [`check`] | reads the whole file in the background |
//! | [`reclaim`] | gives free pages back to the disk |
//! | [`connect`], [`migrate`], [`migration`], [`history`], [`fence`] | opening |
//! | [`cantopen`] | why it failed |
//! | [`read_only`], [`memory`] | where nothing may be written, or kept |
//! | [`schema_watch`] | may this program still write |
//! | [`catalogue`], [`rebuilt`] | what others made of it |
//! | [`damage`] | set aside, salvaged, and begun anew |
//! | [`lineage`] | what a fork must not open |
//! | [`guard`] | what a job may not do, and its deadline |
//! | [`identity`], [`generation`] | are the files still ours, and who of this process has them open |
//! | [`latch`], [`shared_number`] | no acknowledgement after a failed write, in any process |
//! | [`recover`], [`rescue`], [`merge`] | if not: what was in them, and on to those that are there |
//! | [`new_file`], [`source`] | a file that is filled at once, and then put in its place; one whose rows are taken elsewhere |
//! | [`maintain`], [`compact`] | the same on demand, and all at once |
//! | [`look`] | a look at any file that changes nothing, for the doctor |
//! | [`visit`] | the write lock in its turn, beside those who have the database open |
//! | [`hold`] | snapshots of several databases at one instant |
//! | [`holders`], [`status_page`] | who is in the way, and who uses what |
//! | [`steps`] | long rewrites, after ready |
//! | [`admission`] | whether writes are let in |
//! | [`log_cap`], [`pins`], [`space`], [`write_rate`] | the bounds that decide it |
//! | [`disk_reserve`] | logs leave the last of the disk to the others |
//! | [`health`], [`stats`], [`change`] | what can be watched, and is counted |
//! | [`ffi`], [`log_index`] | calls that rusqlite does not offer, and shared memory that SQLite does not show |

mod admission;
mod batch;
mod blocked;
mod cantopen;
mod catalogue;
mod change;
pub(crate) mod check;
mod checkpoint;
mod clock;
mod closing;
pub(crate) mod compact;
pub(crate) mod connect;
mod core;
pub(crate) mod damage;
mod database;
mod disk_reserve;
mod entry;
mod fence;
pub(crate) mod ffi;
mod generation;
pub(crate) mod guard;
pub(crate) mod health;
pub(crate) mod history;
pub(crate) mod hold;
pub(crate) mod holders;
mod identity;
mod label;
mod latch;
mod lineage;
mod log_cap;
mod log_index;
#[cfg(feature = "agent")]
pub(crate) mod look;
pub(crate) mod maintain;
pub(crate) mod memory;
mod merge;
pub(crate) mod migrate;
pub(crate) mod migration;
pub(crate) mod new_file;
mod pins;
pub(crate) mod read_only;
mod readers;
mod rebuilt;
pub(crate) mod reclaim;
mod recover;
mod rescue;
mod schema_watch;
mod shared;
mod shared_number;
#[cfg(feature = "postgres")]
pub(crate) mod source;
mod space;
pub(crate) mod stats;
pub(crate) mod status_page;
pub(crate) mod steps;
mod ticket;
mod turn;
pub(crate) mod tx;
pub(crate) mod visit;
mod write_rate;
mod writer;

pub(crate) use clock::instant_after;
#[cfg(feature = "agent")]
pub(crate) use clock::{now_unix_ms, now_unix_ns};
pub use closing::CloseReport;
pub use database::Database;
pub use ticket::Ticket;
