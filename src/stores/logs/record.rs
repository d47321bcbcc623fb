//! An event as a row: redacted, cut to size, ready to be bound.
//!
//! Invariants:
//! 1. No text reaches the file without having been through the [`Redactor`], names of values included.
//! 2. A row counts at most [`LogOptions::row_bytes`](super::LogOptions) towards the caps; one that was cut says so where
//!    it was.
//!
//! Tests: below; `tests/log_sink.rs`.

use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::event::LogEvent;
use crate::redact::{REDACTED, Redactor, is_harmless, is_secret_name};
use crate::sql::Value;
use crate::stores::threads::row::canonical_id;

/// What a row takes in the file beside its texts: its header, numbers, the id of its run, its entry in the index.
pub(super) const OVERHEAD: usize = 100;
/// No row is cut to less than this, whatever was asked for.
const LEAST_BYTES: usize = 1 << 10;
/// Of a row, for the names of its target, module and file.
const LONGEST_NAME: usize = 256;
/// How deep values are looked into; what is deeper is left out.
const DEEPEST: usize = 16;

/// A row to insert.
pub(super) struct Record {
    /// In the order of [`insert::ROW`](super::insert).
    pub(super) params: [Value; 11],
    pub(super) thread: Option<Arc<str>>,
    pub(super) bytes: i64,
    pub(super) ts: i64,
}

/// Makes records of events.
pub(super) struct Recorder {
    redactor: Redactor,
    row_bytes: usize,
    process: String,
    /// Rows that were cut, and values that were redacted.
    pub(super) truncated: u64,
    pub(super) redacted: u64,
}

impl Recorder {
    pub(super) fn new(redactor: Redactor, row_bytes: usize, process: String) -> Self {
        Self { redactor, row_bytes: row_bytes.max(LEAST_BYTES), process, truncated: 0, redacted: 0 }
    }

    pub(super) fn record(&mut self, event: LogEvent) -> Record {
        let mut cut = event.cut;
        let mut fields = Map::new();
        for (name, value) in event.spans.iter().flat_map(|span| span.iter()) {
            fields.insert(name.as_ref().to_owned(), self.clean(name, value.clone(), 0));
        }
        for (name, value) in event.fields {
            let value = self.clean(&name, value, 0);
            fields.insert(name.into_owned(), value);
        }
        let thread = event.thread.as_deref().and_then(canonical_id).map(Arc::<str>::from);
        if let (Some(text), None) = (event.thread, &thread) {
            let text = self.clean("thread_id", Json::String(text.as_ref().to_owned()), 0);
            fields.insert("thread_id".to_owned(), text);
        }
        let mut name = |text: &str| shorten(text, LONGEST_NAME, &mut cut);
        let target = name(&event.target);
        let (module, file) = (event.module.as_deref().map(&mut name), event.file.as_deref().map(&mut name));
        let message = self.text(event.message);

        let names = target.len() + [&module, &file].into_iter().flatten().map(String::len).sum::<usize>();
        let room = self.row_bytes.saturating_sub(OVERHEAD + names);
        // A long message leaves a quarter to the values, and the other way round.
        let fields = fit_fields(fields, room - room / 4, &mut cut);
        let message = shorten(&message, room - fields.as_ref().map_or(0, String::len), &mut cut);
        self.truncated += u64::from(cut);

        let bytes = OVERHEAD + names + message.len() + fields.as_ref().map_or(0, String::len);
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        Record {
            params: [
                event.ts.into(),
                event.level.number().into(),
                target.into(),
                message.into(),
                fields.into(),
                thread.as_deref().into(),
                self.process.as_str().into(),
                module.into(),
                file.into(),
                event.line.map(i64::from).into(),
                bytes.into(),
            ],
            thread,
            bytes,
            ts: event.ts,
        }
    }

    fn text(&mut self, text: String) -> String {
        let (cleaned, found) = self.redactor.text(&text);
        self.redacted += found as u64;
        match cleaned {
            std::borrow::Cow::Owned(cleaned) => without_nul(cleaned),
            std::borrow::Cow::Borrowed(_) => without_nul(text),
        }
    }

    fn clean(&mut self, name: &str, value: Json, depth: usize) -> Json {
        if self.redactor.hides(name) && !harmless(name, &value) {
            self.redacted += u64::from(value != Json::String(REDACTED.to_owned()));
            return Json::String(REDACTED.to_owned());
        }
        match value {
            Json::String(text) => Json::String(self.text(text)),
            Json::Array(_) | Json::Object(_) if depth == DEEPEST => Json::String("[too deep]".to_owned()),
            // The values of a list go by its name, which is none of a secret's.
            Json::Array(values) => values.into_iter().map(|value| self.clean("", value, depth + 1)).collect(),
            Json::Object(values) => values
                .into_iter()
                .map(|(name, value)| {
                    let value = self.clean(&name, value, depth + 1);
                    (self.text(name), value)
                })
                .collect(),
            other => other,
        }
    }
}

fn harmless(name: &str, value: &Json) -> bool {
    match value {
        Json::Null | Json::Bool(_) => true,
        // How many tokens; but a password may be a number.
        Json::Number(number) => !is_secret_name(name) || is_harmless(name, &number.to_string()),
        Json::String(text) => is_harmless(name, text),
        Json::Array(_) | Json::Object(_) => false,
    }
}

/// SQL functions take a text to end at its first NUL.
fn without_nul(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{2400}") } else { text }
}

/// The text in at most so many bytes; one that was cut ends in a mark.
fn shorten(text: &str, most: usize, cut: &mut bool) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    *cut = true;
    let mark = format!("… [truncated, {} bytes]", text.len());
    let end = text.floor_char_boundary(most.saturating_sub(mark.len()));
    format!("{}{mark}", &text[..end])
}

/// The values as JSON of at most so many bytes: long ones are cut, and then those that still do not fit left out.
fn fit_fields(mut fields: Map<String, Json>, most: usize, cut: &mut bool) -> Option<String> {
    if fields.is_empty() {
        return None;
    }
    let whole = Json::Object(fields.clone()).to_string();
    if whole.len() <= most {
        return Some(whole);
    }
    *cut = true;
    let each = most / fields.len().max(1);
    let mut left = most.saturating_sub("{\"truncated\":true}".len());
    fields.retain(|name, value| {
        let mut text = value.to_string();
        let key = Json::String(name.clone()).to_string().len() + 2;
        if text.len() > each {
            let plain = value.as_str().unwrap_or(&text);
            // What is escaped takes up to six times as much.
            let mut shorter = each.saturating_sub(key);
            *value = loop {
                let candidate = Json::String(shorten(plain, shorter, &mut true));
                if candidate.to_string().len() <= each || shorter < 32 {
                    break candidate;
                }
                shorter /= 2;
            };
            text = value.to_string();
        }
        let fits = key + text.len() <= left;
        left -= if fits { key + text.len() } else { 0 };
        fits
    });
    fields.insert("truncated".to_owned(), Json::Bool(true));
    Some(Json::Object(fields).to_string())
}

#[cfg(test)]
mod tests {
    use super::super::LogLevel;
    use super::*;

    fn recorder() -> Recorder {
        Recorder::new(Redactor::default().name("project"), 64 << 10, "run".to_owned())
    }

    fn event(message: impl Into<String>) -> LogEvent {
        LogEvent::new(LogLevel::Info, "t", message)
    }

    fn text(record: &Record, at: usize) -> String {
        match &record.params[at] {
            Value::Text(text) => text.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn fields(record: &Record) -> Json {
        serde_json::from_str(&text(record, 4)).expect("JSON")
    }

    #[test]
    fn values_of_spans_come_first_and_inner_ones_count() {
        let span = |value: i64| Arc::new(vec![("a".into(), value.into()), ("b".into(), value.into())]);
        let event = LogEvent { spans: vec![span(1), span(2)], ..event("m").field("a", 3) };
        assert_eq!(fields(&recorder().record(event)), serde_json::json!({"a": 3, "b": 2}));
    }

    #[test]
    fn secrets_are_replaced_by_name_and_by_shape_at_any_depth() {
        let mut recorder = recorder();
        let record = recorder.record(
            event("Authorization: Bearer abcdef123456")
                .field("api_key", "k")
                .field("Project", "p")
                .field("prompt", serde_json::json!({"any": ["thing"]}))
                .field("tokens_used", 12)
                .field("token", 12)
                .field("password", 1234)
                .field("list", serde_json::json!([{"secret": "x"}, "sk-abcdefghij0123456789"])),
        );
        let hidden = REDACTED;
        assert_eq!(
            fields(&record),
            serde_json::json!({"api_key": hidden, "Project": hidden, "prompt": hidden, "tokens_used": 12, "token": 12,
                "password": hidden, "list": [{"secret": hidden}, hidden]})
        );
        assert_eq!(text(&record, 3), "Authorization: [REDACTED]");
        assert_eq!((recorder.redacted, recorder.truncated), (7, 0));
    }

    #[test]
    fn a_row_is_cut_to_its_bytes_and_says_so() {
        for (message, field) in [(5 << 20, 0), (0, 5 << 20), (5 << 20, 5 << 20), (1 << 16, 1 << 10)] {
            let mut recorder = recorder();
            let mut event = event("ä".repeat(message / 2));
            if field > 0 {
                event = event.field("long", "\"\u{1}".repeat(field / 2)).field("short", 1);
            }
            let record = recorder.record(event);
            assert!(record.bytes <= 64 << 10, "{message} {field}: {}", record.bytes);
            assert_eq!(recorder.truncated, 1);
            if message > 0 {
                assert!(text(&record, 3).ends_with(&format!("… [truncated, {message} bytes]")));
                assert!(text(&record, 3).len() > 8 << 10);
            }
            if field > 1 << 10 {
                let fields = fields(&record);
                assert_eq!((&fields["truncated"], &fields["short"]), (&Json::Bool(true), &Json::from(1)));
                assert!(fields["long"].as_str().expect("text").contains("[truncated, "), "{field}");
            }
        }
        let mut many = event("m");
        for n in 0..10_000 {
            many = many.field(format!("field_{n}"), "x".repeat(100));
        }
        let record = recorder().record(many);
        assert!(record.bytes <= 64 << 10 && fields(&record)["truncated"] == Json::Bool(true));
    }

    #[test]
    fn a_thread_is_a_uuid_and_anything_else_a_value() {
        let id = "019CADF1-7A5E-7B04-8F21-000000000001";
        let record = recorder().record(event("m").thread(id));
        assert_eq!(record.thread.as_deref(), Some(&*id.to_ascii_lowercase()));
        let record = recorder().record(event("a\0b").thread("main"));
        assert_eq!(
            (record.thread.as_deref(), fields(&record)),
            (None, serde_json::json!({"thread_id": "main"}))
        );
        assert_eq!(text(&record, 3), "a\u{2400}b");
    }
}
