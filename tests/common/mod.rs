//! What the tests of the engine's promises share: a home of their own, a job that holds the writer, a raw connection
//! as the control.
#![allow(dead_code, unreachable_pub)]

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use rowhouse::{
    Database, Domain, Error, ErrorKind, Home, Limits, Migration, Result, Runtime, Snapshot, Ticket, Tx,
};

/// Longer than anything here takes; whoever waits so long hangs.
pub const LONG: Duration = Duration::from_secs(20);

/// Tables in which jobs can get into every kind of trouble.
pub const SQL: &str = "
    CREATE TABLE t(id INTEGER PRIMARY KEY, k TEXT UNIQUE, v TEXT);
    CREATE TABLE counter(name TEXT PRIMARY KEY, n INTEGER NOT NULL);
    INSERT INTO counter VALUES ('jobs', 0);
    CREATE TABLE parent(id INTEGER PRIMARY KEY);
    CREATE TABLE child(id INTEGER PRIMARY KEY,
                       parent INTEGER NOT NULL REFERENCES parent(id) DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE positive(n INTEGER NOT NULL CHECK (n > 0));
    CREATE TABLE fussy(v TEXT);
    CREATE TRIGGER roll_back BEFORE INSERT ON fussy WHEN new.v = 'roll back'
        BEGIN SELECT RAISE(ROLLBACK, 'rolled back'); END;
    CREATE TRIGGER complain BEFORE INSERT ON fussy WHEN new.v LIKE 'say %'
        BEGIN SELECT RAISE(ABORT, 'the value is secret-in-a-trigger'); END;";

/// The same as a migration.
pub const MIGRATIONS: &[Migration] = &[Migration { name: "V1__tables", sql: SQL }];

/// An insert that would run for minutes, with the row count to ask for.
pub const ENDLESS_INSERT: &str = "INSERT INTO t(v)
    SELECT 'endless' FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000)
                           SELECT i FROM n)";

/// A query that would run for minutes.
pub const ENDLESS_QUERY: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000000000) SELECT max(i) FROM n";

/// A home in a temporary folder, with one open domain `test`.
pub struct Place {
    // Dropped in this order: the folder last.
    pub db: Database,
    pub runtime: Runtime,
    pub folder: tempfile::TempDir,
}

/// The domain `test`.
pub fn domain() -> Domain {
    Domain::new("test").migrations(MIGRATIONS)
}

/// The default limits, but what is queued together is one batch, however slow the machine.
pub fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.batch_time = LONG;
    limits
}

impl Place {
    pub fn new() -> Self {
        Self::with(limits())
    }

    pub fn with(limits: Limits) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let runtime =
            Runtime::builder(Home::at(folder.path())).domain(domain()).limits(limits).open().expect("opened");
        let db = runtime.database("test").expect("the domain");
        Self { db, runtime, folder }
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("test.sqlite")
    }
}

/// A connection that the engine knows nothing of: for what happens without it, and to be in its way.
#[allow(clippy::disallowed_methods)] // not the library's own
pub fn raw(path: &std::path::Path) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(path).expect("a connection");
    connection.busy_timeout(LONG).expect("a timeout");
    connection.pragma_update(None, "foreign_keys", true).expect("foreign keys");
    connection
}

/// The tables of [`SQL`] in a database of their own, without the engine.
pub fn plain() -> (tempfile::TempDir, rusqlite::Connection) {
    let folder = tempfile::tempdir().expect("a folder");
    let connection = raw(&folder.path().join("plain.sqlite"));
    connection.pragma_update(None, "journal_mode", "wal").expect("WAL");
    connection.execute_batch(SQL).expect("the tables");
    (folder, connection)
}

/// Holds the writer inside a job, so that what is queued meanwhile becomes one batch.
pub struct Hold {
    go_on: Sender<()>,
    ticket: Ticket<()>,
}

impl Hold {
    /// Returns when the writer is inside.
    pub fn writer(db: &Database) -> Self {
        let (entered, inside) = channel();
        let (go_on, released) = channel::<()>();
        let ticket = db
            .clone()
            .within(LONG)
            .submit(move |_| {
                let _ = entered.send(());
                let _ = released.recv_timeout(LONG);
                Ok(())
            })
            .expect("queued");
        inside.recv_timeout(LONG).expect("the writer is inside");
        Self { go_on, ticket }
    }

    /// Lets the writer go on.
    pub fn release(self) {
        let _ = self.go_on.send(());
        self.ticket.wait().expect("the holding job does nothing");
    }

    /// Lets the writer go on and does not wait.
    pub fn let_go(&self) {
        let _ = self.go_on.send(());
    }
}

/// A job that inserts one row and counts itself.
pub fn insert(k: &'static str) -> impl Fn(&Tx) -> Result<()> + Send + 'static {
    move |tx| {
        tx.execute("INSERT INTO t(k) VALUES (?1)", [k])?;
        count_me(tx)
    }
}

/// Adds one to the counter.
pub fn count_me(tx: &Tx) -> Result<()> {
    tx.execute("UPDATE counter SET n = n + 1 WHERE name = 'jobs'", [])?;
    Ok(())
}

/// How often jobs counted.
pub fn counted(db: &Database) -> i64 {
    db.read(|at| number(at, "SELECT n FROM counter WHERE name = 'jobs'")).expect("the counter")
}

/// One number.
pub fn number(at: &Snapshot, sql: &str) -> Result<i64> {
    at.row(sql, [], |row| row.get(0))
}

/// The keys in `t`.
pub fn keys(db: &Database) -> Vec<String> {
    db.read(|at| at.rows("SELECT k FROM t WHERE k IS NOT NULL ORDER BY k", [], |row| row.get(0)))
        .expect("the keys")
}

/// The kind of an error; fails for an answer.
pub fn kind<T: std::fmt::Debug>(answer: Result<T>) -> ErrorKind {
    answer.expect_err("an error").kind()
}

/// What waits for a thread that must answer.
pub fn soon<T>(from: &Receiver<T>) -> T {
    from.recv_timeout(LONG).expect("an answer in time")
}

/// Runs `work` on a thread of its own; its answer comes through the channel.
pub fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (send, receive) = channel();
    std::thread::spawn(move || drop(send.send(work())));
    receive
}

/// Waits that long without doing anything: only to let a deadline pass.
pub fn let_pass(time: Duration) {
    let (_keep, never) = channel::<()>();
    let _ = never.recv_timeout(time);
}

/// Looks every millisecond until `holds`, for what ends by itself at an unknown moment.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !holds() {
        assert!(started.elapsed() < LONG, "{what} did not come");
        let_pass(Duration::from_millis(1));
    }
}

/// Database files of a folder that this process has open.
pub fn open_files(folder: &std::path::Path) -> Vec<PathBuf> {
    let folder = folder.canonicalize().expect("the folder");
    let fds = std::fs::read_dir("/proc/self/fd").expect("/proc").flatten();
    fds.filter_map(|fd| std::fs::read_link(fd.path()).ok()).filter(|path| path.starts_with(&folder)).collect()
}

/// The simplest executor: polls on this thread, sleeps between.
pub fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => std::thread::park_timeout(LONG),
        }
    }
}

/// A job's own error.
#[derive(Debug, PartialEq)]
pub struct GaveUp;

impl std::fmt::Display for GaveUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("gave up")
    }
}

impl std::error::Error for GaveUp {}

/// The answer of a job that gives up.
pub fn gave_up<T>() -> Result<T> {
    Err(Error::job(GaveUp))
}
