//! What the programs that have it open counted.

use super::super::command::Own;
use super::super::finding::Finding;
use super::super::scope::Scope;
use super::super::subject::Subject;
use super::super::words::number;
use super::write;
use crate::sqlite::stats::Stats;

/// So many jobs in a queue are a jam.
const JAM: u64 = 1_024;

pub(super) fn counts(scope: &Scope, subject: &Subject) -> Finding {
    let mut total = Stats::default();
    let mut programs = 0_u64;
    let mut jammed = Vec::new();
    for process in scope.context.processes() {
        for database in process.databases.iter().filter(|database| database.name == subject.name) {
            total.merge(&database.stats);
            programs += 1;
            let waiting = waiting(&database.stats);
            if waiting > 0 {
                let (program, pid) = (&process.program, process.pid);
                jammed.push(format!("{program} (pid {pid}): {}", number(waiting, "job")));
            }
        }
    }
    if programs == 0 {
        return Finding::skipped("no program of this library has it open");
    }
    let (lost, waiting) = (total.dropped + total.shed, waiting(&total));
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
        if write::is_held(scope, subject) {
            return told(Finding::ok(format!(
                "{} wait for the write lock: see {}.write",
                number(waiting, "job"),
                subject.name
            )));
        }
        let finding = told(Finding::warning(format!("{} wait", number(waiting, "job"))));
        return jammed
            .into_iter()
            .fold(finding, Finding::evidence)
            .remedy("more comes than is written: let that program ask for less at once, or write several rows in one job")
            .look(look);
    }
    told(Finding::ok(format!(
        "{}, {}, nothing dropped",
        number(total.commits, "commit"),
        number(total.errors.total(), "error")
    )))
}

/// Jobs in its queues.
fn waiting(stats: &Stats) -> u64 {
    stats.queued + stats.queued_background
}
