//! The one sink of the process: every database that counts, by name.
//!
//! Invariants: a counter never goes down, also when a database is closed and opened again; the recorder is called with no
//! lock held.

use std::collections::BTreeMap;
use std::sync::Arc;

use metrics::Unit;
use parking_lot::Mutex;

use crate::sqlite::stats::{Board, Distribution, Stats};

/// The databases of one name, of all homes of the process.
#[derive(Default)]
struct Known {
    boards: Vec<Arc<Board>>,
    /// What those did that are closed.
    closed: Stats,
}

static SINK: Mutex<BTreeMap<String, Known>> = Mutex::new(BTreeMap::new());

pub(super) fn add(database: &str, board: &Arc<Board>) {
    let mut sink = SINK.lock();
    let known = sink.entry(database.to_owned()).or_default();
    known.forget_closed();
    known.boards.push(board.clone());
}

impl Known {
    /// A board that nobody but the sink has any more will not count again.
    fn forget_closed(&mut self) {
        let Self { boards, closed } = self;
        boards.retain(|board| {
            let open = Arc::strong_count(board) > 1;
            if !open {
                let mut last = board.read();
                last.end();
                closed.merge(&last);
            }
            open
        });
    }

    fn stats(&mut self) -> Stats {
        self.forget_closed();
        let mut sum = self.closed.clone();
        for board in &self.boards {
            sum.merge(&board.read());
        }
        sum
    }
}

/// Gives what every database of this process counted so far to the recorder that the application installed
/// (<https://docs.rs/metrics/0.24/metrics/fn.set_global_recorder.html>). To be called when somebody asks for the metrics, or
/// every few seconds: it costs some microseconds a database.
///
/// Names begin with `rowhouse_` and are otherwise those of [`Stats`](crate::Stats), with the label `database`; `queued` and
/// `queue_wait_us` have a label `lane`, `errors` a label `kind`, `opening_us` the labels `phase` and `opening`. A
/// distribution is a counter `..._count`, a counter `..._sum`, and gauges by the label `quantile` (`0.5`, `0.99`, `1`).
/// Databases of one name in several homes are summed up. Call it from one place: of two calls at once, what the earlier one
/// found may be told last.
///
/// ```
/// rowhouse::telemetry::publish(); // nobody listens, nothing happens
/// ```
pub fn publish() {
    let all: Vec<_> = SINK.lock().iter_mut().map(|(name, known)| (name.clone(), known.stats())).collect();
    for (database, stats) in &all {
        tell(database, stats);
    }
}

fn tell(database: &str, stats: &Stats) {
    for (name, text, value) in stats.counters() {
        counter(name, text, &[("database", database)], value);
    }
    for (name, text, value) in stats.gauges() {
        let (name, lane) = lane(name);
        // The number of all jobs includes those in the background lane.
        let value = if name == "queued" && lane == Some("normal") {
            value - value.min(stats.queued_background)
        } else {
            value
        };
        gauge(name, text, &labels(database, lane), value);
    }
    for (name, text, value) in stats.distributions() {
        let (name, lane) = lane(name);
        distribution(name, text, &labels(database, lane), value);
    }
    for (kind, value) in stats.errors.iter() {
        counter(
            "errors",
            "Errors that calls answered.",
            &[("database", database), ("kind", kind.as_str())],
            value,
        );
    }
    for (opening, phase, value) in stats.opening.phases() {
        let labels = [("database", database), ("opening", opening), ("phase", phase)];
        gauge("opening_us", "How long the phases of opening took.", &labels, value);
    }
}

/// What there is one of for each lane has one name, and a label.
fn lane(name: &'static str) -> (&'static str, Option<&'static str>) {
    match name {
        "queued" => ("queued", Some("normal")),
        "queued_background" => ("queued", Some("background")),
        "queue_wait_us" => ("queue_wait_us", Some("normal")),
        "queue_wait_background_us" => ("queue_wait_us", Some("background")),
        _ => (name, None),
    }
}

fn labels<'l>(database: &'l str, lane: Option<&'l str>) -> Vec<(&'static str, &'l str)> {
    [("database", database)].into_iter().chain(lane.map(|lane| ("lane", lane))).collect()
}

fn owned(labels: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

fn unit(name: &str) -> Unit {
    match name {
        _ if name.ends_with("_us") => Unit::Microseconds,
        _ if name.ends_with("_bytes") => Unit::Bytes,
        _ => Unit::Count,
    }
}

fn counter(name: &str, text: &'static str, labels: &[(&'static str, &str)], value: u64) {
    let full = format!("rowhouse_{name}");
    metrics::describe_counter!(full.clone(), unit(name), text);
    metrics::counter!(full, &owned(labels)).absolute(value);
}

fn gauge(name: &str, text: &'static str, labels: &[(&'static str, &str)], value: u64) {
    let full = format!("rowhouse_{name}");
    metrics::describe_gauge!(full.clone(), unit(name), text);
    metrics::gauge!(full, &owned(labels)).set(value as f64);
}

fn distribution(name: &str, text: &'static str, labels: &[(&'static str, &str)], value: &Distribution) {
    counter(&format!("{name}_count"), text, labels, value.count());
    let full = format!("rowhouse_{name}_sum");
    metrics::describe_counter!(full.clone(), unit(name), text);
    metrics::counter!(full, &owned(labels)).absolute(value.sum());
    let values = [("0.5", value.quantile(0.5)), ("0.99", value.quantile(0.99)), ("1", value.max())];
    for (quantile, value) in values {
        gauge(name, text, &[labels, &[("quantile", quantile)]].concat(), value);
    }
}
