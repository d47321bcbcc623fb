//! A home's domains, moved between files and a PostgreSQL server.
//!
//! | file | what |
//! |---|---|
//! | [`run`] | a move from its beginning to its end |
//! | [`to_server`], [`to_files`] | what is done before its cut-over, either way |
//! | [`table`] | which tables, as the catalogues tell them |
//! | [`cell`], [`sum`] | a value on its way; what a table holds, as one number |
//! | [`side`], [`transfer`] | rows out of one side, into the other, and compared |
//! | [`indexes`] | indexes that are made at the end |
//! | [`intent`], [`switch`] | the cut-over, and what is left to do when it was broken off |
//! | [`transcripts`], [`histories`] | histories, which are files in a home and rows on a server |
//! | [`said`] | what users said on a server, for new transcripts to say |
//! | [`options`] | what a caller says, and is told |
//! | [`marker`] | what stays in a home whose data went |
//! | [`report`] | the answer, and the manifest |
//!
//! Invariants:
//! 1. **The cut-over is one COMMIT on the server, both ways.** In its transaction are the rows (or, on the way to files, that
//!    the schema was put aside) and a line with the move's id ([`postgres::moved`](crate::postgres::moved)). Before it the
//!    source is what counts, after it the target, and nothing else is asked.
//! 2. Nothing durable is changed before `move.json` is in the home, which is written right before that COMMIT. While it is
//!    there no database of the home is opened: who opens the home asks the server, and finishes the move or takes it back.
//! 3. Nobody writes the source meanwhile: the home is had alone and its files are locked; on a server every table is locked,
//!    for all machines, and what waits there finds no table afterwards.
//! 4. What was found, what was sent and what was read back from the target are the same, table by table, before the COMMIT;
//!    nobody wrote the source between the first and the last look at it (3).
//! 5. The source is put aside, never deleted, and refused from then on, by an error that says where its data is.
//!
//! A thread's history is a transcript in a home and rows on a server. Either side of a move gives it as rows
//! ([`side::Side`]), so that it is planned, copied and compared like all others; the folders of transcripts go and come with
//! the files, each by one rename. The home's writers of transcripts are kept out by `move.json` (2).
//!
//! Tests: `tests/move_backend.rs`, `tests/move_histories.rs`.

pub(crate) mod marker;

#[cfg(feature = "postgres")]
mod cell;
#[cfg(feature = "postgres")]
mod histories;
#[cfg(feature = "postgres")]
mod indexes;
#[cfg(feature = "postgres")]
mod intent;
#[cfg(feature = "postgres")]
mod options;
#[cfg(feature = "postgres")]
mod report;
#[cfg(feature = "postgres")]
mod run;
#[cfg(feature = "postgres")]
mod said;
#[cfg(feature = "postgres")]
mod side;
#[cfg(feature = "postgres")]
mod sum;
#[cfg(feature = "postgres")]
mod switch;
#[cfg(feature = "postgres")]
mod table;
#[cfg(feature = "postgres")]
mod to_files;
#[cfg(feature = "postgres")]
mod to_server;
#[cfg(feature = "postgres")]
mod transcripts;
#[cfg(feature = "postgres")]
mod transfer;

#[cfg(feature = "postgres")]
pub use cell::Unholdable;
#[cfg(feature = "postgres")]
pub(crate) use intent::settle;
#[cfg(feature = "postgres")]
pub(crate) use options::OnProgress;
#[cfg(feature = "postgres")]
pub use options::{Backend, MoveOptions, MoveProgress, MoveStep};
#[cfg(feature = "postgres")]
pub use report::{Lost, MoveReport, MovedTable};
#[cfg(feature = "postgres")]
pub(crate) use run::run;
