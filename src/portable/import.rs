//! Into a home: first the whole file is read and checked, then each thread comes in by itself.

use std::io::BufRead;
use std::path::Path;
use std::time::Duration;

use super::format::{Reader, Section, Transcript};
use super::rows::Arrival;
use super::{ImportOptions, ImportReport, NAMED, PortableCounts, PortableProblem, stream};
use crate::error::{Error, ErrorKind, Result};
use crate::rollout::arriving::{Arrived, Arriving, Received};
use crate::rollout::{Rollouts, read_metadata};
use crate::runtime::Runtime;
use crate::stores::threads::ThreadRow;
use crate::stores::threads::portable::Restored;
use crate::stores::threads::row::thread_id;
use crate::stores::threads::tombstone;

/// How long a thread is waited for that somebody is just done with.
const HAND_OVER: Duration = Duration::from_millis(250);

pub(super) fn import(
    runtime: &Runtime,
    file: &Path,
    options: &ImportOptions,
    heard: &mut dyn FnMut(&ImportReport),
) -> Result<ImportReport> {
    if runtime.is_ephemeral() && !options.dry_run {
        return Err(Error::new(ErrorKind::Unsupported, "a runtime that keeps nothing takes no transcripts")
            .advise("open a home without ephemeral()"));
    }
    check(file)?;
    // To look makes no home.
    let is_there = !options.dry_run || runtime.home().path().is_dir();
    let (reader, header) = Reader::begin(stream::source(file)?, file)?;
    let mut import = Import {
        runtime,
        rollouts: if is_there { Some(Rollouts::open(runtime.home())?) } else { None },
        reader,
        report: ImportReport {
            exported_by: header.program,
            exported_at: header.created_at,
            dry_run: options.dry_run,
            ..ImportReport::default()
        },
    };
    while let Some(section) = import.reader.next()? {
        import.report.counts.add(&section);
        import.section(section)?;
        heard(&import.report);
    }
    Ok(import.report)
}

/// Reads all of it.
fn check(file: &Path) -> Result<()> {
    let (mut reader, _) = Reader::begin(stream::source(file)?, file)?;
    while let Some(section) = reader.next()? {
        if let Some(transcript) = section.transcript {
            reader.skip(transcript.bytes)?;
            reader.end_of_transcript()?;
        }
        reader.check()?;
    }
    Ok(())
}

struct Import<'a> {
    runtime: &'a Runtime,
    /// `None` where there is no home yet, and none is to be made.
    rollouts: Option<Rollouts>,
    reader: Reader<Box<dyn BufRead>>,
    report: ImportReport,
}

impl Import<'_> {
    fn section(&mut self, mut section: Section) -> Result<()> {
        let dry_run = self.report.dry_run;
        section.id = thread_id(&section.id)?;
        let lease = match &self.rollouts {
            Some(rollouts) if !dry_run => rollouts.lease(&section.id, HAND_OVER).map(Some),
            _ => Ok(None),
        };
        let known = self.runtime.threads().get(&section.id)?;
        let transcript = section.transcript.take();
        let mut received = None;
        let mut refused = lease.as_ref().err().cloned();
        // With the lease nobody begins a deletion; one that died comes to its end with the next start.
        if self.runtime.database("state")?.read(|at| tombstone::stands(at, &section.id))? {
            let going = Error::new(ErrorKind::Conflict, "the thread is being deleted here");
            refused = refused.or(Some(going.advise("import it when it is gone")));
        }
        if let Some(transcript) = &transcript {
            let arriving = arriving(&section.id, transcript, known.as_ref(), dry_run);
            let end = self.reader.at + transcript.bytes;
            if refused.is_none() {
                match self.receive(&arriving) {
                    Ok(all) => received = all,
                    Err(error) => refused = Some(error),
                }
            }
            if refused.as_ref().is_some_and(|error| !is_of_the_thread(error)) {
                return refused.map_or(Ok(()), Err);
            }
            self.reader.skip(end - self.reader.at)?;
            self.reader.end_of_transcript()?;
        }
        self.reader.check()?;
        let brought = match refused {
            Some(error) => Err(error),
            None => self.bring_in(&section, transcript.as_ref(), received, known),
        };
        match brought {
            Ok((restored, problems)) => {
                match restored {
                    Restored::Inserted => self.report.new += 1,
                    Restored::Updated => self.report.updated += 1,
                    Restored::Unchanged => self.report.unchanged += 1,
                }
                for error in &problems {
                    self.leave(&section.id, error);
                }
                Ok(())
            }
            Err(error) if is_of_the_thread(&error) => {
                self.leave(&section.id, &error);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// `None` where there is no home to receive it.
    fn receive(&mut self, arriving: &Arriving<'_>) -> Result<Option<Received>> {
        let reader = &mut self.reader;
        let Some(rollouts) = &self.rollouts else { return arriving.check_name().map(|()| None) };
        rollouts.receive(arriving, &mut |to| reader.bytes(to)).map(Some)
    }

    fn bring_in(
        &self,
        section: &Section,
        transcript: Option<&Transcript>,
        received: Option<Received>,
        known: Option<ThreadRow>,
    ) -> Result<(Restored, Vec<Error>)> {
        let dry_run = self.report.dry_run;
        let settled = match (transcript, received, &self.rollouts) {
            (Some(transcript), Some(received), Some(rollouts)) => {
                let arriving = arriving(&section.id, transcript, known.as_ref(), dry_run);
                Some(rollouts.settle(received, &arriving)?)
            }
            (Some(transcript), _, None) => {
                let folder = if transcript.archived { "archived_sessions" } else { "sessions" };
                Some((Arrived::New, Path::new(folder).join(&transcript.name)))
            }
            _ => None,
        };
        // One that is damaged came as it was; its row says what was known of it.
        let derived = match &settled {
            Some((arrived, path)) if !dry_run || *arrived == Arrived::Known => read_metadata(path).ok(),
            _ => None,
        };
        let transcript = settled.as_ref().map(|(arrived, path)| (*arrived, path.as_path()));
        Arrival { section, transcript, derived, known }.bring_in(self.runtime, dry_run)
    }

    fn leave(&mut self, thread: &str, why: &Error) {
        self.report.left += 1;
        if self.report.problems.len() < NAMED {
            let problem = PortableProblem { thread: Some(thread.to_owned()), reason: why.to_string() };
            self.report.problems.push(problem);
        }
    }
}

fn arriving<'a>(
    thread: &'a str,
    transcript: &'a Transcript,
    known: Option<&'a ThreadRow>,
    dry_run: bool,
) -> Arriving<'a> {
    Arriving {
        thread,
        name: &transcript.name,
        archived: transcript.archived,
        bytes: transcript.bytes,
        hint: known.and_then(|known| known.rollout_path.as_deref()).map(Path::new),
        dry_run,
    }
}

/// Whether it is in the way of this thread alone: somebody writes it, it went on in both places, what is here of it is
/// damaged.
fn is_of_the_thread(error: &Error) -> bool {
    use ErrorKind::{Conflict, Corrupt, Invalid, NotFound, Unsupported};
    matches!(error.kind(), Conflict | Corrupt | Invalid | NotFound | Unsupported)
        && error.database().is_none()
}

impl PortableCounts {
    pub(super) fn add(&mut self, section: &Section) {
        self.rows += u64::from(section.row.is_some());
        self.goals += u64::from(section.goal.is_some());
        self.memories += u64::from(section.memory.is_some());
        self.edges += u64::from(section.edge.is_some());
        if let Some(transcript) = &section.transcript {
            self.transcripts += 1;
            self.transcript_bytes += transcript.bytes;
        }
    }
}
