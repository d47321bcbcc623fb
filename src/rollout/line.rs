//! A line of a transcript as a reader shows it.

use std::borrow::Cow;
use std::ops::Range;

use super::records::Line;

/// A line of a transcript, byte for byte, with where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RolloutLine<'a> {
    /// Which line of the file it is, from 1; `None` where reading did not begin at a numbered place.
    pub number: Option<u64>,
    /// Where it begins, in bytes of the plain transcript.
    pub offset: u64,
    /// The line, without its newline.
    pub text: &'a str,
    /// When, as it was written (RFC 3339 mostly); `None` where it does not say.
    pub timestamp: Option<&'a str>,
    /// Its `type`.
    pub kind: Cow<'a, str>,
    /// Its `payload` as JSON, `null` where there is none.
    pub payload: &'a str,
}

/// Where the parts of a line are in its bytes: what a reader may keep while it looks for the line to show.
#[derive(Debug)]
pub(super) struct Parts {
    kind: Part,
    timestamp: Option<Range<usize>>,
    payload: Option<Range<usize>>,
}

#[derive(Debug)]
enum Part {
    At(Range<usize>),
    Escaped(String),
}

impl Parts {
    /// The parts of a line; `None` for what is none.
    pub(super) fn of(line: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(line).ok()?;
        let found: Line<'_> = serde_json::from_str(text).ok()?;
        let place = |part: &str| {
            let from = part.as_ptr() as usize - text.as_ptr() as usize;
            from..from + part.len()
        };
        let quoted = |json: &str| {
            let inner = place(json);
            (json.starts_with('"') && !json.contains('\\')).then(|| inner.start + 1..inner.end - 1)
        };
        Some(Self {
            kind: match &found.kind {
                Cow::Borrowed(kind) => Part::At(place(kind)),
                Cow::Owned(kind) => Part::Escaped(kind.clone()),
            },
            timestamp: found.timestamp.and_then(|time| quoted(time.get())),
            payload: found.payload.map(|payload| place(payload.get())),
        })
    }

    /// The line they were found in, as it is shown.
    pub(super) fn show(self, line: &[u8], number: Option<u64>, offset: u64) -> RolloutLine<'_> {
        // `of` found it to be UTF-8.
        let text = std::str::from_utf8(line).unwrap_or_default();
        RolloutLine {
            number,
            offset,
            text,
            timestamp: self.timestamp.map(|at| &text[at]),
            kind: match self.kind {
                Part::At(at) => Cow::Borrowed(&text[at]),
                Part::Escaped(kind) => Cow::Owned(kind),
            },
            payload: self.payload.map_or("null", |at| &text[at]),
        }
    }
}

/// A line that says nothing, and is not bad.
pub(super) fn is_blank(line: &[u8]) -> bool {
    line.trim_ascii().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_line_are_those_that_were_written() {
        let text = r#" {"payload": {"n": 1.10} ,"type":"later","timestamp":"2026-01-01T00:00:00Z","x":[]} "#;
        let line = Parts::of(text.as_bytes()).expect("a line").show(text.as_bytes(), Some(3), 40);
        assert_eq!((line.number, line.offset, line.text), (Some(3), 40, text));
        assert_eq!((line.kind.as_ref(), line.timestamp), ("later", Some("2026-01-01T00:00:00Z")));
        assert_eq!(line.payload, r#"{"n": 1.10}"#);
        let odd = br#"{"type":"\u006cater","timestamp":7}"#;
        let line = Parts::of(odd).expect("a line").show(odd, None, 0);
        assert_eq!((line.kind.as_ref(), line.timestamp, line.payload), ("later", None, "null"));
    }

    #[test]
    fn what_is_no_record_has_no_parts() {
        for bad in
            [&b"{}"[..], b"[]", b"{\"type\":", b"{\"type\":\"a\xff\"}", b"{\"type\":\"a\",\"x\":\"\xff\"}"]
        {
            assert!(Parts::of(bad).is_none());
        }
    }
}
