//! Plain columns, two blanks apart, for people and for `awk`; and the words for times that stand in them.

use comfy_table::{CellAlignment, ContentArrangement, presets};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::output::HEADING;

const GAP: u16 = 2;

/// What is cut is not cut shorter than this, however narrow the terminal.
const NARROWEST: usize = 16;
/// Nor is a column narrower that goes on below.
const NARROWEST_WRAPPED: usize = 12;

/// A table under way.
pub(crate) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    /// Columns of numbers.
    right: Vec<usize>,
    fit: Option<Fit>,
}

/// How a table becomes as narrow as a terminal.
struct Fit {
    width: usize,
    /// The columns that become narrower, the widest first.
    narrow: Vec<usize>,
    /// What has no room in them goes on below, where nothing may be missing; else it is cut.
    wraps: bool,
    /// None of them becomes narrower than this.
    narrowest: usize,
    /// The columns that are left out until the others fit, the least important first.
    drop: Vec<usize>,
}

impl Table {
    pub(crate) fn new(header: &[&str]) -> Self {
        let header = header.iter().map(|name| (*name).to_owned()).collect();
        Self { header, rows: Vec::new(), right: Vec::new(), fit: None }
    }

    /// These columns hold numbers.
    pub(crate) fn right(mut self, columns: &[usize]) -> Self {
        self.right.extend(columns);
        self
    }

    /// Fits into so many columns of a terminal: column `cut` is cut, and where that is not enough the columns `drop` are
    /// left out, one after the other. Nothing changes without a width, and digits are never cut.
    pub(crate) fn fit(mut self, width: Option<usize>, cut: usize, drop: &[usize]) -> Self {
        self.fit = width.map(|width| Fit {
            width,
            narrow: vec![cut],
            wraps: false,
            narrowest: NARROWEST,
            drop: drop.to_vec(),
        });
        self
    }

    /// The same, but nothing of the columns `narrow` is missing: what has no room in one goes on below.
    pub(crate) fn fit_wrapped(mut self, width: Option<usize>, narrow: &[usize], drop: &[usize]) -> Self {
        let (narrow, drop) = (narrow.to_vec(), drop.to_vec());
        self.fit = width.map(|width| Fit { width, narrow, wraps: true, narrowest: NARROWEST_WRAPPED, drop });
        self
    }

    /// Leaves columns out before the one that is cut has less room than this.
    pub(crate) fn at_least(mut self, columns: usize) -> Self {
        self.fit.iter_mut().for_each(|fit| fit.narrowest = columns);
        self
    }

    pub(crate) fn row(&mut self, cells: &[String]) {
        self.rows.push(cells.iter().map(|cell| harmless(cell)).collect());
    }

    /// An empty line.
    pub(crate) fn gap(&mut self) {
        self.rows.push(vec![String::new(); self.header.len()]);
    }

    pub(crate) fn render(&self) -> String {
        let (shown, rooms) = self.shown();
        let wraps = self.fit.as_ref().is_some_and(|fit| fit.wraps);
        let cell = |row: &[String], column: usize| match rooms.iter().find(|(narrow, _)| *narrow == column) {
            Some((_, room)) if wraps => textwrap::wrap(&row[column], *room).join("\n"),
            Some((_, room)) => fit(&row[column], *room),
            None => row[column].clone(),
        };
        let cells = |row: &[String]| shown.iter().map(|column| cell(row, *column)).collect::<Vec<_>>();
        let mut inner = comfy_table::Table::new();
        inner.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        inner.set_header(cells(&self.header));
        inner.add_rows(self.rows.iter().map(|row| cells(row)));
        for (at, column) in inner.column_iter_mut().enumerate() {
            column.set_padding((0, GAP));
            if self.right.contains(&shown[at]) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut lines = inner.lines();
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

    /// The columns that there is room for, and what of it those have that become narrower.
    fn shown(&self) -> (Vec<usize>, Vec<(usize, usize)>) {
        let mut shown: Vec<_> = (0..self.header.len()).collect();
        let Some(Fit { width, narrow, narrowest, drop, .. }) = &self.fit else { return (shown, Vec::new()) };
        let widest = |column: usize| {
            let cells = self.rows.iter().chain([&self.header]).map(|row| row[column].width());
            cells.max().unwrap_or(0)
        };
        let widths: Vec<_> = shown.iter().map(|column| widest(*column)).collect();
        let others = |shown: &[usize]| {
            let widths = shown.iter().filter(|column| !narrow.contains(column)).map(|column| widths[*column]);
            widths.sum::<usize>() + usize::from(GAP) * shown.len().saturating_sub(1)
        };
        let least: usize = narrow.iter().map(|column| widths[*column].min(*narrowest)).sum();
        for column in drop {
            if others(&shown) + least <= *width {
                break;
            }
            shown.retain(|kept| kept != column);
        }
        let mut rooms: Vec<_> = narrow.iter().map(|column| (*column, widths[*column])).collect();
        let left = width.saturating_sub(others(&shown)).max(least);
        while rooms.iter().map(|(_, room)| room).sum::<usize>() > left
            && let Some((_, room)) = rooms.iter_mut().max_by_key(|(_, room)| *room)
        {
            *room -= 1;
        }
        (shown, rooms)
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
    fn a_narrow_terminal_gets_fewer_columns_and_whole_numbers() {
        let table = |width| {
            let mut table =
                Table::new(&["name", "title", "number", "other"]).right(&[2]).fit(width, 1, &[3, 0]);
            table.row(
                &["abc", "a title that is long enough to be cut", "1234567", "words"].map(str::to_owned),
            );
            anstream::adapter::strip_str(&table.render()).to_string()
        };
        assert!(table(None).contains("long enough to be cut"), "{}", table(None));
        for width in [80, 50, 41, 31, 26] {
            let text = table(Some(width));
            assert!(text.lines().all(|line| line.width() <= width), "{width}: {text}");
            assert!(text.contains("1234567") && text.contains("a title"), "{width}: {text}");
            assert_eq!(text.contains("other"), width >= 41, "{width}: {text}");
            assert_eq!(text.contains("abc"), width >= 31, "{width}: {text}");
        }
    }

    #[test]
    fn what_may_not_be_cut_goes_on_below() {
        let mut table = Table::new(&["name", "what it is"]).fit_wrapped(Some(30), &[1], &[]);
        table.row(&["abc", "a text that has no room beside its name"].map(str::to_owned));
        let text = anstream::adapter::strip_str(&table.render()).to_string();
        assert!(text.lines().all(|line| line.width() <= 30), "{text}");
        let words = text.lines().skip(1).flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ");
        assert_eq!(words, "abc a text that has no room beside its name");
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
