//! What the databases take of an imported thread.

use std::path::Path;

use super::format::Section;
use crate::error::{Error, ErrorKind, Result};
use crate::rollout::RolloutFacts;
use crate::rollout::arriving::Arrived;
use crate::rollout::layout::lies_archived;
use crate::runtime::Runtime;
use crate::sql::Session;
use crate::stores::memories;
use crate::stores::spawn_edges::{self, SpawnEdge};
use crate::stores::threads::portable::{Restored, restore};
use crate::stores::threads::{Change, GitFacts, ThreadFacts, ThreadRow, UserField, UserSet};

/// What a section brings, beside its transcript.
pub(super) struct Arrival<'a> {
    pub(super) section: &'a Section,
    /// What became of its transcript, and where that is.
    pub(super) transcript: Option<(Arrived, &'a Path)>,
    /// What the transcript says, where it could be read.
    pub(super) derived: Option<RolloutFacts>,
    /// The row that is here.
    pub(super) known: Option<ThreadRow>,
}

impl Arrival<'_> {
    /// Brings it in: the goal, then everything of the state database in one commit. Answers what became of the thread, and
    /// why parts of it did not come in.
    ///
    /// # Errors
    /// The engine's.
    pub(super) fn bring_in(&self, runtime: &Runtime, dry_run: bool) -> Result<(Restored, Vec<Error>)> {
        let Section { id, goal, .. } = self.section;
        let goals: Vec<_> = goal
            .iter()
            .filter(|goal| goal.thread_id == *id)
            .cloned()
            .chain(self.derived.as_ref().and_then(RolloutFacts::goal))
            .collect();
        // Before the row: a transcript that has its row is not read again.
        if !dry_run && !goals.is_empty() {
            runtime.goals().restore(&goals)?;
        }
        let facts = self.facts();
        let state = runtime.database("state")?;
        let (restored, refused) = if dry_run {
            state.read(|at| self.state(at, &facts, true))?
        } else {
            state.write(|tx| self.state(tx, &facts, false))?
        };
        let restored = match (dry_run, self.transcript) {
            // Nobody could read it yet.
            (true, Some((Arrived::New | Arrived::Longer, _))) if self.known.is_some() => Restored::Updated,
            (true, Some((Arrived::New | Arrived::Longer, _))) => Restored::Inserted,
            _ => restored,
        };
        Ok((restored, refused))
    }

    fn state(
        &self,
        at: &impl Session,
        facts: &[ThreadFacts],
        dry_run: bool,
    ) -> Result<(Restored, Vec<Error>)> {
        let Section { id, row, edge, memory, .. } = self.section;
        let memory_mode = row.as_ref().map(|row| row.memory_mode);
        let mut restored = restore(at, id, facts, memory_mode, dry_run)?;
        let mut refused = Vec::new();
        let mut more = |came: Result<bool>| match came {
            Ok(came) => {
                if came && restored == Restored::Unchanged {
                    restored = Restored::Updated;
                }
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::Invalid) => {
                refused.push(error);
                Ok(())
            }
            Err(error) => Err(error),
        };
        if let Some(edge) = edge {
            let edge = SpawnEdge {
                parent_id: edge.parent_id.clone(),
                child_id: id.clone(),
                status: edge.status,
                created_at: edge.created_at,
                depth: 1,
            };
            more(spawn_edges::restore(at, &edge, dry_run))?;
        }
        if let Some(memory) = memory.as_ref().filter(|memory| memory.thread_id == *id) {
            more(memories::portable::restore(at, memory, dry_run))?;
        }
        Ok((restored, refused))
    }

    /// What the transcript says, then what only the row does.
    fn facts(&self) -> Vec<ThreadFacts> {
        let mut facts = Vec::new();
        if let (Some((arrived, path)), Some(derived)) = (self.transcript, &self.derived) {
            let here = self.known.as_ref().and_then(|known| known.rollout_path.as_deref());
            if arrived != Arrived::Known || here.is_none_or(|here| Path::new(here) != path) {
                facts.push(derived.thread.clone());
            }
        }
        if let Some(row) = &self.section.row {
            facts.push(match &self.known {
                Some(known) if !self.went_on_there(row, known) => gaps_of(known, row),
                _ => self.all_of(row),
            });
        }
        facts
    }

    fn went_on_there(&self, row: &ThreadRow, known: &ThreadRow) -> bool {
        match self.transcript {
            Some((arrived, _)) => arrived != Arrived::Known,
            None => known.rollout_path.is_none() && row.updated_at > known.updated_at,
        }
    }

    fn all_of(&self, row: &ThreadRow) -> ThreadFacts {
        let derived = self.derived.as_ref().map(|derived| &derived.thread);
        let (mut archived_at, mut user_set) =
            (row.archived_at.map_or(Change::Clear, Change::Set), row.user_set);
        // Where the transcript lies has the last word.
        if self.transcript.is_some_and(|(_, path)| lies_archived(path) != row.archived_at.is_some()) {
            archived_at = Change::Leave;
            user_set = user_set.without(UserField::Archive);
        }
        let tokens = derived.and_then(|derived| derived.tokens_used).unwrap_or(0);
        ThreadFacts {
            id: self.section.id.clone(),
            rollout_path: None,
            stamp: None,
            created_at: row.created_at,
            updated_at: derived.map_or(row.updated_at, |derived| derived.updated_at),
            recency_at: row.recency_at,
            archived_at,
            source: row.source.clone(),
            model_provider: row.model_provider.clone(),
            model: row.model.clone(),
            reasoning_effort: row.reasoning_effort.clone(),
            cwd: row.cwd.clone(),
            title: row.title.clone(),
            name: row.name.clone(),
            preview: row.preview.clone(),
            first_user_message: row.first_user_message.clone(),
            cli_version: row.cli_version.clone(),
            sandbox_policy: row.sandbox_policy.clone(),
            approval_mode: row.approval_mode.clone(),
            tokens_used: Some(row.tokens_used.max(tokens)),
            git: row.git.clone(),
            agent_nickname: row.agent_nickname.clone(),
            agent_role: row.agent_role.clone(),
            forked_from_id: row.forked_from_id.clone(),
            is_pinned: row.is_pinned,
            // Beside the facts: it is not merged as they are.
            memory_mode: None,
            user_set,
        }
    }
}

/// What a user said of the thread there, and nobody said here.
fn gaps_of(known: &ThreadRow, row: &ThreadRow) -> ThreadFacts {
    let said = |field| row.user_set.contains(field) && !known.user_set.contains(field);
    let fields = [UserField::Name, UserField::Git, UserField::Pin].into_iter().filter(|field| said(*field));
    ThreadFacts {
        id: known.id.clone(),
        created_at: known.created_at,
        updated_at: known.updated_at,
        recency_at: row.recency_at,
        name: row.name.clone().filter(|_| said(UserField::Name) || known.name.is_none()),
        git: if said(UserField::Git) { row.git.clone() } else { GitFacts::default() },
        is_pinned: row.is_pinned,
        user_set: fields.fold(UserSet::default(), UserSet::with),
        ..ThreadFacts::default()
    }
}
