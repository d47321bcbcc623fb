//! `rowhouse stats`: what every process that has a home open did with its databases. Opens none of them and takes no lock.

use std::fmt::Write;
use std::time::Duration;

use anyhow::Result;
use bytesize::ByteSize;
use clap::Args;
use rowhouse::{DatabaseStats, Distribution, Domain, Error, ErrorKind, Home, RuntimeDbRegistry, Stats};
use serde::Serialize;

use crate::output::{self, DIM, HEADING, Output};
use crate::table::Table;

/// Of the document. It changes when a field changes its meaning or goes; new ones may come at any time.
const SCHEMA_VERSION: u32 = 1;
/// How often `--watch` looks.
const WATCH_EVERY: Duration = Duration::from_secs(1);

#[derive(Args)]
#[command(after_help = "\
Examples:
  rowhouse stats
  rowhouse stats logs --watch
  rowhouse stats --json | jq '.databases[] | {name, errors: .total.errors}'

Numbers are of the processes that have the home open now, since each opened it. Times are the largest of 99 %
of all, to a factor of two. On a server `conflict`, `lost` and `busy` are what was tried again, and why. docs/operations.md says what each number means, and what to do about it.")]
pub(crate) struct StatsArguments {
    /// Only this database
    #[arg(value_name = "DB")]
    database: Option<String>,
    /// Show it again every second, until interrupted
    #[arg(long)]
    watch: bool,
}

#[derive(Serialize)]
struct Document<'d> {
    schema_version: u32,
    generated_at: String,
    home: &'d std::path::Path,
    databases: &'d [DatabaseStats],
}

pub(crate) fn run(home: &Home, arguments: &StatsArguments, output: &Output) -> Result<()> {
    if arguments.watch && output.is_json() {
        return Err(Error::new(ErrorKind::Invalid, "--json is one document, --watch shows many")
            .advise("leave one of them out; a script calls the command again")
            .into());
    }
    let registry = RuntimeDbRegistry::new(home);
    loop {
        let databases = look(&registry, home, arguments.database.as_deref())?;
        if output.is_json() {
            return output.document(&Document {
                schema_version: SCHEMA_VERSION,
                generated_at: jiff::Timestamp::now().to_string(),
                home: home.path(),
                databases: &databases,
            });
        }
        let text = text(&databases, home);
        if !arguments.watch {
            return output.text(&text);
        }
        output.screen(&text)?;
        wait();
    }
}

#[allow(clippy::disallowed_methods, reason = "this is what a second on the screen is")]
fn wait() {
    std::thread::sleep(WATCH_EVERY);
}

fn look(registry: &RuntimeDbRegistry, home: &Home, only: Option<&str>) -> Result<Vec<DatabaseStats>> {
    let mut databases = registry.stats()?;
    databases.retain(|database| only.is_none_or(|name| database.info.name == name));
    // Nobody counts what was moved away: it would look as if nobody used it.
    for info in databases.iter().map(|database| &database.info).filter(|info| info.moved_to.is_some()) {
        Domain::new(&info.name).is_on_server(home)?;
    }
    let Some(name) = only else { return Ok(databases) };
    if databases.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, format!("no database named {name}"))
            .at_path(home.path())
            .advise("`rowhouse status` lists those that are there")
            .into());
    }
    Ok(databases)
}

fn text(databases: &[DatabaseStats], home: &Home) -> String {
    if databases.is_empty() {
        return format!("no databases in {} yet\n", home.path().display());
    }
    let columns = [
        "database",
        "pid",
        "program",
        "jobs",
        "commits",
        "jobs/commit",
        "queued",
        "wait",
        "lock held",
        "commit",
        "written",
        "busy",
        "dropped",
        "errors",
    ];
    // On a narrow terminal those stay that tell of trouble.
    let mut table = Table::new(&columns).right(&[1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]).fit(
        output::width(),
        2,
        &[5, 10, 9, 12, 7, 11, 4, 8, 3],
    );
    let mut any = false;
    for database in databases {
        let name = &database.info.name;
        if database.info.is_on_server() && !database.processes.is_empty() {
            continue;
        }
        any = true;
        if database.processes.is_empty() {
            let mut cells = vec![String::from("-"); columns.len()];
            let said = match &database.info.server {
                Some(place) => format!("on {}: see rowhouse who", place.server),
                None => "nobody has it open".to_owned(),
            };
            (cells[0], cells[2]) = (name.clone(), said);
            table.row(&cells);
        }
        for process in &database.processes {
            let program = format!("{} {}", process.program, process.version);
            row(
                &mut table,
                name,
                &process.pid.to_string(),
                program.trim_end_matches(" unknown"),
                &process.stats,
            );
        }
        if database.processes.len() > 1 {
            row(&mut table, name, "all", "", &database.total);
        }
    }
    let mut text = if any { table.render() + "\n" } else { String::new() };
    text += &on_server(databases);
    text += &files(databases);
    text += &errors(databases);
    text
}

fn row(table: &mut Table, name: &str, pid: &str, program: &str, stats: &Stats) {
    let jobs = stats.batch_jobs.sum() as f64 / stats.batch_jobs.count().max(1) as f64;
    let mut waits = stats.queue_wait_us.clone();
    waits.merge(&stats.queue_wait_background_us);
    table.row(&[
        name.to_owned(),
        pid.to_owned(),
        program.to_owned(),
        stats.jobs.to_string(),
        stats.commits.to_string(),
        format!("{jobs:.1}"),
        stats.queued.to_string(),
        time(&waits),
        time(&stats.hold_us),
        time(&stats.commit_us),
        ByteSize::b(stats.written_bytes).to_string(),
        stats.busy_waits.to_string(),
        stats.dropped.to_string(),
        stats.errors.total().to_string(),
    ]);
}

/// What is on a server: what its processes did there, and their connections; nothing when nobody has any of it open.
fn on_server(databases: &[DatabaseStats]) -> String {
    let columns = [
        "on a server",
        "pid",
        "program",
        "connections",
        "writes",
        "reads",
        "waits",
        "longest",
        "conflict",
        "lost",
        "busy",
        "settled",
        "cancelled",
        "errors",
    ];
    let mut table = Table::new(&columns).right(&[1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]).fit(
        output::width(),
        2,
        &[11, 10, 5, 4],
    );
    let mut any = false;
    for database in databases.iter().filter(|database| database.info.is_on_server()) {
        for process in &database.processes {
            let stats = &process.stats;
            any = true;
            let longest = stats.connection_wait_longest_us;
            table.row(&[
                database.info.name.clone(),
                process.pid.to_string(),
                format!("{} {}", process.program, process.version).trim_end_matches(" unknown").to_owned(),
                format!(
                    "{} of {}, {} in use",
                    stats.connections, stats.connections_most, stats.connections_lent
                ),
                stats.jobs.to_string(),
                stats.reads.to_string(),
                stats.connection_waits.to_string(),
                if longest == 0 { "-".to_owned() } else { micros(longest) },
                stats.retried_conflict.to_string(),
                stats.retried_lost.to_string(),
                stats.retried_busy.to_string(),
                stats.outcomes_settled.to_string(),
                stats.statements_cancelled.to_string(),
                stats.errors.total().to_string(),
            ]);
        }
    }
    if any { table.render() + "\n" } else { String::new() }
}

fn files(databases: &[DatabaseStats]) -> String {
    if databases.iter().all(|database| database.info.is_on_server()) {
        return String::new();
    }
    let mut table = Table::new(&["database", "size", "log", "index"]).right(&[1, 2, 3]);
    for info in databases.iter().map(|database| &database.info).filter(|info| !info.is_on_server()) {
        let sizes =
            [info.main_bytes, info.wal_bytes, info.shm_bytes].map(|bytes| ByteSize::b(bytes).to_string());
        let [main, log, index] = sizes;
        table.row(&[info.name.clone(), main, log, index]);
    }
    table.render()
}

/// Which errors there were; nothing when there was none.
fn errors(databases: &[DatabaseStats]) -> String {
    let mut text = String::new();
    for database in databases {
        let came = database.total.errors.iter().filter(|(_, count)| *count > 0);
        let told: Vec<_> = came.map(|(kind, count)| format!("{count} {}", kind.as_str())).collect();
        if !told.is_empty() {
            let name = &database.info.name;
            let _ = writeln!(
                text,
                "\n{HEADING}errors of {name}{HEADING:#} {DIM}since each process opened it{DIM:#}\n{}",
                told.join(", ")
            );
        }
    }
    text
}

/// What 99 % did not exceed.
fn time(times: &Distribution) -> String {
    if times.count() == 0 { "-".to_owned() } else { micros(times.quantile(0.99)) }
}

pub(crate) fn micros(micros: u64) -> String {
    match micros {
        ..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        _ => format!("{:.1} s", micros as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_the_unit_that_fits() {
        for (time, text) in [(0, "0 µs"), (999, "999 µs"), (1_500, "1.5 ms"), (2_000_000, "2.0 s")] {
            assert_eq!(micros(time), text);
        }
    }
}
