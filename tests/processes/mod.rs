//! Children for the tests that need more than one process.
//!
//! A test binary starts itself again with the filter `--exact child_entry`; what the child is to do stands in one
//! environment variable. Children print lines that begin with `@`, wait for lines on their standard input, and are
//! killed when their handle is dropped. Nobody ever waits for time.

#![allow(dead_code)] // each test file uses the part it needs

pub(crate) mod load;
pub(crate) mod said;
pub(crate) mod sparse;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rowhouse::rusqlite::Connection;
use rowhouse::{Domain, Home, Limits, Migration, Runtime};

const ROLE: &str = "ROWHOUSE_TEST_CHILD";
const SEPARATOR: char = '\u{1f}';

/// How long a line may take before the test fails, beside the time of the workload: far more than any machine needs.
const PATIENCE: Duration = Duration::from_mins(2);

/// The schema that most of these tests use.
pub(crate) const SCHEMA: &[Migration] = &[Migration {
    name: "V1__work",
    sql: "CREATE TABLE counter(id INTEGER PRIMARY KEY, n INTEGER NOT NULL);
          INSERT INTO counter VALUES (1, 0);
          CREATE TABLE item(id INTEGER PRIMARY KEY, job INTEGER NOT NULL, part INTEGER NOT NULL, body TEXT);
          CREATE INDEX item_by_job ON item(job, part);",
}];

/// A process that runs one role of this test binary.
pub(crate) struct Child {
    process: std::process::Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Child {
    /// Starts `role` with arguments.
    pub(crate) fn start(role: &str, arguments: &[&str]) -> Self {
        Self::start_in(role, arguments, &[])
    }

    /// The same with these variables in its environment.
    pub(crate) fn start_in(role: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut all = vec![role];
        all.extend(arguments);
        let mut process = Command::new(std::env::current_exe().expect("this test's binary"))
            .args(["--exact", "child_entry", "--nocapture", "--test-threads=1", "--quiet"])
            .env(ROLE, all.join(&SEPARATOR.to_string()))
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let stdin = process.stdin.take();
        let stdout = BufReader::new(process.stdout.take().expect("its output is piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // The harness of the child may print something before it on the same line.
                if let Some((_, line)) = line.split_once('@')
                    && sender.send(line.to_owned()).is_err()
                {
                    return;
                }
            }
        });
        Self { process, stdin, lines }
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.process.id()).expect("a process id")
    }

    /// The next line; `None` when the child has ended.
    pub(crate) fn line(&self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE + seconds(0.0)) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("child {} printed nothing for {PATIENCE:?}", self.pid()),
        }
    }

    /// The next line if it comes by `until`.
    pub(crate) fn line_by(&self, until: Instant) -> Option<String> {
        self.lines.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
    }

    /// Waits for a line that begins with `word`; answers the rest of it. Other lines are passed over.
    pub(crate) fn wait_for(&self, word: &str) -> String {
        while let Some(line) = self.line() {
            if let Some(rest) = line.strip_prefix(word) {
                return rest.trim().to_owned();
            }
        }
        panic!("child {} ended without saying {word}", self.pid());
    }

    /// Says something to the child.
    pub(crate) fn tell(&mut self, word: &str) {
        let stdin = self.stdin.as_mut().expect("a child is told something while it lives");
        writeln!(stdin, "{word}").expect("the child listens");
    }

    pub(crate) fn signal(&self, signal: i32) {
        // SAFETY: kill(2) with the id of a child that was not waited for, so that the id is still its own.
        assert_eq!(unsafe { libc::kill(self.pid(), signal) }, 0);
    }

    /// Stops the child, and waits until the kernel says that it is stopped.
    pub(crate) fn stop(&self) {
        self.signal(libc::SIGSTOP);
        let mut status = 0;
        // SAFETY: waits for our own child; WUNTRACED reports a stop and reaps nothing.
        let found = unsafe { libc::waitpid(self.pid(), &raw mut status, libc::WUNTRACED) };
        assert_eq!(found, self.pid());
        assert!(libc::WIFSTOPPED(status), "stopped, not ended");
    }

    pub(crate) fn go_on(&self) {
        self.signal(libc::SIGCONT);
    }

    /// kill -9; answers when it is gone.
    pub(crate) fn kill(&mut self) {
        self.signal(libc::SIGKILL);
        let status = self.process.wait().expect("our child");
        assert_eq!(status.signal(), Some(libc::SIGKILL));
    }

    /// What else it says, and how it ended.
    pub(crate) fn end(mut self) -> (Vec<String>, ExitStatus) {
        drop(self.stdin.take());
        let said = std::iter::from_fn(|| self.line()).collect();
        (said, self.process.wait().expect("our child"))
    }

    /// Lets the child end by itself and checks that it was content.
    pub(crate) fn finish(mut self) {
        drop(self.stdin.take());
        while self.line().is_some() {}
        let status = self.process.wait().expect("our child");
        assert!(status.success(), "child {}: {status}", self.pid());
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The arguments of a child. `None` in the test itself.
pub(crate) fn role() -> Option<Vec<String>> {
    let given = std::env::var(ROLE).ok()?;
    Some(given.split(SEPARATOR).map(str::to_owned).collect())
}

/// Prints a line to the test that started this child.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // A test that has gone does not listen any more.
    let _ = writeln!(out, "@{line}");
    let _ = out.flush();
}

/// Waits for a line of the test that started this child.
pub(crate) fn listen() -> String {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).expect("the test speaks");
    line.trim_end().to_owned()
}

/// Says that this child is ready, and waits until all may start.
pub(crate) fn ready() {
    say("ready");
    assert_eq!(listen(), "go");
}

/// Waits until all are ready, then starts them together.
pub(crate) fn start_together(children: &mut [Child]) {
    for child in &*children {
        child.wait_for("ready");
    }
    for child in children {
        child.tell("go");
    }
}

/// How long a workload runs: `default` seconds, or `ROWHOUSE_TEST_SECONDS`.
pub(crate) fn seconds(default: f64) -> Duration {
    let given =
        std::env::var("ROWHOUSE_TEST_SECONDS").ok().map(|text| text.parse().expect("a number of seconds"));
    Duration::from_secs_f64(given.unwrap_or(default))
}

/// How often something is repeated: `default`, or `ROWHOUSE_TEST_ROUNDS`.
pub(crate) fn rounds(default: u64) -> u64 {
    std::env::var("ROWHOUSE_TEST_ROUNDS")
        .ok()
        .map_or(default, |text| text.parse().expect("a number of rounds"))
}

/// A new folder on the disk of the system's temporary files.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("rowhouse-test-").tempdir().expect("a folder")
}

/// The path of a folder, as an argument of a child.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// A runtime with the one domain `work`.
pub(crate) fn open(home: &Path) -> Runtime {
    open_with(home, Limits::default())
}

pub(crate) fn open_with(home: &Path, limits: Limits) -> Runtime {
    Runtime::builder(Home::at(home))
        .domain(Domain::new("work").migrations(SCHEMA))
        .limits(limits)
        .open()
        .expect("the home opens")
}

/// The file of the domain `work`.
pub(crate) fn file(home: &Path) -> PathBuf {
    home.join("work.sqlite")
}

/// A connection without the library, to look at what it left. Only while this process has no runtime open there.
#[allow(clippy::disallowed_methods)] // a test looks from outside
pub(crate) fn plain(path: &Path) -> Connection {
    Connection::open(path).expect("the database opens")
}

/// The built-in databases.
pub(crate) const BUILT_IN: [&str; 4] = ["state", "logs", "goals", "device_keys"];

/// The body of a child that is inside a write transaction on one database, and knows nothing of the library.
pub(crate) fn hold(file: &Path) {
    let connection = plain(file);
    connection.execute_batch("BEGIN IMMEDIATE").expect("the write lock");
    say("holding");
    listen();
}

/// What SQLite says about the whole file.
pub(crate) fn integrity(path: &Path) -> String {
    plain(path).query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a check")
}

/// Numbers that a seed determines (xorshift).
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// A measurement that must come out right once in three times: other work on the machine only ever spoils it.
pub(crate) fn once_in_three(measure: impl Fn() -> Result<(), String>) {
    let mut found = Vec::new();
    for _ in 0..3 {
        match measure() {
            Ok(()) => return,
            Err(why) => found.push(why),
        }
    }
    panic!("{found:#?}");
}

/// `Err` with the text unless it holds.
pub(crate) fn holds(it: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if it { Ok(()) } else { Err(why()) }
}
