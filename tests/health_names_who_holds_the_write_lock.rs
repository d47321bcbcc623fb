//! Health says who has held the write lock for more than a second, also of an attached and of a required database, and
//! takes it back when the lock was had; a shorter wait shows nowhere, and no warning is logged for it.

mod common;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::*;
use rowhouse::{Health, Runtime};

static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());
struct Warnings;

impl log::Log for Warnings {
    fn enabled(&self, _: &log::Metadata) -> bool {
        true
    }

    fn log(&self, record: &log::Record) {
        if record.level() <= log::Level::Warn {
            WARNINGS.lock().unwrap_or_else(PoisonError::into_inner).push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

fn warnings() -> usize {
    WARNINGS.lock().unwrap_or_else(PoisonError::into_inner).len()
}

fn is_degraded(runtime: &Runtime) -> bool {
    match runtime.health() {
        Health::Degraded { reason, holder } => {
            assert!(reason.starts_with("test: ") && reason.contains("more than a second"), "{reason}");
            assert!(holder.as_ref().is_none_or(|holder| holder.pid == std::process::id()));
            // A list of locks that changes while it is read may lack one; it is read again every second.
            holder.is_some()
        }
        _ => false,
    }
}

#[test]
fn of_a_required_database() {
    log::set_logger(&Warnings).expect("the only one");
    log::set_max_level(log::LevelFilter::Warn);
    let place = Place::new();
    let other = raw(&place.file());
    let began = Instant::now();
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let ticket = place.db.submit(insert("short")).expect("queued");
    until("the writer at the lock", || place.db.stats().busy_waits > 100);
    let shown = place.db.health() != Health::Ready;
    other.execute_batch("ROLLBACK").expect("freed");
    // On a machine that stood still meanwhile the wait was not a short one.
    assert!(!(shown || warnings() > 0) || began.elapsed() >= Duration::from_secs(1));
    ticket.wait().expect("written");
    until("quiet", || place.runtime.health() == Health::Ready);
    let before = warnings();

    other.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let ticket = place.db.submit(insert("long")).expect("queued");
    until("health says so", || is_degraded(&place.runtime));
    assert_eq!(place.db.health(), place.runtime.health());
    assert_eq!(warnings(), before + 1, "once");
    assert_eq!(keys(&place.db), ["short"], "reads go on");
    other.execute_batch("ROLLBACK").expect("freed");
    ticket.wait().expect("written");
    assert_eq!(place.runtime.health(), Health::Ready, "the lock was had");

    // Nobody waits any more: the idle writer looks.
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let late = place.db.clone().within(Duration::from_millis(1500)).write(insert("late"));
    println!("{}", late.expect_err("locked"));
    // Nobody asks any more, and it is still looked for.
    until("health says so", || is_degraded(&place.runtime));
    other.execute_batch("ROLLBACK").expect("freed");
    until("health takes it back", || place.runtime.health() == Health::Ready);
    assert_eq!(place.db.stats().queued, 0);
    assert_eq!(keys(&place.db), ["long", "short"]);
}
