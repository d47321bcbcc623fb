//! Names, pins, goals, the archive: what a user says about a thread.

use std::time::Duration;

use super::super::store::{not_found, refuse_place};
use super::{HAND_OVER, Inner};
use crate::error::{ErrorKind, Result};
use crate::rollout::{CompressReport, Recorder, UserFacts, read_metadata};
use crate::sqlite::now_unix_ms;
use crate::stores::goals::Goal;
use crate::stores::threads::{Change, GitFacts, GitPatch, ThreadPatch, ThreadRow};

impl Inner {
    /// What a user says goes into the transcript first; then the index takes the whole patch.
    pub(super) fn update_metadata(&self, thread: &str, patch: &ThreadPatch) -> Result<ThreadRow> {
        refuse_place(patch)?;
        patch.check()?;
        if patch.is_empty() {
            return self.read(thread);
        }
        let patched = || match self.index.patch(thread, patch) {
            Err(error) if error.kind() == ErrorKind::NotFound => Err(not_found(thread)),
            patched => patched,
        };
        let said = said_by(patch);
        if said.is_empty() && patch.git == GitPatch::default() {
            // Whose transcript it is derived from is the one to say it.
            let _right =
                self.writing(thread).is_none().then(|| self.rollouts.lease(thread, HAND_OVER)).transpose()?;
            return match self.index.patch_soon(thread, patch) {
                Err(error) if error.kind() == ErrorKind::NotFound => Err(not_found(thread)),
                patched => patched,
            };
        }
        // The row, where there is one yet, knows the git facts that nobody said.
        let known = self.read(thread)?.git;
        let say = |recorder: &mut Recorder| {
            let mut said = said;
            if patch.git != GitPatch::default() {
                let before = match &recorder.said().git {
                    Change::Set(git) => git.clone(),
                    Change::Clear => GitFacts::default(),
                    Change::Leave => known,
                };
                said.git = Change::Set(git_after(&before, &patch.git));
            }
            recorder.say(said)?.written()?;
            recorder.flush()
        };
        self.with_recorder(thread, say, patched)
    }

    /// Says the thread's goal in its transcript, as the goals database has it now.
    pub(super) fn record_goal(&self, thread: &str) -> Result<Option<Goal>> {
        let goals = self.runtime.goals();
        let mut recorded = None;
        let say = |recorder: &mut Recorder| {
            // Read as the writer: of two that record at once the later one says what was set later.
            recorded = goals.get(thread)?;
            if recorded.is_none() && !matches!(recorder.said().goal, Change::Set(_)) {
                return Ok(());
            }
            let goal = recorded.clone().map_or(Change::Clear, Change::Set);
            recorder.say(UserFacts { goal, ..UserFacts::default() })?.written()?;
            recorder.flush()
        };
        self.with_recorder(thread, say, || Ok(()))?;
        Ok(recorded)
    }

    /// `go_on` is asked after each one.
    pub(super) fn compress_archived(
        &self,
        older_than: Duration,
        most: u64,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<CompressReport> {
        self.rollouts.compress_each(older_than, most, &mut |path| {
            // A row that cannot be made now is made by the next backfill; meanwhile the transcript is found by its name.
            let _ = read_metadata(path).and_then(|found| self.index.put(&found.thread));
            go_on()
        })
    }

    pub(super) fn move_to_archive(&self, thread: &str, archived: bool) -> Result<ThreadRow> {
        let work = |recorder: &mut Recorder| {
            if archived {
                recorder.archive(i64::try_from(now_unix_ms()).unwrap_or(i64::MAX))
            } else {
                recorder.unarchive()
            }
        };
        self.with_recorder(thread, work, || self.read(thread))
    }
}

fn said_by(patch: &ThreadPatch) -> UserFacts {
    let pinned = patch.is_pinned.map_or(Change::Leave, Change::Set);
    let mode = patch.memory_mode.map_or(Change::Leave, Change::Set);
    UserFacts { name: patch.name.clone(), is_pinned: pinned, memory_mode: mode, ..UserFacts::default() }
}

fn git_after(before: &GitFacts, patch: &GitPatch) -> GitFacts {
    fn over(before: Option<&String>, change: &Change<String>) -> Option<String> {
        match change {
            Change::Leave => before.cloned(),
            Change::Set(text) => Some(text.clone()).filter(|text| !text.is_empty()),
            Change::Clear => None,
        }
    }
    GitFacts {
        sha: over(before.sha.as_ref(), &patch.sha),
        branch: over(before.branch.as_ref(), &patch.branch),
        origin_url: over(before.origin_url.as_ref(), &patch.origin_url),
    }
}
