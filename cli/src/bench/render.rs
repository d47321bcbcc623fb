//! The same document for people.

use std::fmt::Write;

use bytesize::ByteSize;

use super::report::{At, Document, Row, Target};
use crate::output::{self, BAD, DIM, GOOD, HEADING};
use crate::table::Table;

pub(super) fn tables(document: &Document) -> String {
    let machine = &document.machine;
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{HEADING}{}{HEADING:#}, {} cores, {}, {}: an fsync takes {:.0} µs, SQLite {}\n",
        machine.cpu, machine.cores, machine.kernel, machine.filesystem, machine.fsync_us, machine.sqlite
    );
    let (seconds, others): (Vec<_>, Vec<_>) = document.rows.iter().partition(|row| row.growth.is_some());
    if !seconds.is_empty() {
        text.push_str(&growth(&seconds));
    }
    if !others.is_empty() {
        text.push_str(&rows(&others));
    }
    if !document.targets.is_empty() {
        text.push('\n');
        text.push_str(&targets(&document.targets));
    }
    for note in &document.notes {
        let _ = writeln!(text, "\n{DIM}note: {note}{DIM:#}");
    }
    text
}

fn rows(rows: &[&Row]) -> String {
    // Only what is measured on other engines is compared with a file.
    let last = if rows.iter().any(|row| row.over_file.is_some()) { "to file" } else { "log" };
    let mut table = Table::new(&["work", "subject", "ops/s", "p50", "p99", "longest", "share", last])
        .right(&[2, 3, 4, 5, 6, 7]);
    let mut before = "";
    for row in rows {
        if !before.is_empty() && before != row.work {
            table.gap();
        }
        table.row(&[
            if before == row.work { String::new() } else { row.work.to_owned() },
            subject(row),
            count(row.ops_per_s),
            row.p50_us.map_or_else(String::new, micros),
            row.p99_us.map_or_else(String::new, micros),
            row.max_us.map_or_else(String::new, micros),
            row.slowest_over_fastest.map_or_else(String::new, |share| format!("{share:.2}")),
            row.wal_max_bytes
                .map(|bytes| ByteSize::b(bytes).to_string())
                .or_else(|| over_file(row))
                .unwrap_or_default(),
        ]);
        before = row.work;
    }
    table.render()
}

fn over_file(row: &Row) -> Option<String> {
    row.over_file.map(|ratio| if ratio < 0.1 { format!("{ratio:.3} x") } else { format!("{ratio:.2} x") })
}

/// One line for each second.
fn growth(rows: &[&Row]) -> String {
    let mut table = Table::new(&["second", "stored", "shed", "written", "file", "log", "together"])
        .right(&[0, 1, 2, 3, 4, 5, 6]);
    for (row, now) in rows.iter().filter_map(|row| Some((row, row.growth?))) {
        table.row(&[
            now.second.to_string(),
            count(row.ops_per_s),
            count(now.shed as f64),
            ByteSize::b(now.written_bytes).to_string(),
            ByteSize::b(now.file_max_bytes).to_string(),
            ByteSize::b(row.wal_max_bytes.unwrap_or(0)).to_string(),
            ByteSize::b(now.all_max_bytes).to_string(),
        ]);
    }
    table.render()
}

/// Works that measure one subject in several ways tell which way.
fn subject(row: &Row) -> String {
    if let Some(stored) = row.stored {
        return format!("{}, {} rows", row.subject, count(stored as f64));
    }
    match (row.wal_max_bytes, row.processes) {
        (Some(_), Some(1)) => format!("{}, 1 process", row.subject),
        (Some(_), Some(processes)) => format!("{}, {processes} processes", row.subject),
        _ => row.subject.to_owned(),
    }
}

fn targets(targets: &[Target]) -> String {
    let mut table = Table::new(&["target", "reached", "asked for", ""]).right(&[1, 2]);
    for target in targets {
        let sign = match target.at {
            At::Least => "≥",
            At::Most => "≤",
        };
        table.row(&[
            target.name.to_owned(),
            quantity(target.value, target.unit),
            format!("{sign} {}", quantity(target.bound, target.unit)),
            if target.holds { "✓" } else { "✗" }.to_owned(),
        ]);
    }
    let held = targets.iter().filter(|target| target.holds).count();
    let mut text = output::paint(&output::paint(&table.render(), "✓", GOOD), "✗", BAD);
    let _ = writeln!(text, "\n{held} of {} targets reached", targets.len());
    text
}

fn quantity(value: f64, unit: &str) -> String {
    match unit {
        "us" if value < 10.0 => format!("{value:.2} µs"),
        "us" => format!("{value:.0} µs"),
        "/s" => format!("{}/s", count(value)),
        "x" => format!("{value:.2} x"),
        _ => format!("{value:.1} {unit}"),
    }
}

/// Digits in groups of three.
pub(crate) fn count(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time with three digits in the unit that suits it.
pub(crate) fn micros(us: f64) -> String {
    let (value, unit) = match us {
        us if us < 1e3 => (us, "µs"),
        us if us < 1e6 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    if value < 10.0 {
        format!("{value:.2} {unit}")
    } else if value < 100.0 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(0.0), "0");
        assert_eq!(count(123.0), "123");
        assert_eq!(count(1_234_567.4), "1,234,567");
        assert_eq!(micros(1.234), "1.23 µs");
        assert_eq!(micros(123_456.0), "123 ms");
        assert_eq!(micros(2_500_000.0), "2.50 s");
    }
}
