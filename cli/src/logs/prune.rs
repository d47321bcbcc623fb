//! `rowhouse logs prune`: deletes old rows now.

use anyhow::Result;
use bytesize::ByteSize;
use clap::Args;
use rowhouse::Home;
use rowhouse::stores::logs::PruneOptions;

use crate::agreement::{ADVICE, Agreement};
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
    #[command(flatten)]
    agreement: Agreement,
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
        options.dry_run = self.agreement.dry_run;
        options
    }
}

pub(super) fn run(home: &Home, arguments: &PruneArguments, output: &Output) -> Result<()> {
    let runtime = super::open(home)?;
    let logs = runtime.logs();
    let agreement = &arguments.agreement;
    let options = arguments.options();
    // Without a wish of one's own only that goes which programs remove by themselves.
    let is_asked_for = arguments.older_than.is_some() || arguments.thread.is_some();
    if is_asked_for && !agreement.yes && !agreement.dry_run {
        output.can_ask(ADVICE)?;
        let mut look = options.clone();
        look.dry_run = true;
        let rows = logs.prune(&look)?.rows;
        let what = if rows == 1 { "1 row".to_owned() } else { format!("{rows} rows") };
        if rows == 0 || !agreement.given(&format!("delete {what}?"), output)? {
            return output.text("nothing was deleted\n");
        }
    }
    let report = logs.prune(&options)?;
    if output.is_json() {
        return output.document(&report);
    }
    let done = if agreement.dry_run { "would be deleted" } else { "deleted" };
    let rows = if report.rows == 1 { "row" } else { "rows" };
    output.text(&format!("{} {rows} {done}, {}\n", report.rows, ByteSize(report.bytes.unsigned_abs())))
}
