//! On which engine the stores' contract is tested: files, or a PostgreSQL server that this test started. Which of them says
//! the name of the test program, so that its children are on the same one; how the server is reached says a variable.
#![allow(dead_code, unreachable_pub)]

#[cfg(feature = "postgres")]
pub mod bouncer;
#[cfg(feature = "postgres")]
pub mod certificates;
#[cfg(feature = "postgres")]
pub mod pair;
#[cfg(feature = "postgres")]
pub mod reach;
#[cfg(feature = "postgres")]
pub mod server;
#[cfg(feature = "postgres")]
pub mod wire;

use std::sync::atomic::{AtomicU32, Ordering};

use rowhouse::{Domain, Home, Runtime};
use tempfile::TempDir;

/// Whether this program's homes are on a server.
pub fn on_server() -> bool {
    env!("CARGO_CRATE_NAME").contains("postgres")
}

/// How many cases a property is tried on: a home on a server takes as long to make as ten in memory.
pub fn cases(in_files: u32) -> u32 {
    if on_server() { in_files.div_ceil(8) } else { in_files }
}

/// A home of its own; on a server, with a database of its own.
pub fn home() -> TempDir {
    let home = tempfile::Builder::new().prefix("rowhouse-test-").tempdir().expect("a folder");
    #[cfg(feature = "postgres")]
    if on_server() {
        reach::configure(home.path());
    }
    home
}

/// A runtime that nobody else has, with this domain. In files it keeps nothing, which is faster.
pub struct Alone {
    // Dropped in this order.
    pub runtime: Runtime,
    _home: Option<TempDir>,
}

pub fn alone(domain: Domain) -> Alone {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    if on_server() {
        let home = home();
        let runtime = Runtime::builder(Home::at(home.path())).domain(domain).open().expect("a runtime");
        return Alone { runtime, _home: Some(home) };
    }
    // Each its own: one home of a process is one runtime, also where nothing is kept.
    let home = format!("/nowhere/{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let runtime = Runtime::builder(Home::at(home)).domain(domain).ephemeral().open().expect("a runtime");
    Alone { runtime, _home: None }
}
