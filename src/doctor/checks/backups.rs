//! When the home was backed up last.

use jiff::Timestamp;

use super::super::command::Own;
use super::super::finding::Finding;
use super::super::scope::Scope;
use super::super::words::number;
use crate::backup;

/// Whoever makes backups wants them newer than this.
const OLD_DAYS: i64 = 30;

pub(super) fn age(scope: &Scope) -> Finding {
    let home = match scope.context.home() {
        Ok(home) => home,
        Err(why) => return Finding::skipped(why),
    };
    let made = backup::newest(home.path());
    let Some((at, count)) = made else {
        // Not everybody wants one here: no reason to nag.
        return Finding::ok("none was made in this home")
            .evidence("`rowhouse backup` makes one, while programs go on");
    };
    let days = (Timestamp::now().as_second() - at.as_second()) / 86_400;
    let told = |finding: Finding| finding.detail("newest", at.to_string()).detail("backups", count);
    if days > OLD_DAYS {
        return told(Finding::warning(format!("the newest backup is {days} days old")))
            .remedy("make one, or have it made every day (cron, a systemd timer)")
            .fix(Own::Backup);
    }
    told(Finding::ok(format!("the newest is {} old", number(days.max(0).unsigned_abs(), "day"))))
}
