//! What the programs that have it open counted.

use super::super::command::Own;
use super::super::finding::Finding;
use super::super::scope::{Scope, Subject};
use super::super::words::number;
use crate::sqlite::stats::Stats;

/// So many jobs in a queue are a jam.
const JAM: u64 = 1_024;

pub(super) fn counts(scope: &Scope, subject: &Subject) -> Finding {
    let mut total = Stats::default();
    let mut programs = 0_u64;
    for process in scope.context.processes() {
        for database in process.databases.iter().filter(|database| database.name == subject.name) {
            total.merge(&database.stats);
            programs += 1;
        }
    }
    if programs == 0 {
        return Finding::skipped("no program of this library has it open");
    }
    let (lost, waiting) = (total.dropped + total.shed, total.queued + total.queued_background);
    let told = |finding: Finding| {
        let kinds: Vec<_> = total.errors.iter().filter(|(_, count)| *count > 0).collect();
        let kinds: Vec<_> = kinds.iter().map(|(kind, count)| format!("{} {count}", kind.as_str())).collect();
        let finding = if kinds.is_empty() {
            finding
        } else {
            finding.evidence(format!("errors: {}", kinds.join(", ")))
        };
        finding
            .detail("commits", total.commits)
            .detail("errors", total.errors.total())
            .detail("waiting", waiting)
            .detail("dropped", total.dropped)
            .detail("shed", total.shed)
            .detail("opens_failed", total.opens_failed)
    };
    let look = Own::Stats.of(&subject.name);
    if lost > 0 {
        return told(Finding::warning(format!(
            "{} did not get in since the programs started",
            number(lost, "job")
        )))
        .evidence(
            "dropped: pushed out of the backlog while it could not be written; shed: refused at a bound",
        )
        .remedy("rows are missing from it; the numbers say at which bound")
        .look(look);
    }
    if waiting >= JAM {
        return told(Finding::warning(format!("{} wait", number(waiting, "job"))))
            .remedy("more comes than is written, or somebody is in the way")
            .look(look);
    }
    told(Finding::ok(format!(
        "{}, {}, nothing dropped",
        number(total.commits, "commit"),
        number(total.errors.total(), "error")
    )))
}
