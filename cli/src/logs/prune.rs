//! `rowhouse logs prune`: deletes old rows now.

use anyhow::Result;
use bytesize::ByteSize;
use clap::Args;
use rowhouse::Home;
use rowhouse::stores::logs::PruneOptions;

use crate::moment::Moment;
use crate::output::Output;

#[derive(Args)]
pub(super) struct PruneArguments {
    /// Only rows that are older: 7d, 2026-03-01. Without it, and without a thread, 10 days
    #[arg(long, value_name = "WHEN")]
    older_than: Option<Moment>,
    /// Only rows of this thread; all of them, without --older-than
    #[arg(long, value_name = "ID")]
    thread: Option<String>,
    /// Only say how many there are
    #[arg(long)]
    dry_run: bool,
}

impl PruneArguments {
    fn options(&self) -> PruneOptions {
        let mut options = PruneOptions::default();
        match self.older_than {
            Some(moment) => options.before = moment.unix_ns(),
            None if self.thread.is_some() => options.before = i64::MAX,
            None => {}
        }
        options.thread_id.clone_from(&self.thread);
        options.dry_run = self.dry_run;
        options
    }
}

pub(super) fn run(home: &Home, arguments: &PruneArguments, output: &Output) -> Result<()> {
    let report = super::open(home)?.logs().prune(&arguments.options())?;
    if output.is_json() {
        return output.document(&report);
    }
    let done = if arguments.dry_run { "would be deleted" } else { "deleted" };
    let rows = if report.rows == 1 { "row" } else { "rows" };
    output.text(&format!("{} {rows} {done}, {}\n", report.rows, ByteSize(report.bytes.unsigned_abs())))
}
