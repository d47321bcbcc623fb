//! How long the texts of a row may be: what is derived from a transcript is cut, and a page never holds more.
//!
//! | text | derived, in the row | listed |
//! |---|---|---|
//! | title, name, preview | 500 letters | 500 letters |
//! | first message, sandbox policy | 64 KiB | 4,096 letters |
//! | all others: words, paths, names | 64 KiB | as they are |
//!
//! So a page takes megabytes at most, also when another version, another program or a repair wrote long titles into the
//! rows. What one thread has in full is answered by its id. A cut text is not marked: it was cut where nobody reads to the
//! end.
//!
//! Tests: `tests/lists_stay_small.rs`.

use super::patch::{LONGEST_NAME, LONGEST_TEXT};
use super::row::{GitFacts, StoredThread, ThreadRow};

/// The row with its texts cut, and without NUL characters, which not every engine keeps.
pub(super) fn bounded(mut thread: StoredThread) -> StoredThread {
    let ThreadRow {
        id: _,
        rollout_path,
        created_at: _,
        updated_at: _,
        recency_at: _,
        archived_at: _,
        source,
        model_provider,
        model,
        reasoning_effort,
        cwd,
        title,
        name,
        preview,
        first_user_message,
        cli_version,
        sandbox_policy,
        approval_mode,
        tokens_used: _,
        git: GitFacts { sha, branch, origin_url },
        agent_nickname,
        agent_role,
        forked_from_id,
        is_pinned: _,
        memory_mode: _,
        user_set: _,
    } = &mut thread.row;
    for text in [title, name, preview] {
        clean(text, |text| text.char_indices().nth(LONGEST_NAME).map_or(text.len(), |(end, _)| end));
    }
    let others = [
        rollout_path,
        source,
        model_provider,
        model,
        reasoning_effort,
        cwd,
        first_user_message,
        cli_version,
        sandbox_policy,
        approval_mode,
        sha,
        branch,
        origin_url,
        agent_nickname,
        agent_role,
        forked_from_id,
    ];
    for text in others {
        clean(text, |text| text.floor_char_boundary(LONGEST_TEXT));
    }
    thread
}

/// Takes the NULs out first, so that they do not count; nothing is left of a text of nothing else.
fn clean(text: &mut Option<String>, end: impl Fn(&str) -> usize) {
    let Some(known) = text else { return };
    // Looked for first: few texts hold one, and to look costs a hundredth.
    if known.contains('\0') {
        known.retain(|letter| letter != '\0');
    }
    let end = end(known);
    if end < known.len() {
        known.truncate(end);
        known.shrink_to_fit();
    }
    if known.is_empty() {
        *text = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titled(title: &str) -> StoredThread {
        let row = ThreadRow {
            title: Some(title.to_owned()),
            sandbox_policy: Some(title.to_owned()),
            ..ThreadRow::default()
        };
        StoredThread { row, stamp: None }
    }

    #[test]
    fn texts_are_cut_between_letters_and_short_ones_stay() {
        let long = "日本".repeat(40_000);
        let row = bounded(titled(&long)).row;
        assert_eq!(row.title.expect("a title").chars().count(), LONGEST_NAME);
        let policy = row.sandbox_policy.expect("a policy");
        assert!(policy.len() <= LONGEST_TEXT && policy.len() > LONGEST_TEXT - 4 && long.starts_with(&policy));
        assert_eq!(bounded(titled("Fix the parser")), titled("Fix the parser"));
        assert_eq!(bounded(titled("Fix\0 it")), titled("Fix it"));
        assert_eq!(bounded(titled(&("\0".repeat(LONGEST_TEXT) + "Fix it"))), titled("Fix it"));
        assert_eq!(bounded(titled("\0\0")), StoredThread::default());
    }
}
