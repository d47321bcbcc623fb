//! The stores do what they promise on a PostgreSQL server, by the same tests as on files: reached directly, behind a
//! pooler, and right after a fail-over.

mod contract;
mod engines;
mod processes;

use engines::reach;

#[test]
fn child_entry() {
    contract::child_entry();
}

/// Everything once more behind PgBouncer in transaction mode, with three connections to the server for each database.
///
/// Control: `tests/postgres_pooler.rs` has a named statement fail there.
#[test]
fn the_whole_contract_behind_a_pooler() {
    reach::again_behind_a_pooler("the_whole_contract", 40);
}

/// Everything once more on a standby that took over from a killed primary, with a URL that names both.
#[test]
fn the_whole_contract_after_a_fail_over() {
    reach::again_after_a_fail_over("the_whole_contract", 40);
}
