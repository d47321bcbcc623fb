//! What the stores promise, on either engine: `tests/stores_contract.rs` runs it on files, `tests/stores_on_postgres.rs` on
//! a server.

mod goals;
mod memories;
mod notes;
mod spawn_edges;
mod threads;

use crate::processes;

/// What a child of these tests does.
pub(crate) fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    match arguments[0].as_str() {
        "use" | "account" => goals::child(&arguments),
        "claim" | "work" => memories::child(&arguments),
        "write" => threads::child(&arguments),
        other => panic!("no such role: {other}"),
    }
}
