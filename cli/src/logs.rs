//! `rowhouse logs`: what programs wrote into the log of a home, and how much they write. Works beside whoever writes.

mod level;
mod prune;

use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use anyhow::Result;
use bytesize::ByteSize;
use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use rowhouse::stores::logs::{LevelCounts, LogTotals};
use rowhouse::stores::{Direction, FollowFrom, LogFormat, LogLevel, LogRow};
use rowhouse::{Domain, Error, ErrorKind, Home, LogQuery, Runtime};
use serde::Serialize;

use crate::moment::Moment;
use crate::named_file::Overwrite;
use crate::open::{Opened, holds, thread_id};
use crate::output::{self, BAD, DIM, Output, WARNING};
use crate::table::{Table, age};
use crate::words::number;

/// How often it is looked whether a log that is waited for has come.
const LOOK_EVERY: Duration = Duration::from_millis(250);

#[derive(Args)]
#[command(after_help = "\
Examples:
  rowhouse logs tail -f --level warn
  rowhouse logs query --level error --since 2h
  rowhouse logs export --since 1d --output today.jsonl")]
pub(crate) struct LogsArguments {
    #[command(subcommand)]
    command: LogsCommand,
}

#[derive(Subcommand)]
enum LogsCommand {
    /// The newest rows, oldest first; with -f also those that come
    #[command(
        after_help = "Examples:\n  rowhouse logs tail -f\n  rowhouse logs tail -n 100 --level warn\n  rowhouse logs tail -f --thread THREAD_ID --json | jq -r .message"
    )]
    Tail(TailArguments),
    /// One page of rows, newest first
    #[command(
        after_help = "Examples:\n  rowhouse logs query --level error --since 2h\n  rowhouse logs query --target app::sync --text 'connection refused' --limit 20\n  rowhouse logs query --since 2026-03-01 --until 2026-03-02T12:00 --asc\n  rowhouse logs query --cursor CURSOR        (the next page: its cursor ends each page, on standard error)\n\nTimes: 2h or 3 days (ago), 2026-03-01, 2026-03-01T14:30 (local), RFC 3339. The text is found in message and fields, in\nupper or lower case; nothing in it has a special meaning. --json prints one row a line."
    )]
    Query(QueryArguments),
    /// All rows that match, oldest first
    #[command(
        after_help = "Examples:\n  rowhouse logs export --since 1d --output today.jsonl\n  rowhouse logs export --format text --level warn | less"
    )]
    Export(ExportArguments),
    /// What to send along with a report: the rows of a thread, and of its last process those of no thread
    #[command(
        after_help = "Examples:\n  rowhouse logs feedback THREAD_ID --output report.jsonl\n  rowhouse logs feedback THREAD_ID --format text | less\n\nAt most 10 MiB, the newest rows. What looks like a secret is taken out: read it all the same before you send it."
    )]
    Feedback(FeedbackArguments),
    /// How many rows there are, from when, and how large the files are
    #[command(
        after_help = "Examples:\n  rowhouse logs stats\n  rowhouse logs stats --json | jq .bytes\n\nRows are estimated by their numbers; levels are those of the newest rows."
    )]
    Stats,
    /// Which events are written: shown, or set for this home; running programs follow within seconds
    #[command(
        after_help = "Examples:\n  rowhouse logs level                        what counts, and who says so\n  rowhouse logs level warn\n  rowhouse logs level info,my_app::net=debug\n  rowhouse logs level off                    no log is created, opened or written\n  rowhouse logs level --reset\n\nDEBUG and TRACE stay in memory, and are written when an ERROR follows within a minute."
    )]
    Level(level::LevelArguments),
    /// Delete old rows, or those of a thread, while programs go on writing
    #[command(
        after_help = "Examples:\n  rowhouse logs prune --older-than 7d --dry-run\n  rowhouse logs prune --thread THREAD_ID --yes\n  rowhouse logs prune --yes && rowhouse maintain logs        (and give the space back now)"
    )]
    Prune(prune::PruneArguments),
}

#[derive(Args)]
struct TailArguments {
    /// Show what is written from now on, too, by any process; also when there is no log yet
    #[arg(short, long)]
    follow: bool,
    /// How many of the newest rows
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    lines: u32,
    #[command(flatten)]
    filters: Filters,
}

#[derive(Args)]
struct QueryArguments {
    #[command(flatten)]
    filters: Filters,
    /// Oldest first
    #[arg(long)]
    asc: bool,
    /// Rows on a page
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Where the page before this one ended
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

#[derive(Args)]
struct ExportArguments {
    #[command(flatten)]
    filters: Filters,
    #[command(flatten)]
    to: Destination,
}

#[derive(Args)]
struct FeedbackArguments {
    /// The thread; the beginning or the end of its id is enough
    #[arg(value_name = "THREAD_ID")]
    thread: String,
    #[command(flatten)]
    to: Destination,
}

#[derive(Args)]
struct Destination {
    /// One JSON object a line, or text
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    /// Into this file, which only you can read, instead of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    overwrite: Overwrite,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Jsonl,
    Text,
}

#[derive(Args)]
struct Filters {
    /// At least this level: trace, debug, info, warn, error
    #[arg(long, value_name = "LEVEL")]
    level: Option<LogLevel>,
    /// From this moment on: 2h, 2026-03-01, RFC 3339
    #[arg(long, value_name = "WHEN")]
    since: Option<Moment>,
    /// Before this moment
    #[arg(long, value_name = "WHEN")]
    until: Option<Moment>,
    /// Only targets that begin so; may be repeated
    #[arg(long, value_name = "PREFIX")]
    target: Vec<String>,
    /// Only modules that begin so
    #[arg(long, value_name = "PREFIX")]
    module: Option<String>,
    /// Only source files that end so
    #[arg(long, value_name = "ENDING")]
    file: Option<String>,
    /// Only rows of this thread; the beginning or the end of its id is enough; may be repeated
    #[arg(long, value_name = "ID", conflicts_with = "threadless")]
    thread: Vec<String>,
    /// Only rows of no thread
    #[arg(long)]
    threadless: bool,
    /// Only rows of this run of a process
    #[arg(long, value_name = "ID")]
    process: Option<String>,
    /// Only rows with this text in their message or fields
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
}

impl Filters {
    fn query(&self, home: &Home) -> rowhouse::Result<LogQuery> {
        let mut query = LogQuery::recent();
        query = self.level.into_iter().fold(query, LogQuery::level);
        query = self.since.iter().fold(query, |query, since| query.since(since.unix_ns()));
        query = self.until.iter().fold(query, |query, until| query.until(until.unix_ns()));
        query = self.module.iter().fold(query, LogQuery::module);
        query = self.file.iter().fold(query, LogQuery::file);
        query = self.process.iter().fold(query, LogQuery::process);
        query = self.text.iter().fold(query, LogQuery::text);
        if !self.target.is_empty() {
            query = query.targets(&self.target);
        }
        let ids = self.thread.iter().map(|thread| thread_id(home, thread));
        Ok(match (self.threadless, &ids.collect::<rowhouse::Result<Vec<_>>>()?[..]) {
            (true, _) => query.threadless(),
            (false, []) => query,
            (false, threads) => query.threads(threads),
        })
    }
}

pub(crate) fn run(home: &Home, arguments: &LogsArguments, output: &Output) -> Result<()> {
    match &arguments.command {
        LogsCommand::Tail(tail) => self::tail(home, tail, output),
        LogsCommand::Query(query) => self::query(home, query, output),
        LogsCommand::Export(export) => self::export(home, export, output),
        LogsCommand::Feedback(feedback) => self::feedback(home, feedback, output),
        LogsCommand::Level(level) => level::run(home, level, output),
        LogsCommand::Prune(prune) => prune::run(home, prune, output),
        LogsCommand::Stats => stats(&open(home)?.logs().stats()?, output),
    }
}

fn tail(home: &Home, arguments: &TailArguments, output: &Output) -> Result<()> {
    let rows = Shown(output);
    let query = arguments.filters.query(home)?;
    if !arguments.follow {
        let newest = open(home)?.logs().tail(&query, arguments.lines)?;
        if newest.is_empty() && !output.is_json() {
            return output.text("no rows\n");
        }
        return newest.iter().try_for_each(|row| rows.show(row));
    }
    let mut from = FollowFrom::Newest(arguments.lines);
    if !holds(home, "logs")? {
        output::note("there is no log yet; waiting for it");
        while !holds(home, "logs")? {
            rest();
        }
        // Whatever it holds by then was written since.
        from = FollowFrom::Oldest;
    }
    let runtime = open(home)?;
    runtime.logs().follow(&query, from)?.try_for_each(|row| rows.show(&row?))
}

/// Pages may be short: the next ones are asked for until as many rows are there as were asked for.
fn query(home: &Home, arguments: &QueryArguments, output: &Output) -> Result<()> {
    let direction = if arguments.asc { Direction::Ascending } else { Direction::Descending };
    let query = arguments.filters.query(home)?.direction(direction);
    let runtime = open(home)?;
    let logs = runtime.logs();
    let rows = Shown(output);
    let (mut left, mut cursor) = (arguments.limit, arguments.cursor.clone());
    loop {
        let page = query.clone().limit(left);
        let page = logs.query(&cursor.iter().fold(page, LogQuery::cursor))?;
        page.rows.iter().try_for_each(|row| rows.show(row))?;
        left -= u32::try_from(page.rows.len()).unwrap_or(left).min(left);
        cursor = page.next_cursor;
        if cursor.is_none() || left == 0 {
            break;
        }
    }
    match cursor {
        Some(cursor) if output.is_json() => output::line(&format!("next_cursor {cursor}")),
        Some(cursor) => output::more(&cursor),
        None if left == arguments.limit && !output.is_json() => output.text("no rows\n")?,
        None => {}
    }
    Ok(())
}

fn export(home: &Home, arguments: &ExportArguments, output: &Output) -> Result<()> {
    let query = arguments.filters.query(home)?;
    let runtime = open(home)?;
    let logs = runtime.logs();
    let done = arguments.to.write(output, |format, to| logs.export(&query, format, to))?;
    arguments.to.tell(output, &done, done.rows, done.bytes)
}

fn feedback(home: &Home, arguments: &FeedbackArguments, output: &Output) -> Result<()> {
    let thread = thread_id(home, &arguments.thread)?;
    let runtime = open(home)?;
    let done = arguments.to.write(output, |format, to| runtime.logs().feedback(&thread, format, to))?;
    if done.is_cut {
        output::line("there are older rows, for which there was no room");
    }
    arguments.to.tell(output, &done, done.written.rows, done.written.bytes)
}

impl Destination {
    fn write<R>(
        &self,
        output: &Output,
        write: impl FnOnce(LogFormat, &mut dyn Write) -> rowhouse::Result<R>,
    ) -> Result<R> {
        let format = match self.format {
            Format::Jsonl => LogFormat::JsonLines,
            Format::Text if output.is_json() && self.output.is_none() => {
                return Err(Error::new(ErrorKind::Invalid, "--json is JSON lines, --format text is not")
                    .advise("leave one of them out, or name a file with --output")
                    .into());
            }
            Format::Text => LogFormat::Text,
        };
        let Some(path) = &self.output else {
            let mut stdout = BufWriter::new(io::stdout().lock());
            return write(format, &mut stdout).map_err(output::reader_gone);
        };
        self.overwrite.write(path, |file| Ok(write(format, file).map_err(|error| error.at_path(path))?))
    }

    /// What a file got; standard output has the rows themselves.
    fn tell(&self, output: &Output, done: &impl Serialize, rows: u64, bytes: u64) -> Result<()> {
        match &self.output {
            None => Ok(()),
            Some(_) if output.is_json() => output.document(done),
            Some(path) => output.text(&format!(
                "{}, {}, in {}\n",
                number(rows, "row", "rows"),
                ByteSize(bytes),
                path.display()
            )),
        }
    }
}

/// Where rows are shown as they come.
struct Shown<'o>(&'o Output);

impl Shown<'_> {
    fn show(&self, row: &LogRow) -> Result<()> {
        if self.0.is_json() {
            return self.0.json_line(row);
        }
        let style = style(row.level);
        let level = row.level.as_str().to_ascii_uppercase();
        self.0.text(&format!("{DIM}{}{DIM:#} {style}{level:>5}{style:#} {}\n", row.time(), row.body()))
    }
}

fn style(level: LogLevel) -> Style {
    match level {
        LogLevel::Error => BAD,
        LogLevel::Warn => WARNING,
        LogLevel::Info => AnsiColor::Green.on_default(),
        LogLevel::Debug => AnsiColor::Blue.on_default(),
        LogLevel::Trace => DIM,
    }
}

#[derive(Serialize)]
struct Statistics {
    rows: u64,
    bytes: u64,
    oldest: Option<String>,
    newest: Option<String>,
    recent: LevelCounts,
}

fn stats(stats: &LogTotals, output: &Output) -> Result<()> {
    let time = |ns: Option<i64>| ns.and_then(|ns| Timestamp::from_nanosecond(ns.into()).ok());
    let (oldest, newest) = (time(stats.oldest), time(stats.newest));
    if output.is_json() {
        let text = |time: Option<Timestamp>| time.map(|time| time.to_string());
        return output.document(&Statistics {
            rows: stats.rows,
            bytes: stats.bytes,
            oldest: text(oldest),
            newest: text(newest),
            recent: stats.recent,
        });
    }
    let now = Timestamp::now();
    let when = |time: Option<Timestamp>| time.map_or_else(|| "-".to_owned(), |time| age(time, now));
    let mut table = Table::new(&["rows", "on disk", "oldest", "newest"]).right(&[0, 1]);
    table.row(&[stats.rows.to_string(), ByteSize(stats.bytes).to_string(), when(oldest), when(newest)]);
    let mut text = table.render();
    let LevelCounts { counted, error, warn, info, debug, trace } = stats.recent;
    if counted > 0 {
        let levels = format!("{error} error, {warn} warn, {info} info, {debug} debug, {trace} trace");
        writeln!(text, "\nof the newest {counted}: {levels}")?;
    }
    output.text(&text)
}

#[allow(clippy::disallowed_methods, reason = "nothing tells of a home that is made later")]
fn rest() {
    std::thread::sleep(LOOK_EVERY);
}

/// Opens the log alone; creates none.
pub(crate) fn open(home: &Home) -> Result<Opened> {
    if !holds(home, "logs")? {
        return Err(Error::new(ErrorKind::NotFound, "this home holds no log yet")
            .at_path(home.path())
            .advise("`rowhouse logs tail -f` waits for it; --home or ROWHOUSE_HOME names another home")
            .into());
    }
    let runtime = Opened::new(Runtime::builder(home.clone()).domain(Domain::logs()).open()?);
    let database = runtime.database("logs")?;
    // It is attached in the background: what is in the way of that is told before anything else.
    database.read(|_| Ok(()))?;
    for warning in database.warnings() {
        output::warn(&warning);
    }
    Ok(runtime)
}
