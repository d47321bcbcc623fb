//! `rowhouse bench backfill`: how fast a folder of transcripts becomes threads, and how soon the first ones are listed.
//!
//! The transcripts were just written, so they are in the page cache. Beside it the usual way: every file is read and
//! parsed whole, all rows are one transaction.

#![allow(
    clippy::disallowed_methods,
    reason = "transcripts in a folder of our own, and the usual way to read them"
)]

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rowhouse::rusqlite::{Connection, params};
use rowhouse::stores::backfill::{BackfillReport, Reread};
use rowhouse::{Domain, Error, ErrorKind, Home, Runtime, ThreadQuery};

use super::report::{Document, Row, Target, median, rounded};
use crate::output;

/// What 20,000 transcripts of two gigabytes have on average.
const BYTES: usize = 100_000;
/// What their rows take, of all rounds, with room to spare.
const BYTES_OF_ROWS: usize = 20_000;
/// A rate in MB/s is one in millions.
const MB: f64 = 1e6;
const KIB: f64 = 1024.0;
const LEAST_MB_PER_S: f64 = 500.0;
const MOST_FIRST_MS: f64 = 1000.0;
const MOST_KIB_PER_FILE: f64 = 128.0;
/// How often it is looked whether a thread is listed.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// How much and where.
pub(super) struct Setting {
    pub(super) folder: PathBuf,
    pub(super) files: usize,
    pub(super) rounds: u32,
}

/// One backfill.
struct Round {
    files_per_s: f64,
    mb_per_s: f64,
    first_ms: f64,
    kib_per_file: f64,
}

/// Makes the transcripts, measures, and fills the document.
pub(super) fn run(setting: &Setting, document: &mut Document) -> Result<()> {
    let root = setting.folder.join("transcripts");
    enough_room(setting)?;
    let progress = output::progress(2 * u64::from(setting.rounds) + 1);
    progress.set_message("writing transcripts");
    (0..setting.files).try_for_each(|number| write(&root, number))?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..setting.rounds {
        progress.inc(1);
        progress.set_message("rowhouse");
        ours.push(backfill(&setting.folder.join(format!("home-{round}")), &root, setting.files)?);
        progress.inc(1);
        progress.set_message("whole files");
        theirs.push(whole_files(
            &setting.folder.join(format!("plain-{round}.sqlite")),
            &root,
            setting.files,
        )?);
    }
    progress.finish_and_clear();
    let middle = |of: fn(&Round) -> f64| median(&ours.iter().map(of).collect::<Vec<_>>());
    let row = |subject, files_per_s| Row {
        work: "backfill",
        subject,
        processes: Some(1),
        ops_per_s: rounded(files_per_s),
        rounds: setting.rounds as usize,
        ..Row::default()
    };
    document
        .rows
        .extend([row("rowhouse", middle(|round| round.files_per_s)), row("whole_files", median(&theirs))]);
    document.targets.extend([
        Target::at_least("backfill_rate", middle(|round| round.mb_per_s), LEAST_MB_PER_S, "MB/s"),
        Target::at_most("backfill_first", middle(|round| round.first_ms), MOST_FIRST_MS, "ms"),
        Target::at_most("backfill_bytes", middle(|round| round.kib_per_file), MOST_KIB_PER_FILE, "KiB"),
    ]);
    document.notes.push(format!(
        "{} transcripts of {} KB, in the page cache; ops are transcripts; a second run read none again",
        setting.files,
        BYTES / 1000
    ));
    Ok(())
}

/// Before two gigabytes are written that do not fit.
fn enough_room(setting: &Setting) -> Result<()> {
    let found = rustix::fs::statvfs(&setting.folder)?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let needed = (setting.files * (BYTES + BYTES_OF_ROWS)) as u64;
    if free >= needed {
        return Ok(());
    }
    let message = format!("the transcripts need {needed} bytes of free space, {free} are there");
    Err(Error::new(ErrorKind::Full, message)
        .at_path(&setting.folder)
        .advise("name a folder on another disk with --dir, or fewer transcripts with --files")
        .into())
}

fn backfill(home: &Path, root: &Path, files: usize) -> Result<Round> {
    let runtime = Runtime::builder(Home::at(home)).domain(Domain::state()).open()?;
    let threads = runtime.threads();
    let began = Instant::now();
    let handle = runtime.backfill().start(root)?;
    let first = ThreadQuery::recent().limit(1);
    while threads.list(&first)?.threads.is_empty() && !handle.wait(LOOK_EVERY) {}
    let first = began.elapsed();
    let BackfillReport { counts, .. } = handle.join()?;
    let took = began.elapsed().as_secs_f64();
    ensure!(counts.imported == files as u64, "{} of {files} transcripts were imported", counts.imported);
    let again = runtime.backfill().run(root, Reread::Changed, &mut |_| {})?.counts;
    ensure!(
        (again.unchanged, again.bytes_read) == (files as u64, 0),
        "{} bytes of finished transcripts were read again",
        again.bytes_read
    );
    Ok(Round {
        files_per_s: files as f64 / took,
        mb_per_s: counts.bytes_read as f64 / MB / took,
        first_ms: first.as_secs_f64() * 1000.0,
        kib_per_file: counts.bytes_read as f64 / KIB / files as f64,
    })
}

/// Files per second.
fn whole_files(database: &Path, root: &Path, files: usize) -> Result<f64> {
    let mut connection = Connection::open(database)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; CREATE TABLE thread(id TEXT PRIMARY KEY, title TEXT, tokens INTEGER)",
    )?;
    let began = Instant::now();
    let all = connection.transaction()?;
    for number in 0..files {
        let text = fs::read_to_string(path(root, number))?;
        let lines = text.lines().map(serde_json::from_str).collect::<Result<Vec<serde_json::Value>, _>>()?;
        let id = lines.first().and_then(|line| line["payload"]["id"].as_str());
        let message = lines.iter().find(|line| line["payload"]["type"] == "user_message");
        let title = message.and_then(|line| line["payload"]["message"].as_str());
        let count =
            |line: &serde_json::Value| line["payload"]["info"]["total_token_usage"]["total_tokens"].as_i64();
        let tokens = lines.iter().rev().find_map(count);
        all.execute("INSERT INTO thread VALUES (?1, ?2, ?3)", params![id, title, tokens])?;
    }
    all.commit()?;
    Ok(files as f64 / began.elapsed().as_secs_f64())
}

fn id(number: usize) -> String {
    format!("019cadf1-7a5e-7b04-8f21-{number:012x}")
}

fn path(root: &Path, number: usize) -> PathBuf {
    let day = number / 1000 % 28 + 1;
    let name = format!(
        "rollout-2026-03-{day:02}T09-{:02}-{:02}-{}.jsonl",
        number / 60 % 60,
        number % 60,
        id(number)
    );
    root.join(format!("sessions/2026/03/{day:02}")).join(name)
}

/// A conversation of some turns: what a user says, what is answered, what tools print, how many tokens that took.
fn write(root: &Path, number: usize) -> Result<()> {
    let path = path(root, number);
    let mut text = String::with_capacity(BYTES + 4_000);
    let line = |text: &mut String, kind: &str, payload: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            r#"{{"timestamp":"2026-03-02T09:14:05.000Z","type":"{kind}","payload":{payload}}}"#
        );
    };
    let meta = format!(
        r#"{{"id":"{}","cwd":"/home/ada/ledger","source":"cli","model_provider":"openai"}}"#,
        id(number)
    );
    line(&mut text, "session_meta", &meta);
    let words = "The field in quotes is split at its comma, as the parser looks at commas first. ".repeat(25);
    let mut turn = 0;
    while text.len() < BYTES {
        turn += 1;
        line(
            &mut text,
            "turn_context",
            r#"{"model":"gpt-5-codex","effort":"medium","cwd":"/home/ada/ledger"}"#,
        );
        let said = format!(
            r#"{{"type":"user_message","message":"Turn {turn} of task {number}: {}"}}"#,
            &words[..300]
        );
        line(&mut text, "event_msg", &said);
        for _ in 0..3 {
            let answer = format!(
                r#"{{"type":"message","role":"assistant","content":[{{"type":"output_text","text":"{words}"}}]}}"#
            );
            line(&mut text, "response_item", &answer);
        }
        let tokens = format!(
            r#"{{"type":"token_count","info":{{"total_token_usage":{{"total_tokens":{}}}}}}}"#,
            turn * 1700
        );
        line(&mut text, "event_msg", &tokens);
    }
    let folder = path.parent().unwrap_or(root);
    fs::create_dir_all(folder).map_err(|error| rowhouse::Error::io("create the folder", folder, error))?;
    fs::write(&path, text).map_err(|error| rowhouse::Error::io("write a transcript", &path, error).into())
}
