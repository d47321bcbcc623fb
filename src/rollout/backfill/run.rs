//! One run over a folder.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::reading::{self, Candidate, Found, Reading};
use super::worker::Stop;
use super::{FACTS, missing};
use crate::error::{Error, ErrorKind, Result};
use crate::rollout::layout::{self, RolloutFile, Walk, walk};
use crate::rollout::metadata::{self, BadRollout};
use crate::stores::backfill::claim::{Batch, Claim, FileNote, Noted, lost};
use crate::stores::backfill::{
    Backfill, BackfillCounts, BackfillProblem, BackfillProgress, BackfillReport, BackfillState, KnownNote,
    NAMED, Reread, root_text,
};
use crate::stores::threads::{FileStamp, KnownFile, ThreadFacts, Threads, Upserted};

pub(super) struct Run<'a> {
    backfill: &'a Backfill,
    threads: Threads,
    root: String,
    reread: Reread,
    /// Taken when there is something to write.
    claim: Option<Claim>,
    /// What others had done when it was taken.
    before: BackfillProgress,
    report: BackfillReport,
    total: Option<u64>,
    listed: bool,
    stop: &'a Stop,
    heard: &'a mut dyn FnMut(&BackfillProgress),
    marked: Instant,
    /// Jobs that the database had done, and those of them that were this run's.
    jobs_seen: u64,
    own_jobs: u64,
}

impl<'a> Run<'a> {
    /// # Errors
    /// `NotFound` when there is no such folder, `Invalid` when it is a file.
    pub(super) fn new(
        backfill: &'a Backfill,
        root: &Path,
        reread: Reread,
        stop: &'a Stop,
        heard: &'a mut dyn FnMut(&BackfillProgress),
    ) -> Result<Self> {
        let root = root_text(walk(root)?.root())?.to_owned();
        let jobs_seen = backfill.database()?.stats().jobs;
        Ok(Self {
            threads: backfill.threads(),
            backfill,
            root,
            reread,
            claim: None,
            before: BackfillProgress::default(),
            report: BackfillReport::default(),
            total: None,
            listed: false,
            stop,
            heard,
            marked: Instant::now(),
            jobs_seen,
            own_jobs: 0,
        })
    }

    /// Everything, or until it is stopped.
    ///
    /// # Errors
    /// `Busy` naming the process that runs a backfill of this home; the engine's.
    pub(super) fn until_done(mut self) -> Result<BackfillReport> {
        match self.all() {
            Ok(()) => {
                self.report.complete = !self.stop.is_set();
                let progress = self.progress();
                let ours = match self.claim.take() {
                    Some(claim) if self.report.complete => claim.finish(progress)?,
                    Some(claim) => claim.release()?,
                    None => true,
                };
                if !ours {
                    return Err(lost());
                }
                self.tell();
                Ok(self.report)
            }
            Err(error) => {
                // Where that cannot be written either, the next one sees that nobody has the right any more.
                let _ = self.claim.take().map(Claim::release);
                Err(error)
            }
        }
    }

    fn all(&mut self) -> Result<()> {
        let stored = self.backfill.stored(&self.root)?;
        let is_done = stored.is_some_and(|stored| {
            stored.state == BackfillState::Complete && !stored.everything && stored.facts >= FACTS
        });
        if !is_done || self.reread == Reread::Everything {
            self.have_claim()?;
        }
        let root = PathBuf::from(&self.root);
        match self.claim.as_ref().and_then(|claim| claim.watermark.clone()) {
            Some(watermark) => {
                let watermark = Path::new(&watermark);
                self.files(walk(&root)?.behind(watermark), true)?;
                // What changed meanwhile among those that were done.
                self.files(walk(&root)?.up_to(watermark), false)?;
            }
            None => self.files(walk(&root)?, true)?,
        }
        if self.stop.is_set() {
            return Ok(());
        }
        self.is_listed()?;
        self.read_whole()?;
        if self.stop.is_set() {
            return Ok(());
        }
        self.forget_what_is_gone()?;
        let missing = missing::find(self.backfill, &self.root)?;
        self.report.missing = missing.len() as u64;
        self.report.missing_files = missing.into_iter().take(NAMED).collect();
        Ok(())
    }

    fn have_claim(&mut self) -> Result<&Claim> {
        if self.claim.is_none() {
            let claim = self.backfill.claim(&self.root, self.reread, FACTS)?;
            self.before = claim.progress;
            self.total = claim.progress.total;
            self.listed = claim.listed;
            self.report.taken_over_from.clone_from(&claim.taken_over_from);
            self.marked = Instant::now();
            self.own_jobs += 1;
            self.claim = Some(claim);
        }
        Ok(self.claim.as_ref().unwrap_or_else(|| unreachable!("it was just taken")))
    }

    /// A part of the walk. With `forward` the watermark moves along. While a batch is stored the next one is read.
    fn files(&mut self, mut walk: Walk, forward: bool) -> Result<()> {
        let stop = self.stop;
        let mut read: Option<Read> = None;
        loop {
            // What the next batch counts is counted with it: what is stored says what was done before it, and no more.
            let before = std::mem::take(&mut self.report.counts);
            let chosen = self.choose(&mut walk, forward)?;
            let counts = std::mem::replace(&mut self.report.counts, before);
            let found = match read.take() {
                Some(read) => reading::ends_beside(&chosen.files, stop, || self.keep(read))?,
                None => reading::ends(&chosen.files, stop),
            };
            let Some(found) = found.filter(|_| !stop.is_set()) else { return Ok(()) };
            if chosen.last.is_none() {
                self.report.counts = self.report.counts.and(counts);
                return Ok(());
            }
            read = Some(Read { chosen, found, counts });
        }
    }

    /// The next batch of the walk, and what of it is to be read; nothing at its end.
    fn choose(&mut self, walk: &mut Walk, forward: bool) -> Result<Chosen> {
        let size = self.backfill.its_limits().batch.max(1);
        let mut batch = Vec::with_capacity(size);
        for found in walk {
            match found {
                Ok(file) => batch.extend(self.candidate(file)),
                Err(error) => self.problem(Path::new(&self.root.clone()), None, &error),
            }
            if batch.len() == size || self.stop.is_set() {
                break;
            }
        }
        let last = batch.last().map(|last| last.path.clone());
        // What comes before the watermark was read in this run, whoever did it.
        let everything = |run: &Self| forward && run.claim.as_ref().is_some_and(|claim| claim.everything);
        let (mut wanted, bad) = self.wanted(batch, everything(self))?;
        if self.claim.is_none() && !wanted.is_empty() {
            self.have_claim()?;
            // Whoever had the backfill a moment ago may have read them.
            wanted = self.wanted(wanted, everything(self))?.0;
        }
        let new = wanted.len();
        Ok(Chosen { files: wanted.into_iter().chain(bad).collect(), new, last, forward })
    }

    /// Stores what was read of a batch, if there is anything new in it.
    fn keep(&mut self, Read { chosen, found, counts }: Read) -> Result<()> {
        self.report.counts = self.report.counts.and(counts);
        let readings = chosen.files.into_iter().zip(found);
        let readings = readings.map(|(candidate, found)| Reading { candidate, found });
        let mut read: Vec<_> = readings.collect();
        // What was bad was tried again; as long as it is, nothing is written.
        let again = read.split_off(chosen.new);
        let (still_bad, better): (Vec<_>, Vec<_>) =
            again.into_iter().partition(|reading| reading.found.is_err());
        for reading in &still_bad {
            if let Err(bad) = &reading.found {
                self.bad(&reading.candidate.path, bad);
            }
        }
        read.extend(better);
        if read.is_empty() {
            self.beat()?;
        } else {
            self.store(read, chosen.last.filter(|_| chosen.forward), false)?;
        }
        if self.total.is_none() && self.claim.is_some() {
            self.total = Some(layout::walk(Path::new(&self.root))?.count_names());
        }
        self.tell();
        Ok(())
    }

    fn candidate(&mut self, file: RolloutFile) -> Option<Candidate> {
        self.report.counts.files += 1;
        if file.compressed {
            self.report.counts.compressed += 1;
            // The plain one beside it counts, and has its own turn.
            if cfg!(not(feature = "zstd")) || layout::plain_beside(&file.path).is_some() {
                return None;
            }
        }
        let Some(path) = file.path.to_str().map(str::to_owned) else {
            let error = Error::new(ErrorKind::Unsupported, "its path is not UTF-8");
            self.problem(&file.path, None, &error);
            return None;
        };
        Some(Candidate { file, path })
    }

    /// Those that are to be read, and those that could not be read before.
    fn wanted(
        &mut self,
        mut batch: Vec<Candidate>,
        everything: bool,
    ) -> Result<(Vec<Candidate>, Vec<Candidate>)> {
        let counts = &mut self.report.counts;
        if !everything {
            let keys: Vec<_> = batch.iter().map(|one| (one.path.as_str(), one.file.stamp)).collect();
            let mut known = self.threads.are_read(&keys)?.into_iter();
            let before = batch.len();
            batch.retain(|_| !known.next().unwrap_or(false));
            counts.unchanged += (before - batch.len()) as u64;
        }
        if batch.is_empty() {
            return Ok((batch, Vec::new()));
        }
        let keys: Vec<_> = batch.iter().map(|one| (one.path.as_str(), one.file.stamp)).collect();
        let notes = self.backfill.notes(&keys)?;
        // Most duplicates are told by their name, and are not even read.
        let ids: Vec<_> = batch
            .iter()
            .zip(&notes)
            .map(|(one, note)| match note {
                Some(KnownNote::Duplicate { thread_id }) => thread_id.clone(),
                _ => one.file.id_in_name().unwrap_or_default(),
            })
            .collect();
        let longest = longest_known(&self.threads, self.backfill.home(), &ids)?;
        let (mut wanted, mut bad) = (Vec::new(), Vec::new());
        for ((one, note), id) in batch.into_iter().zip(notes).zip(&ids) {
            if note == Some(KnownNote::Bad) && !everything {
                bad.push(one);
            } else if longest
                .get(id.as_str())
                .is_some_and(|known| known.beats(self.backfill.home(), &one.path, one.file.stamp.size))
            {
                self.report.counts.duplicates += 1;
            } else {
                wanted.push(one);
            }
        }
        Ok((wanted, bad))
    }

    /// Stores one file per thread: the longest, if it is longer than the one known.
    fn store(&mut self, read: Vec<Reading>, watermark: Option<String>, whole: bool) -> Result<()> {
        let mut batch = Batch { watermark, ..Batch::default() };
        let mut good = Vec::with_capacity(read.len());
        for Reading { candidate, found } in read {
            match found {
                Ok(facts) => {
                    let counts = &mut self.report.counts;
                    counts.bytes_read += facts.bytes_read;
                    counts.bad_lines += facts.bad_lines;
                    counts.read_whole += u64::from(whole);
                    good.push((candidate, facts));
                }
                // Gone since its folder was read.
                Err(bad) if bad.error.kind() == ErrorKind::NotFound => batch.forget.push(candidate.path),
                Err(bad) => {
                    let reason = bad.error.message().to_owned();
                    self.bad(&candidate.path, &bad);
                    let what = Noted::Bad { line: bad.line, reason };
                    batch.notes.push(FileNote { path: candidate.path, stamp: candidate.file.stamp, what });
                }
            }
        }
        let ids: Vec<_> = good.iter().map(|(_, facts)| facts.thread.id.clone()).collect();
        let mut longest = longest_known(&self.threads, self.backfill.home(), &ids)?;
        for (id, (_, facts)) in ids.iter().zip(&good) {
            let (path, size) = place(&facts.thread);
            let home = self.backfill.home();
            if longest.get(id.as_str()).is_some_and(|known| known.beats(home, path, size)) {
                continue;
            }
            let at_home = is_below(home, path);
            let now = Longest { path: path.to_owned(), size, at_home, unchanged: None };
            let before = longest.insert(id, now);
            if let Some(Longest { path: before, unchanged: Some(stamp), .. }) = before
                && before != path
                && layout::id_in_name(Path::new(&before)).as_ref() != Some(id)
            {
                // From now on it has no row that says that it was read.
                let what = Noted::Duplicate { thread_id: id.clone() };
                batch.notes.push(FileNote { path: before, stamp, what });
            }
        }
        let mut goals = Vec::new();
        for (id, (candidate, facts)) in ids.iter().zip(good) {
            let thread_id = id.clone();
            let stamp = facts.thread.stamp.unwrap_or(candidate.file.stamp);
            let is_longest = longest.get(id.as_str()).is_some_and(|known| known.path == candidate.path);
            let what = if is_longest {
                (!facts.whole && !facts.snapshot_at_end).then_some(Noted::Ends { thread_id })
            } else {
                self.report.counts.duplicates += u64::from(!whole);
                (candidate.file.id_in_name().as_ref() != Some(id)).then_some(Noted::Duplicate { thread_id })
            };
            match what {
                Some(what) => batch.notes.push(FileNote { path: candidate.path, stamp, what }),
                None => batch.forget.push(candidate.path),
            }
            if is_longest {
                goals.extend(facts.goal());
                batch.threads.push(facts.thread);
            }
        }
        // Before the rows: a file whose row is there is not read again.
        self.backfill.restore_goals(&goals)?;
        self.commit(&batch, whole)
    }

    fn commit(&mut self, batch: &Batch, whole: bool) -> Result<()> {
        let (before, counts, total, listed) = (self.before, self.report.counts, self.total, self.listed);
        let with = move |done: Upserted| {
            let own = BackfillCounts {
                imported: counts.imported + done.inserted,
                updated: counts.updated + done.updated,
                // A whole reading is the file's second turn.
                unchanged: counts.unchanged + if whole { 0 } else { done.unchanged },
                ..counts
            };
            (own, BackfillProgress { counts: before.counts.and(own), total, listed })
        };
        let began = Instant::now();
        let Some(done) = self.have_claim()?.store(batch, move |done| with(done).1)? else {
            return self.is_lost();
        };
        self.report.counts = with(done).0;
        self.marked = Instant::now();
        self.own_jobs += 1;
        self.rest_if_others_write(began)
    }

    /// While callers write, it rests for as long as its batch took.
    fn rest_if_others_write(&mut self, began: Instant) -> Result<()> {
        let jobs = self.backfill.database()?.stats().jobs;
        let others = jobs.saturating_sub(self.jobs_seen) > self.own_jobs;
        (self.jobs_seen, self.own_jobs) = (jobs, 0);
        if others {
            self.stop.rest(began.elapsed());
        }
        Ok(())
    }

    fn is_listed(&mut self) -> Result<()> {
        let had = std::mem::replace(&mut self.listed, true);
        let progress = self.progress();
        let Some(claim) = self.claim.as_ref().filter(|_| !had) else { return Ok(()) };
        if !claim.listed(progress)? {
            return self.is_lost();
        }
        self.own_jobs += 1;
        Ok(())
    }

    /// The second pass: files that may say more between their ends.
    fn read_whole(&mut self) -> Result<()> {
        let limits = self.backfill.its_limits().clone();
        let mut after: Option<String> = None;
        loop {
            let page = self.backfill.to_read_whole(&self.root, after.as_deref())?;
            let Some(last) = page.last().cloned() else { return Ok(()) };
            after = Some(last);
            self.have_claim()?;
            let mut readings = Vec::new();
            let mut bytes = 0;
            for path in page {
                let Some(reading) = self.one_whole(path)? else { return self.store(readings, None, true) };
                bytes += match &reading.found {
                    Ok(facts) => facts.bytes_read,
                    Err(bad) => bad.bytes_read,
                };
                readings.push(reading);
                if readings.len() >= limits.batch || bytes >= limits.batch_bytes {
                    self.store(std::mem::take(&mut readings), None, true)?;
                    bytes = 0;
                    self.tell();
                }
            }
            if !readings.is_empty() {
                self.store(readings, None, true)?;
                self.tell();
            }
        }
    }

    /// `None` when it was stopped.
    fn one_whole(&mut self, path: String) -> Result<Option<Reading>> {
        let mut trouble = None;
        let found = metadata::read_whole(Path::new(&path), &mut || {
            if self.stop.is_set() {
                return Err(Error::new(ErrorKind::Closed, "it was stopped"));
            }
            self.beat().inspect_err(|error| trouble = Some(error.clone()))
        });
        if let Some(error) = trouble {
            return Err(error);
        }
        if self.stop.is_set() {
            return Ok(None);
        }
        let file = RolloutFile {
            stamp: found.as_ref().ok().and_then(|facts| facts.thread.stamp).unwrap_or_default(),
            path: PathBuf::from(&path),
            archived: false,
            compressed: false,
        };
        Ok(Some(Reading { candidate: Candidate { file, path }, found }))
    }

    /// Notes of files that are not there any more.
    fn forget_what_is_gone(&mut self) -> Result<()> {
        let mut after: Option<String> = None;
        loop {
            let page = self.backfill.noted(&self.root, after.as_deref())?;
            let Some(last) = page.last().cloned() else { return Ok(()) };
            after = Some(last);
            let gone: Vec<_> = page.into_iter().filter(|path| missing::is_gone(Path::new(path))).collect();
            if !gone.is_empty() {
                self.commit(&Batch { forget: gone, ..Batch::default() }, true)?;
            }
        }
    }

    /// Says now and then that it is still at it.
    fn beat(&mut self) -> Result<()> {
        if self.marked.elapsed() < self.backfill.its_limits().heartbeat {
            return Ok(());
        }
        let Some(claim) = &self.claim else { return Ok(()) };
        if !claim.heartbeat()? {
            return self.is_lost();
        }
        self.marked = Instant::now();
        self.own_jobs += 1;
        Ok(())
    }

    fn is_lost<T>(&mut self) -> Result<T> {
        self.claim = None;
        Err(lost())
    }

    fn bad(&mut self, path: &str, bad: &BadRollout) {
        self.report.counts.bytes_read += bad.bytes_read;
        self.problem(Path::new(path), bad.line, &bad.error);
    }

    fn problem(&mut self, path: &Path, line: Option<u64>, error: &Error) {
        self.report.counts.bad += 1;
        if self.report.problems.len() < NAMED {
            let path = error.path().unwrap_or(path).to_owned();
            self.report.problems.push(BackfillProblem { path, line, reason: error.message().to_owned() });
        }
    }

    fn tell(&mut self) {
        let progress = self.progress();
        (self.heard)(&progress);
    }

    fn progress(&self) -> BackfillProgress {
        let counts = self.before.counts.and(self.report.counts);
        BackfillProgress { counts, total: self.total, listed: self.listed }
    }
}

/// What is to be read of a batch of the walk.
struct Chosen {
    files: Vec<Candidate>,
    /// So many of them are new; the others could not be read before.
    new: usize,
    /// The last file of the batch; `None` behind the last batch.
    last: Option<String>,
    /// The watermark moves there.
    forward: bool,
}

/// A batch that was read, and is not stored yet.
struct Read {
    chosen: Chosen,
    found: Vec<Found>,
    /// What choosing it counted.
    counts: BackfillCounts,
}

/// For each id the file that its row was read from, with its size of now, where that still is this thread's. One that
/// changed since is looked at: it may have become another's. A compressed one with the plain one beside it counts no more.
fn longest_known<'i>(
    threads: &Threads,
    home: Option<&Path>,
    ids: &'i [String],
) -> Result<HashMap<&'i str, Longest>> {
    let keys: Vec<_> = ids.iter().map(String::as_str).collect();
    let known = threads.files_of(&keys)?;
    let still = |id: &str, known: KnownFile| {
        let path = Path::new(&known.path);
        let now = layout::stamp(&path.symlink_metadata().ok().filter(std::fs::Metadata::is_file)?);
        let unchanged = Some(now).filter(|now| *now == known.stamp);
        let is_its = unchanged.is_some() || metadata::id_of(path).is_ok_and(|found| found == id);
        let counts = is_its && layout::plain_beside(path).is_none();
        let at_home = is_below(home, &known.path);
        counts.then_some(Longest { size: now.size, path: known.path, at_home, unchanged })
    };
    Ok(keys.into_iter().zip(known).filter_map(|(id, known)| Some((id, still(id, known?)?))).collect())
}

struct Longest {
    path: String,
    size: i64,
    /// It lies in the home that it is listed for.
    at_home: bool,
    /// Its stamp, while that is the one in the row.
    unchanged: Option<FileStamp>,
}

impl Longest {
    /// Of equals the one known stays, but where only the other one is at home: what a copied home lists is its own.
    fn beats(&self, home: Option<&Path>, path: &str, size: i64) -> bool {
        let stays = || self.at_home || !is_below(home, path);
        self.path != path && (self.size > size || (self.size == size && stays()))
    }
}

fn is_below(home: Option<&Path>, path: &str) -> bool {
    home.is_some_and(|home| Path::new(path).starts_with(home))
}

fn place(facts: &ThreadFacts) -> (&str, i64) {
    (facts.rollout_path.as_deref().unwrap_or_default(), facts.stamp.map_or(0, |stamp| stamp.size))
}
