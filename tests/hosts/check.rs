//! What the processes were told, compared with what the server holds. It knows nothing of how a write is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use postgres::Client;

use super::work::{Dated, Note, SHARED, Told, own_goal, row_id};

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub acknowledged: u64,
    /// Writes that may be there or not, and how many of them are.
    pub unknown: u64,
    pub unknown_there: u64,
    /// Writes that were refused: with a reason, and not done.
    pub refused: u64,
    /// Of the refused, for whoever looks for the reason.
    pub first_reason: String,
    pub wrong: Wrong,
    /// How long nobody was acknowledged anything, and from then until everybody was, in milliseconds.
    pub pause_ms: (u64, u64),
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Wrong {
    /// Acknowledged, and not there.
    pub lost: u64,
    /// There twice, or done again after it was done.
    pub doubled: u64,
    /// There, and nobody was told that it may be.
    pub unasked: u64,
    /// There in another order than its process wrote it.
    pub disordered: u64,
    /// Jobs that two had at once, or that one lost before its lease ended.
    pub shared_leases: u64,
    /// Acknowledged, and not found when it was read next.
    pub unread: u64,
}

impl fmt::Display for Found {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acknowledged, unknown, unknown_there, refused, first_reason, wrong, pause_ms } = self;
        write!(
            out,
            "{acknowledged} acknowledged, {unknown} unknown ({unknown_there} of them there), \
             {refused} refused {first_reason}; {wrong:?}; the server was away for {} ms, the last to \
             go on did after {} ms",
            pause_ms.0, pause_ms.1
        )
    }
}

/// Compares what each process was told with what the server holds.
pub fn compare(notes: &[Vec<Dated>], server: &mut Client) -> Found {
    let mut found = Found::default();
    notes.iter().flatten().for_each(|(_, note)| count(note, &mut found));
    found.pause_ms = pause(notes);
    rows(notes, server, &mut found);
    histories(notes, server, &mut found);
    goals(notes, server, &mut found);
    jobs(notes, server, &mut found);
    found
}

/// The longest time in which nobody was acknowledged anything, and how long it took from its beginning until everybody was.
fn pause(notes: &[Vec<Dated>]) -> (u64, u64) {
    let acknowledged = |notes: &Vec<Dated>| -> Vec<u64> {
        notes.iter().filter(|(_, note)| note.is_acknowledged()).map(|(at, _)| *at).collect()
    };
    let each: Vec<_> = notes.iter().map(acknowledged).collect();
    let mut all: Vec<_> = each.concat();
    all.sort_unstable();
    let longest = all.windows(2).map(|two| (two[1] - two[0], two[0])).max();
    let Some((nobody, begun)) = longest else { return (0, 0) };
    let again = |at: &Vec<u64>| at.iter().find(|at| **at >= begun + nobody).map_or(0, |at| at - begun);
    (nobody / 1_000_000, each.iter().map(again).max().unwrap_or(0) / 1_000_000)
}

fn count(note: &Note, found: &mut Found) {
    match note {
        Note::Row(_, told) | Note::Done(_, told, _) => add(told, found),
        Note::Own(told) => add(told, found),
        Note::Shared(told) | Note::Appended(_, told) => add(told, found),
        Note::Began(_) => {}
        // One that claimed nothing wrote nothing.
        Note::Claimed(Told::Acknowledged(jobs)) if jobs.is_empty() => {}
        Note::Claimed(told) => add(told, found),
        Note::Read(is_there) => found.wrong.unread += u64::from(!is_there),
    }
}

fn add<T>(told: &Told<T>, found: &mut Found) {
    match told {
        Told::Acknowledged(_) => found.acknowledged += 1,
        Told::Unknown => found.unknown += 1,
        Told::Refused(why) => {
            found.refused += 1;
            if found.first_reason.is_empty() {
                found.first_reason.clone_from(why);
            }
        }
    }
}

/// Each process wrote rows, numbered in its order. The server numbers transactions in the order in which they begin to
/// write, and a process has one at a time.
fn rows(notes: &[Vec<Dated>], server: &mut Client, found: &mut Found) {
    let text = "SELECT id, xmin::text::int8 FROM rowhouse_state.thread";
    let kept = server.query(text, &[]).expect("the rows");
    let kept: BTreeMap<String, i64> = kept.iter().map(|row| (row.get(0), row.get(1))).collect();
    for (process, notes) in (0..).zip(notes) {
        let mut last = 0;
        for (_, note) in notes {
            let Note::Row(number, told) = note else { continue };
            let transaction = kept.get(&row_id(process, *number));
            match (told, transaction) {
                (Told::Acknowledged(_), None) => found.wrong.lost += 1,
                // It was there before, and only this process writes it.
                (Told::Acknowledged(false), Some(_)) => found.wrong.doubled += 1,
                (Told::Refused(_), Some(_)) => found.wrong.unasked += 1,
                (Told::Unknown, Some(_)) => found.unknown_there += 1,
                _ => {}
            }
            if let Some(transaction) = transaction {
                found.wrong.disordered += u64::from(*transaction <= last);
                last = *transaction;
            }
        }
    }
}

/// Each process wrote one history, numbered. What was refused may come with a later append.
fn histories(notes: &[Vec<Dated>], server: &mut Client, found: &mut Found) {
    let text = "SELECT item FROM rowhouse_state.thread_item WHERE thread_id = $1 ORDER BY seq";
    for notes in notes {
        let thread = notes.iter().find_map(|(_, note)| match note {
            Note::Began(thread) => Some(thread),
            _ => None,
        });
        let kept = server.query(text, &[&thread.expect("it began one")]).expect("its items");
        let kept: Vec<_> = kept.iter().filter_map(|row| number(row.get(0))).collect();
        for two in kept.windows(2) {
            found.wrong.doubled += u64::from(two[0] == two[1]);
            found.wrong.disordered += u64::from(two[0] > two[1]);
        }
        for (_, note) in notes {
            let Note::Appended(number, told) = note else { continue };
            match (told, kept.contains(number)) {
                (Told::Acknowledged(()), false) => found.wrong.lost += 1,
                (Told::Acknowledged(()), true) | (_, false) => {}
                (_, true) => found.unknown_there += 1,
            }
        }
    }
}

/// The number in an item; the first one of a history has none.
fn number(item: &[u8]) -> Option<u32> {
    let item: serde_json::Value = serde_json::from_slice(item).expect("JSON");
    item["payload"]["message"].as_str()?.parse().ok()
}

/// A goal's sum is what was acknowledged, and what may be there beside it.
fn goals(notes: &[Vec<Dated>], server: &mut Client, found: &mut Found) {
    let kept = server.query("SELECT thread_id, tokens_used FROM rowhouse_goals.goal", &[]).expect("goals");
    let kept: BTreeMap<String, i64> = kept.iter().map(|row| (row.get(0), row.get(1))).collect();
    let mut settle = |goal: &str, acknowledged: i64, unknown: i64| {
        let more = kept.get(goal).copied().unwrap_or(0) - acknowledged;
        found.wrong.lost += u64::try_from(-more).unwrap_or(0);
        found.wrong.doubled += u64::try_from(more - unknown).unwrap_or(0);
        found.unknown_there += u64::try_from(more.clamp(0, unknown)).unwrap_or(0);
    };
    let mut shared = (0, 0);
    for (process, notes) in (0..).zip(notes) {
        let mut own = (0, 0);
        for (_, note) in notes {
            let ((acknowledged, unknown), is_acknowledged, is_unknown) = match note {
                Note::Own(told) => {
                    (&mut own, matches!(told, Told::Acknowledged(_)), matches!(told, Told::Unknown))
                }
                Note::Shared(told) => {
                    (&mut shared, matches!(told, Told::Acknowledged(())), matches!(told, Told::Unknown))
                }
                _ => continue,
            };
            *acknowledged += i64::from(is_acknowledged);
            *unknown += i64::from(is_unknown);
        }
        settle(&own_goal(process), own.0, own.1);
        found.wrong.disordered += steps(notes);
    }
    settle(SHARED, shared.0, shared.1);
}

/// How often a sum that only one process adds to was not the next one.
fn steps(notes: &[Dated]) -> u64 {
    let (mut last, mut unknown, mut wrong) = (0, 0, 0);
    for (_, note) in notes {
        match note {
            Note::Own(Told::Acknowledged(sum)) => {
                wrong += u64::from(!(1..=1 + unknown).contains(&(sum - last)));
                (last, unknown) = (*sum, 0);
            }
            Note::Own(Told::Unknown) => unknown += 1,
            _ => {}
        }
    }
    wrong
}

/// A job is one process's from the answer of its claim until it says that it is done, and is done once.
fn jobs(notes: &[Vec<Dated>], server: &mut Client, found: &mut Found) {
    let text = "SELECT thread_id, status FROM rowhouse_state.memory_job WHERE kind = 'extract'";
    let kept = server.query(text, &[]).expect("the jobs");
    let kept: BTreeMap<String, String> = kept.iter().map(|row| (row.get(0), row.get(1))).collect();
    let mut had: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
    let (mut done, mut asked, mut unknown_claims) = (BTreeMap::<_, u64>::new(), BTreeSet::new(), 0);
    for notes in notes {
        let mut since = BTreeMap::new();
        for (at, note) in notes {
            match note {
                Note::Claimed(Told::Acknowledged(jobs)) => {
                    since.extend(jobs.iter().map(|job| (job.clone(), *at)));
                }
                Note::Claimed(Told::Unknown) => unknown_claims += 1,
                Note::Done(job, told, until) => {
                    let from = since.remove(job).expect("it was claimed");
                    had.entry(job.clone()).or_default().push((from, *until));
                    match told {
                        Told::Acknowledged(true) => *done.entry(job.clone()).or_default() += 1,
                        Told::Acknowledged(false) => found.wrong.shared_leases += 1,
                        Told::Unknown => drop(asked.insert(job.clone())),
                        Told::Refused(_) => {}
                    }
                }
                _ => {}
            }
        }
        // Those that are still its own when it ends.
        for (job, from) in since {
            had.entry(job).or_default().push((from, u64::MAX));
        }
    }
    let status = |job: &str| kept.get(job).map(String::as_str);
    for (job, times) in &mut had {
        times.sort_unstable();
        found.wrong.shared_leases += times.windows(2).filter(|two| two[0].1 > two[1].0).count() as u64;
        if times.len() > 1 && done.contains_key(job) {
            // Whoever was told that it is done was told so for nothing.
            found.wrong.lost += 1;
        }
        let times_done = done.get(job).copied().unwrap_or(0);
        found.wrong.doubled += times_done.saturating_sub(1);
        found.wrong.lost += u64::from(times_done > 0 && status(job) != Some("done"));
        found.unknown_there += u64::from(asked.contains(job) && status(job) == Some("done"));
    }
    let claimed_by_nobody = kept.keys().filter(|job| !had.contains_key(*job)).count() as u64;
    found.unknown_there += claimed_by_nobody.min(unknown_claims);
    found.wrong.unasked += claimed_by_nobody.saturating_sub(unknown_claims);
}
