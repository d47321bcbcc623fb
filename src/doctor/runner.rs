//! Runs checks beside each other, and makes a row of each, whatever becomes of it.
//!
//! Invariants:
//! 1. Every check becomes exactly one row, in the order in which they were given, also one that panics, or does not end by
//!    its deadline.
//! 2. Nobody waits for a check past its deadline and [`GRACE`]. Its thread is left behind; what it says later is dropped.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::Made;
use super::command::Shell;
use super::finding::Finding;
use super::report::Check;

/// How many checks run at a time: they wait for the disk more than they compute.
const TOGETHER: usize = 4;
/// How long a check that was interrupted at its deadline has to say so.
const GRACE: Duration = Duration::from_millis(250);

/// A check that is to run: what its row is called, and what to do until a time.
pub(super) struct Task {
    pub(super) id: String,
    pub(super) category: &'static str,
    pub(super) database: Option<String>,
    pub(super) run: Box<dyn FnOnce(Instant) -> Finding + Send>,
}

/// Runs them all. `on_row` hears of each row when it is made, in the order in which they end.
pub(super) fn run(
    tasks: Vec<Task>,
    deadline: Duration,
    shell: &Shell,
    on_row: &mut dyn FnMut(Made<'_>),
) -> Vec<Check> {
    let (sender, answers) = channel();
    let total = tasks.len();
    let (mut running, mut rows) = (BTreeMap::new(), BTreeMap::new());
    let mut waiting = tasks.into_iter().enumerate();
    loop {
        while running.len() < TOGETHER {
            let Some((at, task)) = waiting.next() else { break };
            let row = Row { id: task.id, category: task.category, database: task.database };
            running.insert(at, (row, Instant::now()));
            start(at, task.run, deadline, &sender);
        }
        let Some(soonest) = running.values().map(|(_, began)| *began + deadline + GRACE).min() else { break };
        let mut made = |at, (row, began): (Row, Instant), finding: Finding| {
            let check = row.made_of(finding, began.elapsed(), shell);
            on_row(Made { check: &check, done: rows.len() + 1, total });
            rows.insert(at, check);
        };
        match answers.recv_timeout(soonest.saturating_duration_since(Instant::now())) {
            Ok((at, finding)) => {
                // One that was given up on has its row.
                if let Some(entry) = running.remove(&at) {
                    made(at, entry, finding);
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                let overdue = |(_, began): &(Row, Instant)| began.elapsed() >= deadline + GRACE;
                let late: Vec<_> =
                    running.iter().filter(|(_, entry)| overdue(entry)).map(|(at, _)| *at).collect();
                for at in late {
                    if let Some(entry) = running.remove(&at) {
                        made(at, entry, overdue_finding(deadline));
                    }
                }
            }
            // This function has a sender itself.
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    rows.into_values().collect()
}

struct Row {
    id: String,
    category: &'static str,
    database: Option<String>,
}

impl Row {
    fn made_of(self, finding: Finding, took: Duration, shell: &Shell) -> Check {
        let check = finding.into_check(&self.id, self.category, shell);
        let database = self.database.map(|name| shell.cleaner.text(&name));
        Check { database, duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX), ..check }
    }
}

fn start(
    at: usize,
    run: Box<dyn FnOnce(Instant) -> Finding + Send>,
    deadline: Duration,
    answers: &Sender<(usize, Finding)>,
) {
    let until = crate::sqlite::instant_after(deadline);
    let theirs = answers.clone();
    let work = move || {
        let finding = catch_unwind(AssertUnwindSafe(|| run(until))).unwrap_or_else(|_| panicked());
        // Nobody listens any more when the report was made without it.
        let _ = theirs.send((at, finding));
    };
    if let Err(error) = std::thread::Builder::new().name("rowhouse-doctor".to_owned()).spawn(work) {
        let finding = Finding::fail(format!("no thread could be started for it: {error}"))
            .remedy("raise the limit of processes (ulimit -u), or end some");
        let _ = answers.send((at, finding));
    }
}

/// Its message may hold anything, and helps nobody but us.
fn panicked() -> Finding {
    Finding::fail("the check itself broke off: this is a bug of the doctor")
        .remedy("report it, with the version and the name of the check")
}

fn overdue_finding(deadline: Duration) -> Finding {
    Finding::warning(format!("it did not end within {} s", deadline.as_secs_f64()))
        .evidence("a disk or a file system that does not answer, or a machine with too much to do")
        .remedy("run the doctor again with --deep, which gives it longer")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use super::*;
    use crate::doctor::report::Status;

    fn task(id: &str, run: impl FnOnce(Instant) -> Finding + Send + 'static) -> Task {
        Task { id: id.to_owned(), category: "test", database: None, run: Box::new(run) }
    }

    fn all(tasks: Vec<Task>, deadline: Duration) -> Vec<(String, Status)> {
        let mut heard = 0;
        let rows = run(tasks, deadline, &Shell::plain(), &mut |made| heard = made.done);
        assert_eq!(heard, rows.len());
        rows.into_iter().map(|row| (row.id, row.status)).collect()
    }

    #[test]
    fn each_becomes_a_row_in_its_place_also_one_that_panics_or_hangs() {
        let (keep, never) = mpsc::channel::<()>();
        let tasks = vec![
            task("a", |_| Finding::ok("fine")),
            task("b", |_| panic!("on purpose")),
            task("c", move |_| {
                let _ = never.recv();
                Finding::ok("late")
            }),
            task("d", |_| Finding::warning("hm")),
            task("e", |_| Finding::skipped("no")),
            task("f", |_| Finding::fail("bad")),
        ];
        let rows = all(tasks, Duration::from_millis(500));
        drop(keep);
        let expected = [
            ("a", Status::Ok),
            ("b", Status::Fail),
            ("c", Status::Warning),
            ("d", Status::Warning),
            ("e", Status::Skipped),
            ("f", Status::Fail),
        ];
        assert_eq!(rows, expected.map(|(id, status)| (id.to_owned(), status)));
    }

    #[test]
    fn those_that_hang_do_not_keep_the_others_from_running() {
        let (keep, never) = mpsc::channel::<()>();
        let never = Arc::new(parking_lot::Mutex::new(never));
        let mut tasks: Vec<_> = (0..TOGETHER)
            .map(|n| {
                let never = never.clone();
                task(&n.to_string(), move |_| {
                    let _ = never.lock().recv();
                    Finding::ok("late")
                })
            })
            .collect();
        tasks.push(task("last", |_| Finding::ok("fine")));
        let rows = all(tasks, Duration::from_millis(100));
        drop(keep);
        assert_eq!(rows.last(), Some(&("last".to_owned(), Status::Ok)));
        assert!(rows[..TOGETHER].iter().all(|(_, status)| *status == Status::Warning), "{rows:?}");
    }
}
