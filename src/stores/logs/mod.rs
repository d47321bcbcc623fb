//! Logs: one row per event, best effort, bounded in bytes, measured.
//!
//! | file | what |
//! |---|---|
//! | `model` | a row |
//! | `sink`, `queue`, `writer` | the way in: events wait, one thread writes them |
//! | `event`, `record` | what a program says, and the row that becomes of it |
//! | `layer` | what it says through `tracing` |
//! | `level`, `setting` | which events are taken, and who says so |
//! | `insert`, `own`, `prune` | a batch, and the caps |
//! | `query`, `filter`, `cursor`, `read`, `scan` | the way out: lists in pages |
//! | `ids`, `time_range`, `text`, `sql` | what those look at |
//! | `follow`, `export`, `feedback` | as rows come, all of them, and what to send along with a report |

mod cursor;
mod event;
mod export;
mod feedback;
mod filter;
mod follow;
mod ids;
mod insert;
#[cfg(feature = "log-layer")]
mod layer;
mod level;
mod model;
mod own;
mod prune;
mod query;
mod queue;
mod read;
mod record;
mod scan;
pub(crate) mod setting;
pub(crate) mod sink;
mod sql;
mod text;
mod time_range;
mod writer;

pub use event::LogEvent;
pub use export::{LogExport, LogFormat};
pub(crate) use feedback::newest_unopened;
pub use feedback::{FEEDBACK_BYTES, LogFeedback};
pub use filter::LONGEST_FILTER;
pub use follow::{FollowFrom, LogFollow};
#[cfg(feature = "log-layer")]
pub use layer::{LogLayer, SinkLevels};
pub use level::LogLevels;
pub use model::{LogLevel, LogRow};
pub use prune::{LogCaps, PruneOptions, PruneReport};
pub use query::LogQuery;
pub use read::{LONGEST_TAIL, LevelCounts, LogPage, LogRows, LogTotals};
pub use scan::{BYTE_BUDGET, ROW_BUDGET, THREADS_BY_INDEX};
pub use setting::{LevelOrigin, log_levels, set_log_levels};
pub use sink::{LogOptions, LogSink, LogStats};
pub use time_range::SLACK;

use crate::error::Result;
use crate::sqlite::Database;
use crate::stores::database::FileDatabase;

/// The log store of a `logs` database. Cheap to clone.
#[derive(Clone)]
pub struct Logs {
    database: FileDatabase,
}

impl Logs {
    /// The store in this database, which holds the tables of the `logs` domain.
    pub fn new(database: Database) -> Self {
        Self::of(Ok(database))
    }

    /// The store of a runtime; a runtime without the logs domain answers so at every use.
    pub(crate) fn of(database: Result<Database>) -> Self {
        Self { database: FileDatabase::in_file(database, "logs") }
    }
}
