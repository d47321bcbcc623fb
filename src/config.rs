//! Limits: every bound the engine keeps, with its default. And what a home's own file says of it.

#[cfg(feature = "agent")]
pub(crate) mod backend;
#[cfg(feature = "agent")]
pub(crate) mod edit;
#[cfg(feature = "agent")]
pub(crate) mod file;
#[cfg(feature = "agent")]
pub(crate) mod known;
#[cfg(feature = "agent")]
pub(crate) mod lines;

use std::time::Duration;

/// Bounds of one database. `Default` gives the documented numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// How long a write, or the wait for a reader, may take unless the handle says otherwise. Default 30 s.
    pub deadline: Duration,
    /// Jobs that may wait in each lane. Default 4,096.
    pub queue_jobs: usize,
    /// Submitted jobs that a best-effort database keeps in each lane while it takes no writes, or not fast enough; of
    /// more, the oldest are dropped. Default 4,096.
    pub backlog_jobs: usize,
    /// Bytes that those may own, as told with [`Database::sized`](crate::Database::sized). Default 8 MiB.
    pub backlog_bytes: usize,
    /// Jobs that share a commit at most. Default 4,096: the time bound below is what counts.
    pub batch_jobs: usize,
    /// How long the jobs of a batch may run before it is committed. Default 5 ms.
    pub batch_time: Duration,
    /// How long a batch waits for its turn among processes before it goes on without. Default 250 ms.
    pub turn_wait: Duration,
    /// Read connections. Default 4.
    pub readers: u32,
    /// How long one read may hold its snapshot. Default 30 s.
    pub reader_age: Duration,
    /// Prepared statements kept per connection. Default 128.
    pub statement_cache: usize,
    /// Size of the write-ahead log, in bytes, from which it is worked off; at most a quarter of its cap. Default 4 MiB.
    pub wal_soft: u64,
    /// Size of the write-ahead log, in bytes, at which a best-effort database refuses writes, and a required one says in
    /// its health that it is not kept. It is only reached while somebody's snapshot keeps the log from being worked off.
    /// Writes are refused from three quarters of it on: the rest is for what is under way. Default 64 MiB; at most a
    /// quarter of [`Domain::max_bytes`](crate::Domain::max_bytes).
    pub wal_cap: u64,
    /// Bytes that best-effort databases leave free on the disk, for the others to go on: with less, they take no work but
    /// that of [`background`](crate::Database::background) handles, which is for making room, and count what they refuse in
    /// [`Stats::shed`](crate::Stats::shed). At most an eighth of the file system; 0 leaves nothing. Default 64 MiB.
    pub disk_reserve: u64,
    /// Page cache per connection in bytes. Default 8 MiB.
    pub page_cache: u64,
    /// Largest text, blob, row or SQL text in bytes (<https://sqlite.org/limits.html>, 1). Default 16 MiB.
    pub value_bytes: u32,
    /// How often a changed file is read as a whole in the background, to find damage; the first time so long after it was
    /// opened. Default 15 s. `Duration::MAX` turns it off.
    pub check_every: Duration,
    /// Copies of damaged or replaced files that are kept of a database in `quarantine/`, at least 2. They take at most twice
    /// the size of the largest. The first of a series and the newest stay. Default 3.
    pub quarantine_sets: usize,
    /// How long closing works off what is queued. Default 10 s.
    pub close_deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(30),
            queue_jobs: 4096,
            backlog_jobs: 4096,
            backlog_bytes: 8 << 20,
            batch_jobs: 4096,
            batch_time: Duration::from_millis(5),
            turn_wait: Duration::from_millis(250),
            readers: 4,
            reader_age: Duration::from_secs(30),
            statement_cache: 128,
            wal_soft: 4 << 20,
            wal_cap: 64 << 20,
            disk_reserve: 64 << 20,
            page_cache: 8 << 20,
            value_bytes: 16 << 20,
            check_every: Duration::from_secs(15),
            quarantine_sets: 3,
            close_deadline: Duration::from_secs(10),
        }
    }
}
