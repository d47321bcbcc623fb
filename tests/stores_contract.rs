//! The stores do what they promise, on files.
#![cfg(feature = "agent")]

mod contract;
mod engines;
mod processes;

#[test]
fn child_entry() {
    contract::child_entry();
}
