//! Bounds the quarantine: a database that is damaged again and again must not fill the disk with copies of itself.
//!
//! Invariants:
//! 1. Of a database at most [`Limits::quarantine_sets`](crate::Limits) finished sets stay, and at most twice the size of
//!    the largest of them, or of the database when that is larger.
//! 2. The newest set, which was made just now, stays, whatever the clock says. So does the first of a series: it is what was there before anything was repaired, and the later
//!    ones of a loop are mostly copies of the repair. A first one that is older than [`SERIES`] makes room like any other.
//! 3. A set that somebody is still making, or will finish, is neither counted nor touched; nor is what no manifest tells.
//! 4. A set goes whole: it loses its name first.
//!
//! Sets of restores count by themselves, as those of one database. Both stay within the bound of bytes because neither of
//! the two that always stay is larger than the largest.
//!
//! Tests: below; `tests/background_checks.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use super::files::read_file;
use crate::error::{Error, Result};

const FOLDER: &str = "quarantine";
const MANIFEST: &str = "manifest.json";
/// How the name of a set begins that is being removed.
const REMOVED: &str = ".removed-";
/// What happens within such a time of the first is one series.
const SERIES: Duration = Duration::from_hours(7 * 24);
/// The manifest's states after which nobody moves anything.
const FINAL: [&str; 2] = ["done", "given_up"];

/// Whose sets are counted together.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sets<'a> {
    Of(&'a str),
    /// What restores set aside, of all databases.
    OfRestores,
}

/// What the manifests of all kinds of sets have in common.
#[derive(Deserialize)]
struct Manifest {
    /// Of a copy of removed files.
    domain: Option<String>,
    /// Of damaged files.
    state: Option<String>,
    report: Option<Report>,
    /// Of a restore.
    databases: Option<serde::de::IgnoredAny>,
    at: Option<String>,
}

#[derive(Deserialize)]
struct Report {
    database: String,
    at: String,
}

struct Set {
    folder: PathBuf,
    at: Timestamp,
    bytes: u64,
}

/// Called when a set was finished, `newest`. `database_bytes` is the size of the database that is there now.
///
/// # Errors
/// Of the system; what could be removed is.
pub(crate) fn bound(
    home: &Path,
    which: Sets<'_>,
    newest: &Path,
    database_bytes: u64,
    most_sets: usize,
) -> Result<()> {
    let quarantine = home.join(FOLDER);
    let mut sets = Vec::new();
    for entry in fs::read_dir(&quarantine).map_err(|error| Error::io("list", &quarantine, error))?.flatten() {
        let folder = entry.path();
        if entry.file_name().to_string_lossy().starts_with(REMOVED) {
            // Somebody was interrupted, or is at it.
            let _ = fs::remove_dir_all(&folder);
        } else {
            sets.extend(finished(home, &folder, which));
        }
    }
    let is_newest = |set: &Set| set.folder.file_name() == newest.file_name();
    sets.sort_by(|one, other| {
        (is_newest(one), one.at, &one.folder).cmp(&(is_newest(other), other.at, &other.folder))
    });
    let most_bytes = 2 * sets.iter().map(|set| set.bytes).max().unwrap_or(0).max(database_bytes);
    for at in superfluous(&sets, most_sets.max(2), most_bytes, Timestamp::now()) {
        remove(&quarantine, &sets[at].folder)?;
    }
    Ok(())
}

/// Which of the sets, given from the oldest to the newest, have to go.
fn superfluous(sets: &[Set], most_sets: usize, most_bytes: u64, now: Timestamp) -> Vec<usize> {
    let (mut left, mut bytes) = (sets.len(), sets.iter().map(|set| set.bytes).sum::<u64>());
    let is_first = |set: &Set| Duration::try_from(now.duration_since(set.at)).unwrap_or_default() < SERIES;
    let first = usize::from(sets.first().is_some_and(is_first));
    // From the oldest on, without the first of a series and the newest.
    let mut candidates = first..sets.len().saturating_sub(1);
    let mut gone = Vec::new();
    while left > most_sets || bytes > most_bytes {
        let Some(at) = candidates.next() else { break };
        gone.push(at);
        left -= 1;
        bytes -= sets[at].bytes;
    }
    gone
}

/// A finished set of these. `None` for everything else.
fn finished(home: &Path, folder: &Path, which: Sets<'_>) -> Option<Set> {
    let text = read_file(folder.join(MANIFEST)).ok()?;
    let manifest: Manifest = serde_json::from_slice(&text).ok()?;
    let (database, at) = match &manifest.report {
        Some(report) => (Some(&report.database), &report.at),
        None => (manifest.domain.as_ref(), manifest.at.as_ref()?),
    };
    let at = at.parse().ok()?;
    let is_one = match which {
        Sets::Of(name) => database.is_some_and(|database| database == name),
        Sets::OfRestores => manifest.databases.is_some() && !home.join("restore.json").exists(),
    };
    let finished = manifest.state.is_none_or(|state| FINAL.contains(&&*state));
    (is_one && finished).then(|| Set { folder: folder.to_owned(), at, bytes: bytes_in(folder) })
}

/// Made by a person in a set that is no news any more.
#[cfg(feature = "agent")]
pub(crate) const SEEN: &str = "seen";

/// A set of files in quarantine, for whoever looks at them.
#[cfg(feature = "agent")]
pub(crate) struct Kept {
    pub(crate) folder: PathBuf,
    /// `None` for what restores set aside.
    pub(crate) database: Option<String>,
    /// False when somebody is making it, or was interrupted.
    pub(crate) finished: bool,
    /// A person has looked at it, and said so by a file [`SEEN`] in it.
    pub(crate) seen: bool,
    pub(crate) bytes: u64,
}

/// All sets that a manifest tells of, by name.
#[cfg(feature = "agent")]
pub(crate) fn list(home: &Path) -> Vec<Kept> {
    let told = |folder: PathBuf| {
        let manifest: Manifest = serde_json::from_slice(&read_file(folder.join(MANIFEST)).ok()?).ok()?;
        Some(Kept {
            finished: manifest.state.is_none_or(|state| FINAL.contains(&&*state)),
            database: manifest.report.map(|report| report.database).or(manifest.domain),
            seen: folder.join(SEEN).exists(),
            bytes: bytes_in(&folder),
            folder,
        })
    };
    let entries = fs::read_dir(home.join(FOLDER)).into_iter().flatten().flatten();
    let mut sets: Vec<_> = entries.filter_map(|entry| told(entry.path())).collect();
    sets.sort_by(|one, other| one.folder.cmp(&other.folder));
    sets
}

/// The bytes of the files in a folder.
pub(crate) fn bytes_in(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).filter(fs::Metadata::is_file).map(|found| found.len()).sum()
}

fn remove(quarantine: &Path, folder: &Path) -> Result<()> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let unnamed = quarantine.join(format!("{REMOVED}{name}"));
    match fs::rename(folder, &unnamed).and_then(|()| fs::remove_dir_all(&unnamed)) {
        // Another process was at it.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done.map_err(|error| Error::io("remove from quarantine", folder, error)),
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]
mod tests {
    use super::*;

    const NOW: &str = "2026-05-20T12:00:00Z";

    fn set(hours_ago: i64, bytes: u64) -> Set {
        let now: Timestamp = NOW.parse().expect("a time");
        let at = now - jiff::SignedDuration::from_hours(hours_ago);
        Set { folder: PathBuf::from(hours_ago.to_string()), at, bytes }
    }

    fn gone(sets: &[Set], most_sets: usize, most_bytes: u64) -> Vec<usize> {
        superfluous(sets, most_sets, most_bytes, NOW.parse().expect("a time"))
    }

    #[test]
    fn the_first_of_a_series_and_the_newest_stay() {
        let sets = [set(5, 10), set(4, 10), set(3, 10), set(2, 10), set(1, 10)];
        assert_eq!(gone(&sets, 3, 1000), [1, 2]);
        assert_eq!(gone(&sets, 3, 20), [1, 2, 3]);
        assert!(gone(&sets, 5, 50).is_empty());
        assert!(
            gone(&sets[..2], 2, 0).is_empty()
                && gone(&sets[..1], 2, 0).is_empty()
                && gone(&[], 2, 0).is_empty()
        );
        let sets = [set(24 * 30, 10), set(3, 10), set(2, 10), set(1, 10)];
        assert_eq!(gone(&sets, 3, 1000), [0], "the first of another series");
    }

    #[test]
    fn only_finished_sets_of_this_database_are_counted_and_removed() {
        let home = tempfile::tempdir().expect("a folder");
        let quarantine = home.path().join(FOLDER);
        fs::create_dir(&quarantine).expect("a folder");
        let make = |name: &str, manifest: Option<&str>| {
            fs::create_dir(quarantine.join(name)).expect("a folder");
            fs::write(quarantine.join(name).join("a.sqlite"), [0; 100]).expect("a file");
            if let Some(manifest) = manifest {
                fs::write(quarantine.join(name).join(MANIFEST), manifest).expect("a manifest");
            }
        };
        let now = Timestamp::now();
        let at = |minutes: i64| now - jiff::SignedDuration::from_mins(100 - minutes);
        for n in 1..=4 {
            make(&format!("copy-{n}"), Some(&format!(r#"{{"version":1,"domain":"a","at":"{}"}}"#, at(n))));
            let report = format!(r#"{{"database":"a","at":"{}"}}"#, at(10 + n));
            make(&format!("done-{n}"), Some(&format!(r#"{{"state":"done","report":{report}}}"#)));
            make(&format!("moving-{n}"), Some(&format!(r#"{{"state":"moving","report":{report}}}"#)));
            make(&format!("other-{n}"), Some(&format!(r#"{{"domain":"b","at":"{}"}}"#, at(n))));
            make(
                &format!("restore-{n}"),
                Some(&format!(r#"{{"databases":[{{"name":"a"}}],"at":"{}"}}"#, at(n))),
            );
            make(&format!("nobody-{n}"), None);
        }
        make(".removed-old", None);
        let left = |beginning: &str| {
            let mut names: Vec<_> = fs::read_dir(&quarantine)
                .expect("a list")
                .map(|entry| entry.expect("one").file_name().into_string().expect("plain"))
                .filter(|name| name.starts_with(beginning))
                .collect();
            names.sort();
            names
        };
        bound(home.path(), Sets::Of("a"), Path::new("done-4"), 1 << 20, 3).expect("bounded");
        assert_eq!(
            (left("copy"), left("done")),
            (vec!["copy-1".to_owned()], vec!["done-3".into(), "done-4".into()])
        );
        for untouched in ["moving", "other", "restore", "nobody"] {
            assert_eq!(left(untouched).len(), 4, "{untouched}");
        }
        assert!(left(".removed").is_empty());
        fs::write(home.path().join("restore.json"), "{}").expect("a restore under way");
        let newest = quarantine.join("restore-2");
        bound(home.path(), Sets::OfRestores, &newest, 1 << 20, 2).expect("bounded");
        assert_eq!(left("restore").len(), 4, "it may not be finished");
        fs::remove_file(home.path().join("restore.json")).expect("finished");
        bound(home.path(), Sets::OfRestores, &newest, 1 << 20, 2).expect("bounded");
        assert_eq!(left("restore"), ["restore-1", "restore-2"], "the clock was set back before it was made");
    }
}
