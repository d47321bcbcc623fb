//! The write-ahead log: how much of it is not in the database yet, and whose snapshot keeps it.
//!
//! The size of its file says nothing: SQLite begins it anew without making it shorter.

use std::time::{Duration, Instant};

use super::super::command::Own;
use super::super::finding::Finding;
use super::super::scope::Scope;
use super::super::subject::Subject;
use super::super::words::{bytes, number, seconds};
use crate::config::Limits;
use crate::error::Result;
use crate::sqlite::holders::Holder;
use crate::sqlite::look::{self, Look};
use crate::sqlite::status_page::ProcessStatus;

/// How long a log that is long and kept is watched before somebody is blamed: reads come and go.
const WATCHED: Duration = Duration::from_millis(300);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a look at a log says.
enum State {
    None,
    /// Nobody waits for it: so many bytes are not in the database yet.
    Fine(u64),
    /// It grows, and nobody works it off.
    Behind(u64),
    /// A snapshot of somebody keeps it.
    Starved(u64, Vec<Holder>),
}

pub(super) fn log(scope: &Scope, subject: &Subject) -> Finding {
    subject.opened(scope, |look| {
        let file = subject.bytes("-wal");
        let published = Published::of(scope, subject);
        let told = |finding: Finding, left: u64| {
            published.tell(finding.detail("left_bytes", left).detail("file_bytes", file))
        };
        Ok(match state(look, scope, subject)? {
            State::None => told(Finding::ok("there is none, or nobody has it open"), 0),
            State::Fine(left) => told(
                Finding::ok(format!("healthy: {} are not in the database yet", bytes(left))),
                left,
            )
            .evidence(format!("its file takes {}, which is the most that it ever needed at once", bytes(file))),
            State::Behind(left) => told(
                Finding::warning(format!("{} are not in the database yet, and nobody works them off", bytes(left))),
                left,
            )
            .remedy("its program does so between its writes; another one should checkpoint (PRAGMA wal_checkpoint)"),
            State::Starved(left, holders) => starved(subject, told, left, &holders),
        })
    })
}

/// What programs of this library say themselves about the log: how long their oldest read lasts, and how many rounds of
/// checkpoints came to nothing.
struct Published(Vec<(String, u32, u64, u64)>);

impl Published {
    fn of(scope: &Scope, subject: &Subject) -> Self {
        let of_process = |process: &ProcessStatus| {
            let database = process.databases.iter().find(|database| database.name == subject.name)?;
            let stats = &database.stats;
            Some((process.program.clone(), process.pid, stats.oldest_reader_ms, stats.checkpoint_busy_streak))
        };
        Self(scope.context.processes().iter().filter_map(of_process).collect())
    }

    fn tell(&self, finding: Finding) -> Finding {
        let (mut oldest, mut streak) = (0, 0);
        let mut told = finding;
        for (program, pid, reader_ms, in_vain) in &self.0 {
            (oldest, streak) = (oldest.max(*reader_ms), streak.max(*in_vain));
            if *reader_ms > 0 || *in_vain > 0 {
                told = told.evidence(format!(
                    "{program} (pid {pid}): its oldest read lasts {}, {} in a row came to nothing",
                    seconds(*reader_ms),
                    number(*in_vain, "checkpoint")
                ));
            }
        }
        if self.0.is_empty() {
            return told;
        }
        told.detail("oldest_reader_ms", oldest).detail("checkpoint_busy_streak", streak)
    }
}

fn starved(
    subject: &Subject,
    told: impl Fn(Finding, u64) -> Finding,
    left: u64,
    holders: &[Holder],
) -> Finding {
    let names: Vec<_> = holders.iter().map(named).collect();
    let summary =
        format!("{} cannot go into the database: starved by a snapshot of {}", bytes(left), names.join(", "));
    let finding =
        if left > Limits::default().wal_cap { Finding::fail(summary) } else { Finding::warning(summary) };
    let finding = told(finding, left)
        .evidence("a read that stays open keeps every later commit in the log; the file grows until it ends")
        .remedy(if holders.iter().any(|holder| holder.stopped) {
            "let the stopped process go on, or end it"
        } else {
            "end that process's long read: it should close its cursors and copy long lists out"
        });
    let finding = holders.iter().fold(finding, Finding::holder);
    finding.look(Own::Who.of(&subject.name))
}

/// With the time since when it may have the snapshot: how old that is cannot be told from outside.
fn named(holder: &Holder) -> String {
    match (&holder.started_at, holder.label.is_some() || holder.since.is_some()) {
        // Its own words say since when it runs its job.
        (Some(at), true) => format!("{holder}, which started {at}"),
        _ => holder.to_string(),
    }
}

/// Whether this check would blame a snapshot.
pub(super) fn is_starved(scope: &Scope, subject: &Subject) -> bool {
    let Ok(look) = subject.look(scope) else { return false };
    matches!(state(&look, scope, subject), Ok(State::Starved(..)))
}

fn state(look: &Look, scope: &Scope, subject: &Subject) -> Result<State> {
    let page = u64::try_from(look.pragma("page_size")?).unwrap_or(4096);
    let most = Limits::default().wal_soft;
    let Some(first) = look.log()? else { return Ok(State::None) };
    let left = |log: &crate::sqlite::look::LogIndex| log.pages.saturating_sub(log.copied) * page;
    let until = scope.until.min(Instant::now() + WATCHED);
    let mut now = first;
    loop {
        if left(&now) <= most || now.copied > first.copied || now.pages < first.pages {
            return Ok(State::Fine(left(&now)));
        }
        if Instant::now() >= until {
            break;
        }
        crate::sqlite::look::rest(LOOK_EVERY);
        let Some(again) = look.log()? else { return Ok(State::None) };
        now = again;
    }
    let holders = look::pinned_by(&subject.path, &now);
    // A checkpoint of a large file on a slow disk takes its time, and tells how far it is when it is done.
    let is_at_it = || look::checkpoint_by(&subject.path).is_some_and(|holder| !holder.stopped);
    Ok(match (holders.is_empty(), subject.is_in_use(scope)) {
        (false, _) => State::Starved(left(&now), holders),
        (true, true) if left(&now) > 4 * most && !is_at_it() => State::Behind(left(&now)),
        // What a program that was killed left is worked off by the next one.
        _ => State::Fine(left(&now)),
    })
}
