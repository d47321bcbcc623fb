//! `rowhouse threads show`: a thread to read.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use anyhow::Result;
use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rowhouse::Home;
use rowhouse::stores::ThreadRow;
use rowhouse::thread_store::{Turn, TurnStatus};
use serde::Serialize;
use unicode_width::UnicodeWidthStr;

use super::entries::{Entry, Role, Told};
use super::history::{each_turn, find, title};
use super::turns::Row as TurnRow;
use super::{Row, tilde, tokens};
use crate::output::{self, BAD, DIM, HEADING, Output, WARNING};
use crate::pager::Pages;
use crate::table::{harmless, time};
use crate::who::duration;

/// Lines longer than this are hard to read, however wide the terminal.
const WIDEST: usize = 100;
/// Nothing is wrapped to less, however narrow it is.
const NARROWEST: usize = 24;
/// Lines of what a tool was given and answered; `threads export` has all.
const TOOL_LINES: usize = 12;
const INDENT: &str = "  ";

const USER: Style = AnsiColor::Cyan.on_default().bold();
const ASSISTANT: Style = AnsiColor::Green.on_default().bold();
const TOOL: Style = AnsiColor::Magenta.on_default();

#[derive(Args)]
pub(super) struct ShowArguments {
    /// The thread; the beginning or the end of its id is enough
    #[arg(value_name = "ID")]
    id: String,
    /// Only the newest turns
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=500))]
    turns: Option<u32>,
}

/// One line of `--json`.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Shown<'a> {
    Thread(&'a Row),
    Turn(TurnTold<'a>),
}

#[derive(Serialize)]
struct TurnTold<'a> {
    /// `None` in a thread that has no turns.
    #[serde(flatten)]
    turn: Option<TurnRow>,
    /// What the thread had used by its end, where a line says so.
    tokens_used: Option<i64>,
    entries: &'a [Entry],
}

pub(super) fn run(home: &Home, arguments: &ShowArguments, output: &Output) -> Result<()> {
    let (store, id) = find(home, &arguments.id)?;
    let thread = store.read(&id)?;
    if output.is_json() {
        output.json_line(&Shown::Thread(&Row::from(thread)))?;
        return each_turn(&*store, &id, arguments.turns, |turn, told| {
            let turn = turn.map(TurnRow::of);
            let Told { entries, tokens_used } = &told;
            output.json_line(&Shown::Turn(TurnTold { turn, tokens_used: *tokens_used, entries }))
        });
    }
    let width = output::width().map(|width| width.clamp(NARROWEST, WIDEST));
    let mut pages = Pages::open(output);
    pages.text(&head(&thread, width))?;
    each_turn(&*store, &id, arguments.turns, |turn, told| pages.text(&drawn(turn, &told, width)))?;
    // Nobody waits for the home while somebody reads.
    drop(store);
    drop(pages);
    Ok(())
}

fn head(thread: &ThreadRow, width: Option<usize>) -> String {
    let user = std::env::var_os("HOME").map(std::path::PathBuf::from);
    let mut facts = vec![thread.id.clone()];
    facts.extend(thread.cwd.as_ref().map(|cwd| tilde(cwd.as_ref(), user.as_deref())));
    facts.extend(thread.git.branch.clone());
    let model = [thread.model.as_deref(), thread.reasoning_effort.as_deref()];
    let model = model.into_iter().flatten().collect::<Vec<_>>().join(" ");
    facts.extend(Some(model).filter(|model| !model.is_empty()));
    facts.extend((thread.tokens_used > 0).then(|| format!("{} tokens", tokens(thread.tokens_used))));
    facts.push(format!("begun {}", minute(thread.created_at)));
    facts.push(format!("used {}", minute(thread.recency_at)));
    facts.extend(thread.forked_from_id.as_ref().map(|id| format!("forked from {id}")));
    facts.extend(thread.is_pinned.then(|| "pinned".to_owned()));
    facts.extend(thread.archived_at.map(|at| format!("archived {}", minute(at))));
    let mut text = String::new();
    paragraph(&mut text, &one_line(title(thread)), HEADING, "", width);
    paragraph(
        &mut text,
        &facts.iter().map(|fact| one_line(fact)).collect::<Vec<_>>().join(" · "),
        DIM,
        "",
        width,
    );
    text
}

/// What happened in a turn. Wrapped to `width` columns; nothing is without one.
fn drawn(turn: Option<&Turn>, told: &Told, width: Option<usize>) -> String {
    let mut text = String::new();
    if let Some(turn) = turn {
        text.push('\n');
        rule(&mut text, turn, told.tokens_used, width);
    }
    for entry in &told.entries {
        text.push('\n');
        said(&mut text, entry, width);
    }
    text
}

/// `── turn 3 · 2026-03-09 07:30 · 6 s · interrupted · 15k tokens ──`
fn rule(text: &mut String, turn: &Turn, used: Option<i64>, width: Option<usize>) {
    let mut facts = vec![format!("turn {}", turn.ordinal + 1)];
    facts.extend(turn.started_at.map(minute));
    let took = turn.started_at.zip(turn.ended_at).map(|(start, end)| (end - start) / 1000);
    facts.extend(took.filter(|seconds| *seconds > 0).map(duration));
    facts.extend(used.map(|used| format!("{} tokens so far", tokens(used))));
    let status = match turn.status {
        TurnStatus::Completed => None,
        TurnStatus::Interrupted => Some(("interrupted", WARNING)),
        TurnStatus::Failed => Some(("failed", BAD)),
        TurnStatus::InProgress => Some(("in progress", ASSISTANT)),
    };
    // A narrow terminal shows fewer facts, the number and the status always.
    let room = width.map(|width| width.saturating_sub(status.map_or(0, |(word, _)| word.width() + 3) + 2));
    let mut line = format!("── {} ", facts.join(" · "));
    while facts.len() > 1 && room.is_some_and(|room| line.width() > room) {
        facts.pop();
        line = format!("── {} ", facts.join(" · "));
    }
    let mut used = line.width();
    let _ = write!(text, "{DIM}{line}{DIM:#}");
    if let Some((word, style)) = status {
        let _ = write!(text, "{DIM}·{DIM:#} {style}{word}{style:#} ");
        used += word.width() + 3;
    }
    let rest = "─".repeat(width.map_or(2, |width| width.saturating_sub(used).max(2)));
    let _ = writeln!(text, "{DIM}{rest}{DIM:#}");
}

fn said(text: &mut String, entry: &Entry, width: Option<usize>) {
    let (style, body) = match entry.role {
        Role::User => (USER, Style::new()),
        Role::Assistant => (ASSISTANT, Style::new()),
        Role::Tool => (TOOL, Style::new()),
        Role::Error => (BAD, Style::new()),
        Role::Reasoning | Role::Note => (DIM, DIM),
    };
    let _ = write!(text, "{style}{}{style:#}", entry.role.as_str());
    if let Some(tool) = &entry.tool {
        let _ = write!(text, " {HEADING}{}{HEADING:#}", one_line(tool));
    }
    if let Some(at) = entry.at.as_deref().and_then(|at| at.parse::<Timestamp>().ok()) {
        let _ = write!(text, "  {DIM}{}{DIM:#}", at.to_zoned(TimeZone::system()).strftime("%H:%M:%S"));
    }
    text.push('\n');
    let readable = readable(&entry.text);
    if entry.role != Role::Tool {
        return paragraph(text, &readable, body, INDENT, width);
    }
    beginning(text, &readable, body, INDENT, width);
    beginning(text, &readable_output(entry), DIM, "  │ ", width);
}

fn readable_output(entry: &Entry) -> String {
    entry.output.as_deref().map(readable).unwrap_or_default()
}

/// The first lines, and how many more there are.
fn beginning(text: &mut String, whole: &str, style: Style, indent: &str, width: Option<usize>) {
    let lines = wrapped(whole, indent, width);
    // One line more takes as much room as the word about it.
    let shown = if lines.len() > TOOL_LINES + 1 { TOOL_LINES } else { lines.len() };
    for line in &lines[..shown] {
        put(text, line, style, indent);
    }
    if shown < lines.len() {
        put(text, &format!("… {} more lines", lines.len() - shown), DIM, indent);
    }
}

fn paragraph(text: &mut String, whole: &str, style: Style, indent: &str, width: Option<usize>) {
    for line in wrapped(whole, indent, width) {
        put(text, &line, style, indent);
    }
}

fn put(text: &mut String, line: &str, style: Style, indent: &str) {
    // A line that is plain stays free of sequences.
    let line = line.trim_end();
    let _ = if line.is_empty() || style == Style::new() {
        writeln!(text, "{}", format!("{indent}{line}").trim_end())
    } else {
        writeln!(text, "{indent}{style}{line}{style:#}")
    };
}

/// The lines of a text, each no wider than what the indent leaves of the width. Blanks at their beginning stay.
fn wrapped(text: &str, indent: &str, width: Option<usize>) -> Vec<String> {
    let Some(width) = width else { return text.lines().map(str::to_owned).collect() };
    let options = textwrap::Options::new(width.saturating_sub(indent.width()).max(1))
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    let wrap = |line: &str| textwrap::wrap(line, &options).into_iter().map(String::from).collect::<Vec<_>>();
    text.lines().flat_map(wrap).collect()
}

/// A text without what steers a terminal; a tab is four blanks, the blank lines around it are gone.
pub(super) fn readable(text: &str) -> String {
    let plain = anstream::adapter::strip_str(text).to_string();
    let lines: Vec<String> = plain.lines().map(|line| harmless(&line.replace('\t', "    "))).collect();
    let is_blank = |line: &String| line.trim().is_empty();
    let first = lines.iter().position(|line| !is_blank(line)).unwrap_or(lines.len());
    let last = lines.iter().rposition(|line| !is_blank(line)).map_or(first, |last| last + 1);
    lines[first..last].join("\n")
}

pub(super) fn one_line(text: &str) -> String {
    harmless(&anstream::adapter::strip_str(text).to_string())
}

/// A time of this place, to the minute.
pub(super) fn minute(unix_ms: i64) -> String {
    time(unix_ms).to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(role: Role, text: &str) -> Entry {
        Entry { role, at: None, tool: None, text: text.to_owned(), output: None }
    }

    fn shown(entries: Vec<Entry>, width: Option<usize>) -> String {
        let text = drawn(None, &Told { entries, tokens_used: None }, width);
        anstream::adapter::strip_str(&text).to_string()
    }

    #[test]
    fn lines_fit_the_terminal_and_code_keeps_its_blanks() {
        let text = "A sentence that is longer than the terminal is wide.\n\n    let a = 1;\n日本語の題は幅が二つ分あります";
        let drawn = shown(vec![entry(Role::User, text)], Some(30));
        assert!(drawn.lines().all(|line| line.width() <= 30), "{drawn}");
        assert!(drawn.contains("\n      let a = 1;\n"), "{drawn}");
        assert!(drawn.starts_with("\nuser\n  A sentence"), "{drawn}");
    }

    #[test]
    fn a_pipe_gets_lines_as_they_are() {
        let long = "word ".repeat(100);
        assert!(shown(vec![entry(Role::Assistant, &long)], None).contains(long.trim_end()));
    }

    #[test]
    fn what_a_tool_answered_is_cut_and_told() {
        let output = (0..500).map(|line| format!("line {line}")).collect::<Vec<_>>().join("\n");
        let tool = Entry { output: Some(output), tool: Some("shell".to_owned()), ..entry(Role::Tool, "ls") };
        let drawn = shown(vec![tool], Some(80));
        assert_eq!(drawn.lines().count(), 1 + 1 + 1 + TOOL_LINES + 1, "{drawn}");
        assert!(
            drawn.contains("tool shell\n  ls\n  │ line 0\n") && drawn.contains("… 488 more lines"),
            "{drawn}"
        );
    }

    #[test]
    fn nothing_in_a_transcript_steers_the_terminal() {
        let drawn = drawn(
            None,
            &Told {
                entries: vec![entry(Role::User, "\u{1b}[2Jred \u{1b}]0;title\u{7} \u{9b}2J\r\n\tend")],
                tokens_used: None,
            },
            None,
        );
        let plain = anstream::adapter::strip_str(&drawn).to_string();
        assert!(!plain.chars().any(|letter| letter.is_control() && letter != '\n'), "{plain:?}");
        assert!(plain.contains("red") && plain.ends_with("    end\n"), "{plain:?}");
        assert!(!drawn.contains("[2J") && !drawn.contains("\u{1b}]"), "{drawn:?}");
    }
}
