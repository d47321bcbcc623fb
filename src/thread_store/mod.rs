//! The boundary that an application sees; nothing above it knows files or SQL.
//!
//! [`ThreadStore`] keeps threads: their history, what a list shows of them, and who may write. [`LocalThreadStore`] has
//! transcripts in a home and an index in its state database; `ServerThreadStore` (feature `postgres`) has everything on the
//! server of a home's state; [`InMemoryThreadStore`] keeps nothing. [`Runtime::thread_store`](crate::Runtime::thread_store)
//! answers the one that a home's configuration asks for. [`LiveThread`] is what a running session holds; [`QueuedThread`] the
//! same for one that may not wait, a user interface say.
//!
//! | file | what |
//! |---|---|
//! | `store` | the trait, and what its calls take and give |
//! | `live` | a running session: what of it is kept, and what a list shows of it |
//! | `local`, `server`, `in_memory` | the implementations |
//! | `index` | what a list shows, in the state database |
//! | `deletion` | what of a thread lies in which database, and how it goes |
//! | `transcript` | the items of a transcript |
//! | `turns` | what a person asked and what came of it |

mod deletion;
mod in_memory;
mod index;
mod live;
mod local;
#[cfg(feature = "postgres")]
mod server;
mod store;
mod transcript;
mod turns;

pub use in_memory::InMemoryThreadStore;
pub use live::{Flush, LiveThread, MAX_WAITING, PersistencePolicy, QueuedThread};
pub use local::LocalThreadStore;
#[cfg(feature = "postgres")]
pub use server::ServerThreadStore;
#[cfg(feature = "postgres")]
pub(crate) use server::leaving;
pub use store::{Capabilities, DeleteOptions, Deleted, ForkPoint, History, ThreadStore};
pub use turns::{Anomaly, AnomalyKind, ItemsView, Turn, TurnPage, TurnQuery, TurnStatus, TurnWithItems};
