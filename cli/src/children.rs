//! Child processes that work together: each says when it is ready, all start on one line, each answers one line.
//!
//! Invariant: no child outlives what started it. A signal that ends the program ends them first, and one whose parent was
//! killed sees the end of its standard input. Tests: `cli/tests/signals.rs`.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::bench::workloads::Synchronous;
use crate::bench::workloads::callers::{Measured, insert_for};
use crate::bench::workloads::goals;
use crate::bench::workloads::opens::{self, Opener};
use crate::bench::workloads::storm::{self, Second};
use crate::bench::workloads::subjects::Kind;
use crate::signals;

const READY: &str = "ready";
/// How long opening, and the last answers after the time is up, may take.
const PATIENCE: Duration = Duration::from_mins(2);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What one child does.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Task {
    /// Inserts for a while.
    Insert(Work),
    /// Opens the built-in databases of a home once.
    Open(Opener, PathBuf),
    /// Keeps the built-in databases of a home open until it is let go.
    Keep(PathBuf),
    /// Submits events to the logs of a home, on so many threads, for a while.
    Storm(PathBuf, usize, Duration),
    /// Adds to the goal of a home, with so many callers, for a while.
    Account(PathBuf, usize, Duration),
    /// Is inside a write transaction on these databases of a home until it is let go.
    Hold(PathBuf, Vec<String>),
}

/// How one child inserts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Work {
    pub(crate) subject: Kind,
    pub(crate) folder: PathBuf,
    pub(crate) domain: String,
    pub(crate) synchronous: Synchronous,
    pub(crate) callers: usize,
    pub(crate) time: Duration,
}

/// The first word of a child's command line; what is to be done follows as JSON.
const WORKER: &str = "worker";

/// What this process was started for by another one of this program; `None` when a person started it.
pub(crate) fn task_of_this_process() -> Option<String> {
    let mut words = std::env::args_os().skip(1);
    (words.next()? == WORKER)
        .then(|| words.next().and_then(|task| task.into_string().ok()).unwrap_or_default())
}

/// Runs as a child: gets ready, waits for the line, works, reports.
pub(crate) fn work(task: &str) -> Result<()> {
    let task = serde_json::from_str(task).context("this command is for the program itself")?;
    let measured = match task {
        Task::Storm(home, threads, time) => {
            let runtime = rowhouse::Runtime::open(rowhouse::Home::at(home))?;
            wait_for_the_start()?;
            return report(&storm::run(&runtime, threads, time)?);
        }
        Task::Insert(work) => {
            let subject = work.subject.open(&work.folder, &work.domain, work.synchronous)?;
            wait_for_the_start()?;
            // Closed before the report, so that what it promises is on disk when the parent counts.
            insert_for(&subject, work.callers, work.time)?
        }
        Task::Account(home, callers, time) => {
            let runtime = goals::open(&home)?;
            wait_for_the_start()?;
            goals::account_for(&runtime, callers, time)?
        }
        Task::Open(opener, home) => {
            wait_for_the_start()?;
            Measured::once(opener.time(&home)?)
        }
        Task::Keep(home) => {
            let _kept = Opener::Rowhouse.open(&home)?;
            wait_for_the_start()?;
            Measured::default()
        }
        Task::Hold(home, databases) => {
            let _held = opens::hold(&home, &databases)?;
            wait_for_the_start()?;
            Measured::default()
        }
    };
    report(&measured)
}

/// Said before the report is: this process ends by itself from then on.
static REPORTED: AtomicBool = AtomicBool::new(false);

fn report(measured: &impl Serialize) -> Result<()> {
    REPORTED.store(true, Ordering::SeqCst);
    writeln!(std::io::stdout(), "{}", serde_json::to_string(measured)?)?;
    Ok(())
}

fn wait_for_the_start() -> Result<()> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{READY}")?;
    stdout.flush()?;
    let mut line = String::new();
    if std::io::stdin().lock().read_line(&mut line)? == 0 {
        bail!("the parent went away before the start");
    }
    end_with_the_parent();
    Ok(())
}

/// Ends this process when the parent closes its standard input, as its end does. The work has no other end before its time.
fn end_with_the_parent() {
    std::thread::spawn(|| {
        // An error is no reason to go on either: nobody is there who could end this process.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        // A parent that has its report waits for the end of this process without anything more to say.
        if !REPORTED.load(Ordering::SeqCst) {
            std::process::exit(1);
        }
    });
}

/// Lets several processes insert at once and answers what each of them saw. `look` runs every 20 ms.
///
/// # Errors
/// When a child cannot be started, fails, or does not answer; the others are ended.
pub(crate) fn insert(
    processes: usize,
    work: &Work,
    mut look: impl FnMut() -> Result<()>,
) -> Result<Vec<Measured>> {
    Group::start(processes, &Task::Insert(work.clone()))?.run(work.time, &mut look)
}

/// Lets several processes open a home at once and answers how long each of them took.
///
/// # Errors
/// As for [`insert`].
pub(crate) fn open(processes: usize, opener: Opener, home: &Path) -> Result<Vec<Measured>> {
    Group::start(processes, &Task::Open(opener, home.to_owned()))?.run(Duration::ZERO, &mut || Ok(()))
}

/// Lets several processes add to the goal of a home at once and answers what each of them saw.
///
/// # Errors
/// As for [`insert`].
pub(crate) fn account(
    processes: usize,
    home: &Path,
    callers: usize,
    time: Duration,
) -> Result<Vec<Measured>> {
    Group::start(processes, &Task::Account(home.to_owned(), callers, time))?.run(time, &mut || Ok(()))
}

/// Lets several processes submit events to the logs of a home and answers what each of them saw in each second. `look` runs
/// every 20 ms.
///
/// # Errors
/// As for [`insert`].
pub(crate) fn storm(
    processes: usize,
    home: &Path,
    threads: usize,
    time: Duration,
    mut look: impl FnMut() -> Result<()>,
) -> Result<Vec<Vec<Second>>> {
    Group::start(processes, &Task::Storm(home.to_owned(), threads, time))?.run(time, &mut look)
}

/// A process inside a write transaction on each of these databases, until the answer is dropped.
///
/// # Errors
/// As for [`insert`].
pub(crate) fn hold(home: &Path, databases: &[&str]) -> Result<Holder> {
    let names = databases.iter().map(|&name| name.to_owned()).collect();
    Holder::start(&Task::Hold(home.to_owned(), names))
}

/// A process that has a home open, until the answer is dropped.
///
/// # Errors
/// As for [`insert`].
pub(crate) fn keep(home: &Path) -> Result<Holder> {
    Holder::start(&Task::Keep(home.to_owned()))
}

/// Ends the process when it is dropped; the kernel then frees its locks.
pub(crate) struct Holder {
    _group: Group,
}

impl Holder {
    fn start(task: &Task) -> Result<Self> {
        let mut group = Group::start(1, task)?;
        group.wait_until_ready(&mut || Ok(()))?;
        Ok(Self { _group: group })
    }
}

struct Group {
    children: Vec<Child>,
    lines: Receiver<(usize, Option<String>)>,
}

impl Group {
    fn start(processes: usize, task: &Task) -> Result<Self> {
        let program = std::env::current_exe().context("finding this program to start it again")?;
        let task = serde_json::to_string(task)?;
        let (sender, lines) = channel();
        let mut group = Self { children: Vec::with_capacity(processes), lines };
        for index in 0..processes {
            let mut child = Command::new(&program)
                .args([WORKER, &task])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .context("starting a process")?;
            let stdout = child.stdout.take().context("a child without a standard output")?;
            group.children.push(child);
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if sender.send((index, Some(line))).is_err() {
                        return;
                    }
                }
                // The receiver is gone when nobody wants to know any more.
                let _ = sender.send((index, None));
            });
        }
        Ok(group)
    }

    fn wait_until_ready(&mut self, look: &mut impl FnMut() -> Result<()>) -> Result<()> {
        let mut ready = vec![false; self.children.len()];
        while ready.contains(&false) {
            let (index, line) = self.next_line(Instant::now() + PATIENCE, look)?;
            if line.as_deref() != Some(READY) {
                bail!("process {index} answered something else than `{READY}`");
            }
            ready[index] = true;
        }
        Ok(())
    }

    /// Starts them all, waits for their reports, and for their end.
    fn run<R: DeserializeOwned + Clone>(
        self,
        time: Duration,
        look: &mut impl FnMut() -> Result<()>,
    ) -> Result<Vec<R>> {
        let _ended_first = signals::clear_up_at_end();
        // Dropped, which ends the children, before the signal goes on.
        let mut group = self;
        group.wait_until_ready(look)?;
        group.release()?;
        let until = Instant::now() + time + PATIENCE;
        let mut reports = vec![None; group.children.len()];
        while reports.iter().any(Option::is_none) {
            let (index, line) = group.next_line(until, look)?;
            let Some(line) = line else {
                if reports[index].is_none() {
                    bail!("process {index} ended without a report");
                }
                continue;
            };
            reports[index] =
                Some(serde_json::from_str(&line).with_context(|| format!("the report of process {index}"))?);
        }
        group.finish()?;
        Ok(reports.into_iter().flatten().collect())
    }

    /// The next line of any child; `None` for one whose output ended, and that well.
    fn next_line(
        &mut self,
        until: Instant,
        look: &mut impl FnMut() -> Result<()>,
    ) -> Result<(usize, Option<String>)> {
        loop {
            look()?;
            if signals::is_ending() {
                bail!("a signal ended the program");
            }
            match self.lines.recv_timeout(LOOK_EVERY) {
                Ok((index, None)) => {
                    self.expect_success(index)?;
                    return Ok((index, None));
                }
                Ok(line) => return Ok(line),
                Err(RecvTimeoutError::Timeout) if Instant::now() < until => {}
                Err(_) => bail!("the processes did not answer in time"),
            }
        }
    }

    fn release(&mut self) -> Result<()> {
        for child in &mut self.children {
            child.stdin.as_mut().context("a child without a standard input")?.write_all(b"go\n")?;
        }
        Ok(())
    }

    fn expect_success(&mut self, index: usize) -> Result<()> {
        let status = self.children[index].wait()?;
        if !status.success() {
            bail!("process {index} failed ({status})");
        }
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        (0..self.children.len()).try_for_each(|index| self.expect_success(index))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for child in &mut self.children {
            // Both fail only for a child that is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
