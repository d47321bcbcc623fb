//! What a list shows of a transcript, from its two ends.
//!
//! The first line is believed or the file is refused; every other line may be bad and is then only counted. Of the
//! beginning the first message counts, of everything else the last word. Errors name the file and the line and never
//! repeat its text.

use std::fs::File;
use std::path::Path;

use super::layout::{is_compressed, lies_archived, stamp};
use super::records::{Line, SessionMeta};
use super::said::UserFacts;
use super::scan::Scan;
use super::whole::{self, Middle};
use super::{compressed, disk, windows};
use crate::error::{Error, ErrorKind, Result};
use crate::stores::goals::Goal;
use crate::stores::threads::row::canonical_id;
use crate::stores::threads::{Change, ThreadFacts, UserField};

/// What a transcript's two ends say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RolloutFacts {
    /// What a store takes.
    pub thread: ThreadFacts,
    /// What the user said about the thread, its goal included, as the last snapshot has it.
    pub said: UserFacts,
    /// Lines, among those read, that are no record.
    pub bad_lines: u64,
    /// The last line is unfinished: its writer died, or is at it.
    pub torn: bool,
    /// Everything was read, not only the ends.
    pub whole: bool,
    /// The end holds what users said of the thread (a `thread_metadata`), so that nothing before it can say more.
    pub snapshot_at_end: bool,
    /// Bytes read.
    pub bytes_read: u64,
}

impl RolloutFacts {
    /// The goal that the transcript tells, as one of this thread.
    pub(crate) fn goal(&self) -> Option<Goal> {
        match &self.said.goal {
            Change::Set(goal) => Some(Goal { thread_id: self.thread.id.clone(), ..goal.clone() }),
            Change::Leave | Change::Clear => None,
        }
    }
}

/// A transcript that is refused, and the line it fails at.
#[derive(Debug)]
pub(super) struct BadRollout {
    pub(super) line: Option<u64>,
    pub(super) error: Error,
    pub(super) bytes_read: u64,
}

/// Reads what a list shows of a transcript: at most 64 KiB from either end, and a longer first line to its end.
///
/// A thread is archived when its file lies in `archived_sessions`. Of a compressed transcript that this library made, the
/// last frame is such an end; any other is decompressed to its end.
///
/// # Errors
/// `Invalid`, naming the line, when the first line is no `session_meta` with a thread's id, or is longer than 4 MiB;
/// `Unsupported` for a compressed one without the feature `zstd`, `Corrupt` for a damaged one; the operating system's.
pub fn read_metadata(path: &Path) -> Result<RolloutFacts> {
    read(path).map_err(|bad| bad.error)
}

pub(super) fn read(path: &Path) -> Result<RolloutFacts, BadRollout> {
    read_with(path, None)
}

/// The same from all of it, in little memory. `go_on` is asked for every MiB; `Closed` when it says no.
pub(super) fn read_whole(
    path: &Path,
    go_on: &mut dyn FnMut() -> Result<()>,
) -> Result<RolloutFacts, BadRollout> {
    read_with(path, Some(go_on))
}

/// What lies between the two ends is read where somebody says how long.
fn read_with(path: &Path, go_on: Option<&mut dyn FnMut() -> Result<()>>) -> Result<RolloutFacts, BadRollout> {
    let refused =
        |line, error: Error, bytes_read| BadRollout { line, error: error.at_path(path), bytes_read };
    let os = |error| {
        let error = Error::io("read the transcript", path, error);
        refused(None, error.advise("make it a file that you may read, and import again"), 0)
    };
    let file = disk::open_to_read(path).map_err(os)?;
    let metadata = file.metadata().map_err(os)?;
    let windows = if is_compressed(path) {
        compressed::windows(&file, path).map_err(|error| refused(None, error, 0))?
    } else {
        windows::read(&file, metadata.len()).map_err(os)?
    };
    let Some(windows) = windows else { return Err(refused(Some(1), too_long(), windows::WIDEST)) };
    let first_end =
        windows.head.iter().position(|byte| *byte == b'\n').map_or(windows.head.len(), |at| at + 1);
    let (first, rest) = windows.head.split_at(first_end);
    let (line, meta, id) = first_line(first).map_err(|error| refused(Some(1), error, windows.bytes_read))?;
    let middle = match (&windows.tail, go_on) {
        (Some(tail), Some(go_on)) => {
            let found = between(file, path, (windows.head.len(), tail.len()), go_on);
            Some(found.map_err(|error| refused(None, error, windows.bytes_read))?)
        }
        _ => None,
    };
    let bytes_read = windows.bytes_read + middle.as_ref().map_or(0, |middle| middle.bytes_read);
    let mut scan = Scan::beginning_with(&line);
    scan.head(rest);
    if let Some(middle) = &middle {
        scan.head(&middle.lines);
        scan.bad_lines += middle.bad_lines;
    }
    if let Some(tail) = &windows.tail {
        scan.tail(tail);
    }
    let stamp = stamp(&metadata);
    let mut thread = scan.facts(id, meta, stamp.mtime_ns.div_euclid(1_000_000));
    settle_archived(&mut thread, lies_archived(path));
    thread.rollout_path = path.to_str().map(str::to_owned);
    thread.stamp = Some(stamp);
    Ok(RolloutFacts {
        thread,
        said: scan.said(),
        bad_lines: scan.bad_lines,
        torn: scan.torn,
        whole: windows.tail.is_none() || middle.is_some(),
        snapshot_at_end: scan.snapshot_at_end,
        bytes_read,
    })
}

/// What lies between the ends that were read; of a compressed transcript in a plain copy without a name.
fn between(
    file: File,
    path: &Path,
    (head, tail): (usize, usize),
    go_on: &mut dyn FnMut() -> Result<()>,
) -> Result<Middle> {
    let failed = |error| Error::io("read the transcript", path, error);
    let plain = if is_compressed(path) {
        // Opened anew: reading the ends has moved the other one's place.
        compressed::plain_copy(disk::open_to_read(path).map_err(failed)?, path)?
    } else {
        file
    };
    let length = plain.metadata().map_err(failed)?.len();
    whole::read(&plain, head as u64..length.saturating_sub(tail as u64), go_on)
}

/// The thread whose transcript this is, by its first line.
///
/// # Errors
/// As [`read_metadata`].
pub(crate) fn id_of(path: &Path) -> Result<String> {
    let file = disk::open_to_read(path).map_err(|error| Error::io("read the transcript", path, error))?;
    id_in(file, path)
}

/// The same of a file that is open, and has or is to have this name.
///
/// # Errors
/// As [`read_metadata`].
pub(super) fn id_in(file: File, path: &Path) -> Result<String> {
    let failed = |error| Error::io("read the transcript", path, error);
    let first = if is_compressed(path) {
        compressed::first_line(file, path)?
    } else {
        let length = file.metadata().map_err(failed)?.len();
        windows::first_line(&file, length).map_err(failed)?
    };
    let first = first.ok_or_else(|| too_long().at_path(path))?;
    first_line(&first).map(|(_, _, id)| id).map_err(|error| error.at_path(path))
}

fn too_long() -> Error {
    Error::new(ErrorKind::Invalid, "line 1 is longer than 4 MiB")
}

/// The thread of a first line, and when it says that it began, in Unix milliseconds.
///
/// # Errors
/// As [`read_metadata`].
#[cfg(feature = "postgres")]
pub(crate) fn beginning(text: &[u8]) -> Result<(String, Option<i64>)> {
    let (_, meta, id) = first_line(text)?;
    Ok((id, meta.timestamp.0.as_deref().and_then(super::scan::unix_ms)))
}

fn first_line(text: &[u8]) -> Result<(Line<'_>, SessionMeta, String)> {
    let invalid = |message: &'static str| Error::new(ErrorKind::Invalid, message);
    if text.is_empty() {
        return Err(invalid("the file is empty"));
    }
    // A parser's own message would repeat what it found; only the place is told.
    let line: Line<'_> = serde_json::from_slice(text).map_err(|error| {
        Error::new(
            ErrorKind::Invalid,
            match error.classify() {
                serde_json::error::Category::Data => "line 1 is no record: it has no type".to_owned(),
                _ => format!("line 1 is not JSON (column {})", error.column()),
            },
        )
    })?;
    if line.kind != "session_meta" {
        return Err(invalid("line 1 is not the session_meta record that a transcript begins with"));
    }
    let meta: SessionMeta = line.read();
    let id = meta.id.0.as_deref().and_then(canonical_id);
    let id = id.ok_or_else(|| invalid("line 1 carries no thread id (a UUID)"))?;
    Ok((line, meta, id))
}

/// Where the file lies decides whether the thread is archived; what was said adds since when, and that a user did it.
fn settle_archived(thread: &mut ThreadFacts, lies_archived: bool) {
    let said = thread.user_set.contains(UserField::Archive);
    let agreed = said && matches!(thread.archived_at, Change::Set(_)) == lies_archived;
    if !agreed {
        thread.user_set = thread.user_set.without(UserField::Archive);
        thread.archived_at = if lies_archived { Change::Set(thread.updated_at) } else { Change::Clear };
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test prepares files")]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const ID: &str = "019b76da-5a3e-7c41-9d52-0c1f9a6be001";

    fn file(folder: &str, text: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join(folder).join(format!("rollout-2026-01-01T00-00-00-{ID}.jsonl"));
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        std::fs::write(&path, text).expect("a file");
        (dir, path)
    }

    fn meta() -> String {
        record(
            "00:00:00Z",
            "session_meta",
            &format!(r#"{{"id":"{ID}","timestamp":"2025-12-31T23:59:58Z","cwd":"/a"}}"#),
        )
    }

    fn record(time: &str, kind: &str, payload: &str) -> String {
        format!("{{\"timestamp\":\"2026-01-01T{time}\",\"type\":\"{kind}\",\"payload\":{payload}}}\n")
    }

    fn user(text: &str) -> String {
        record("00:00:01Z", "event_msg", &format!(r#"{{"type":"user_message","message":"{text}"}}"#))
    }

    fn padding(bytes: usize) -> String {
        let line = record(
            "00:00:02Z",
            "response_item",
            &format!(r#"{{"type":"reasoning","text":"{}"}}"#, "x".repeat(900)),
        );
        line.repeat(bytes / line.len() + 1)
    }

    fn facts(text: impl AsRef<[u8]>) -> RolloutFacts {
        let (_dir, path) = file("sessions", text);
        read_metadata(&path).expect("facts")
    }

    const NEW_YEAR: i64 = 1_767_225_600_000;

    #[test]
    fn times_come_from_the_first_and_the_last_line() {
        let said = record("00:10:00Z", "thread_metadata", r#"{"name":"Ledger"}"#);
        let thread = facts(meta() + &user("Fix it") + &said).thread;
        assert_eq!(thread.created_at, NEW_YEAR - 2_000);
        assert_eq!(thread.updated_at, NEW_YEAR + 600_000);
        assert_eq!(thread.recency_at, NEW_YEAR + 1_000, "a rename is no work in a thread");
    }

    #[test]
    fn a_large_file_costs_two_windows_and_tells_both_ends() {
        let text = meta()
            + &user("Fix it")
            + &record("00:00:01Z", "turn_context", r#"{"model":"small","effort":"low"}"#)
            + &padding(400_000)
            + &user("And that")
            + &record("00:00:03Z", "turn_context", r#"{"model":"large"}"#)
            + &record(
                "00:00:04Z",
                "event_msg",
                r#"{"type":"token_count","info":{"total_token_usage":{"total_tokens":9}}}"#,
            )
            + &record("00:00:05Z", "event_msg", r#"{"type":"token_count","info":null}"#);
        let facts = facts(text);
        assert!(!facts.whole && facts.bytes_read <= 2 * windows::WINDOW);
        assert_eq!((facts.bad_lines, facts.torn), (0, false));
        let thread = facts.thread;
        assert_eq!(thread.title.as_deref(), Some("Fix it"));
        assert_eq!(thread.model.as_deref(), Some("large"));
        assert_eq!(thread.reasoning_effort.as_deref(), None);
        assert_eq!(thread.tokens_used, Some(9));
        assert_eq!(thread.updated_at, NEW_YEAR + 5_000);
    }

    #[test]
    fn what_stands_between_the_ends_is_found_by_reading_it_all() {
        let turn = |model: &str| {
            record("00:00:01Z", "turn_context", &format!(r#"{{"model":"{model}","effort":"low"}}"#))
        };
        let text = meta()
            + &turn("first")
            + &padding(100_000)
            + &user("Fix it")
            + &record("00:00:02Z", "thread_metadata", r#"{"name":"Ledger"}"#)
            + &turn("second")
            + "{no record\n"
            + &padding(3_000_000)
            + &turn("third")
            + &record("00:00:03Z", "thread_metadata", r#"{"name":"Books"}"#)
            + &padding(100_000);
        let (_dir, path) = file("sessions", &text);
        let ends = read_metadata(&path).expect("facts");
        assert!(!ends.whole && !ends.snapshot_at_end && ends.thread.title.is_none());
        let mut asked = 0;
        let mut go_on = || {
            asked += 1;
            Ok(())
        };
        let all = read_whole(&path, &mut go_on).expect("facts");
        assert!(asked >= 3 && all.whole && all.bytes_read >= text.len() as u64);
        assert_eq!((all.bad_lines, all.torn), (1, false));
        let thread = all.thread;
        assert_eq!((thread.title.as_deref(), thread.name.as_deref()), (Some("Fix it"), Some("Books")));
        assert_eq!(thread.model.as_deref(), Some("third"));
        assert_eq!((thread.updated_at, thread.stamp), (ends.thread.updated_at, ends.thread.stamp));

        let stopped = read_whole(&path, &mut || Err(Error::new(ErrorKind::Closed, "stopped")));
        assert_eq!(stopped.expect_err("stopped").error.kind(), ErrorKind::Closed);
        let (_dir, path) =
            file("sessions", text + &record("00:00:04Z", "thread_metadata", r#"{"name":"End"}"#));
        assert!(read_metadata(&path).expect("facts").snapshot_at_end);
    }

    #[test]
    fn an_end_that_is_one_endless_line_is_dated_by_its_file() {
        let facts = facts(meta() + &user("Fix it") + &padding(100_000) + &"x".repeat(9 << 20));
        let stamp = facts.thread.stamp.expect("a stamp");
        assert_eq!(facts.thread.updated_at, stamp.mtime_ns / 1_000_000);
        assert_eq!(facts.thread.title.as_deref(), Some("Fix it"));
    }

    #[test]
    fn a_first_line_of_a_megabyte_is_read() {
        let long =
            format!(r#"{{"id":"{ID}","base_instructions":{{"text":"{}"}},"cwd":"/a"}}"#, "i".repeat(1 << 20));
        let facts = facts(record("00:00:00Z", "session_meta", &long) + &user("Fix it") + &padding(400_000));
        assert_eq!(facts.thread.cwd.as_deref(), Some("/a"));
        assert_eq!(facts.thread.title.as_deref(), Some("Fix it"));
        assert_eq!(facts.thread.created_at, NEW_YEAR);
    }

    #[test]
    fn a_torn_last_line_is_tolerated_and_bad_ones_are_counted() {
        let whole = user("Fix it");
        let facts = facts(meta() + "{not json\n\n[1]\n" + &whole + &whole[..whole.len() / 2]);
        assert_eq!((facts.bad_lines, facts.torn), (2, true));
        assert_eq!(facts.thread.updated_at, NEW_YEAR + 1_000);
    }

    #[test]
    fn a_last_line_that_only_lacks_its_newline_counts() {
        let facts = facts((meta() + &user("Fix it")).trim_end());
        assert!(!facts.torn);
        assert_eq!(facts.thread.title.as_deref(), Some("Fix it"));
    }

    #[test]
    fn what_a_user_said_is_marked_so() {
        let text = meta()
            + &record("00:00:01Z", "thread_metadata", r#"{"name":"First"}"#)
            + &record(
                "00:00:02Z",
                "thread_metadata",
                r#"{"name":"Ledger","is_pinned":true,"git":{"branch":"mine"}}"#,
            );
        let thread = facts(text).thread;
        assert_eq!((thread.name.as_deref(), thread.is_pinned), (Some("Ledger"), true));
        assert_eq!(thread.git.branch.as_deref(), Some("mine"));
        for field in [UserField::Name, UserField::Pin, UserField::Git] {
            assert!(thread.user_set.contains(field));
        }
        assert!(!thread.user_set.contains(UserField::Archive));
    }

    #[test]
    fn where_a_file_lies_decides_whether_it_is_archived() {
        let said = meta() + &record("00:00:01Z", "thread_metadata", r#"{"archived_at":1767225600500}"#);
        let thread = |folder, text: &str| {
            let (_dir, path) = file(folder, text);
            let thread = read_metadata(&path).expect("facts").thread;
            (thread.archived_at.clone(), thread.user_set.contains(UserField::Archive))
        };
        assert_eq!(thread("archived_sessions", &said), (Change::Set(1_767_225_600_500), true));
        assert_eq!(thread("sessions", &said), (Change::Clear, false));
        assert_eq!(thread("archived_sessions", &meta()), (Change::Set(NEW_YEAR), false));
        assert_eq!(thread("sessions", &meta()), (Change::Clear, false));
    }

    #[test]
    fn a_file_without_a_thread_is_refused_by_line_and_without_its_text() {
        let long = "secret".repeat(1 << 20);
        for (text, reason) in [
            ("", "empty"),
            ("secret words\n", "line 1 is not JSON"),
            (r#"{"timestamp":"2026-01-01T00:00:00Z","type":"session_me"#, "line 1 is not JSON"),
            ("{\"secret\":1}\n", "no type"),
            ("{\"type\":\"secret\"}\n", "session_meta"),
            ("{\"type\":\"session_meta\",\"payload\":{\"id\":\"secret\"}}\n", "no thread id"),
            ("{\"type\":\"session_meta\",\"payload\":[\"secret\"]}\n", "no thread id"),
            (long.as_str(), "longer than 4 MiB"),
        ] {
            let (_dir, path) = file("sessions", text);
            let error = read_metadata(&path).expect_err(reason);
            assert_eq!(error.kind(), ErrorKind::Invalid, "{reason}");
            assert!(error.to_string().contains(reason), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
            assert_eq!(error.path(), Some(path.as_path()));
        }
    }

    #[test]
    fn links_pipes_and_folders_are_refused_at_once() {
        let (dir, path) = file("sessions", meta());
        let link = dir.path().join("rollout-link.jsonl");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        let pipe = dir.path().join("rollout-pipe.jsonl");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
            .expect("a pipe");
        for refused in [&link, &pipe, &dir.path().to_owned()] {
            read_metadata(refused).expect_err("not a transcript");
        }
    }
}
