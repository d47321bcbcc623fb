//! `rowhouse migrate-backend`: the data of a home goes to a PostgreSQL server, or back into files.

use std::fmt::Write;
use std::time::Duration;

use anyhow::Result;
use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use rowhouse::{Backend, Home, MoveOptions, MoveProgress, MoveReport, MoveStep, Runtime};

use crate::agreement::{ADVICE, Agreement};
use crate::bench::count;
use crate::output::{self, Output};
use crate::progress::Progress;
use crate::signals;
use crate::table::Table;
use crate::words::number;

#[derive(Args)]
#[command(after_help = "\
Examples:
  rowhouse migrate-backend --to postgres --dry-run
  rowhouse migrate-backend --to postgres
  rowhouse migrate-backend --to sqlite --yes --json | jq '.tables[] | {table, rows, hash}'

The server is the one under [state.postgres] in the home's config.toml (url or url_file), or in ROWHOUSE_POSTGRES_URL. State
and goals are moved, with threads, memories and turns; a thread's transcript becomes rows on the server, and rows become a
transcript. Logs and device keys stay where they are. Nobody may have the home open or write a transcript; on the way to files, no other machine can write on the server meanwhile, and finds it empty afterwards.

Every table is read back on both sides and compared before the new side counts; config.toml is changed to say so. What was
there is put aside, never deleted: files in the home's moved/ folder, with a manifest; a schema under another name. Stopped
at any moment exactly one side counts: the same command, or the next program that opens the home, finishes it.")]
pub(crate) struct MigrateBackendArguments {
    /// Where the data goes
    #[arg(long, value_name = "BACKEND", value_enum)]
    to: Side,
    /// How long those are waited for who have the home open, or write on the server
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    wait: u32,
    /// Write U+FFFD for what a server cannot hold of a text (NUL, invalid UTF-8); the originals stay in the file that is put
    /// aside
    #[arg(long)]
    replace_unholdable: bool,
    #[command(flatten)]
    agreement: Agreement,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Side {
    Sqlite,
    Postgres,
}

impl From<Side> for Backend {
    fn from(side: Side) -> Self {
        match side {
            Side::Sqlite => Self::Sqlite,
            Side::Postgres => Self::Postgres,
        }
    }
}

pub(crate) fn run(home: &Home, arguments: &MigrateBackendArguments, output: &Output) -> Result<()> {
    let migrate = |dry_run: bool| {
        let mut options = MoveOptions::to(arguments.to.into());
        options.dry_run = dry_run;
        options.wait = Duration::from_secs(arguments.wait.into());
        options.replace_unholdable = arguments.replace_unholdable;
        let mut progress = Progress::in_rows(output);
        let builder = Runtime::builder(home.clone()).agent_domains();
        let report =
            signals::interruptible(|| builder.migrate_backend(&options, &mut |now| show(&mut progress, now)));
        progress.clear();
        report
    };
    let agreement = &arguments.agreement;
    if !agreement.yes && !agreement.dry_run {
        output.can_ask(ADVICE)?;
        let plan = migrate(true)?;
        tell(&plan, output)?;
        agreement.given("move it?", output)?;
    }
    let report = migrate(agreement.dry_run)?;
    if output.is_json() {
        return output.document(&report);
    }
    tell(&report, output)
}

fn tell(report: &MoveReport, output: &Output) -> Result<()> {
    for lost in &report.unholdable {
        let found = format!(
            "{} in {}.{}.{} (rows by {}): {}",
            lost.values,
            lost.domain,
            lost.table,
            lost.column,
            lost.key.join(", "),
            lost.why.told()
        );
        output::warn(&if report.replaced && lost.why.is_replaceable() {
            format!("replaced by U+FFFD: {found}")
        } else {
            format!("the other side cannot hold {found}")
        });
    }
    for warning in &report.warnings {
        output::warn(warning);
    }
    output.text(&text(report))
}

fn text(report: &MoveReport) -> String {
    let mut table = Table::new(&["table", "rows", "size", "rows/s", "hash"]).right(&[1, 2, 3]);
    for moved in report.tables.iter().filter(|moved| moved.rows > 0) {
        table.row(&[
            format!("{}.{}", moved.domain, moved.table),
            count(moved.rows as f64),
            ByteSize::b(moved.bytes).to_string(),
            moved.rows_per_second.map_or_else(String::new, |rate| count(rate as f64)),
            moved.hash.clone(),
        ]);
    }
    let mut text = table.render();
    let rows: u64 = report.tables.iter().map(|moved| moved.rows).sum();
    let place = match report.to {
        Backend::Postgres => format!("to {}", report.server),
        _ => format!("from {} into files of {}", report.server, report.home.display()),
    };
    let did = if report.dry_run { "would be moved" } else { "moved" };
    // Writing to a String cannot fail.
    let _ =
        writeln!(text, "\n{} of {} {did} {place}", number(rows, "row", "rows"), report.domains.join(", "));
    if report.finished_earlier {
        let _ = writeln!(text, "a move that had been broken off was finished");
    }
    for line in &report.config {
        let changed = if report.dry_run { "would say" } else { "says" };
        let _ = writeln!(text, "config.toml {changed} {line}");
    }
    if !report.dry_run {
        let _ = writeln!(
            text,
            "both sides were read back and are equal; {:.1} s, {} rows/s",
            report.took_ms as f64 / 1000.0,
            count(rows as f64 * 1000.0 / report.took_ms.max(1) as f64)
        );
        let _ = writeln!(text, "what was there is kept: {}", report.kept.join(", "));
    }
    if let Some(folder) = &report.folder {
        let _ = writeln!(text, "the manifest is in {}", folder.display());
    }
    text
}

fn show(progress: &mut Progress, now: &MoveProgress<'_>) {
    // A cut-over goes on to its end: it has no way back.
    if now.step != MoveStep::CuttingOver {
        signals::may_end();
    }
    let doing = match now.step {
        MoveStep::Planning => "looking at",
        MoveStep::Copying => "copying",
        MoveStep::Verifying => "comparing",
        _ => "cutting over:",
    };
    progress.show(now.rows_done, now.rows_total, format!("{doing} {}", now.what));
    if now.step == MoveStep::Copying && now.rows_done > 0 && now.rows_done >= now.rows_total {
        progress.tell(format!("copied {}: {}", now.what, number(now.rows_done, "row", "rows")));
    }
}
