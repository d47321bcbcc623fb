//! Out of a home, in one pass: rows in the order of their ids, then transcripts without a row, then what else names a
//! thread that has no row.
//!
//! Rows come while this runs, also before the place where it is: an import of transcripts makes them. So the later parts
//! skip threads that were sent with their row, not those that have one by now.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;

use super::format::{Edge, Section, Writer};
use super::leaves::Leaves;
use super::stream::Sink;
use super::{ExportReport, NAMED, PortableProblem};
use crate::error::{Error, ErrorKind, Result};
use crate::home;
use crate::rollout::leaving::Leaving;
use crate::rollout::{Rollouts, id_of, walk};
use crate::runtime::Runtime;
#[cfg(feature = "postgres")]
use crate::stores::database::Engine;
use crate::stores::goals::{GoalQuery, Goals};
use crate::stores::spawn_edges::SpawnEdge;
use crate::stores::threads::ThreadRow;
#[cfg(feature = "postgres")]
use crate::thread_store::leaving;

/// Rows that are read at a time.
const PAGE: u32 = 50;
const BLOCK: usize = 256 << 10;

pub(super) fn export(
    runtime: &Runtime,
    to: &Path,
    heard: &mut dyn FnMut(&ExportReport),
) -> Result<ExportReport> {
    let failed = |error| Error::io("write the export", to, error);
    if to.symlink_metadata().is_ok() {
        return Err(is_there(to));
    }
    let absolute = std::path::absolute(to).map_err(failed)?;
    let folder = absolute.parent().unwrap_or(&absolute);
    // Mode 0600, and gone again unless it gets its name.
    let file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder).map_err(failed)?;
    let mut report = write(runtime, file.as_file(), to, heard)?;
    report.bytes = file.as_file().metadata().map_err(failed)?.len();
    report.file.clone_from(&absolute);
    file.persist_noclobber(&absolute).map_err(|error| match error.error.kind() {
        std::io::ErrorKind::AlreadyExists => is_there(to),
        _ => failed(error.error),
    })?;
    home::sync_folder(folder)?;
    Ok(report)
}

fn write(
    runtime: &Runtime,
    file: &File,
    to: &Path,
    heard: &mut dyn FnMut(&ExportReport),
) -> Result<ExportReport> {
    let mut export = Export {
        runtime,
        #[cfg(feature = "postgres")]
        state: runtime.engine("state")?,
        rollouts: if runtime.is_ephemeral() { None } else { Some(Rollouts::open(runtime.home())?) },
        goals: runtime.goals_if_any(),
        writer: Writer::begin(Sink::of(file, to)?, to)?,
        with_row: HashSet::new(),
        elsewhere: HashSet::new(),
        report: ExportReport { file: to.to_owned(), ..ExportReport::default() },
        heard,
    };
    export.rows()?;
    export.transcripts_without_row()?;
    export.what_else_has_no_row()?;
    let Export { writer, report, .. } = export;
    let written = writer.end()?.finish().and_then(|()| file.sync_all());
    written.map_err(|error| Error::io("write the export", to, error))?;
    Ok(report)
}

fn is_there(file: &Path) -> Error {
    Error::new(ErrorKind::Conflict, "the file exists already")
        .at_path(file)
        .advise("name one that does not, or move it away")
}

struct Export<'a> {
    runtime: &'a Runtime,
    #[cfg(feature = "postgres")]
    state: Engine,
    /// `None` where nothing is kept.
    rollouts: Option<Rollouts>,
    goals: Option<Goals>,
    writer: Writer<Sink<'a>>,
    /// Threads that were sent with their row.
    with_row: HashSet<String>,
    /// Those of them whose transcript is not where that says, if there is one.
    elsewhere: HashSet<String>,
    report: ExportReport,
    heard: &'a mut dyn FnMut(&ExportReport),
}

impl Export<'_> {
    fn rows(&mut self) -> Result<()> {
        let threads = self.runtime.threads();
        let mut last = String::new();
        loop {
            let page = threads.behind(&last, PAGE)?;
            let Some(end) = page.last() else { return Ok(()) };
            last.clone_from(&end.id);
            for row in page {
                self.thread(row)?;
            }
        }
    }

    fn thread(&mut self, row: ThreadRow) -> Result<()> {
        let id = row.id.clone();
        self.with_row.insert(id.clone());
        let leaving = self.leaving_of(&row)?;
        if leaving.is_none() {
            self.elsewhere.insert(id.clone());
        }
        let goal = match &self.goals {
            Some(goals) => goals.get(&id)?,
            None => None,
        };
        let section = Section {
            edge: self.runtime.spawn_edges().parent(&id)?.map(edge),
            goal,
            memory: self.runtime.memories().output(&id)?,
            // It says nothing anywhere else.
            row: Some(ThreadRow { rollout_path: None, ..row }),
            id,
            ..Section::default()
        };
        self.section(section, leaving)
    }

    /// Whether the thread was sent with its row; sends one whose row has come meanwhile.
    fn was_sent(&mut self, id: &str) -> Result<bool> {
        if !self.with_row.contains(id) {
            let Some(row) = self.runtime.threads().get(id)? else { return Ok(false) };
            self.thread(row)?;
        }
        Ok(true)
    }

    /// The history of a thread, on the server or in a file. One on a server that cannot be a transcript is left out.
    fn leaving_of(&mut self, row: &ThreadRow) -> Result<Option<Leaves>> {
        #[cfg(feature = "postgres")]
        if self.state.as_file().is_none() {
            match leaving::leaving(&self.state, row)? {
                leaving::Leaving::Nothing => {}
                leaving::Leaving::Whole(history) => return Ok(Some(Leaves::Rows(history))),
                leaving::Leaving::Odd(error) => {
                    self.leave_out(Some(row.id.clone()), &error);
                    return Ok(None);
                }
            }
        }
        Ok(self.transcript_of(row)?.map(Leaves::File))
    }

    /// The transcript that a row names, wherever it lies.
    fn transcript_of(&self, row: &ThreadRow) -> Result<Option<Leaving>> {
        let (Some(rollouts), Some(hint)) = (&self.rollouts, &row.rollout_path) else { return Ok(None) };
        // It may be moved between the look and the opening; twice is nobody.
        for _ in 0..2 {
            let Some(path) = rollouts.near(&row.id, Path::new(hint)) else { return Ok(None) };
            match rollouts.leaving(&path, &row.id, row.created_at) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                leaving => return leaving.map(Some),
            }
        }
        Ok(None)
    }

    fn transcripts_without_row(&mut self) -> Result<()> {
        let Some(rollouts) = self.rollouts.clone() else { return Ok(()) };
        for found in walk(rollouts.home_path())? {
            let file = match found {
                Ok(file) => file,
                Err(error) => {
                    self.leave_out(None, &error);
                    continue;
                }
            };
            // Of one that is damaged its name tells the thread.
            let id = match (id_of(&file.path), file.id_in_name()) {
                (Ok(id), _) | (Err(_), Some(id)) => id,
                (Err(error), None) => {
                    self.leave_out(None, &error);
                    continue;
                }
            };
            if self.was_sent(&id)? && !self.elsewhere.remove(&id) {
                continue;
            }
            match rollouts.leaving(&file.path, &id, file.stamp.mtime_ns / 1_000_000) {
                Ok(leaving) => {
                    self.section(Section { id, ..Section::default() }, Some(Leaves::File(leaving)))?;
                }
                // It was moved since; its other place has its turn, or had it.
                Err(error) => self.leave_out(Some(id), &error),
            }
        }
        Ok(())
    }

    fn what_else_has_no_row(&mut self) -> Result<()> {
        let mut last = String::new();
        loop {
            let page = self.runtime.spawn_edges().behind(&last, PAGE)?;
            let Some(end) = page.last() else { break };
            last.clone_from(&end.child_id);
            for found in page {
                if !self.was_sent(&found.child_id)? {
                    let id = found.child_id.clone();
                    self.section(Section { id, edge: Some(edge(found)), ..Section::default() }, None)?;
                }
            }
        }
        let mut last = String::new();
        loop {
            let page = self.runtime.memories().behind(&last, PAGE)?;
            let Some(end) = page.last() else { break };
            last.clone_from(&end.thread_id);
            for memory in page {
                if !self.was_sent(&memory.thread_id)? {
                    let id = memory.thread_id.clone();
                    self.section(Section { id, memory: Some(memory), ..Section::default() }, None)?;
                }
            }
        }
        let Some(goals) = self.goals.clone() else { return Ok(()) };
        let mut query = GoalQuery::new().limit(PAGE);
        loop {
            let page = goals.list(&query)?;
            for goal in page.goals {
                if !self.was_sent(&goal.thread_id)? {
                    let id = goal.thread_id.clone();
                    self.section(Section { id, goal: Some(goal), ..Section::default() }, None)?;
                }
            }
            let Some(next) = page.next_cursor else { return Ok(()) };
            query = GoalQuery::new().limit(PAGE).cursor(next);
        }
    }

    fn section(&mut self, mut section: Section, leaving: Option<Leaves>) -> Result<()> {
        section.transcript = leaving.as_ref().map(Leaves::transcript);
        self.report.counts.add(&section);
        self.writer.section(section)?;
        if let Some(mut leaving) = leaving {
            let mut block = vec![0; BLOCK];
            loop {
                match leaving.read(&mut block)? {
                    0 => break,
                    read => self.writer.bytes(&block[..read])?,
                }
            }
            self.writer.bytes(b"\n")?;
        }
        self.writer.check()?;
        self.report.bytes = self.writer.bytes;
        (self.heard)(&self.report);
        Ok(())
    }

    fn leave_out(&mut self, thread: Option<String>, why: &Error) {
        self.report.left_out += 1;
        if self.report.problems.len() < NAMED {
            self.report.problems.push(PortableProblem { thread, reason: why.to_string() });
        }
    }
}

fn edge(edge: SpawnEdge) -> Edge {
    Edge { parent_id: edge.parent_id, status: edge.status, created_at: edge.created_at }
}
