//! What somebody left half done in the home, and what waits for a person.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::super::command::{Command, Own};
use super::super::finding::Finding;
use super::super::scope::Scope;
use super::super::words::{bytes, number};
use crate::backup;
use crate::home::quarantine;
use crate::move_backend::marker::is_cutting_over;

/// Files that a move from a server fills.
const MOVING: &str = ".move-unfinished-";
/// What was set aside this lately is news.
const NEWS: Duration = Duration::from_hours(7 * 24);

pub(super) fn leftovers(scope: &Scope) -> Finding {
    let home = match scope.context.home() {
        Ok(home) => home,
        Err(why) => return Finding::skipped(why),
    };
    if backup::is_interrupted(home) {
        return Finding::fail("a restore of this home was broken off")
            .remedy("open the home with its program, or run the restore again: either finishes it")
            .look(Own::Status);
    }
    let sets = quarantine::list(home.path());
    if let Some(set) = sets.iter().find(|set| !set.finished) {
        return Finding::warning(format!(
            "a repair of {} was broken off",
            set.database.as_deref().unwrap_or("a database")
        ))
        .detail("folder", set.folder.display().to_string())
        .remedy("open the home with its program: it finishes the repair")
        .fix(Own::RepairApply);
    }
    let all = sets.iter().map(|set| set.bytes).sum();
    let told =
        |finding: Finding| finding.detail("quarantine_sets", sets.len()).detail("quarantine_bytes", all);
    let is_news = |path: &Path| {
        let changed = fs::symlink_metadata(path).and_then(|found| found.modified()).ok();
        changed.is_some_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age < NEWS))
    };
    let news: Vec<_> = sets.iter().filter(|set| !set.seen && is_news(&set.folder)).collect();
    if let Some(first) = news.first() {
        let finding = told(Finding::warning(format!("files of {} were set aside lately", first.database.as_deref().unwrap_or("a database"))))
            .remedy("read manifest.json there: it says why, and what was kept; then a file `seen` beside it ends this warning. The sets are bounded, and go by themselves");
        return news.iter().fold(finding, |finding, set| {
            finding
                .evidence(format!("{} ({})", set.folder.display(), bytes(set.bytes)))
                .fix(Command::System("touch", set.folder.join(quarantine::SEEN)))
        });
    }
    let mut old = generations(home.path());
    if is_cutting_over(home) {
        // What the next one finishes, not what it removes: see home.moved.
        old.retain(|name| !name.starts_with(MOVING));
    }
    if !old.is_empty() {
        let finding = told(Finding::warning(format!(
            "{} of something that ended early or was replaced",
            number(old.len() as u64, "file")
        )))
        .remedy("nobody needs them to go on: look at them, and remove them when you know what they were");
        return old.iter().take(20).fold(finding, |finding, name| finding.evidence(name.as_str()));
    }
    told(match sets.len() {
        0 => Finding::ok("none"),
        sets => Finding::ok(format!("{} in quarantine, {}", number(sets as u64, "set"), bytes(all))),
    })
}

/// Names in the home that only an end before the end, or a replacement, leaves there.
fn generations(home: &Path) -> Vec<String> {
    let is_left = |name: &str| {
        name.contains(".replaced-")
            || name.starts_with("registry.json.bad-")
            || name.starts_with(".compact-unfinished-")
            || name.starts_with(".restore-unfinished-")
            || name.starts_with(MOVING)
    };
    let entries = fs::read_dir(home).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| is_left(name))
        .collect();
    let backups = fs::read_dir(home.join("backups")).into_iter().flatten().flatten();
    let unfinished = backups.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.extend(
        unfinished.filter(|name| name.starts_with(backup::UNFINISHED)).map(|name| format!("backups/{name}")),
    );
    names.sort();
    names
}
