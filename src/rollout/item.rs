//! One line that is to be appended.

use jiff::Timestamp;
use serde::Serialize;

use super::records::Line;
use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::now_unix_ms;

/// The longest line that a transcript takes or shows: 64 MiB.
pub const LONGEST_LINE: usize = 64 << 20;

/// Letters of a type that are kept beside its item on a server.
#[cfg(feature = "postgres")]
const KIND_LETTERS: usize = 64;

/// A type as it is kept beside its item on a server, which keeps no NUL.
#[cfg(feature = "postgres")]
pub(crate) fn stored_kind(kind: &str) -> String {
    kind.chars().filter(|letter| *letter != '\0').take(KIND_LETTERS).collect()
}

/// The kind of the lines that only [`Recorder::say`](super::Recorder::say) writes.
pub(super) const SNAPSHOT: &str = "thread_metadata";

/// A line of a transcript: a time, a kind, a payload.
///
/// ```
/// use rowhouse::rollout::Item;
/// let item = Item::new("event_msg", &serde_json::json!({"type": "agent_message", "message": "Done"}))?;
/// assert_eq!(item.kind(), "event_msg");
/// // A line from elsewhere stays as it is, byte for byte.
/// let line = r#"{ "type":"later", "payload" : 1.10 }"#;
/// assert_eq!(Item::line(line)?.text(), line);
/// # Ok::<(), rowhouse::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    kind: String,
    text: String,
}

impl Item {
    /// An item of now.
    ///
    /// # Errors
    /// `Invalid` for a payload that is no JSON (a map with keys that are no text), or a line longer than
    /// [`LONGEST_LINE`].
    pub fn new(kind: &str, payload: &(impl Serialize + ?Sized)) -> Result<Self> {
        Self::at(i64::try_from(now_unix_ms()).unwrap_or(i64::MAX), kind, payload)
    }

    /// An item of this time, in Unix milliseconds; one that no calendar has becomes the nearest that it has.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn at(unix_ms: i64, kind: &str, payload: &(impl Serialize + ?Sized)) -> Result<Self> {
        #[derive(Serialize)]
        struct Record<'a, P: ?Sized> {
            timestamp: &'a str,
            #[serde(rename = "type")]
            kind: &'a str,
            payload: &'a P,
        }
        let record = Record { timestamp: &rfc3339(unix_ms), kind, payload };
        let mut text = serde_json::to_string(&record).map_err(|error| {
            Error::new(ErrorKind::Invalid, "the payload of a line is not JSON").caused_by(error)
        })?;
        // Only between the tokens of a payload that was JSON already: inside a text a newline is escaped.
        if text.contains(['\n', '\r']) {
            text = text.replace(['\n', '\r'], " ");
        }
        Self { kind: kind.to_owned(), text }.fits()
    }

    /// A line as it stands in another transcript, without its newline.
    ///
    /// # Errors
    /// `Invalid` for what is not one line of JSON with a `type`, or is longer than [`LONGEST_LINE`].
    pub fn line(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        let one_line = !text.contains('\n');
        let Some(line) = serde_json::from_str::<Line<'_>>(&text).ok().filter(|_| one_line) else {
            return Err(Error::new(
                ErrorKind::Invalid,
                "a line of a transcript is one line of JSON with a type",
            ));
        };
        Self { kind: line.kind.into_owned(), text }.fits()
    }

    /// Its `type`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The line, without a newline.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Refuses what only [`Recorder::say`](super::Recorder::say) writes.
    pub(crate) fn refuse_said(&self) -> Result<()> {
        if self.kind == SNAPSHOT {
            return Err(Error::new(
                ErrorKind::Invalid,
                "a thread_metadata line holds all that was said so far",
            )
            .advise("use say(), or update_metadata()"));
        }
        Ok(())
    }

    fn fits(self) -> Result<Self> {
        if self.text.len() < LONGEST_LINE {
            return Ok(self);
        }
        Err(Error::new(ErrorKind::Invalid, "a line of a transcript is at most 64 MiB long"))
    }
}

/// RFC 3339 in UTC, with milliseconds.
pub(super) fn rfc3339(unix_ms: i64) -> String {
    let nearest = if unix_ms < 0 { Timestamp::MIN } else { Timestamp::MAX };
    format!("{:.3}", Timestamp::from_millisecond(unix_ms).unwrap_or(nearest))
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn an_item_has_its_time_in_milliseconds() {
        let item = Item::at(1_767_225_600_250, "event_msg", "x").expect("an item");
        assert_eq!(
            item.text(),
            r#"{"timestamp":"2026-01-01T00:00:00.250Z","type":"event_msg","payload":"x"}"#
        );
        for (odd, text) in [(0, "1970-01-01T00:00:00.000Z"), (-1, "1969-12-31T23:59:59.999Z")] {
            assert_eq!(rfc3339(odd), text);
        }
        assert!(rfc3339(i64::MAX).starts_with("9999-") && rfc3339(i64::MIN).starts_with("-009999-"));
    }

    #[test]
    fn a_payload_stays_as_it_is_but_for_newlines_between_its_tokens() {
        let payload: Box<RawValue> = serde_json::from_str("{\"n\" : 1.10,\n \"b\":\"\\n\"}").expect("JSON");
        let item = Item::at(0, "later", &payload).expect("an item");
        assert!(item.text().ends_with(r#""payload":{"n" : 1.10,  "b":"\n"}}"#), "{}", item.text());
        Item::line(item.text()).expect("a line");
    }

    #[test]
    fn what_is_no_line_is_refused() {
        for text in [
            "",
            "{}",
            "[1]",
            "{\"type\":1}",
            "{\"type\":\"a\"}\n",
            "{\"type\":\n\"a\"}",
            "{\"type\":\"a\"} x",
        ] {
            let error = Item::line(text).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
        let long = format!("{{\"type\":\"a\",\"payload\":\"{}\"}}", "x".repeat(LONGEST_LINE));
        assert_eq!(Item::line(long).expect_err("long").kind(), ErrorKind::Invalid);
        Item::line("{\"type\":\"a\"}\r").expect("a carriage return is white space");
    }
}
