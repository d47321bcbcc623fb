//! Does the index of threads fit the transcripts: rows whose file is gone, changed or elsewhere, files without a row.
//!
//! A quick look ends after [`QUICK`]; it begins with the files of the newest days. Rows are read page by page, so no snapshot
//! lasts.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rusqlite::{Connection, OptionalExtension};

use super::super::command::Own;
use super::super::finding::Finding;
use super::super::scope::Scope;
use super::super::words::number;
use super::threads;
use crate::error::Result;
use crate::home::access;
use crate::rollout::layout;
use crate::stores::backfill::BackfillState;
use crate::stores::threads::FileStamp;

/// How long each half of a quick look takes.
const QUICK: Duration = Duration::from_millis(400);
const PAGE: usize = 500;
/// A file that changed this lately is being written, and its row follows.
const SETTLED: Duration = Duration::from_mins(1);
/// How many are named of each kind.
const NAMED: usize = 5;

const ROWS: &str = "SELECT rollout_path, rollout_size, rollout_mtime_ns, rollout_inode, archived_at IS NOT NULL \
    FROM thread WHERE rollout_path > ?1 ORDER BY rollout_path LIMIT ?2";
const HAS_PATH: &str = "SELECT 1 FROM thread WHERE rollout_path = ?1";
const PATH_OF: &str = "SELECT COALESCE(rollout_path, '') FROM thread WHERE id = ?1";
const NOTED: &str = "SELECT kind FROM backfill_file WHERE path = ?1";
const BAD: &str = "SELECT path FROM backfill_file WHERE kind = 'bad' ORDER BY path LIMIT 1000";

/// Files of one kind of trouble.
#[derive(Default)]
struct Found {
    count: u64,
    named: Vec<String>,
}

impl Found {
    fn add(&mut self, path: &str) {
        self.count += 1;
        if self.named.len() < NAMED {
            self.named.push(path.to_owned());
        }
    }
}

#[derive(Default)]
struct Differences {
    rows: u64,
    files: u64,
    /// False when a quick look ended before all was seen.
    partly: bool,
    missing: Found,
    stale: Found,
    misplaced: Found,
    unreadable: Found,
    unindexed: Found,
    duplicates: Found,
    /// In a home that was moved or copied: the row still names the file where that was.
    elsewhere: Found,
}

pub(super) fn index(scope: &Scope) -> Finding {
    let (home, subject) = match threads::state(scope) {
        Ok(found) => found,
        Err(why) => return Finding::skipped(why),
    };
    subject.opened(scope, |look| {
        if !look.has_table("thread")? || !look.has_table("backfill_file")? {
            return Ok(Finding::skipped("its schema is older than this check"));
        }
        let mut found = Differences::default();
        let slice = |scope: &Scope| {
            if scope.context.deep { scope.until } else { scope.until.min(Instant::now() + QUICK) }
        };
        look_at_rows(look.connection(), home.path(), slice(scope), &mut found)?;
        look_at_files(look.connection(), home.path(), slice(scope), &mut found)?;
        Ok(judged(&found))
    })
}

/// Each row's file.
fn look_at_rows(connection: &Connection, home: &Path, until: Instant, found: &mut Differences) -> Result<()> {
    let mut after = String::new();
    loop {
        let mut statement = connection.prepare_cached(ROWS)?;
        let page = statement
            .query_map((&after, PAGE as i64), |row| {
                let stamp = match (row.get(1)?, row.get(2)?, row.get(3)?) {
                    (Some(size), Some(mtime_ns), Some(inode)) => Some(FileStamp { size, mtime_ns, inode }),
                    _ => None,
                };
                Ok((row.get::<_, String>(0)?, stamp, row.get::<_, bool>(4)?))
            })?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        for (path, stamp, archived) in &page {
            found.rows += 1;
            look_at_row(path, stamp.as_ref(), *archived, home, found);
        }
        match page.into_iter().next_back() {
            None => return Ok(()),
            Some(_) if Instant::now() >= until => {
                found.partly = true;
                return Ok(());
            }
            Some((last, ..)) => after = last,
        }
    }
}

fn look_at_row(text: &str, stamp: Option<&FileStamp>, archived: bool, home: &Path, found: &mut Differences) {
    let path = Path::new(text);
    if brought_along(path, home).is_some() {
        found.elsewhere.add(text);
        return;
    }
    let Ok(file) = fs::symlink_metadata(path) else {
        if layout::other_places(path).iter().all(|place| fs::symlink_metadata(place).is_err()) {
            found.missing.add(text);
        } else {
            found.stale.add(text);
        }
        return;
    };
    if access::readable(path).is_err() {
        found.unreadable.add(text);
    } else if path.starts_with(home) && layout::lies_archived(path) != archived {
        found.misplaced.add(text);
    } else if stamp.is_some_and(|stamp| *stamp != layout::stamp(&file)) && is_settled(&file) {
        found.stale.add(text);
    }
}

fn is_settled(file: &fs::Metadata) -> bool {
    let age = file.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    age.is_some_and(|age| age > SETTLED)
}

/// Each file's row.
fn look_at_files(
    connection: &Connection,
    home: &Path,
    until: Instant,
    found: &mut Differences,
) -> Result<()> {
    let bad = connection
        .prepare(BAD)?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<String>>>()?;
    bad.iter().filter(|path| Path::new(path).exists()).for_each(|path| found.unreadable.add(path));
    // Before the first time no file has a row, and the backfill's own check says so.
    let home_text = home.to_string_lossy();
    let indexed = threads::indexed(connection)?;
    let complete =
        indexed.iter().any(|one| home_text.starts_with(&*one.root) && one.state == BackfillState::Complete);
    let has = |sql: &str, value: &str| -> Result<bool> {
        Ok(connection.prepare_cached(sql)?.query_row([value], |_| Ok(())).optional()?.is_some())
    };
    // A folder that cannot be walked has no transcripts that this user could index.
    for file in layout::walk(home).into_iter().flatten().flatten() {
        found.files += 1;
        let Some(path) = file.path.to_str() else { continue };
        let noted: Option<String> =
            connection.prepare_cached(NOTED)?.query_row([path], |row| row.get(0)).optional()?;
        match noted.as_deref() {
            Some("duplicate") => found.duplicates.add(path),
            Some("bad") => {}
            _ if has(HAS_PATH, path)? => {}
            // Its row names another file of the thread.
            _ => {
                let id = file.id_in_name().unwrap_or_default();
                let row: Option<String> =
                    connection.prepare_cached(PATH_OF)?.query_row([id], |row| row.get(0)).optional()?;
                match row {
                    // Told already, by its row.
                    Some(other) if brought_along(Path::new(&other), home).is_some() => {}
                    Some(other) if lies_elsewhere(Path::new(&other), home, &file.path) => {
                        found.elsewhere.add(path);
                    }
                    Some(_) => found.duplicates.add(path),
                    None if complete || indexed.is_empty() => found.unindexed.add(path),
                    None => {}
                }
            }
        }
        if Instant::now() >= until {
            found.partly = true;
            return Ok(());
        }
    }
    Ok(())
}

/// Whether a row names a file outside its home that is not this one under another name.
fn lies_elsewhere(row: &Path, home: &Path, own: &Path) -> bool {
    let file = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    row.is_absolute() && !row.starts_with(home) && file(row) != file(own)
}

/// The transcript in this home that came along when its home was moved or copied: the same one, at the same place below the
/// home, whose row names where it was.
fn brought_along(row: &Path, home: &Path) -> Option<PathBuf> {
    if row.starts_with(home) {
        return None;
    }
    let parts: Vec<_> = row.iter().collect();
    let folder = parts.iter().rposition(|part| layout::FOLDERS.iter().any(|folder| part == folder))?;
    let own = home.join(parts[folder..].iter().collect::<PathBuf>());
    let places = std::iter::once(own.clone()).chain(layout::other_places(&own));
    places.into_iter().find(|place| fs::symlink_metadata(place).is_ok() && lies_elsewhere(row, home, place))
}

fn judged(found: &Differences) -> Finding {
    let kinds = [
        (&found.elsewhere, "thread", "whose transcript is looked for where the home was", "elsewhere"),
        (&found.missing, "thread", "whose transcript is gone", "missing"),
        (&found.unreadable, "transcript", "that cannot be read", "unreadable"),
        (
            &found.misplaced,
            "thread",
            "whose transcript lies in the other of sessions and archived_sessions",
            "archive_mismatch",
        ),
        (&found.stale, "thread", "whose transcript changed since it was indexed", "stale"),
        (&found.unindexed, "transcript", "that no thread names", "unindexed"),
        (&found.duplicates, "transcript", "of a thread that has another file", "duplicate"),
    ];
    let troubles: Vec<_> = kinds.iter().filter(|(of_kind, ..)| of_kind.count > 0).collect();
    let finding = match troubles.first() {
        None => Finding::ok(format!(
            "{} and {} fit",
            number(found.rows, "thread"),
            number(found.files, "transcript")
        )),
        Some((of_kind, one, what, "elsewhere")) => {
            Finding::warning(format!("this home was moved or copied: {} {what}", number(of_kind.count, one)))
        }
        Some((of_kind, one, what, _)) => Finding::warning(format!("{} {what}", number(of_kind.count, one))),
    };
    let finding = finding.detail("rows", found.rows).detail("files", found.files);
    let finding =
        kinds.iter().fold(finding, |finding, (of_kind, _, _, name)| finding.detail(name, of_kind.count));
    let finding = finding.detail("complete", !found.partly);
    let finding = kinds.iter().fold(finding, |finding, (of_kind, _, what, _)| {
        of_kind.named.iter().fold(finding, |finding, path| finding.evidence(format!("{what}: {path}")))
    });
    let finding = if found.partly {
        finding.evidence("a quick look ended before all was seen; --deep sees all")
    } else {
        finding
    };
    if troubles.is_empty() {
        return finding;
    }
    if found.elsewhere.count > 0 {
        return finding
            .remedy("a reindex makes the threads use the transcripts that came along")
            .fix(Own::Reindex);
    }
    if found.missing.count > 0 {
        return finding
            .remedy("bring the files back, or remove such rows; a file that was only moved is found again by a reindex")
            .fix(Own::Reindex);
    }
    if found.stale.count + found.unindexed.count + found.misplaced.count > 0 {
        return finding.remedy("read the new and the changed files").fix(Own::Reindex);
    }
    if found.unreadable.count > 0 {
        return finding
            .remedy("look at the named files: their first line says whose they are")
            .look(Own::BackfillStatus);
    }
    finding.remedy("compare the two files of the thread (`rowhouse threads show` names the one that is read), and move the other away")
}
