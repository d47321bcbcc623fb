//! What the server does by itself so that it goes on.

use super::super::super::finding::Finding;
use super::super::super::scope::Scope;
use super::asked::{asked, facts, judged};

/// Fewer are cleared away when their time comes.
const MANY_DEAD: u64 = 50_000;
/// Half of what there is before the server refuses to write
/// (<https://www.postgresql.org/docs/current/routine-vacuuming.html#VACUUM-FOR-WRAPAROUND>).
const OLD_TRANSACTIONS: u64 = 1_000_000_000;

pub(super) fn vacuum(scope: &Scope) -> Finding {
    judged(|| {
        let facts = facts(scope)?;
        let (row, tables) = (asked(&facts.upkeep)?, asked(&facts.tables)?);
        let age = row.count("age");
        let told = |finding: Finding| finding.detail("transactions_age", age);
        if age >= OLD_TRANSACTIONS {
            return Ok(told(Finding::fail(format!(
                "rows are not frozen: the oldest transaction is {age} ago"
            )))
            .remedy("run VACUUM FREEZE as a superuser; at two thousand million the server takes no writes"));
        }
        if !row.is("autovacuum") || !row.is("counts") {
            return Ok(told(Finding::warning("autovacuum is off: deleted rows are never cleared away"))
                .remedy("set autovacuum = on and track_counts = on, and reload the server"));
        }
        let dead =
            tables.iter().find(|row| row.count("dead") >= MANY_DEAD && row.count("dead") > row.count("live"));
        if let Some(row) = dead {
            let name = row.text("name").unwrap_or_default();
            return Ok(told(Finding::warning(format!("{name} has more dead rows than living ones")))
                .detail("dead_rows", row.count("dead"))
                .detail("live_rows", row.count("live"))
                .remedy("look for an open transaction (server.transactions) or a slot (server.slots) that keeps them; then VACUUM"));
        }
        Ok(told(Finding::ok("autovacuum is on")))
    })
}

pub(super) fn checksums(scope: &Scope) -> Finding {
    judged(|| {
        let row = asked(&facts(scope)?.upkeep)?;
        let told = |finding: Finding| finding.detail("checksums", row.is("checksums"));
        Ok(match row.count("failures") {
            0 if row.is("checksums") => told(Finding::ok("no failure was counted")),
            0 => told(Finding::ok("they are off: the server does not notice damaged pages"))
                .evidence("pg_checksums --enable turns them on while the server is stopped"),
            failures => told(Finding::fail(format!("the server read damaged pages {failures} times")))
                .detail("failures", failures)
                .remedy("the server's log names the files: look at its disk, and bring the database back from a backup or a standby"),
        })
    })
}
