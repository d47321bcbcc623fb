//! Has cargo compile again when a migration is added or removed: `include_str!` only notices edits of known files.

fn main() {
    for folder in [
        "migrations_state",
        "migrations_logs",
        "migrations_goals",
        "migrations_device_keys",
        "migrations_postgres",
    ] {
        println!("cargo::rerun-if-changed={folder}");
    }
}
