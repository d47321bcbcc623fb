//! Turns: what a person asked and what came of it, read out of the transcript.
//!
//! | file | what |
//! |---|---|
//! | `model`, `query` | what a turn is, and how turns are asked for |
//! | `projector` | from lines to turns: one state machine for every reader |
//! | `projection` | a transcript, read as far as it goes, and how far that was |
//! | `table`, `memory` | where turns are kept |
//! | `items` | the lines of a turn |

mod items;
mod memory;
mod model;
mod projection;
mod projector;
mod query;
mod table;

#[cfg(feature = "postgres")]
pub(crate) use items::PAGE_BYTES;
pub(crate) use items::page_of;
pub(crate) use memory::TurnList;
pub use model::{Anomaly, AnomalyKind, Turn, TurnStatus};
pub(crate) use projection::{anomalies, catch_up, find, forget, is_of_the_database, kept, read_whole};
pub(crate) use projector::{Placed, Projector, Span, StoredTurn};
pub use query::{ItemsView, TurnPage, TurnQuery, TurnWithItems};
#[cfg(feature = "postgres")]
pub(crate) use table::{Checkpoint, TurnTable};
