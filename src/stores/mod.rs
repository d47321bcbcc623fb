//! The stores of the built-in domains. Each speaks [`Session`](crate::sql::Session) and nothing else, so that its SQL
//! runs on either engine.

pub mod backfill;
pub(crate) mod database;
#[cfg(feature = "device-keys")]
pub mod device_keys;
pub mod goals;
pub mod logs;
pub mod memories;
pub mod spawn_edges;
pub mod threads;

pub use backfill::Backfill;
#[cfg(feature = "device-keys")]
pub use device_keys::DeviceKeys;
pub use goals::Goals;
pub use logs::{FollowFrom, LogFormat, LogLevel, LogPage, LogQuery, LogRow, Logs};
pub use memories::Memories;
pub use spawn_edges::SpawnEdges;
pub use threads::{Direction, Sort, ThreadFacts, ThreadPage, ThreadQuery, ThreadRow, Threads, Upserted};
