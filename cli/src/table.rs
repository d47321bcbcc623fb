//! Plain columns, two blanks apart, for people and for `awk`; and the words for times that stand in them.

use comfy_table::{CellAlignment, ContentArrangement, presets};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::output::HEADING;

pub(crate) const GAP: u16 = 2;

/// A table under way.
pub(crate) struct Table {
    inner: comfy_table::Table,
    columns: usize,
}

impl Table {
    pub(crate) fn new(header: &[&str]) -> Self {
        let mut inner = comfy_table::Table::new();
        inner.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        inner.set_header(header.iter().copied());
        for column in inner.column_iter_mut() {
            column.set_padding((0, GAP));
        }
        Self { inner, columns: header.len() }
    }

    /// These columns hold numbers.
    pub(crate) fn right(mut self, columns: &[usize]) -> Self {
        for index in columns {
            if let Some(column) = self.inner.column_mut(*index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        self
    }

    pub(crate) fn row(&mut self, cells: &[String]) {
        self.inner.add_row(cells.iter().map(|cell| harmless(cell)));
    }

    /// An empty line.
    pub(crate) fn gap(&mut self) {
        self.inner.add_row(vec![""; self.columns]);
    }

    pub(crate) fn render(&self) -> String {
        let mut lines = self.inner.lines();
        let mut text = match lines.next() {
            Some(header) => format!("{HEADING}{}{HEADING:#}\n", header.trim_end()),
            None => String::new(),
        };
        for line in lines {
            text += line.trim_end();
            text += "\n";
        }
        text
    }
}

/// A title or a path may hold anything: on one line, and without sequences that steer a terminal.
pub(crate) fn harmless(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// Cut to a number of columns, the last of them an ellipsis.
pub(crate) fn fit(text: &str, columns: usize) -> String {
    let text = harmless(text);
    if text.width() <= columns {
        return text;
    }
    let mut kept = String::new();
    let mut used = 0;
    for letter in text.chars() {
        used += letter.width().unwrap_or(0);
        if used + 1 > columns {
            break;
        }
        kept.push(letter);
    }
    format!("{}…", kept.trim_end())
}

/// How long ago: `3 h ago`; a date once it is more than a month.
pub(crate) fn age(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second() - then.as_second();
    match seconds {
        ..60 => "just now".to_owned(),
        60..3_600 => format!("{} min ago", seconds / 60),
        3_600..86_400 => format!("{} h ago", seconds / 3_600),
        86_400..2_678_400 => format!("{} d ago", seconds / 86_400),
        _ => then.to_zoned(TimeZone::system()).strftime("%Y-%m-%d").to_string(),
    }
}

/// Unix milliseconds as a time; the epoch for what no calendar reaches.
pub(crate) fn time(unix_ms: i64) -> Timestamp {
    Timestamp::from_millisecond(unix_ms).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// For `serialize_with`: Unix milliseconds as RFC 3339 in UTC.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
pub(crate) fn rfc3339<S: serde::Serializer>(unix_ms: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&time(*unix_ms))
}

/// [`rfc3339`] of a time that may be missing.
#[expect(clippy::ref_option, reason = "serde passes references")]
pub(crate) fn rfc3339_option<S: serde::Serializer>(
    unix_ms: &Option<i64>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match unix_ms {
        Some(unix_ms) => rfc3339(unix_ms, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_titles_are_cut_by_columns_not_bytes() {
        assert_eq!(fit("short", 10), "short");
        assert_eq!(fit("a longer title", 8), "a longe…");
        assert_eq!(fit("日本語の題", 5), "日本…");
        assert_eq!(fit("bell\u{7}\nline", 20), "bell  line");
    }

    #[test]
    fn ages_read_well() {
        let now = time(1_700_000_000_000);
        let ago = |seconds: i64| age(time(1_700_000_000_000 - seconds * 1000), now);
        assert_eq!(ago(-5), "just now");
        assert_eq!(ago(59), "just now");
        assert_eq!(ago(60), "1 min ago");
        assert_eq!(ago(3 * 3600 + 5), "3 h ago");
        assert_eq!(ago(30 * 86_400), "30 d ago");
        assert!(ago(400 * 86_400).starts_with("2022-10-"));
    }
}
