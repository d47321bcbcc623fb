//! A report as a person reads it: what needs attention first, then a line for each group, or all of it.

use std::fmt::Write;

use anstyle::Style;
use bytesize::ByteSize;
use rowhouse::doctor::{Check, Detail, Report, Status};

use crate::output::{BAD, DIM, GOOD, HEADING, WARNING};

/// How much of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Amount {
    Summary,
    Usual,
    All,
}

/// What stands before a row.
pub(super) struct Marks {
    ok: &'static str,
    warning: &'static str,
    fail: &'static str,
    skipped: &'static str,
}

impl Marks {
    pub(super) const SIGNS: Self = Self { ok: "✓", warning: "⚠", fail: "✗", skipped: "○" };
    pub(super) const ASCII: Self = Self { ok: "ok", warning: "! ", fail: "x ", skipped: "- " };

    fn of(&self, status: Status) -> String {
        let (mark, style) = match status {
            Status::Ok => (self.ok, GOOD),
            Status::Warning => (self.warning, WARNING),
            Status::Fail => (self.fail, BAD),
            Status::Skipped => (self.skipped, DIM),
        };
        painted(mark, style)
    }
}

fn painted(text: &str, style: Style) -> String {
    format!("{style}{text}{style:#}")
}

pub(super) fn text(report: &Report, amount: Amount, marks: &Marks) -> String {
    let mut text = format!("rowhouse {} looks at {}\n", report.rowhouse, report.home);
    let notable = report.notable();
    if !notable.is_empty() {
        text += "\n";
        text += &heading("Needs attention");
        let width = notable.iter().map(|check| check.id.len()).max().unwrap_or(0);
        for check in &notable {
            text += &row(&format!("{:<width$}", check.id), check, marks);
            if amount != Amount::Summary {
                text += &findings(check);
            }
        }
    }
    text += "\n";
    for (name, checks) in groups(report) {
        text += &group(name, &checks, amount, marks);
    }
    text += &footer(report, amount);
    text
}

fn heading(text: &str) -> String {
    format!("{HEADING}{text}{HEADING:#}\n")
}

fn row(name: &str, check: &Check, marks: &Marks) -> String {
    let summary =
        if check.status == Status::Skipped { painted(&check.summary, DIM) } else { check.summary.clone() };
    format!("  {} {name} {summary}\n", marks.of(check.status))
}

/// What a row rests on, and the way out.
fn findings(check: &Check) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for (name, value) in &check.details {
        let name = name.trim_end_matches("_bytes").trim_end_matches("_ms").replace('_', " ");
        let _ = writeln!(text, "      {DIM}{name}:{DIM:#} {}", shown(check, value));
    }
    for sentence in &check.evidence {
        let _ = writeln!(text, "      {DIM}-{DIM:#} {sentence}");
    }
    if let Some(remediation) = &check.remediation {
        let _ = writeln!(text, "      {HEADING}do:{HEADING:#} {remediation}");
    }
    for fix in &check.fixes {
        let writes = if fix.writes { format!("   {DIM}(changes something){DIM:#}") } else { String::new() };
        let _ = writeln!(text, "      $ {}{writes}", fix.command);
    }
    text
}

/// A number in the unit that its key says.
fn shown(check: &Check, value: &Detail) -> String {
    let is = |unit: &str| {
        check.details.iter().any(|(name, other)| std::ptr::eq(other, value) && name.ends_with(unit))
    };
    match value {
        Detail::Text(text) => text.clone(),
        Detail::Number(bytes) if is("bytes") => ByteSize::b(*bytes).to_string(),
        Detail::Number(ms) if is("_ms") => format!("{ms} ms"),
        Detail::Number(number) => number.to_string(),
        Detail::Flag(true) => "yes".to_owned(),
        Detail::Flag(false) => "no".to_owned(),
        other => format!("{other:?}"),
    }
}

/// The rows of the home by category, those of databases by database, in the report's order.
fn groups(report: &Report) -> Vec<(&str, Vec<&Check>)> {
    let mut groups: Vec<(&str, Vec<&Check>)> = Vec::new();
    for check in &report.checks {
        let name = check.database.as_deref().unwrap_or(check.category);
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, checks)) => checks.push(check),
            None => groups.push((name, vec![check])),
        }
    }
    groups
}

fn group(name: &str, checks: &[&Check], amount: Amount, marks: &Marks) -> String {
    if amount != Amount::All {
        let worst = checks.iter().map(|check| check.status).max().unwrap_or(Status::Ok);
        let worst = if worst == Status::Skipped { Status::Ok } else { worst };
        let of = |status| checks.iter().filter(|check| check.status == status).count();
        let skipped = match of(Status::Skipped) {
            0 => String::new(),
            skipped => format!(", {skipped} skipped"),
        };
        return format!("  {} {name:<13} {} ok{skipped}\n", marks.of(worst), of(Status::Ok));
    }
    let mut text = heading(name);
    for check in checks {
        let short = check.id.rsplit_once('.').map_or(&*check.id, |(_, short)| short);
        text += &row(&format!("{short:<13}"), check, marks);
        if !check.status.is_notable() {
            text += &findings(check);
        }
    }
    text += "\n";
    text
}

fn footer(report: &Report, amount: Amount) -> String {
    let count = |status: Status| report.counts.get(status.as_str()).copied().unwrap_or(0);
    let mut text = format!(
        "{} ok, {} to look at, {} failed, {} skipped",
        count(Status::Ok),
        count(Status::Warning),
        count(Status::Fail),
        count(Status::Skipped)
    );
    if amount != Amount::All {
        text += " (--all shows each)";
    }
    text += "\n";
    text
}
