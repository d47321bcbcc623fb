//! A process that writes flat out with many threads does not keep another one, with one thread, from its share.

mod processes;

use processes::load::{self, Done, Subject};
use std::time::Duration;

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    load::child(&arguments[1..]);
}

/// Eight threads against one. Answers the victim's writes over those of one thread of the hog, and the victim's worst
/// wait.
fn contest(subject: Subject) -> (f64, Duration, Vec<Done>) {
    let home = processes::folder();
    drop(processes::open(home.path()));
    let done = load::together(home.path(), subject, &[8, 1], processes::seconds(2.0));
    let share = done[1].writes as f64 / (done[0].writes as f64 / 8.0).max(1.0);
    (share, done[1].worst, done)
}

#[test]
fn a_hog_does_not_starve_a_victim() {
    processes::once_in_three(measure);
}

fn measure() -> Result<(), String> {
    let (share, worst, done) = contest(Subject::Engine);
    let (pool_share, pool_worst, pool_done) = contest(Subject::Pool);
    println!("engine: hog {}, victim {}, share {share:.2}, worst {worst:?}", done[0].writes, done[1].writes);
    println!(
        "pool:   hog {}, victim {}, share {pool_share:.2}, worst {pool_worst:?}",
        pool_done[0].writes, pool_done[1].writes
    );
    load::all_fine(&done);
    processes::holds(worst < Duration::from_secs(1), || format!("the victim waited {worst:?}"))?;
    processes::holds(share >= 0.5, || format!("the victim had {share:.2} of a hog's thread"))?;
    // The control: now and then the pool's victim gets a share, but never soon.
    processes::holds(5 * worst < pool_worst, || {
        format!("the control's victim waited {pool_worst:?}, ours {worst:?}")
    })
}
