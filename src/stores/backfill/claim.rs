//! A backfill that this process runs: the claim, and the marks that need it.
//!
//! Every mark carries the token of the claim. Whoever lost it changes nothing any more, the rows of its batch included,
//! and is told so.

use super::model::{BackfillOwner, BackfillProgress, BackfillState, Reread};
use super::owner::{self, Right};
use super::{Backfill, StoredBackfill, now, sql};
use crate::error::{Error, Result};
use crate::sql::{Session, Value};
use crate::sqlite::Database;
use crate::stores::threads::{self, FileStamp, ThreadFacts, Upserted, tombstone};

/// The right to run the backfill of one folder, and where to begin.
pub(crate) struct Claim {
    database: Database,
    root: String,
    token: String,
    /// The last file of the last batch that somebody finished.
    pub(crate) watermark: Option<String>,
    /// Every file has had its turn.
    pub(crate) listed: bool,
    /// Files are read again though they did not change.
    pub(crate) everything: bool,
    /// What was done before.
    pub(crate) progress: BackfillProgress,
    /// Whoever did it, if it did not leave word that it stopped.
    pub(crate) taken_over_from: Option<BackfillOwner>,
    #[allow(dead_code, reason = "held, not read")]
    right: Right,
}

/// What one batch brings, in one commit with its watermark.
#[derive(Default)]
pub(crate) struct Batch {
    /// The last of its files, in the order of the walk; `None` leaves the one before.
    pub(crate) watermark: Option<String>,
    pub(crate) threads: Vec<ThreadFacts>,
    pub(crate) notes: Vec<FileNote>,
    /// Files of which nothing is to be noted any more.
    pub(crate) forget: Vec<String>,
}

/// What is to be known of a file beside its thread's row.
pub(crate) struct FileNote {
    pub(crate) path: String,
    pub(crate) stamp: FileStamp,
    pub(crate) what: Noted,
}

pub(crate) enum Noted {
    /// It could not be read.
    Bad { line: Option<u64>, reason: String },
    /// Another file of this thread holds as much or more.
    Duplicate { thread_id: String },
    /// Only its ends were read.
    Ends { thread_id: String },
}

impl Backfill {
    /// Has the folder from now on: takes up where the last one stopped, or begins anew. `facts` says how transcripts are
    /// read today; what an older reading made is read again.
    ///
    /// # Errors
    /// `Busy` naming the process that runs a backfill of this home; the engine's.
    pub(crate) fn claim(&self, root: &str, reread: Reread, facts: i64) -> Result<Claim> {
        let right = self.take_right()?;
        let database = self.database.get()?.clone();
        let token = uuid::Uuid::now_v7().to_string();
        let owner = owner::this_process();
        let (start, before) = database.write(|tx| {
            let before = StoredBackfill::get(tx, root)?;
            let start = Start::after(before.as_ref(), reread, facts);
            put(tx, root, &token, &owner, &start)?;
            let before = before.filter(|before| before.state == BackfillState::Running);
            Ok((start, before.and_then(|before| before.owner)))
        })?;
        Ok(Claim {
            database,
            root: root.to_owned(),
            token,
            watermark: start.watermark,
            listed: start.listed,
            everything: start.everything,
            progress: start.progress,
            taken_over_from: before,
            right,
        })
    }
}

fn put(tx: &impl Session, root: &str, token: &str, owner: &BackfillOwner, start: &Start) -> Result<()> {
    let params: [Value; 12] = [
        root.into(),
        token.into(),
        owner.host.as_str().into(),
        owner.boot_id.as_str().into(),
        owner.pid.into(),
        owner.start_time.into(),
        now().into(),
        start.watermark.clone().into(),
        start.listed.into(),
        start.everything.into(),
        start.facts.into(),
        json(&start.progress).into(),
    ];
    tx.execute(sql::CLAIM, &params).map(drop)
}

/// Where a claim begins.
#[derive(Clone)]
struct Start {
    watermark: Option<String>,
    listed: bool,
    everything: bool,
    facts: i64,
    progress: BackfillProgress,
}

impl Start {
    fn after(before: Option<&StoredBackfill>, reread: Reread, facts: i64) -> Self {
        let anew = |everything, facts| Self {
            watermark: None,
            listed: false,
            everything,
            facts,
            progress: BackfillProgress::default(),
        };
        let Some(before) = before else { return anew(reread == Reread::Everything, facts) };
        let unfinished = before.state != BackfillState::Complete;
        let everything = reread == Reread::Everything || before.facts < facts;
        // A newer program's reading is not made an older one's.
        let facts = facts.max(before.facts);
        if unfinished && before.facts == facts && (before.everything || !everything) {
            return Self {
                watermark: before.watermark.clone(),
                listed: before.listed,
                everything: before.everything,
                facts,
                progress: before.progress,
            };
        }
        anew(everything || (unfinished && before.everything), facts)
    }
}

impl Claim {
    /// Stores a batch; `progress` becomes what was done with it. `None`, and nothing is stored, when somebody else has
    /// the backfill by now.
    ///
    /// # Errors
    /// The engine's; then nothing is stored.
    pub(crate) fn store(
        &self,
        batch: &Batch,
        progress: impl Fn(Upserted) -> BackfillProgress + Send + Sync,
    ) -> Result<Option<Upserted>> {
        self.database.write(|tx| self.put(tx, batch, &progress))
    }

    fn put(
        &self,
        tx: &impl Session,
        batch: &Batch,
        progress: impl Fn(Upserted) -> BackfillProgress,
    ) -> Result<Option<Upserted>> {
        if !self.mark(tx, sql::MARK, &[now().into(), batch.watermark.clone().into()])? {
            return Ok(None);
        }
        let ids: Vec<_> = batch.threads.iter().map(|facts| facts.id.clone()).collect();
        let done = threads::upsert(tx, &ids, &batch.threads)?;
        let some_go = tombstone::any(tx)?;
        for note in &batch.notes {
            if some_go && note.is_of_a_deleted_thread(tx)? {
                continue;
            }
            tx.execute(sql::PUT_FILE, &note.params())?;
        }
        for path in &batch.forget {
            tx.execute(sql::FORGET_FILE, &[path.as_str().into()])?;
        }
        self.mark(tx, sql::PROGRESS, &[json(&progress(done)).into()])?;
        Ok(Some(done))
    }

    /// Says that it is still at it. False when somebody else has the backfill by now; so for all of these.
    ///
    /// # Errors
    /// The engine's.
    pub(crate) fn heartbeat(&self) -> Result<bool> {
        self.database.write(|tx| self.mark(tx, sql::MARK, &[now().into(), Value::Null]))
    }

    /// Every file has had its turn.
    ///
    /// # Errors
    /// The engine's.
    pub(crate) fn listed(&self, progress: BackfillProgress) -> Result<bool> {
        self.database.write(|tx| self.mark(tx, sql::LISTED, &[now().into(), json(&progress).into()]))
    }

    /// Everything is done.
    ///
    /// # Errors
    /// The engine's.
    pub(crate) fn finish(self, progress: BackfillProgress) -> Result<bool> {
        self.database.write(|tx| self.mark(tx, sql::FINISH, &[now().into(), json(&progress).into()]))
    }

    /// Stops before the end; the next one goes on at the watermark.
    ///
    /// # Errors
    /// The engine's.
    pub(crate) fn release(self) -> Result<bool> {
        self.database.write(|tx| self.mark(tx, sql::RELEASE, &[now().into()]))
    }

    fn mark(&self, tx: &impl Session, text: &'static str, more: &[Value]) -> Result<bool> {
        let mut params = vec![self.root.as_str().into(), self.token.as_str().into()];
        params.extend_from_slice(more);
        Ok(tx.execute(text, &params)? == 1)
    }
}

impl FileNote {
    /// A file that could not be read has its thread in its name, if anywhere.
    fn is_of_a_deleted_thread(&self, tx: &impl Session) -> Result<bool> {
        match &self.what {
            Noted::Duplicate { thread_id } | Noted::Ends { thread_id } => tombstone::stands(tx, thread_id),
            Noted::Bad { .. } => {
                Ok(tombstone::all(tx)?.iter().any(|tombstone| self.path.contains(&tombstone.thread)))
            }
        }
    }

    fn params(&self) -> [Value; 8] {
        let (kind, thread_id, line, reason) = match &self.what {
            Noted::Bad { line, reason } => ("bad", None, *line, Some(reason)),
            Noted::Duplicate { thread_id } => ("duplicate", Some(thread_id), None, None),
            Noted::Ends { thread_id } => ("ends", Some(thread_id), None, None),
        };
        let FileStamp { size, mtime_ns, inode } = self.stamp;
        [
            self.path.as_str().into(),
            size.into(),
            mtime_ns.into(),
            inode.into(),
            kind.into(),
            thread_id.cloned().into(),
            line.and_then(|line| i64::try_from(line).ok()).into(),
            reason.cloned().into(),
        ]
    }
}

fn json(progress: &BackfillProgress) -> String {
    // Numbers and a flag: this cannot fail.
    serde_json::to_string(progress).unwrap_or_default()
}

/// The backfill is somebody else's: this one ends.
pub(crate) fn lost() -> Error {
    Error::new(crate::error::ErrorKind::Conflict, "another process has taken this backfill over")
        .advise("nothing is lost: it goes on there; to see how far it is: rowhouse backfill status")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::{Domain, Home, Runtime};

    const ROOT: &str = "/home/ada/sessions";
    const FACTS: i64 = 7;

    fn runtime(name: &str) -> Runtime {
        let home = Home::at(format!("/nowhere/claims-{name}"));
        Runtime::builder(home).domain(Domain::state()).ephemeral().open().expect("a runtime")
    }

    fn batch(watermark: &str, id: &str) -> Batch {
        let facts = ThreadFacts { id: id.to_owned(), ..ThreadFacts::default() };
        Batch { watermark: Some(watermark.to_owned()), threads: vec![facts], ..Batch::default() }
    }

    fn progress(files: u64) -> BackfillProgress {
        let mut progress = BackfillProgress::default();
        progress.counts.files = files;
        progress
    }

    const IDS: [&str; 2] = ["019cadf1-7a5e-7b04-8f21-000000000001", "019cadf1-7a5e-7b04-8f21-000000000002"];

    #[test]
    fn every_mark_of_an_owner_that_lost_it_is_false_and_changes_nothing() {
        let runtime = runtime("lost");
        let claim = || runtime.backfill().claim(ROOT, Reread::Changed, FACTS);
        let mut first = claim().expect("a claim");
        assert_eq!(claim().err().map(|error| error.kind()), Some(ErrorKind::Busy));
        first.store(&batch("a", IDS[0]), |_| progress(1)).expect("stored").expect("ours");
        // As if its lock file had been removed.
        drop(std::mem::replace(&mut first.right, Right::Memory("elsewhere".into())));
        let second = claim().expect("taken over");
        assert_eq!((second.watermark.as_deref(), second.progress), (Some("a"), progress(1)));
        assert_eq!(second.taken_over_from, Some(owner::this_process()));

        assert_eq!(first.store(&batch("z", IDS[1]), |_| progress(9)).expect("an answer"), None);
        assert!(!first.heartbeat().expect("an answer"));
        assert!(!first.listed(progress(9)).expect("an answer"));
        assert!(!first.finish(progress(9)).expect("an answer"));
        assert_eq!(runtime.threads().get(IDS[1]).expect("a look"), None);
        assert!(second.heartbeat().expect("an answer"));
        let status = &runtime.backfill().status().expect("a status")[0];
        assert_eq!(status.watermark.as_deref(), Some(std::path::Path::new("a")));
        assert_eq!((status.state, status.progress), (BackfillState::Running, progress(1)));
        assert!(second.finish(progress(2)).expect("an answer"));
    }

    #[test]
    fn a_claim_begins_where_the_last_one_stopped_and_anew_behind_a_complete_one() {
        let runtime = runtime("begin");
        let claim = |reread, facts| runtime.backfill().claim(ROOT, reread, facts).expect("a claim");
        let found = |claim: &Claim| (claim.watermark.clone(), claim.everything, claim.progress.counts.files);
        let at_a = || Some("a".to_owned());

        let first = claim(Reread::Changed, FACTS);
        assert_eq!(found(&first), (None, false, 0));
        first.store(&batch("a", IDS[0]), |_| progress(1)).expect("stored").expect("ours");
        assert!(first.release().expect("an answer"));
        let second = claim(Reread::Changed, FACTS);
        assert_eq!((found(&second), second.taken_over_from.clone()), ((at_a(), false, 1), None));
        assert!(second.finish(progress(2)).expect("an answer"));

        let third = claim(Reread::Everything, FACTS);
        assert_eq!(found(&third), (None, true, 0));
        third.store(&batch("a", IDS[0]), |_| progress(1)).expect("stored").expect("ours");
        drop(third);
        let fourth = claim(Reread::Changed, FACTS);
        assert_eq!(found(&fourth), (at_a(), true, 1), "everything, as it was begun");
        assert!(fourth.finish(progress(2)).expect("an answer"));

        // A program that draws more from a file reads them all again; an older one leaves that as it is.
        let newer = claim(Reread::Changed, FACTS + 1);
        assert_eq!(found(&newer), (None, true, 0));
        assert!(newer.finish(progress(2)).expect("an answer"));
        assert_eq!(found(&claim(Reread::Changed, FACTS)), (None, false, 0));
    }
}
