//! Child processes that write together: each says when it is ready, all start on one line, each answers one line.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::bench::workloads::Synchronous;
use crate::bench::workloads::callers::{Measured, insert_for};
use crate::bench::workloads::subjects::Kind;

const READY: &str = "ready";
/// How long opening, and the last answers after the time is up, may take.
const PATIENCE: Duration = Duration::from_mins(2);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What one child does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Work {
    pub(crate) subject: Kind,
    pub(crate) folder: PathBuf,
    pub(crate) domain: String,
    pub(crate) synchronous: Synchronous,
    pub(crate) callers: usize,
    pub(crate) time: Duration,
}

/// The hidden command that a child runs.
#[derive(Args)]
pub(crate) struct WorkerArguments {
    /// The work as JSON
    work: String,
}

/// Runs as a child: opens, says ready, waits for the line, works, reports.
pub(crate) fn work(arguments: &WorkerArguments) -> Result<()> {
    let work: Work =
        serde_json::from_str(&arguments.work).context("this command is for the program itself")?;
    let subject = work.subject.open(&work.folder, &work.domain, work.synchronous)?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{READY}")?;
    stdout.flush()?;
    let mut line = String::new();
    if std::io::stdin().lock().read_line(&mut line)? == 0 {
        bail!("the parent went away before the start");
    }
    let measured = insert_for(&subject, work.callers, work.time)?;
    // Closed before the report, so that what it promises is on disk when the parent counts.
    drop(subject);
    writeln!(stdout, "{}", serde_json::to_string(&measured)?)?;
    Ok(())
}

/// Runs the same work in several processes at once and answers what each of them saw. `look` runs every 20 ms.
///
/// # Errors
/// When a child cannot be started, fails, or does not answer; the others are ended.
pub(crate) fn run(
    processes: usize,
    work: &Work,
    mut look: impl FnMut() -> Result<()>,
) -> Result<Vec<Measured>> {
    let mut group = Group::start(processes, work)?;
    let mut ready = vec![false; processes];
    while ready.contains(&false) {
        let (index, line) = group.next_line(Instant::now() + PATIENCE, &mut look)?;
        if line.as_deref() != Some(READY) {
            bail!("writing process {index} answered something else than `{READY}`");
        }
        ready[index] = true;
    }
    group.release()?;
    let until = Instant::now() + work.time + PATIENCE;
    let mut reports = vec![None; processes];
    while reports.iter().any(Option::is_none) {
        let (index, line) = group.next_line(until, &mut look)?;
        let Some(line) = line else {
            if reports[index].is_none() {
                bail!("writing process {index} ended without a report");
            }
            continue;
        };
        reports[index] = Some(
            serde_json::from_str(&line).with_context(|| format!("the report of writing process {index}"))?,
        );
    }
    group.finish()?;
    Ok(reports.into_iter().flatten().collect())
}

struct Group {
    children: Vec<Child>,
    lines: Receiver<(usize, Option<String>)>,
}

impl Group {
    fn start(processes: usize, work: &Work) -> Result<Self> {
        let program = std::env::current_exe().context("finding this program to start it again")?;
        let work = serde_json::to_string(work)?;
        let (sender, lines) = channel();
        let mut group = Self { children: Vec::with_capacity(processes), lines };
        for index in 0..processes {
            let mut child = Command::new(&program)
                .args(["worker", &work])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .context("starting a writing process")?;
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

    /// The next line of any child; `None` for one whose output ended, and that well.
    fn next_line(
        &mut self,
        until: Instant,
        look: &mut impl FnMut() -> Result<()>,
    ) -> Result<(usize, Option<String>)> {
        loop {
            look()?;
            match self.lines.recv_timeout(LOOK_EVERY) {
                Ok((index, None)) => {
                    self.expect_success(index)?;
                    return Ok((index, None));
                }
                Ok(line) => return Ok(line),
                Err(RecvTimeoutError::Timeout) if Instant::now() < until => {}
                Err(_) => bail!("the writing processes did not answer in time"),
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
            bail!("writing process {index} failed ({status})");
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
