//! A row as a line for people: `2026-03-01T12:00:00.123456Z  WARN ledger::sync: no answer attempt=3 thread=019c…`.
//!
//! What a row holds may be anything. Control characters are shown, not obeyed, and further lines of a message are
//! indented: neither can look like another row, or steer a terminal.

use std::fmt::{self, Write};

use jiff::Timestamp;
use serde_json::Value;

use super::model::LogRow;

impl fmt::Display for LogRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:>5} {}", self.time(), self.level.as_str().to_ascii_uppercase(), self.body())
    }
}

impl LogRow {
    /// When it happened, in RFC 3339 and UTC, with microseconds.
    pub fn time(&self) -> impl fmt::Display + use<> {
        // 64 bits of nanoseconds end in the year 2262, the calendar in 9999.
        let time = Timestamp::from_nanosecond(self.ts.into()).unwrap_or(Timestamp::UNIX_EPOCH);
        fmt::from_fn(move |f| write!(f, "{time:.6}"))
    }

    /// What it says: target, message, fields and thread.
    pub fn body(&self) -> impl fmt::Display + '_ {
        fmt::from_fn(move |f| {
            let mut shown = Shown(f);
            write!(shown, "{}: {}", self.target, self.message)?;
            match &self.fields {
                Some(Value::Object(fields)) => {
                    for (name, value) in fields {
                        write!(shown, " {name}={}", Plain(value))?;
                    }
                }
                Some(other) => write!(shown, " fields={other}")?,
                None => {}
            }
            self.thread_id.as_ref().map_or(Ok(()), |thread| write!(shown, " thread={thread}"))
        })
    }
}

/// A value; text without quotes where they are not needed.
struct Plain<'v>(&'v Value);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = |text: &&String| {
            let special =
                |letter: char| letter.is_whitespace() || letter.is_control() || "\"'={}".contains(letter);
            !text.is_empty() && !text.contains(special)
        };
        match self.0 {
            Value::String(text) => match Some(text).filter(bare) {
                Some(text) => f.write_str(text),
                None => write!(f, "{}", self.0),
            },
            other => write!(f, "{other}"),
        }
    }
}

/// Writes text so that it stays text.
struct Shown<'f, 'g>(&'f mut fmt::Formatter<'g>);

impl Write for Shown<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive(char::is_control) {
            let mut letters = part.chars();
            match letters.next_back().filter(|last| last.is_control()) {
                None => self.0.write_str(part)?,
                Some(control) => {
                    self.0.write_str(letters.as_str())?;
                    match control {
                        '\n' => self.0.write_str("\n    ")?,
                        '\t' => self.0.write_str("\t")?,
                        other => write!(self.0, "{}", other.escape_default())?,
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::logs::LogLevel;

    fn row(message: &str, fields: Option<Value>) -> LogRow {
        LogRow {
            id: 1,
            ts: 1_772_366_400_123_456_789,
            level: LogLevel::Warn,
            target: "ledger::sync".to_owned(),
            message: message.to_owned(),
            fields,
            thread_id: None,
            process_id: "p".to_owned(),
            module: None,
            file: None,
            line: None,
            bytes: 1,
        }
    }

    #[test]
    fn a_row_is_a_line_with_its_fields() {
        let fields = serde_json::json!({"attempt": 3, "peer": "a.example", "why": "no answer", "empty": ""});
        let mut row = row("it failed", Some(fields));
        row.thread_id = Some("019cadf1-7a5e-7b04-8f21-000000000001".to_owned());
        assert_eq!(
            row.to_string(),
            "2026-03-01T12:00:00.123456Z  WARN ledger::sync: it failed attempt=3 empty=\"\" peer=a.example \
             why=\"no answer\" thread=019cadf1-7a5e-7b04-8f21-000000000001"
        );
    }

    #[test]
    fn what_it_holds_looks_like_no_other_row_and_steers_no_terminal() {
        let text = row(
            "one\n2026-03-01T12:00:00.000000Z ERROR x: false\r\u{1b}[2J\u{9b}1m\0",
            Some(serde_json::json!({"a": "b\n\u{1b}c\u{9b}"})),
        )
        .to_string();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.lines().nth(1).expect("a second line").starts_with("    2026"), "{text}");
        assert!(!text.contains(|letter: char| letter.is_control() && letter != '\n'), "{text:?}");
        assert!(text.contains(r"\u{1b}[2J\u{9b}1m\u{0}"), "{text}");
    }

    #[test]
    fn any_time_can_be_shown() {
        for ts in [i64::MIN, -1, 0, i64::MAX] {
            let row = LogRow { ts, ..row("m", None) };
            assert!(row.to_string().contains("WARN"), "{row}");
        }
    }
}
