//! Those who copy what the server writes.

use super::super::super::finding::Finding;
use super::super::super::scope::Scope;
use super::super::super::words::{bytes, number};
use super::asked::{asked, facts, judged, skipped};
use crate::postgres::look::Row;

/// One segment of the server's log: what is under way is less.
const LAG_BYTES: u64 = 16 << 20;
const LAG_MS: u64 = 30_000;
/// What a slot may keep for somebody who is not connected before it is told.
const KEPT_BYTES: u64 = 64 << 20;

pub(super) fn standbys(scope: &Scope) -> Finding {
    judged(|| {
        let facts = facts(scope)?;
        if asked(&facts.version)?.is("follows") {
            return Err(skipped("it is a standby itself: see server.reachable"));
        }
        let (rows, waits) = (asked(&facts.standbys)?, asked(&facts.waits)?);
        Ok(rows.iter().fold(of_standbys(rows, waits), |finding, row| finding.evidence(described(row))))
    })
}

fn is_synchronous(row: &Row) -> bool {
    matches!(row.text("kind"), Some("sync" | "quorum"))
}

fn of_standbys(rows: &[Row], waits: &Row) -> Finding {
    let name = |row: &Row| row.text("name").unwrap_or("a standby").to_owned();
    let waited_for = waits.text("standbys").is_some_and(|names| !names.is_empty())
        && !matches!(waits.text("commits"), Some("off" | "local"));
    let synchronous = rows.iter().filter(|row| is_synchronous(row)).count();
    let told = |finding: Finding| finding.detail("standbys", rows.len()).detail("synchronous", synchronous);
    // Who may not see what a standby does sees that it is there.
    let is_seen = rows.iter().all(|row| row.text("kind").is_some());
    if waited_for && synchronous == 0 && is_seen {
        return told(Finding::fail("every commit waits for a synchronous standby, and none is connected")).remedy(
            "start the standby; or take it out of synchronous_standby_names and reload the server, which gives up what it is for",
        );
    }
    let lags = rows.iter().find(|row| row.count("lag_bytes") >= LAG_BYTES || row.count("lag_ms") >= LAG_MS);
    if let Some(row) = lags {
        return told(Finding::warning(format!("{} is {} behind", name(row), bytes(row.count("lag_bytes")))))
            .detail("lag_bytes", row.count("lag_bytes"))
            .detail("lag_ms", row.count("lag_ms"))
            .remedy(
                "look at its disk, its network, and whether a long read or a pause there stops the replay",
            );
    }
    told(match (rows.len(), synchronous) {
        (0, _) => Finding::ok("no standby: what is on the server is all there is"),
        (_, 0) if is_seen => Finding::ok(format!("{}, asynchronous", number(rows.len() as u64, "standby")))
            .evidence("the last commits can be lost with the server that takes writes"),
        (all, _) => Finding::ok(number(all as u64, "standby")),
    })
}

fn described(row: &Row) -> String {
    let word = |name| row.text(name).unwrap_or("not told to this user");
    let lag = row.number("lag_ms").map_or_else(String::new, |_| format!(", {} ms", row.count("lag_ms")));
    format!(
        "{}: {}, {}, {} behind{lag}",
        word("name"),
        word("state"),
        word("kind"),
        bytes(row.count("lag_bytes"))
    )
}

pub(super) fn slots(scope: &Scope) -> Finding {
    judged(|| {
        let rows = asked(&facts(scope)?.slots)?;
        let kept = |row: &&Row| !row.is("active") && row.count("kept_bytes") >= KEPT_BYTES;
        let lost = |row: &&Row| matches!(row.text("status"), Some("lost" | "unreserved"));
        let name = |row: &Row| row.text("name").unwrap_or_default().to_owned();
        if let Some(row) = rows.iter().find(kept) {
            let kept = row.count("kept_bytes");
            return Ok(Finding::warning(format!(
                "nobody reads the replication slot {}, for which the server keeps {} of its log",
                name(row),
                bytes(kept)
            ))
            .detail("slot", name(row))
            .detail("kept_bytes", kept)
            .remedy(
                "start who reads it, or drop it (pg_drop_replication_slot): the server's disk fills up",
            ));
        }
        if let Some(row) = rows.iter().find(lost) {
            let finding = Finding::warning(format!("the replication slot {} fell behind too far", name(row)));
            return Ok(finding.detail("slot", name(row)).remedy("copy that standby anew, and drop the slot"));
        }
        Ok(Finding::ok(number(rows.len() as u64, "slot")).detail("slots", rows.len()))
    })
}
