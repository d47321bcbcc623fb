//! The application's recorder and subscriber learn what the databases do, and may use a database themselves.

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use common::*;
use metrics::Unit;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use rowhouse::{Database, Domain, ErrorKind, Home, Runtime};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// The recorder of this process.
fn recorder() -> &'static Snapshotter {
    static RECORDER: OnceLock<Snapshotter> = OnceLock::new();
    RECORDER.get_or_init(|| {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        recorder.install().expect("the only one");
        snapshotter
    })
}

/// What was published of a database: `name{label=value,...}` to unit and value.
fn published(database: &str) -> BTreeMap<String, (Option<Unit>, u64)> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let recorder = recorder();
    let published = {
        // What another test began to publish earlier must not come after it.
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        rowhouse::telemetry::publish();
        recorder.snapshot().into_vec()
    };
    let mut found = BTreeMap::new();
    for (key, unit, text, value) in published {
        let (_, key) = key.into_parts();
        let mut labels: Vec<_> =
            key.labels().map(|label| (label.key().to_owned(), label.value().to_owned())).collect();
        labels.sort_unstable();
        if !labels.contains(&("database".to_owned(), database.to_owned())) {
            continue;
        }
        assert!(text.is_some_and(|text| !text.is_empty()), "{} is described", key.name());
        labels.retain(|(name, _)| name != "database");
        let labels: Vec<_> = labels.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let value = match value {
            DebugValue::Counter(value) => value,
            DebugValue::Gauge(value) => value.into_inner() as u64,
            DebugValue::Histogram(_) => panic!("none of ours"),
        };
        found.insert(format!("{}{{{}}}", key.name(), labels.join(",")), (unit, value));
    }
    found
}

/// The same when all that was answered before is counted: the writer counts a batch after it has told its callers, and before
/// it begins the next one.
fn settled(db: &Database) -> BTreeMap<String, (Option<Unit>, u64)> {
    let next = Hold::writer(db);
    let found = published(db.name());
    next.release();
    found
}

fn open(folder: &std::path::Path, name: &str) -> (Runtime, Database) {
    let domain = Domain::new(name.to_owned()).migrations(MIGRATIONS);
    let runtime = Runtime::builder(Home::at(folder)).domain(domain).open().expect("opened");
    let db = runtime.database(name).expect("the domain");
    (runtime, db)
}

#[test]
fn what_is_counted_is_published_by_name_unit_and_label() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_runtime, db) = open(folder.path(), "published");
    let hold = Hold::writer(&db);
    let waiting = db.clone().background().submit(insert("a")).expect("queued");
    let found = published("published");
    assert_eq!(found["rowhouse_queued{lane=background}"], (Some(Unit::Count), 1));
    assert_eq!(found["rowhouse_queued{lane=normal}"], (Some(Unit::Count), 0));
    hold.release();
    waiting.wait().expect("written");
    assert_eq!(kind(db.write(|_| gave_up::<()>())), ErrorKind::Job);
    let found = settled(&db);
    let value =
        |name: &str| found.get(name).unwrap_or_else(|| panic!("{name} is not in {:?}", found.keys())).1;
    assert_eq!(value("rowhouse_jobs{}"), 2);
    assert_eq!(value("rowhouse_jobs_failed{}"), 1);
    assert_eq!(value("rowhouse_errors{kind=job}"), 1);
    assert_eq!(value("rowhouse_errors{kind=busy}"), 0);
    assert_eq!(value("rowhouse_queue_wait_us_count{lane=background}"), 1);
    assert_eq!(value("rowhouse_opens{}"), 1);
    assert!(value("rowhouse_opening_us{opening=first,phase=attach}") > 0);
    assert!(value("rowhouse_hold_us{quantile=1}") >= value("rowhouse_hold_us{quantile=0.5}"));
    let unit = |name: &str| found[name].0;
    assert_eq!(unit("rowhouse_hold_us{quantile=0.99}"), Some(Unit::Microseconds));
    assert_eq!(unit("rowhouse_hold_us_sum{}"), Some(Unit::Microseconds));
    assert_eq!(unit("rowhouse_hold_us_count{}"), Some(Unit::Count));
    assert_eq!(unit("rowhouse_written_bytes{}"), Some(Unit::Bytes));
}

#[test]
fn a_counter_goes_on_when_a_database_is_opened_again() {
    let folder = tempfile::tempdir().expect("a folder");
    for round in 1..=3 {
        let (runtime, db) = open(folder.path(), "again");
        db.write(count_me).expect("written");
        // With the job that looks, of the rounds before this one.
        assert_eq!(settled(&db)["rowhouse_jobs{}"].1, 2 * round - 1);
        runtime.close(LONG);
        assert_eq!(db.stats().jobs, 2, "stats() begins anew");
    }
    assert_eq!(published("again")["rowhouse_jobs{}"].1, 6);
    // The threads that end with it let go of it a moment later.
    until("nothing of it is so now", || published("again")["rowhouse_wal_pages{}"].1 == 0);
}

/// Notes every span, and writes into a database when it is told of one.
struct Nosy;

static SPANS: Mutex<Vec<String>> = Mutex::new(Vec::new());
static DATABASE: Mutex<Option<Database>> = Mutex::new(None);
static REFUSED: AtomicBool = AtomicBool::new(false);

fn nosy() {
    let db = DATABASE.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(Err(error)) = db.map(|db| db.write(count_me)) {
        assert_eq!(error.kind(), ErrorKind::Reentrant, "{error}");
        REFUSED.store(true, Ordering::SeqCst);
    }
}

impl Subscriber for Nosy {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "rowhouse"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        static LAST: AtomicU64 = AtomicU64::new(0);
        SPANS.lock().unwrap_or_else(PoisonError::into_inner).push(span.metadata().name().to_owned());
        nosy();
        Id::from_u64(LAST.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        nosy();
    }

    fn enter(&self, _: &Id) {
        nosy();
    }

    fn exit(&self, _: &Id) {
        nosy();
    }
}

#[test]
fn a_subscriber_that_writes_into_the_database_is_refused_and_never_waits_for_itself() {
    tracing::subscriber::set_global_default(Nosy).expect("the only one");
    let folder = tempfile::tempdir().expect("a folder");
    let (runtime, db) = open(folder.path(), "spans");
    *DATABASE.lock().unwrap_or_else(PoisonError::into_inner) = Some(db.clone());
    let working = aside(move || {
        let hold = Hold::writer(&db);
        let queued = db.submit(insert("a")).expect("queued");
        hold.release();
        queued.wait().expect("written");
        db.reopen().expect("opened again");
        runtime.backup(&rowhouse::BackupOptions::default(), &mut |_| {}).expect("a backup");
    });
    soon(&working);
    *DATABASE.lock().unwrap_or_else(PoisonError::into_inner) = None;
    assert!(REFUSED.load(Ordering::SeqCst), "it was told inside the writer");
    let spans = SPANS.lock().unwrap_or_else(PoisonError::into_inner);
    for name in ["open", "look", "connect", "lock_wait", "migrate", "batch", "backup"] {
        assert!(spans.iter().any(|span| span == name), "{name} is not in {spans:?}");
    }
}
