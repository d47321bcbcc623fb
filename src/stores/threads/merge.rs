//! What a row becomes when facts arrive.
//!
//! What a user set stays until a user sets it again, or moves the transcript into the archive or out of it; silence and
//! empty texts change nothing; recency only moves forward. Whether memories may be drawn is what a new thread's facts say,
//! and afterwards what is said through the store: a transcript repeats for ever how it began. What an earlier reading of
//! the same file found changes nothing. Merging the same facts twice gives the same row.

use std::path::Path;

use super::row::{Change, GitFacts, StoredThread, ThreadFacts, ThreadRow, UserField, directory_text};
use crate::rollout::layout::lies_archived;

pub(super) fn merge(before: Option<&StoredThread>, id: &str, facts: &ThreadFacts) -> StoredThread {
    if let Some(known) = before.filter(|known| is_earlier(facts, known)) {
        return known.clone();
    }
    let blank = StoredThread::default();
    let old = before.unwrap_or(&blank);
    let row = &old.row;
    let said = |field| facts.user_set.contains(field);
    let settled = |field| !said(field) && row.user_set.contains(field);
    let moved = was_moved(facts.rollout_path.as_deref(), row.rollout_path.as_deref());
    let mut user_set = row.user_set;
    for field in Vec::from(facts.user_set) {
        user_set = user_set.with(field);
    }
    StoredThread {
        row: ThreadRow {
            id: id.to_owned(),
            rollout_path: newer(&facts.rollout_path, &row.rollout_path),
            created_at: facts.created_at,
            updated_at: facts.updated_at,
            recency_at: before.map_or(facts.recency_at, |_| facts.recency_at.max(row.recency_at)),
            archived_at: if settled(UserField::Archive) && !moved {
                row.archived_at
            } else {
                archived(&facts.archived_at, row.archived_at, said(UserField::Archive))
            },
            source: newer(&facts.source, &row.source),
            model_provider: newer(&facts.model_provider, &row.model_provider),
            model: newer(&facts.model, &row.model),
            reasoning_effort: newer(&facts.reasoning_effort, &row.reasoning_effort),
            cwd: newer(&facts.cwd, &row.cwd).map(|cwd| directory_text(Path::new(&cwd))),
            title: newer(&facts.title, &row.title),
            name: if said(UserField::Name) {
                present(facts.name.as_ref())
            } else if settled(UserField::Name) {
                row.name.clone()
            } else {
                newer(&facts.name, &row.name)
            },
            preview: newer(&facts.preview, &row.preview),
            first_user_message: newer(&facts.first_user_message, &row.first_user_message),
            cli_version: newer(&facts.cli_version, &row.cli_version),
            sandbox_policy: newer(&facts.sandbox_policy, &row.sandbox_policy),
            approval_mode: newer(&facts.approval_mode, &row.approval_mode),
            tokens_used: facts.tokens_used.unwrap_or(row.tokens_used).max(0),
            git: if said(UserField::Git) {
                facts.git.clone()
            } else if settled(UserField::Git) {
                row.git.clone()
            } else {
                GitFacts {
                    sha: newer(&facts.git.sha, &row.git.sha),
                    branch: newer(&facts.git.branch, &row.git.branch),
                    origin_url: newer(&facts.git.origin_url, &row.git.origin_url),
                }
            },
            agent_nickname: newer(&facts.agent_nickname, &row.agent_nickname),
            agent_role: newer(&facts.agent_role, &row.agent_role),
            forked_from_id: newer(&facts.forked_from_id, &row.forked_from_id),
            is_pinned: if said(UserField::Pin) { facts.is_pinned } else { row.is_pinned },
            memory_mode: before.map_or(facts.memory_mode.unwrap_or_default(), |_| row.memory_mode),
            user_set,
        },
        stamp: facts.stamp.or(old.stamp),
    }
}

/// Whether these facts are of the same transcript, as it was before what is known was read: somebody read it, and was
/// slower to store what he found than whoever appended since. A file that was cut off is changed later, not earlier.
fn is_earlier(facts: &ThreadFacts, known: &StoredThread) -> bool {
    facts.rollout_path.is_some()
        && facts.rollout_path == known.row.rollout_path
        && facts.stamp.zip(known.stamp).is_some_and(|(found, known)| {
            found.inode == known.inode && found.size < known.size && found.mtime_ns <= known.mtime_ns
        })
}

/// Whether the transcript was moved into the archive, or out of it: whoever did that had the last word, with any program.
fn was_moved(now: Option<&str>, before: Option<&str>) -> bool {
    let lies_archived = |path| lies_archived(Path::new(path));
    now.zip(before).is_some_and(|(now, before)| lies_archived(now) != lies_archived(before))
}

/// The text, unless nothing is in it but NUL characters, which are not stored.
pub(super) fn present(text: Option<&String>) -> Option<String> {
    text.filter(|text| text.chars().any(|letter| letter != '\0')).cloned()
}

#[expect(clippy::ref_option, reason = "its callers hold fields")]
fn newer(new: &Option<String>, old: &Option<String>) -> Option<String> {
    present(new.as_ref()).or_else(|| old.clone())
}

/// A derived time does not move the one already known: where a file lies says that it is archived, not since when.
fn archived(change: &Change<i64>, known: Option<i64>, said: bool) -> Option<i64> {
    match change {
        Change::Leave => known,
        Change::Clear => None,
        Change::Set(time) if said => Some(*time),
        Change::Set(time) => known.or(Some(*time)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::threads::row::{FileStamp, MemoryMode, UserSet};

    const ID: &str = "019b76da-5a3e-7c41-9d52-0c1f9a6be001";

    fn facts() -> ThreadFacts {
        ThreadFacts {
            id: ID.to_owned(),
            created_at: 10,
            updated_at: 20,
            recency_at: 20,
            title: Some("Fix the parser".to_owned()),
            preview: Some("Fix the parser, please".to_owned()),
            git: GitFacts { branch: Some("main".to_owned()), ..GitFacts::default() },
            ..ThreadFacts::default()
        }
    }

    #[test]
    fn the_same_facts_twice_give_the_same_row() {
        let once = merge(None, ID, &facts());
        assert_eq!(merge(Some(&once), ID, &facts()), once);
    }

    #[test]
    fn silence_and_empty_texts_keep_what_is_known() {
        let once = merge(None, ID, &facts());
        for empty in ["", "\0", "\0\0\0"] {
            let empty = ThreadFacts { title: Some(empty.to_owned()), preview: None, ..facts() };
            assert_eq!(merge(Some(&once), ID, &empty), once);
        }
    }

    #[test]
    fn recency_only_moves_forward() {
        let once = merge(None, ID, &facts());
        let back = merge(Some(&once), ID, &ThreadFacts { recency_at: 5, updated_at: 5, ..facts() });
        assert_eq!((back.row.recency_at, back.row.updated_at), (20, 5));
        let on = merge(Some(&once), ID, &ThreadFacts { recency_at: 30, ..facts() });
        assert_eq!(on.row.recency_at, 30);
        let first = merge(None, ID, &ThreadFacts { recency_at: -7, ..facts() });
        assert_eq!(first.row.recency_at, -7);
    }

    #[test]
    fn derived_facts_leave_alone_what_a_user_set() {
        let said = ThreadFacts {
            name: Some("Parser".to_owned()),
            is_pinned: true,
            archived_at: Change::Set(15),
            git: GitFacts { branch: Some("mine".to_owned()), ..GitFacts::default() },
            user_set: UserSet::from(UserField::ALL.to_vec()),
            ..facts()
        };
        let set = merge(None, ID, &said);
        let derived = ThreadFacts {
            name: Some("other".to_owned()),
            archived_at: Change::Clear,
            git: GitFacts { sha: Some("abc".to_owned()), ..facts().git },
            ..facts()
        };
        assert_eq!(merge(Some(&set), ID, &derived), set);
    }

    #[test]
    fn how_a_transcript_began_does_not_take_back_what_memories_may_be_drawn_from() {
        let began = ThreadFacts { memory_mode: Some(MemoryMode::Enabled), ..facts() };
        for mode in [MemoryMode::Disabled, MemoryMode::Polluted] {
            let mut known = merge(None, ID, &began);
            known.row.memory_mode = mode;
            assert_eq!(merge(Some(&known), ID, &began).row.memory_mode, mode);
        }
        let new = merge(None, ID, &ThreadFacts { memory_mode: Some(MemoryMode::Disabled), ..facts() });
        assert_eq!(new.row.memory_mode, MemoryMode::Disabled);
    }

    #[test]
    fn a_user_can_take_back_what_a_user_set() {
        let set = merge(
            None,
            ID,
            &ThreadFacts {
                name: Some("Parser".to_owned()),
                is_pinned: true,
                user_set: UserSet::default().with(UserField::Name).with(UserField::Pin),
                ..facts()
            },
        );
        let back = merge(Some(&set), ID, &ThreadFacts { user_set: set.row.user_set, ..facts() });
        assert_eq!((back.row.name, back.row.is_pinned), (None, false));
    }

    #[test]
    fn an_earlier_reading_of_the_same_file_changes_nothing() {
        let read = |size, mtime_ns, name: &str| ThreadFacts {
            rollout_path: Some("/home/ada/rollout-x.jsonl".to_owned()),
            stamp: Some(FileStamp { size, mtime_ns, inode: 7 }),
            updated_at: size,
            name: Some(name.to_owned()),
            user_set: UserSet::default().with(UserField::Name),
            ..facts()
        };
        let known = merge(None, ID, &read(200, 50, "Ledger"));
        for mtime_ns in [40, 50] {
            assert_eq!(merge(Some(&known), ID, &read(100, mtime_ns, "Parser")), known);
        }
        let name = |facts: &ThreadFacts| merge(Some(&known), ID, facts).row.name;
        assert_eq!(name(&read(300, 60, "Books")).as_deref(), Some("Books"));
        assert_eq!(name(&read(100, 60, "Books")).as_deref(), Some("Books"), "it was cut off since");
        let replaced = ThreadFacts {
            stamp: Some(FileStamp { size: 100, mtime_ns: 40, inode: 8 }),
            ..read(100, 40, "Books")
        };
        assert_eq!(name(&replaced).as_deref(), Some("Books"), "another file");
        let elsewhere = ThreadFacts { rollout_path: Some("/b".to_owned()), ..read(100, 40, "Books") };
        assert_eq!(name(&elsewhere).as_deref(), Some("Books"));
    }

    #[test]
    fn a_transcript_that_was_moved_says_whether_its_thread_is_archived() {
        let lies = |folder: &str, archived_at| ThreadFacts {
            rollout_path: Some(format!("/home/ada/{folder}/rollout-x.jsonl")),
            archived_at,
            ..facts()
        };
        let (live, archive) = ("sessions/2026/01/02", "archived_sessions");
        let said = ThreadFacts {
            user_set: UserSet::default().with(UserField::Archive),
            ..lies(archive, Change::Set(15))
        };
        let archived = merge(None, ID, &said);
        assert_eq!(merge(Some(&archived), ID, &lies(archive, Change::Clear)), archived, "it is where it was");
        let back = merge(Some(&archived), ID, &lies(live, Change::Clear));
        assert_eq!(back.row.archived_at, None);
        assert_eq!(merge(Some(&back), ID, &lies(live, Change::Clear)), back);
        let again = merge(Some(&back), ID, &lies(archive, Change::Set(30)));
        assert_eq!(again.row.archived_at, Some(30));
    }

    #[test]
    fn a_file_found_archived_again_keeps_its_time() {
        let once = merge(None, ID, &ThreadFacts { archived_at: Change::Set(15), ..facts() });
        let again = merge(Some(&once), ID, &ThreadFacts { archived_at: Change::Set(99), ..facts() });
        assert_eq!(again.row.archived_at, Some(15));
        let live = merge(Some(&once), ID, &ThreadFacts { archived_at: Change::Clear, ..facts() });
        assert_eq!(live.row.archived_at, None);
    }
}
