//! The sections of the page.

use std::fmt::Write;

use bytesize::ByteSize;
use rowhouse::{Distribution, Limits};

use super::charts::{self, Bar, Line};
use super::facts::{Database, Facts, Finding, Level};
use super::html::{self, Text, section, table};
use crate::stats::micros;

/// Tables of a database that are drawn.
const MOST_TABLES: usize = 12;
/// Processes that are listed.
const MOST_PROCESSES: usize = 100;
/// Databases that are drawn; all are listed.
const MOST_DATABASES: usize = 20;

pub(super) fn page(facts: &Facts) -> String {
    let title = format!("rowhouse: {}", facts.home);
    let zoned = facts.generated_at.to_zoned(jiff::tz::TimeZone::system());
    let mut body = format!(
        "<header><h1>{}</h1>\n<p class=\"soft\">{} · rowhouse {} · SQLite {}</p></header>\n",
        Text(&facts.home),
        Text(&zoned.strftime("%Y-%m-%d %H:%M:%S %:z").to_string()),
        env!("CARGO_PKG_VERSION"),
        Text(rowhouse::rusqlite::version()),
    );
    body += &section("Findings", &findings(facts));
    body += &section("Databases", &databases(facts));
    body += &section("Sizes by table", &tables(facts));
    body += &section("Growth", &growth(facts));
    body += &section("Write times", &write_times(facts));
    body += &section("Write-ahead logs", &logs(facts));
    body += &section("Processes", &processes(facts));
    html::page(&title, &body)
}

fn word(level: Level) -> (&'static str, &'static str) {
    match level {
        Level::Ok => ("ok", "✓"),
        Level::Warning => ("warning", "⚠"),
        Level::Fail => ("fail", "✗"),
    }
}

fn findings(facts: &Facts) -> String {
    if facts.findings.is_empty() {
        return "<p class=\"ok\">✓ nothing to worry about</p>\n".to_owned();
    }
    let mut text = String::from("<ul class=\"findings\">\n");
    for Finding { level, database, text: said, advice, .. } in &facts.findings {
        let (class, mark) = word(*level);
        let of = database.as_ref().map_or_else(String::new, |name| format!("{name}: "));
        // Writing to a String cannot fail, here and below.
        let _ = write!(text, "<li class=\"{class}\">{mark} <span>{}{}", Text(&of), Text(said));
        if let Some(advice) = advice {
            let _ = write!(text, "<br /><em>{}</em>", Text(advice));
        }
        text += "</span></li>\n";
    }
    text + "</ul>\n<p class=\"soft\"><code>rowhouse doctor</code> tells more, and by which commands it is mended.</p>\n"
}

fn databases(facts: &Facts) -> String {
    if facts.databases.is_empty() {
        return "<p>There are none in this home yet.</p>\n".to_owned();
    }
    let row = |database: &Database| {
        let (info, total) = (&database.stats.info, &database.stats.total);
        let inspection = database.inspection.as_ref();
        let schema = inspection.and_then(|found| found.schema_version).or(info.schema_version);
        let free = inspection.map(|found| found.freelist_count * found.page_size);
        vec![
            info.name.clone(),
            schema.map_or_else(dash, |version| version.to_string()),
            if info.is_on_server() { "on a server".to_owned() } else { size(info.main_bytes) },
            free.map_or_else(dash, |bytes| size(u64::try_from(bytes).unwrap_or(0))),
            size(info.wal_bytes),
            database.stats.processes.len().to_string(),
            total.commits.to_string(),
            total.queued.to_string(),
            total.errors.total().to_string(),
            info.program.clone().unwrap_or_else(dash),
        ]
    };
    let header = [
        "database",
        "schema",
        "size",
        "free",
        "log file",
        "processes",
        "commits",
        "queued",
        "errors",
        "schema by",
    ];
    let rows: Vec<_> = facts.databases.iter().map(row).collect();
    table(&header, &[1, 2, 3, 4, 5, 6, 7, 8], &rows)
        + "<p class=\"soft\">Commits and errors are those of the processes that have it open now.</p>\n"
}

fn tables(facts: &Facts) -> String {
    let mut text = String::new();
    let is_somewhere =
        |database: &&Database| database.stats.info.present || database.stats.info.is_on_server();
    for database in facts.databases.iter().filter(is_somewhere).take(MOST_DATABASES) {
        let name = &database.stats.info.name;
        let _ = writeln!(text, "<h3>{}</h3>", Text(name));
        match &database.tables {
            Err(why) => {
                let _ = writeln!(text, "<p class=\"soft\">Not looked at: {}.</p>", Text(why));
            }
            Ok(sizes) => {
                let bar = |size: &rowhouse::TableSize| Bar {
                    name: size.table.clone(),
                    value: size.bytes as f64,
                    more: size.index_bytes as f64,
                    label: self::size(size.bytes + size.index_bytes),
                };
                let bars: Vec<_> = sizes.iter().take(MOST_TABLES).map(bar).collect();
                text += &charts::bars(&format!("Bytes of each table of {name}, indexes paler"), &bars, &[]);
                let rest = sizes.len().saturating_sub(MOST_TABLES);
                if rest > 0 {
                    let _ = writeln!(text, "<p class=\"soft\">and {rest} smaller ones</p>");
                }
            }
        }
    }
    if text.is_empty() { none() } else { text + "<p class=\"soft\">Paler: indexes.</p>\n" }
}

fn growth(facts: &Facts) -> String {
    let [first, .., last] = &facts.samples[..] else {
        return "<p class=\"soft\">There is nothing to compare with yet: every report keeps the sizes of its moment, and so \
                does every backup.</p>\n"
            .to_owned();
    };
    let mut names: Vec<_> = facts.samples.iter().flat_map(|sample| sample.bytes.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let line = |name: &&String| Line {
        name: (*name).clone(),
        points: facts
            .samples
            .iter()
            .filter_map(|sample| Some((sample.at.as_second() as f64, *sample.bytes.get(*name)? as f64)))
            .collect(),
    };
    let lines: Vec<_> = names.iter().take(MOST_DATABASES).map(line).collect();
    let highest = facts.samples.iter().flat_map(|sample| sample.bytes.values()).max().copied().unwrap_or(0);
    let day = |at: jiff::Timestamp| {
        at.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string()
    };
    let sum = |sample: &super::samples::Sample| sample.bytes.values().sum::<u64>();
    let says = format!("Sizes of the databases from {} to {}", day(first.at), day(last.at));
    charts::lines(&says, &lines, &day(first.at), &day(last.at), &size(highest))
        + &format!(
            "<p class=\"soft\">All together: {} then, {} now; {} samples.</p>\n",
            size(sum(first)),
            size(sum(last)),
            facts.samples.len()
        )
}

fn write_times(facts: &Facts) -> String {
    let mut text = String::new();
    for database in facts.databases.iter().take(MOST_DATABASES) {
        let times = &database.stats.total.hold_us;
        if times.count() == 0 {
            continue;
        }
        let name = &database.stats.info.name;
        let _ = writeln!(text, "<h3>{}</h3>", Text(name));
        text += &charts::columns(&format!("How long batches of {name} held the write lock"), &spread(times));
        let _ = writeln!(
            text,
            "<p class=\"soft\">{} batches; half of them took at most {}, 99 % at most {}, the longest {}.</p>",
            times.count(),
            micros(times.quantile(0.5)),
            micros(times.quantile(0.99)),
            micros(times.max())
        );
    }
    if text.is_empty() {
        return "<p class=\"soft\">No process that has a database open has written yet; what others counted went with \
                them.</p>\n"
            .to_owned();
    }
    text
}

/// The columns from the first to the last that holds something.
fn spread(times: &Distribution) -> Vec<(String, u64)> {
    let buckets: Vec<_> = times.buckets().collect();
    let filled = |bucket: &(u64, u64)| bucket.1 > 0;
    let first = buckets.iter().position(filled).unwrap_or(0);
    let last = buckets.iter().rposition(filled).unwrap_or(0);
    let name = |end: u64| {
        if end == u64::MAX { "more".to_owned() } else { format!("≤{}", micros(end).replace(' ', "")) }
    };
    buckets[first..=last].iter().map(|(end, count)| (name(*end), *count)).collect()
}

/// How far each log is behind, not how long its file is.
fn logs(facts: &Facts) -> String {
    let limits = Limits::default();
    let shown: Vec<_> =
        facts.databases.iter().filter(|database| database.stats.info.present).take(MOST_DATABASES).collect();
    if shown.is_empty() {
        return none();
    }
    let bar = |database: &&Database| Bar {
        name: database.stats.info.name.clone(),
        value: database.log.as_ref().map_or(0.0, |log| log.left_bytes as f64),
        more: 0.0,
        label: database.log.as_ref().map_or_else(|_| "not known".to_owned(), |log| size(log.left_bytes)),
    };
    let bars: Vec<_> = shown.iter().map(bar).collect();
    let worked_off = format!("worked off from {}", size(limits.wal_soft));
    let says = "Lag of each write-ahead log: what of it is not in its database yet";
    let mut text = charts::bars(says, &bars, &[(limits.wal_soft as f64, &worked_off)]);
    text += "<p class=\"soft\">Lag: what is not in the database yet. The file of a log keeps the length that it once \
             needed.</p>\n<ul class=\"soft\">\n";
    for database in shown {
        let name = Text(&database.stats.info.name);
        // Writing to a String cannot fail.
        let _ = match &database.log {
            Ok(log) if log.file_bytes == 0 => continue,
            Ok(log) => {
                let lag = database
                    .pages(log.left_bytes)
                    .map_or_else(String::new, |pages| format!("{pages} pages, "));
                writeln!(
                    text,
                    "<li>{name}: {lag}{} in a file of {}</li>",
                    size(log.left_bytes),
                    size(log.file_bytes)
                )
            }
            Err(why) => writeln!(text, "<li>{name}: {}</li>", Text(why)),
        };
    }
    text + "</ul>\n"
}

fn processes(facts: &Facts) -> String {
    let mut rows = Vec::new();
    for database in &facts.databases {
        for process in &database.stats.processes {
            rows.push(vec![
                database.stats.info.name.clone(),
                process.pid.to_string(),
                format!("{} {}", process.program, process.version),
                process.stats.jobs.to_string(),
                process.stats.commits.to_string(),
                process.stats.queued.to_string(),
                process.stats.busy_waits.to_string(),
                process.stats.errors.total().to_string(),
            ]);
        }
    }
    if rows.is_empty() {
        return "<p class=\"soft\">No program of this library has a database open. <code>rowhouse who</code> names others \
                that do.</p>\n"
            .to_owned();
    }
    let left = rows.len().saturating_sub(MOST_PROCESSES);
    rows.truncate(MOST_PROCESSES);
    let header = ["database", "pid", "program", "jobs", "commits", "queued", "busy", "errors"];
    let text = table(&header, &[1, 3, 4, 5, 6, 7], &rows);
    if left == 0 { text } else { text + &format!("<p class=\"soft\">and {left} more</p>\n") }
}

fn none() -> String {
    "<p class=\"soft\">There are no databases yet.</p>\n".to_owned()
}

fn size(bytes: u64) -> String {
    ByteSize::b(bytes).to_string()
}

fn dash() -> String {
    "-".to_owned()
}
