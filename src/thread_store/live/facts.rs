//! What a list shows of a running session, derived from what is appended.

use crate::rollout::{Item, derived};
use crate::stores::threads::{Change, ThreadPatch, ThreadRow};

/// How long items that say nothing else leave `updated_at` alone, in milliseconds.
pub(super) const BUMP_EVERY: i64 = 5_000;

/// What was told to the list so far.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// The first message was seen.
    titled: bool,
    updated_at: i64,
}

impl Facts {
    pub(super) fn of_row(row: &ThreadRow) -> Self {
        Self { titled: row.preview.is_some(), updated_at: row.updated_at }
    }

    /// The patch that these items make; empty when the list has nothing to learn from them.
    pub(super) fn observe(&mut self, thread: &str, items: &[Item], now: i64) -> ThreadPatch {
        let facts = derived::of_items(thread, items, now);
        let mut patch = ThreadPatch {
            model: said(facts.model),
            reasoning_effort: said(facts.reasoning_effort),
            sandbox_policy: said(facts.sandbox_policy),
            approval_mode: said(facts.approval_mode),
            tokens_used: facts.tokens_used,
            ..ThreadPatch::default()
        };
        if !self.titled && facts.preview.is_some() {
            self.titled = true;
            patch.title = said(facts.title);
            patch.preview = facts.preview;
            patch.first_user_message = facts.first_user_message;
        }
        if patch.is_empty() && facts.updated_at.saturating_sub(self.updated_at) < BUMP_EVERY {
            return patch;
        }
        self.updated_at = self.updated_at.max(facts.updated_at);
        patch.updated_at = Some(self.updated_at);
        patch.recency_at = Some(facts.recency_at);
        patch
    }
}

fn said(text: Option<String>) -> Change<String> {
    text.map_or(Change::Leave, Change::Set)
}

/// `later` over `earlier`, as one patch.
pub(super) fn both(earlier: ThreadPatch, later: ThreadPatch) -> ThreadPatch {
    fn over<T>(earlier: Change<T>, later: Change<T>) -> Change<T> {
        if let Change::Leave = later { earlier } else { later }
    }
    ThreadPatch {
        model: over(earlier.model, later.model),
        reasoning_effort: over(earlier.reasoning_effort, later.reasoning_effort),
        sandbox_policy: over(earlier.sandbox_policy, later.sandbox_policy),
        approval_mode: over(earlier.approval_mode, later.approval_mode),
        tokens_used: later.tokens_used.or(earlier.tokens_used),
        title: over(earlier.title, later.title),
        preview: later.preview.or(earlier.preview),
        first_user_message: later.first_user_message.or(earlier.first_user_message),
        updated_at: later.updated_at.or(earlier.updated_at),
        recency_at: later.recency_at.or(earlier.recency_at),
        ..ThreadPatch::default()
    }
}
