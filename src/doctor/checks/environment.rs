//! What this user's processes may do, and what time they think it is.

use std::time::{Duration, SystemTime};

use rustix::process::{Resource, getrlimit};

use super::super::finding::Finding;
use super::super::scope::Scope;
use super::super::words::bytes;

/// A program with the four built-in databases, its readers, and something of its own.
const FEWEST_FILES: u64 = 256;
/// A clock that is so much behind a file's time was set back.
const BEHIND: Duration = Duration::from_mins(2);

pub(super) fn limits(scope: &Scope) -> Finding {
    let (files, size) = (getrlimit(Resource::Nofile).current, getrlimit(Resource::Fsize).current);
    let largest = scope.context.subjects.iter().map(|subject| subject.bytes("")).max().unwrap_or(0);
    let shown = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
    let told =
        |finding: Finding| finding.detail("open_files", shown(files)).detail("file_size_bytes", shown(size));
    if let Some(size) = size.filter(|size| *size < largest.saturating_mul(2).max(64 << 20)) {
        return told(Finding::warning(format!(
            "files of this user may only become {} large (ulimit -f)",
            bytes(size)
        )))
        .detail("largest_bytes", largest)
        .remedy("raise the limit where the program is started: ulimit -f unlimited");
    }
    if let Some(files) = files.filter(|files| *files < FEWEST_FILES) {
        return told(Finding::warning(format!(
            "a process of this user may only open {files} files (ulimit -n)"
        )))
        .remedy("raise the limit where the program is started: ulimit -n 1024");
    }
    told(Finding::ok("enough files, as large as needed"))
}

pub(super) fn clock(scope: &Scope) -> Finding {
    let now = SystemTime::now();
    let written = scope
        .context
        .subjects
        .iter()
        .flat_map(|subject| ["", "-wal"].map(|ending| crate::home::with_ending(&subject.path, ending)));
    let newest = written
        .filter_map(|path| Some((std::fs::symlink_metadata(&path).ok()?.modified().ok()?, path)))
        .max();
    let Some((at, path)) = newest else { return Finding::skipped("there is no file to compare it with") };
    match at.duration_since(now) {
        Ok(ahead) if ahead > BEHIND => {
            Finding::warning(format!("the clock is {} s behind the newest file", ahead.as_secs()))
                .detail("file", path.display().to_string())
                .detail("behind_ms", u64::try_from(ahead.as_millis()).unwrap_or(u64::MAX))
                .evidence("it was set back, or the file was copied from a machine whose clock is ahead")
                .remedy("set the clock (timedatectl); leases and ages of rows are counted by it")
        }
        _ => Finding::ok("not behind the files"),
    }
}
