//! `rowhouse memories`: how far the drawing of memories is.

use anyhow::Result;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use rowhouse::Home;
use rowhouse::stores::memories::MemoryStatus;
use serde::Serialize;

use crate::bench::count;
use crate::open;
use crate::output::Output;
use crate::table::{Table, age, rfc3339_option, time};
use crate::who::duration;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  rowhouse memories status\n  rowhouse memories status --json | jq .extract"
)]
pub(crate) struct MemoriesArguments {
    #[command(subcommand)]
    command: MemoriesCommand,
}

#[derive(Subcommand)]
enum MemoriesCommand {
    /// What was drawn from threads, what is being worked on, and when the next book may be made
    #[command(
        after_help = "Examples:\n  rowhouse memories status\n  rowhouse memories status --json | jq .extract.failed"
    )]
    Status,
}

#[derive(Debug, Serialize)]
struct Document {
    /// Outputs that are kept, and of these those in the last book.
    outputs: i64,
    selected: i64,
    /// There are more outputs or threads than are counted: the numbers are of the first 20,000.
    truncated: bool,
    extract: Extract,
    consolidate: Consolidate,
}

/// Threads by how their job stands.
#[derive(Debug, Serialize)]
struct Extract {
    running: i64,
    /// Given up by their worker: their lease is over.
    lost: i64,
    done: i64,
    failed: i64,
}

#[derive(Debug, Serialize)]
struct Consolidate {
    running: bool,
    #[serde(serialize_with = "rfc3339_option")]
    last_success_at: Option<i64>,
    /// The newest source that the last book holds.
    #[serde(serialize_with = "rfc3339_option")]
    watermark: Option<i64>,
    /// Not before this.
    #[serde(serialize_with = "rfc3339_option")]
    cooldown_until: Option<i64>,
    #[serde(serialize_with = "rfc3339_option")]
    retry_at: Option<i64>,
}

pub(crate) fn run(home: &Home, arguments: &MemoriesArguments, output: &Output) -> Result<()> {
    let MemoriesCommand::Status = arguments.command;
    let document = Document::from(open::state(home)?.memories().status()?);
    if output.is_json() {
        output.document(&document)
    } else {
        output.text(&text(&document, Timestamp::now()))
    }
}

impl From<MemoryStatus> for Document {
    fn from(status: MemoryStatus) -> Self {
        Self {
            outputs: status.outputs,
            selected: status.selected,
            truncated: status.truncated,
            extract: Extract {
                running: status.extracting,
                lost: status.lost,
                done: status.done,
                failed: status.failed,
            },
            consolidate: Consolidate {
                running: status.consolidating,
                last_success_at: status.consolidated_at,
                watermark: status.watermark,
                cooldown_until: status.cooldown_until,
                retry_at: status.retry_at,
            },
        }
    }
}

fn text(status: &Document, now: Timestamp) -> String {
    let mut table = Table::new(&["threads", ""]).right(&[1]);
    let Extract { running, lost, done, failed } = status.extract;
    for (what, number) in [
        ("being worked on", running),
        ("given up by their worker", lost),
        ("done", done),
        ("failed", failed),
        ("with a memory", status.outputs),
        ("in the last book", status.selected),
    ] {
        table.row(&[what.to_owned(), count(number as f64)]);
    }
    let more = if status.truncated { "more than 20,000: only the first are counted\n" } else { "" };
    format!("{}{more}\nbook: {}\n", table.render(), book(&status.consolidate, now))
}

fn book(status: &Consolidate, now: Timestamp) -> String {
    let last = match status.last_success_at {
        Some(at) => format!("last made {}", age(time(at), now)),
        None => "never made".to_owned(),
    };
    let wait = |at: Option<i64>| {
        at.map(|at| time(at).as_second() - now.as_second()).filter(|left| *left > 0).map(duration)
    };
    let next = match (status.running, wait(status.retry_at), wait(status.cooldown_until)) {
        (true, ..) => "is being made".to_owned(),
        (_, Some(left), _) => format!("failed, may be tried again in {left}"),
        (.., Some(left)) => format!("the next one may be made in {left}"),
        _ => "the next one may be made".to_owned(),
    };
    format!("{last}; {next}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_that_is_not_of_all_says_so() {
        for truncated in [false, true] {
            let document = Document::from(MemoryStatus { truncated, ..MemoryStatus::default() });
            let json = serde_json::to_value(&document).expect("JSON");
            assert_eq!(json["truncated"], truncated);
            assert_eq!(text(&document, time(0)).contains("only the first"), truncated);
        }
    }

    #[test]
    fn the_book_says_what_comes_next() {
        let now = time(1_800_000_000_000);
        let at = |seconds: i64| Some(1_800_000_000_000 + seconds * 1_000);
        let state = |running, last, cooldown, retry| Consolidate {
            running,
            last_success_at: last,
            watermark: None,
            cooldown_until: cooldown,
            retry_at: retry,
        };
        for (status, expected) in [
            (state(false, None, None, None), "never made; the next one may be made"),
            (state(true, at(-7_200), None, None), "last made 2 h ago; is being made"),
            (
                state(false, at(-7_200), at(3_600), None),
                "last made 2 h ago; the next one may be made in 60 min",
            ),
            (state(false, at(-7_200), at(-1), None), "last made 2 h ago; the next one may be made"),
            (state(false, None, None, at(600)), "never made; failed, may be tried again in 10 min"),
        ] {
            assert_eq!(book(&status, now), expected);
        }
    }
}
