//! `rowhouse bench stores`: what the built-in stores can do: pages of threads, use of goals, log events.

mod goals;
mod logs;
mod threads;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use super::report::Document;
use crate::output;

/// How much, how long and where.
pub(super) struct Setting {
    pub(super) folder: PathBuf,
    /// For each work in each round.
    pub(super) seconds: Duration,
    pub(super) rounds: u32,
    /// Threads in the large store.
    pub(super) threads: u32,
}

struct Work {
    name: &'static str,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    ThreadPage,
    Account { processes: usize, callers: usize },
    LogEvent,
    LogRate { at_cap: bool },
}

const fn account(name: &'static str, processes: usize, callers: usize) -> Work {
    Work { name, what: What::Account { processes, callers } }
}

#[rustfmt::skip]
const WORKS: &[Work] = &[
    Work { name: "thread_page", what: What::ThreadPage },
    account("goal_account_1", 1, 1),
    account("goal_account_8", 1, 8),
    account("goal_account_2x1", 2, 1),
    account("goal_account_2x8", 2, 8),
    Work { name: "log_event", what: What::LogEvent },
    Work { name: "log_rate", what: What::LogRate { at_cap: false } },
    Work { name: "log_rate_at_cap", what: What::LogRate { at_cap: true } },
];

/// Checks a name given with `--only`.
pub(super) fn known(name: &str) -> Result<String, String> {
    super::begins_one_of(name, WORKS.iter().map(|work| work.name))
}

/// Runs the works asked for and fills the document.
pub(super) fn run(setting: &Setting, only: &[String], document: &mut Document) -> Result<()> {
    let is_wanted = |work: &&Work| only.is_empty() || only.iter().any(|name| work.name.starts_with(name));
    let wanted: Vec<_> = WORKS.iter().filter(is_wanted).collect();
    let progress = output::progress(wanted.len() as u64);
    for work in wanted {
        progress.set_message(work.name);
        let home = setting.folder.join(work.name);
        match work.what {
            What::ThreadPage => threads::run(setting, &home, document),
            What::Account { processes, callers } => {
                goals::run(setting, work.name, &home, (processes, callers), document)
            }
            What::LogEvent => logs::event_cost(setting, &home, document),
            What::LogRate { at_cap } => logs::rate(setting, work.name, at_cap, &home, document),
        }
        .with_context(|| format!("while measuring {}", work.name))?;
        std::fs::remove_dir_all(&home)
            .map_err(|error| rowhouse::Error::io("remove a measurement's files", &home, error))?;
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn works_are_known_by_their_beginning() {
        assert!(known("goal_account").is_ok());
        assert!(known("nothing").expect_err("unknown").contains("thread_page"));
    }
}
