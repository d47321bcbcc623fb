//! An event as a row: redacted, cut to size, ready to be bound.
//!
//! Invariants:
//! 1. No text reaches the file without having been through the [`Redactor`], names of values included. What is longer
//!    than a row is cut before, so that nobody's long text costs the thread that writes more than a row does.
//! 2. A row counts at most [`LogOptions::row_bytes`](super::LogOptions) towards the caps; one that was cut says so where
//!    it was.
//!
//! Tests: below; `tests/log_sink.rs`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use serde::Serializer;
use serde_json::Value as Json;

use super::event::LogEvent;
use crate::redact::{Cleaner, Redactor};
use crate::sql::Value;
use crate::stores::threads::row::canonical_id;

/// What a row takes in the file beside its texts: its header, numbers, the id of its run, its entry in the index.
pub(super) const OVERHEAD: usize = 100;
/// No row is cut to less than this, whatever was asked for.
const LEAST_BYTES: usize = 1 << 10;
/// Of a row, for the names of its target, module and file.
const LONGEST_NAME: usize = 256;
/// Of a text that is cut before it is redacted so much is looked at and not kept: where it was cut there may be a part of
/// a secret, which cannot be known as one.
const SEAM: usize = 4 << 10;

/// Names that are remembered. A program has some hundreds.
const KNOWN_NAMES: usize = 1 << 10;

/// Values of a row.
pub(super) const VALUES: usize = 10;

/// A row to insert.
pub(super) struct Record {
    /// In the order of [`insert`](super::insert), without the run of the process.
    pub(super) values: [Value; VALUES],
    pub(super) thread: Option<Arc<str>>,
    pub(super) bytes: i64,
    pub(super) ts: i64,
}

/// Makes records of events.
pub(super) struct Recorder {
    cleaner: Cleaner,
    row_bytes: usize,
    /// Names that may be kept as they are, of values and of places, and whether what they stand before has to be hidden.
    names: HashMap<Cow<'static, str>, bool>,
    /// Rows that were cut.
    pub(super) truncated: u64,
}

/// A value with its name, both without secrets.
type Clean = (Cow<'static, str>, Json);

impl Recorder {
    pub(super) fn new(redactor: Redactor, row_bytes: usize) -> Self {
        let cleaner = Cleaner::new(redactor);
        Self { cleaner, row_bytes: row_bytes.max(LEAST_BYTES), names: HashMap::new(), truncated: 0 }
    }

    /// Values that were redacted.
    pub(super) fn redacted(&self) -> u64 {
        self.cleaner.found
    }

    pub(super) fn record(&mut self, event: LogEvent) -> Record {
        let mut cut = event.cut;
        let mut fields = Vec::with_capacity(event.fields.len());
        for (name, value) in event.spans.iter().flat_map(|span| span.iter()) {
            fields.push(self.field(name.clone(), value.clone(), &mut cut));
        }
        for (name, value) in event.fields {
            fields.push(self.field(name, value, &mut cut));
        }
        let thread = event.thread.as_deref().and_then(canonical_id).map(Arc::<str>::from);
        if let (Some(text), None) = (event.thread, &thread) {
            fields.push(self.field("thread_id".into(), Json::String(text.as_ref().to_owned()), &mut cut));
        }
        let mut place = |text| self.place(text, &mut cut);
        let (target, module, file) =
            (place(event.target), event.module.map(&mut place), event.file.map(place));
        let message = self.text(event.message, &mut cut);

        let names = target.len() + [&module, &file].into_iter().flatten().map(String::len).sum::<usize>();
        let room = self.row_bytes.saturating_sub(OVERHEAD + names);
        // A long message leaves a quarter to the values, and the other way round.
        let fields = fit_fields(fields, room - room / 4, &mut cut);
        let message = shorten(message, room - fields.as_ref().map_or(0, String::len), &mut cut);
        self.truncated += u64::from(cut);

        let bytes = OVERHEAD + names + message.len() + fields.as_ref().map_or(0, String::len);
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        Record {
            values: [
                event.ts.into(),
                event.level.number().into(),
                target.into(),
                message.into(),
                fields.into(),
                thread.as_deref().into(),
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

    /// A target, a module or a file.
    fn place(&mut self, text: Cow<'static, str>, cut: &mut bool) -> String {
        if self.hides(&text).is_some() {
            return text.into_owned();
        }
        let text = self.cleaner.text(text[..text.floor_char_boundary(self.row_bytes)].to_owned());
        shorten(text, LONGEST_NAME, cut)
    }

    fn field(&mut self, name: Cow<'static, str>, value: Json, cut: &mut bool) -> Clean {
        let hides = self.hides(&name);
        let value = match value {
            Json::String(text) if hides == Some(false) => Json::String(self.text(text, cut)),
            value @ (Json::Null | Json::Bool(_) | Json::Number(_)) if hides == Some(false) => value,
            value => self.value(&name, value, cut),
        };
        (if hides.is_some() { name } else { self.cleaner.text(name.into_owned()).into() }, value)
    }

    /// Whether what this name stands before has to be hidden, of a name that itself needs no cleaning.
    fn hides(&mut self, name: &str) -> Option<bool> {
        if let Some(known) = self.names.get(name) {
            return Some(*known);
        }
        let is_clean = name.len() <= LONGEST_NAME && self.cleaner.keeps(name);
        if !is_clean || self.names.len() == KNOWN_NAMES {
            return None;
        }
        let hides = self.cleaner.redactor.hides(name);
        self.names.insert(name.to_owned().into(), hides);
        Some(hides)
    }

    /// A text without secrets, of not much more than a row's bytes.
    fn text(&mut self, text: String, cut: &mut bool) -> String {
        if text.len() <= self.row_bytes + SEAM {
            return self.cleaner.text(text);
        }
        *cut = true;
        let looked_at = &text[..text.floor_char_boundary(self.row_bytes + SEAM)];
        let mut cleaned = self.cleaner.text(looked_at.to_owned());
        cleaned.truncate(cleaned.floor_char_boundary(cleaned.len().saturating_sub(SEAM)));
        cleaned + &mark(text.len())
    }

    fn value(&mut self, name: &str, value: Json, cut: &mut bool) -> Json {
        match value {
            Json::String(text) if !self.cleaner.redactor.hides(name) => Json::String(self.text(text, cut)),
            value => self.cleaner.value(name, value),
        }
    }
}

/// What stands at the end of a text that was cut, and how long the text was.
fn mark(bytes: usize) -> String {
    format!("{MARK}{bytes} bytes]")
}

const MARK: &str = "… [truncated, ";

/// The text in at most so many bytes; one that was cut ends in a mark.
fn shorten(text: String, most: usize, cut: &mut bool) -> String {
    if text.len() <= most {
        return text;
    }
    *cut = true;
    // One that was cut before says already how long it was.
    let before = text.floor_char_boundary(text.len().saturating_sub(mark(usize::MAX).len()));
    let before = text[before..].find(MARK).map(|at| text[before + at..].to_owned());
    let mark = before.filter(|mark| mark.ends_with(" bytes]")).unwrap_or_else(|| mark(text.len()));
    let end = text.floor_char_boundary(most.saturating_sub(mark.len()));
    format!("{}{mark}", &text[..end])
}

/// The values as JSON of at most so many bytes, in the order of their names: long ones are cut, and then those that still
/// do not fit left out.
fn fit_fields(mut fields: Vec<Clean>, most: usize, cut: &mut bool) -> Option<String> {
    if fields.is_empty() {
        return None;
    }
    // Of two of one name the later one counts; the sort keeps their order.
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    fields.dedup_by(|later, kept| {
        later.0 == kept.0 && {
            std::mem::swap(later, kept);
            true
        }
    });
    let whole = object(&fields);
    if whole.len() <= most {
        return Some(whole);
    }
    *cut = true;
    let mut left = most.saturating_sub("{\"truncated\":true}".len());
    let each = share(fields.iter().map(|(name, value)| key_bytes(name) + value.to_string().len()), left);
    fields.retain_mut(|(name, value)| {
        let mut text = value.to_string();
        let key = key_bytes(name);
        if key + text.len() > each {
            let plain = value.as_str().unwrap_or(&text);
            let room = each.saturating_sub(key);
            // What is escaped takes up to six times as much.
            let mut shorter = room.saturating_sub("\"\"".len());
            *value = loop {
                let candidate = Json::String(shorten(plain.to_owned(), shorter, &mut true));
                if candidate.to_string().len() <= room || shorter < 32 {
                    break candidate;
                }
                shorter -= shorter / 4;
            };
            text = value.to_string();
        }
        let fits = key + text.len() <= left;
        left -= if fits { key + text.len() } else { 0 };
        fits
    });
    fields.retain(|(name, _)| name != TRUNCATED);
    let place = fields.partition_point(|(name, _)| name.as_ref() < TRUNCATED);
    fields.insert(place, (TRUNCATED.into(), Json::Bool(true)));
    Some(object(&fields))
}

/// The field that says that values were cut.
const TRUNCATED: &str = "truncated";

/// These values as a JSON object.
fn object(fields: &[Clean]) -> String {
    let mut text = Vec::with_capacity(128);
    let pairs = fields.iter().map(|(name, value)| (name, value));
    // Of names that are text, into memory, this cannot fail; and what it writes is UTF-8.
    let _ = serde_json::Serializer::new(&mut text).collect_map(pairs);
    String::from_utf8(text).unwrap_or_default()
}

/// A name as JSON, with the signs around it.
fn key_bytes(name: &str) -> usize {
    Json::from(name).to_string().len() + 2
}

/// How much each value may take so that all of them fill the room: what the short ones leave is for the long ones.
fn share(sizes: impl Iterator<Item = usize>, room: usize) -> usize {
    let mut sizes: Vec<usize> = sizes.collect();
    sizes.sort_unstable();
    let (mut left, mut each) = (room, 0);
    for (at, size) in sizes.iter().enumerate() {
        each = left / (sizes.len() - at);
        left -= (*size).min(each);
    }
    each
}

#[cfg(test)]
mod tests {
    use super::super::LogLevel;
    use super::*;
    use crate::redact::REDACTED;

    fn recorder() -> Recorder {
        Recorder::new(Redactor::default().name("project"), 64 << 10)
    }

    fn event(message: impl Into<String>) -> LogEvent {
        LogEvent::new(LogLevel::Info, "t", message)
    }

    fn text(record: &Record, at: usize) -> String {
        match &record.values[at] {
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
        assert_eq!((recorder.redacted(), recorder.truncated), (7, 0));
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
    fn the_room_that_short_values_leave_is_for_the_long_one() {
        let mut event = event("m").field("long", "x".repeat(5 << 20));
        for n in 0..9 {
            event = event.field(format!("short_{n}"), n);
        }
        let record = recorder().record(event);
        let fields = fields(&record);
        let long = fields["long"].as_str().expect("text");
        assert!(long.len() > 46 << 10, "{} of the 48 KiB of a row for values", long.len());
        assert!(long.ends_with(&format!("… [truncated, {} bytes]", 5 << 20)));
        assert_eq!(fields["short_8"], 8);
    }

    #[test]
    fn no_part_of_a_secret_stays_where_a_long_text_was_cut() {
        let secret = "tunafish-".repeat(8);
        for part in (0..=secret.len()).step_by(8) {
            // What is hidden before makes room for the end of what is looked at.
            let mut text = "password=abcdefghijklmnopqrstuvwxyz ".repeat(1000);
            text.push_str(&"x".repeat((64 << 10) + SEAM - text.len() - part));
            text.push_str(&secret);
            let mut recorder = Recorder::new(Redactor::default().value(secret.as_str()), 64 << 10);
            let record = recorder.record(event(text.as_str()).field("long", text));
            let kept =
                record.values.iter().any(|value| matches!(value, Value::Text(text) if text.contains("tuna")));
            assert!(!kept, "cut behind {part} bytes of it");
        }
    }

    #[test]
    fn names_of_values_and_places_are_cleaned_too() {
        let mut event = event("m").field("api_key=hunter2", 1);
        event.target = "https://me:hunter2@host".into();
        let record = recorder().record(event.place("password=hunter2", "password=hunter2", 1));
        let kept =
            record.values.iter().any(|value| matches!(value, Value::Text(text) if text.contains("hunter2")));
        assert!(!kept);
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
