//! `rowhouse logs prune`: deletes old rows now.

use anyhow::Result;
use bytesize::ByteSize;
use clap::Args;
use rowhouse::Home;
use rowhouse::stores::logs::{PruneOptions, PruneReport};

use crate::agreement::{ADVICE, Agreement};
use crate::moment::Moment;
use crate::open::thread_id;
use crate::output::Output;
use crate::waiting::until_free;
use crate::words::number;

#[derive(Args)]
pub(super) struct PruneArguments {
    /// Only rows that are older: 7d, 2026-03-01. Without it, and without a thread, 10 days
    #[arg(long, value_name = "WHEN")]
    older_than: Option<Moment>,
    /// Only rows of this thread, which the beginning or the end of its id names; all of them, without --older-than
    #[arg(long, value_name = "ID")]
    thread: Option<String>,
    #[command(flatten)]
    agreement: Agreement,
}

impl PruneArguments {
    fn options(&self, home: &Home) -> rowhouse::Result<PruneOptions> {
        let mut options = PruneOptions::default();
        match self.older_than {
            Some(moment) => options.before = moment.unix_ns(),
            None if self.thread.is_some() => options.before = i64::MAX,
            None => {}
        }
        options.thread_id = self.thread.as_deref().map(|thread| thread_id(home, thread)).transpose()?;
        options.dry_run = self.agreement.dry_run;
        Ok(options)
    }
}

pub(super) fn run(home: &Home, arguments: &PruneArguments, output: &Output) -> Result<()> {
    let options = arguments.options(home)?;
    let runtime = super::open(home)?;
    let logs = runtime.logs();
    let agreement = &arguments.agreement;
    if !agreement.yes && !agreement.dry_run {
        output.can_ask(ADVICE)?;
        let mut look = options.clone();
        look.dry_run = true;
        let found = logs.prune(&look)?;
        if found.rows > 0 {
            agreement.given(&format!("delete {} ({})?", rows(&found), bytes(&found)), output)?;
        }
    }
    if !options.dry_run {
        until_free(home, &runtime, "logs")?;
    }
    let report = logs.prune(&options)?;
    if output.is_json() {
        return output.document(&report);
    }
    let done = if agreement.dry_run { "would be deleted" } else { "deleted" };
    output.text(&format!("{} {done}, {}\n", rows(&report), bytes(&report)))
}

fn rows(report: &PruneReport) -> String {
    number(report.rows, "row", "rows")
}

fn bytes(report: &PruneReport) -> ByteSize {
    ByteSize(report.bytes.unsigned_abs())
}
