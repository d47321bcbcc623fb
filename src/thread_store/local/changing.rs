//! Names, pins, the archive: what a user says about a thread.

use super::super::store::{not_found, refuse_place};
use super::Inner;
use crate::error::{ErrorKind, Result};
use crate::rollout::{Recorder, UserFacts};
use crate::sqlite::now_unix_ms;
use crate::stores::threads::{Change, GitFacts, GitPatch, ThreadPatch, ThreadRow};

impl Inner {
    /// What a user says goes into the transcript first; then the index takes the whole patch.
    pub(super) fn update_metadata(&self, thread: &str, patch: &ThreadPatch) -> Result<ThreadRow> {
        refuse_place(patch)?;
        patch.check()?;
        if patch.is_empty() {
            return self.read(thread);
        }
        let said = said_by(patch);
        let git = patch.git.clone();
        if !said.is_empty() || git != GitPatch::default() {
            let row = self.read(thread)?;
            self.with_recorder(thread, |recorder| {
                let mut said = said;
                if git != GitPatch::default() {
                    said.git = Change::Set(git_after(&row.git, &git));
                }
                say(recorder, said)
            })?;
        }
        // The row may have been made just now, from the transcript.
        match self.index.patch(thread, patch) {
            Err(error) if error.kind() == ErrorKind::NotFound => Err(not_found(thread)),
            patched => patched,
        }
    }

    pub(super) fn move_to_archive(&self, thread: &str, archived: bool) -> Result<ThreadRow> {
        self.with_recorder(thread, |recorder| {
            if archived {
                recorder.archive(i64::try_from(now_unix_ms()).unwrap_or(i64::MAX))
            } else {
                recorder.unarchive()
            }
        })?;
        self.read(thread)
    }
}

fn say(recorder: &mut Recorder, said: UserFacts) -> Result<()> {
    recorder.say(said)?.written()?;
    recorder.flush()
}

fn said_by(patch: &ThreadPatch) -> UserFacts {
    let pinned = patch.is_pinned.map_or(Change::Leave, Change::Set);
    UserFacts { name: patch.name.clone(), is_pinned: pinned, ..UserFacts::default() }
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
