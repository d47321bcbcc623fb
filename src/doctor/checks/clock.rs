//! What time this machine thinks it is.

use std::time::{Duration, SystemTime};

use super::super::finding::Finding;
use super::super::scope::Scope;

/// A clock that is so much behind a file's time was set back.
const BEHIND: Duration = Duration::from_mins(2);

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
