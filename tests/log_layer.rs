//! The layer for `tracing`: what a program says becomes rows, at this layer's own levels, without secrets, and never in a
//! loop.

mod processes;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rowhouse::sql::Session;
use rowhouse::stores::logs::{LogLevel, LogLevels, LogOptions, LogSink};
use rowhouse::{Home, Runtime};
use secrecy::SecretString;
use tracing::{Subscriber, debug, error, info, info_span, trace, warn};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

const LONG: Duration = Duration::from_mins(1);
const THREAD: &str = "019cadf1-7a5e-7b04-8f21-000000000001";

#[test]
fn child_entry() {}

/// What `tracing` remembers of a call site is one for the process: one test after another.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Place {
    sink: LogSink,
    runtime: Runtime,
    _home: tempfile::TempDir,
}

fn place(levels: &str) -> Place {
    let home = processes::folder();
    let runtime = Runtime::builder(Home::at(home.path()))
        .agent_domains()
        .log_levels(levels.parse().expect("levels"))
        .open()
        .expect("opens");
    let sink = runtime.log_sink(LogOptions::default()).expect("a sink");
    Place { sink, runtime, _home: home }
}

impl Place {
    fn column<T: rowhouse::sql::FromValue>(&self, name: &str) -> Vec<T> {
        self.sink.flush(LONG).expect("written");
        let logs = self.runtime.database("logs").expect("the domain");
        let sql = format!("SELECT {name} FROM log ORDER BY id");
        let rows = logs.read(|at| at.query(&sql, &[])).expect("the rows");
        rows.iter().map(|row| row.get(name).expect(name)).collect()
    }

    fn fields(&self) -> Vec<serde_json::Value> {
        let texts: Vec<Option<String>> = self.column("fields");
        let parse =
            |text: Option<String>| serde_json::from_str(&text.unwrap_or("null".to_owned())).expect("JSON");
        texts.into_iter().map(parse).collect()
    }
}

/// Another layer of the same subscriber: counts.
#[derive(Clone, Default)]
struct Counts(Arc<Mutex<usize>>);

impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for Counts {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target().starts_with("log_layer") {
            *self.0.lock().expect("counted") += 1;
        }
    }
}

#[test]
fn an_event_has_the_values_of_its_spans_its_thread_and_its_place() {
    let _alone = alone();
    let place = place("info");
    let subscriber = tracing_subscriber::registry().with(place.sink.layer());
    tracing::subscriber::with_default(subscriber, || {
        let outer =
            info_span!("turn", thread_id = %THREAD.to_uppercase(), turn = 1, model = tracing::field::Empty);
        outer.record("model", "large");
        let _outer = outer.enter();
        let _inner = info_span!("tool", turn = 2, cost = 0.5).entered();
        warn!(attempt = 3_u64, ok = false, turn = 3, path = ?std::path::Path::new("/x"), "failed {}", "again");
    });
    assert_eq!(place.column::<String>("message"), ["failed again"]);
    assert_eq!(
        place.fields(),
        [
            serde_json::json!({"turn": 3, "model": "large", "cost": 0.5, "attempt": 3, "ok": false, "path": "\"/x\""})
        ]
    );
    assert_eq!(place.column::<String>("thread_id"), [THREAD]);
    assert_eq!(place.column::<String>("target"), ["log_layer"]);
    assert_eq!(place.column::<String>("module"), ["log_layer"]);
    assert_eq!(place.column::<String>("file"), ["tests/log_layer.rs"]);
    assert!(place.column::<i64>("line")[0] > 0);
}

#[test]
fn its_levels_are_its_own_and_follow_the_setting() {
    let _alone = alone();
    let place = place("warn");
    let counts = Counts::default();
    let subscriber = tracing_subscriber::registry().with(place.sink.layer()).with(counts.clone());
    tracing::subscriber::with_default(subscriber, || {
        let say = || {
            let _span = info_span!("turn", thread_id = THREAD).entered();
            trace!("trace");
            info!("info");
            error!("error");
        };
        say();
        assert_eq!(*counts.0.lock().expect("counted"), 3, "others get everything");
        assert_eq!(place.sink.stats().emitted, 1);
        assert_eq!(place.column::<String>("thread_id"), [THREAD], "also of a span that is less important");
        let levels: LogLevels = LogLevels::all(LogLevel::Trace);
        rowhouse::stores::logs::set_log_levels(place.runtime.home(), Some(&levels)).expect("set");
        let began = std::time::Instant::now();
        while place.sink.levels() != levels {
            assert!(began.elapsed() < LONG);
            std::thread::yield_now();
        }
        // The call sites learn of it a moment later.
        while place.sink.stats().emitted < 4 {
            assert!(began.elapsed() < LONG);
            say();
        }
    });
    let messages: Vec<String> = place.column("message");
    assert!(messages.contains(&"trace".to_owned()), "the error brought what was before it: {messages:?}");
}

/// A layer that keeps values as they are.
#[derive(Clone, Default)]
struct Plain(Arc<Mutex<String>>);

impl tracing::field::Visit for Plain {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        use std::fmt::Write;
        write!(self.0.lock().expect("text"), "{field}={value:?} ").expect("into memory");
    }
}

impl<S: Subscriber> Layer<S> for Plain {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        event.record(&mut self.clone());
    }
}

/// Control: a subscriber that formats values as they are shows the ones that are secret by name.
#[test]
fn secrets_and_the_types_of_secrecy_are_never_written() {
    let _alone = alone();
    let place = place("trace");
    let hidden = SecretString::from("hunter2-of-secrecy");
    let say = || {
        let _span = info_span!("request", authorization = "Bearer abc", user = "me").entered();
        debug!(api_key = "k-123", ?hidden, body = %"x".repeat(100), "sent to https://me:pw12@host");
        error!(tokens_used = 5, "Bearer abcdef0123456789");
    };
    let subscriber = tracing_subscriber::registry().with(place.sink.layer());
    tracing::subscriber::with_default(subscriber, say);
    let messages: Vec<String> = place.column("message");
    assert_eq!(messages, ["sent to https://[REDACTED]@host", "Bearer [REDACTED]"]);
    let fields = place.fields();
    assert_eq!(fields[0]["api_key"], "[REDACTED]");
    assert_eq!((&fields[0]["authorization"], &fields[0]["user"]), (&"[REDACTED]".into(), &"me".into()));
    assert_eq!(fields[0]["body"], "[REDACTED]");
    assert!(fields[0]["hidden"].as_str().expect("text").contains("[REDACTED]"));
    assert_eq!(fields[1]["tokens_used"], 5);
    assert!(!format!("{messages:?}{fields:?}").contains("hunter2"));

    let plain = Plain::default();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(plain.clone()), say);
    let text = plain.0.lock().expect("text").clone();
    assert!(text.contains("k-123") && text.contains("pw12") && !text.contains("hunter2"), "{text}");
}

/// Control: what the program says at the same level is taken.
#[test]
fn the_librarys_own_events_never_become_rows() {
    let _alone = alone();
    let place = place("trace");
    let subscriber = tracing_subscriber::registry().with(place.sink.layer());
    tracing::subscriber::set_global_default(subscriber).expect("the only global one");
    let other = processes::folder();
    // Opening, writing and closing say things of target `rowhouse`, on several threads.
    let runtime = Runtime::open(Home::at(other.path())).expect("opens");
    let goals = runtime.database("goals").expect("the domain");
    goals.write(|tx| tx.execute("CREATE TABLE own(n INTEGER)", [])).expect("a write");
    goals
        .write(|tx| {
            // In the middle of the library's spans, but the program's own.
            error!("from a job");
            tx.execute("INSERT INTO own VALUES (1)", [])
        })
        .expect("a write");
    runtime.close(LONG);
    for n in 0..100 {
        error!(n, "mine");
        place.sink.flush(LONG).expect("written");
    }
    let messages: Vec<String> = place.column("message");
    let mine = messages.iter().filter(|message| *message == "mine" || *message == "from a job").count();
    assert_eq!((mine, messages.len()), (101, 101), "{messages:?}");
    assert_eq!(place.sink.stats().emitted, 101);
}

/// A value that formats itself to more than can be kept is stopped.
#[test]
fn endless_values_are_cut() {
    struct Endless;
    impl std::fmt::Debug for Endless {
        fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            loop {
                formatter.write_str("and so on ")?;
            }
        }
    }
    let _alone = alone();
    let place = place("info");
    let subscriber = tracing_subscriber::registry().with(place.sink.layer());
    tracing::subscriber::with_default(subscriber, || info!(value = ?Endless, "{:?}", Endless));
    assert!(place.column::<i64>("bytes")[0] <= 64 << 10);
    assert!(place.column::<String>("message")[0].contains("[truncated, "));
    assert_eq!(place.sink.stats().truncated, 1);
}
