//! What writing and deleting log rows costs does not grow with how many there are.

mod processes;

use std::time::Duration;

use rowhouse::sql::{StatementCost, statement_costs};
use rowhouse::stores::logs::{LogEvent, LogLevel, LogOptions, LogSink, PruneOptions};
use rowhouse::{Home, Runtime};

const LONG: Duration = Duration::from_mins(1);
const BATCH: u64 = 200;

#[test]
fn child_entry() {}

fn emit(sink: &LogSink, from: u64, events: u64) {
    for n in from..from + events {
        let thread = format!("019cadf1-7a5e-7b04-8f21-{:012x}", n % 10);
        sink.emit(LogEvent::new(LogLevel::Info, "t", "x".repeat(100)).thread(&thread));
    }
    sink.flush(LONG).expect("written");
}

/// Steps of SQLite's machine, rows that were looked at, and the statement that took most.
fn sum(costs: &[StatementCost]) -> (u64, u64, String) {
    let most = costs.iter().max_by_key(|cost| cost.vm_steps).expect("a statement");
    (
        costs.iter().map(|cost| cost.vm_steps).sum(),
        costs.iter().map(|cost| cost.rows).sum(),
        format!("{most:?}"),
    )
}

/// A batch, a batch that pushes rows of its threads out, a step of deleting and a look for what is too old, beside so many
/// rows.
fn costs_beside(rows: u64) -> [(u64, u64, String); 4] {
    let home = processes::folder();
    let runtime = Runtime::open(Home::at(home.path())).expect("opens");
    let mut options = LogOptions::default();
    // The queue holds all of them.
    options.queue_events = 1 << 20;
    options.queue_bytes = 1 << 30;
    // As much as a thread has, so that the next row is too much.
    options.caps.thread_bytes = i64::try_from(rows / 10 * 201 + 1500).expect("a number");
    options.batch_events = 1000;
    let sink = runtime.log_sink(options).expect("a sink");
    emit(&sink, 0, rows - 1000);
    emit(&sink, 0, 1000);
    let ((), batch) = statement_costs(|| emit(&sink, 0, 50));
    let ((), pushing) = statement_costs(|| emit(&sink, 0, BATCH));
    let logs = runtime.logs();
    let mut options = PruneOptions::default();
    options.thread_id = Some("019cadf1-7a5e-7b04-8f21-ffffffffffff".to_owned());
    let (none, of_nobody) = statement_costs(|| logs.prune(&options).expect("nothing"));
    options.thread_id = None;
    let (old, too_old) = statement_costs(|| logs.prune(&options).expect("nothing"));
    assert_eq!((none.rows, old.rows), (0, 0));
    [sum(&batch), sum(&pushing), sum(&of_nobody), sum(&too_old)]
}

#[test]
fn what_writing_and_deleting_cost_is_the_same_beside_ten_times_the_rows() {
    let (few, many) = (costs_beside(4000), costs_beside(40_000));
    for (what, (few, many)) in
        ["a batch", "pushing out", "nobody's", "old ones"].iter().zip(few.into_iter().zip(many))
    {
        println!("{what}: {} steps, {} beside ten times the rows", few.0, many.0);
        // What a 32nd of the cap is, is ten times as much as well: up to 100 rows of each of ten threads.
        let allowed = if *what == "pushing out" { few.0 * 4 + 100_000 } else { few.0 + few.0 / 4 + 50 };
        assert!(many.0 <= allowed, "{what}: {few:?} {many:?}");
        assert!(many.1 <= 3000, "{what}: {many:?}");
    }
}
