//! What a program says, before it is a row.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;

use super::LogLevel;
use crate::sqlite::now_unix_ns;

/// What an event takes in memory beside its texts.
const OVERHEAD: usize = 256;

/// A value with its name.
pub(super) type Field = (Cow<'static, str>, Value);

/// An event to be logged. It is stamped with the time when it is made.
///
/// ```
/// use rowhouse::stores::logs::{LogEvent, LogLevel};
/// let event = LogEvent::new(LogLevel::Warn, "app::net", "connection lost")
///     .field("attempt", 3)
///     .thread("019cadf1-7a5e-7b04-8f21-000000000001");
/// # drop(event);
/// ```
#[derive(Clone, Debug)]
pub struct LogEvent {
    pub(super) ts: i64,
    pub(super) level: LogLevel,
    pub(super) target: Cow<'static, str>,
    pub(super) message: String,
    /// Of the spans around it, the outermost first.
    pub(super) spans: Vec<Arc<Vec<Field>>>,
    pub(super) fields: Vec<Field>,
    pub(super) thread: Option<Arc<str>>,
    pub(super) module: Option<Cow<'static, str>>,
    pub(super) file: Option<Cow<'static, str>>,
    pub(super) line: Option<u32>,
    /// Some of its texts were too long to be taken whole.
    pub(super) cut: bool,
}

impl LogEvent {
    /// An event of now.
    pub fn new(level: LogLevel, target: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            ts: now_unix_ns(),
            level,
            target: target.into(),
            message: message.into(),
            spans: Vec::new(),
            fields: Vec::new(),
            thread: None,
            module: None,
            file: None,
            line: None,
            cut: false,
        }
    }

    /// With a value. Of two of one name the later one counts.
    #[must_use]
    pub fn field(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Value>) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// Of this thread: a UUID. Another text becomes the field `thread_id`.
    #[must_use]
    pub fn thread(mut self, id: &str) -> Self {
        self.thread = Some(id.into());
        self
    }

    /// From this place of the source.
    #[must_use]
    pub fn place(
        mut self,
        module: impl Into<Cow<'static, str>>,
        file: impl Into<Cow<'static, str>>,
        line: u32,
    ) -> Self {
        (self.module, self.file, self.line) = (Some(module.into()), Some(file.into()), Some(line));
        self
    }

    /// What it takes in memory, at most, about: the values of spans are shared with other events, and counted with each,
    /// as each row holds them.
    pub(super) fn size(&self) -> usize {
        let spans = self.spans.iter().flat_map(|span| span.iter());
        let fields = self.fields.iter().chain(spans).map(|(name, value)| name.len() + size_of_value(value));
        OVERHEAD + self.message.len() + self.target.len() + fields.sum::<usize>()
    }
}

fn size_of_value(value: &Value) -> usize {
    const NODE: usize = 32;
    NODE + match value {
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(size_of_value).sum(),
        Value::Object(values) => {
            values.iter().map(|(name, value)| NODE + name.len() + size_of_value(value)).sum()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}
