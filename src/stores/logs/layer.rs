//! A layer of `tracing-subscriber` that feeds a [`LogSink`].
//!
//! Invariants:
//! 1. Its levels are a filter of its own: what it does not take, other layers still get.
//! 2. What the library says itself is not taken, nor are its spans: else each row that is written could cause another.
//! 3. The value of a field that is secret by its name is not even formatted; a long one is formatted only as far as it can
//!    be kept.
//!
//! Tests: `tests/log_layer.rs`.

use std::borrow::Cow;
use std::fmt::{Debug, Write};
use std::sync::Arc;

use serde_json::Value;
use tracing::dispatcher::{self, WeakDispatch};
use tracing::field::{Field as Named, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::Filtered;
use tracing_subscriber::layer::{Context, Filter, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::event::{Field, LogEvent};
use super::sink::Shared;
use super::{LogLevel, LogSink};
use crate::redact::{REDACTED, Redactor};
use crate::telemetry;

/// The most that is taken of one value, in bytes: what a row may have, and more.
const LONGEST: usize = 128 << 10;
/// The same of a value of a span, which every event in the span brings along.
const LONGEST_OF_SPAN: usize = 8 << 10;
/// How far back from where a text was cut a part of a secret may begin.
const LAST_WORD: usize = 4 << 10;

impl LogSink {
    /// The layer, for `tracing_subscriber::registry().with(sink.layer())`. It takes events at the levels of this sink,
    /// also when these change, and leaves other layers alone.
    ///
    /// Spans are kept for the events in them: those of INFO and above always, others as the levels say. A field `thread_id` of an event or of a span around it says of which thread the event is. Events that come from the
    /// `log` crate through `tracing-log` keep their own target and place.
    pub fn layer<S>(&self) -> Filtered<LogLayer, SinkLevels, S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        LogLayer { sink: self.clone() }.with_filter(SinkLevels { sink: self.clone() })
    }
}

/// The levels are others now: what `tracing` remembers of call sites is not right any more. Where there is only one
/// subscriber, it asks the one of the thread that says so.
pub(super) fn levels_changed(shared: &Shared) {
    let dispatch = shared.dispatch.lock().as_ref().and_then(WeakDispatch::upgrade);
    if let Some(dispatch) = dispatch {
        dispatcher::with_default(&dispatch, tracing::callsite::rebuild_interest_cache);
    }
}

/// Takes events and the spans around them.
#[derive(Debug)]
pub struct LogLayer {
    sink: LogSink,
}

/// Which events and spans [`LogLayer`] takes.
#[derive(Debug)]
pub struct SinkLevels {
    sink: LogSink,
}

fn level(level: Level) -> LogLevel {
    match level {
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warn,
        Level::INFO => LogLevel::Info,
        Level::DEBUG => LogLevel::Debug,
        Level::TRACE => LogLevel::Trace,
    }
}

/// Events of the `log` crate all have this target; their own is a field.
const BRIDGED: &str = "log";

impl SinkLevels {
    fn takes(&self, metadata: &Metadata<'_>) -> bool {
        if self.sink.shared().is_forked() {
            return false;
        }
        // Of the bridged ones the level alone is known here.
        let levels = self.sink.shared().levels.read();
        if metadata.target() == BRIDGED {
            return levels.most().is_some_and(|most| level(*metadata.level()) >= most);
        }
        // A WARN belongs to the thread that the INFO span around it names.
        let is_around = metadata.is_span() && *metadata.level() <= Level::INFO && !levels.is_off();
        is_around || levels.takes(metadata.target(), level(*metadata.level()))
    }
}

impl<S> Filter<S> for SinkLevels {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.takes(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.takes(metadata) { Interest::always() } else { Interest::never() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        if self.sink.shared().is_forked() {
            return Some(LevelFilter::OFF);
        }
        let levels = self.sink.shared().levels.read();
        Some(match levels.most() {
            None => LevelFilter::OFF,
            Some(LogLevel::Error | LogLevel::Warn | LogLevel::Info) => LevelFilter::INFO,
            Some(LogLevel::Debug) => LevelFilter::DEBUG,
            Some(LogLevel::Trace) => LevelFilter::TRACE,
        })
    }
}

/// What is kept of a span for its events.
#[derive(Clone, Default)]
struct Kept {
    fields: Arc<Vec<Field>>,
    thread: Option<Arc<str>>,
}

impl<S> Layer<S> for LogLayer
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_register_dispatch(&self, subscriber: &Dispatch) {
        *self.sink.shared().dispatch.lock() = Some(subscriber.downgrade());
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if telemetry::is_own() {
            return;
        }
        let mut values = Values::of_span(&self.sink);
        attributes.record(&mut values);
        if let Some(span) = context.span(id) {
            span.extensions_mut().replace(values.kept());
        }
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        if telemetry::is_own() {
            return;
        }
        // Formatted before anything is locked: it is the application's code.
        let mut values = Values::of_span(&self.sink);
        record.record(&mut values);
        let Some(span) = context.span(id) else { return };
        let mut extensions = span.extensions_mut();
        if let Some(kept) = extensions.get_mut::<Kept>() {
            let values = values.kept();
            let fields = Arc::make_mut(&mut kept.fields);
            for (name, value) in values.fields.iter() {
                // In place: a span that is recorded to for days must not grow.
                match fields.iter_mut().find(|(known, _)| known == name) {
                    Some((_, known)) => known.clone_from(value),
                    None => fields.push((name.clone(), value.clone())),
                }
            }
            kept.thread = values.thread.or(kept.thread.take());
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if telemetry::is_own() {
            return;
        }
        let metadata = event.metadata();
        let mut values = Values::new(&self.sink, metadata.target() == BRIDGED);
        event.record(&mut values);
        let target = values.target.take().map_or(Cow::Borrowed(metadata.target()), Cow::Owned);
        let level = level(*metadata.level());
        if values.is_bridged && !self.sink.takes(&target, level) {
            return;
        }
        let mut taken = LogEvent::new(level, target, std::mem::take(&mut values.message));
        taken.module = values.module.take().map(Cow::Owned).or(metadata.module_path().map(Cow::Borrowed));
        taken.file = values.file.take().map(Cow::Owned).or(metadata.file().map(Cow::Borrowed));
        taken.line = values.line.or(metadata.line());
        taken.thread = values.thread.take();
        taken.cut = values.cut;
        taken.fields = values.fields;
        for span in context.event_scope(event).into_iter().flatten() {
            let extensions = span.extensions();
            let Some(kept) = extensions.get::<Kept>() else { continue };
            if !kept.fields.is_empty() {
                taken.spans.push(kept.fields.clone());
            }
            if taken.thread.is_none() {
                taken.thread.clone_from(&kept.thread);
            }
        }
        taken.spans.reverse();
        self.sink.push(taken);
    }
}

/// The values of an event or a span.
struct Values<'s> {
    redactor: &'s Redactor,
    message: String,
    fields: Vec<Field>,
    thread: Option<Arc<str>>,
    /// The most that is taken of one value.
    longest: usize,
    cut: bool,
    /// It comes from the `log` crate, and these are its own.
    is_bridged: bool,
    target: Option<String>,
    module: Option<String>,
    file: Option<String>,
    line: Option<u32>,
}

impl<'s> Values<'s> {
    fn new(sink: &'s LogSink, is_bridged: bool) -> Self {
        Self {
            redactor: &sink.shared().redactor,
            message: String::new(),
            fields: Vec::new(),
            thread: None,
            longest: LONGEST,
            cut: false,
            is_bridged,
            target: None,
            module: None,
            file: None,
            line: None,
        }
    }

    fn of_span(sink: &'s LogSink) -> Self {
        Self { longest: LONGEST_OF_SPAN, ..Self::new(sink, false) }
    }

    fn kept(self) -> Kept {
        let mut fields = self.fields;
        if !self.message.is_empty() {
            fields.push((Cow::Borrowed("message"), Value::String(self.message)));
        }
        Kept { fields: Arc::new(fields), thread: self.thread }
    }

    fn add(&mut self, named: &Named, value: impl Into<Value>) {
        self.fields.push((Cow::Borrowed(named.name()), value.into()));
    }

    fn add_text(&mut self, named: &Named, text: &dyn Debug) {
        let name = named.name();
        if self.redactor.hides(name) {
            return self.add(named, REDACTED);
        }
        let mut taken = Bounded { text: String::new(), longest: self.longest, cut: false };
        if write!(taken, "{text:?}").is_err() {
            taken.end();
        }
        self.cut |= taken.cut;
        let text = taken.text;
        match name {
            "message" => self.message = text,
            "thread_id" => self.thread = Some(text.into()),
            "log.target" if self.is_bridged => self.target = Some(text),
            "log.module_path" if self.is_bridged => self.module = Some(text),
            "log.file" if self.is_bridged => self.file = Some(text),
            _ => self.add(named, text),
        }
    }
}

impl Visit for Values<'_> {
    fn record_debug(&mut self, named: &Named, value: &dyn Debug) {
        self.add_text(named, value);
    }

    fn record_str(&mut self, named: &Named, value: &str) {
        self.add_text(named, &format_args!("{value}"));
    }

    fn record_i64(&mut self, named: &Named, value: i64) {
        self.add(named, value);
    }

    fn record_u64(&mut self, named: &Named, value: u64) {
        if self.is_bridged && named.name() == "log.line" {
            self.line = u32::try_from(value).ok();
        } else {
            self.add(named, value);
        }
    }

    fn record_f64(&mut self, named: &Named, value: f64) {
        self.add(named, value);
    }

    fn record_bool(&mut self, named: &Named, value: bool) {
        self.add(named, value);
    }
}

/// A text that ends when it is long enough, and has whoever formats it stop.
struct Bounded {
    text: String,
    longest: usize,
    cut: bool,
}

impl Write for Bounded {
    fn write_str(&mut self, more: &str) -> std::fmt::Result {
        let room = self.longest - self.text.len();
        if more.len() <= room {
            self.text.push_str(more);
            return Ok(());
        }
        self.text.push_str(&more[..more.floor_char_boundary(room)]);
        self.cut = true;
        Err(std::fmt::Error)
    }
}

impl Bounded {
    /// A secret that was cut in its middle would not be known any more: the last word goes.
    fn end(&mut self) {
        let from = self.text.floor_char_boundary(self.text.len().saturating_sub(LAST_WORD));
        let word = self.text[from..].rfind(char::is_whitespace).map_or(from, |at| from + at);
        self.text.truncate(word);
    }
}
