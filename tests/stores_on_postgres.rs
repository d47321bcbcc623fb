//! The stores do what they promise on a PostgreSQL server, by the same tests as on files.

mod contract;
mod engines;
mod processes;

#[test]
fn child_entry() {
    contract::child_entry();
}
