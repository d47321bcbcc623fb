//! Who has the server's connections, and who keeps them from each other.

use super::super::super::finding::Finding;
use super::super::super::scope::Scope;
use super::super::super::words::number;
use super::asked::{asked, facts, judged, look, named};
use crate::postgres::look::{Answer, Row};

/// Above this share the next peak finds no connection.
const NEARLY_ALL_PERCENT: u64 = 90;
/// A job is done in milliseconds, and given up at its deadline of 30 s.
const LONG_MS: u64 = 60_000;
/// Who asks nothing while a transaction is open forgot it, or waits for something else than the server.
const IDLE_MS: u64 = 5_000;
/// Who lets others wait is told of sooner.
const BLOCKS_MS: u64 = 1_000;

pub(super) fn connections(scope: &Scope) -> Finding {
    judged(|| {
        let server = named(scope)?;
        let look = look(scope)?;
        if look.facts.is_none()
            && let Some(error) = look.hosts.iter().find_map(|host| match &host.answer {
                Answer::Full(error) => Some(error),
                _ => None,
            })
        {
            return Ok(Finding::of_error(error).remedy(
                "end connections that nobody needs, raise max_connections, lower pool_size of each program, or put a pooler before the server",
            ));
        }
        let row = asked(&facts(scope)?.connections)?;
        Ok(of_connections(row, server.settings.pool_size as u64))
    })
}

fn of_connections(row: &Row, pool: u64) -> Finding {
    // What an operator gave to everybody, to this user, or to this database.
    let open = row.count("most").saturating_sub(row.count("reserved"));
    let used = row.count("used");
    let limit = |name| row.number(name).map(|_| row.count(name));
    let told = |finding: Finding| {
        finding
            .detail("used", used)
            .detail("for_users", open)
            .detail("max_connections", row.count("most"))
            .detail("ours", row.count("ours"))
            .detail("pool_size", pool)
    };
    for (limit, whose) in [(limit("of_user"), "the user"), (limit("of_database"), "the database")] {
        if let Some(limit) = limit.filter(|limit| *limit < pool) {
            return told(Finding::warning(format!(
                "{whose} may have {}, and pool_size is {pool}",
                number(limit, "connection")
            )))
            .remedy("lower pool_size under [state.postgres], or raise the limit (CONNECTION LIMIT)");
        }
    }
    if used * 100 >= open * NEARLY_ALL_PERCENT {
        return told(Finding::warning(format!("{used} of {} are in use", number(open, "connection")))).remedy(
            "end those that nobody needs, raise max_connections, lower pool_size of each program, or put a pooler before the server",
        );
    }
    if pool > open {
        return told(Finding::warning(format!(
            "pool_size is {pool}, and the server has {}",
            number(open, "connection")
        )))
        .remedy("lower pool_size under [state.postgres]");
    }
    told(Finding::ok(format!("{used} of {} in use", number(open, "connection"))))
}

pub(super) fn transactions(scope: &Scope) -> Finding {
    judged(|| {
        let rows = asked(&facts(scope)?.transactions)?;
        let late: Vec<_> = rows.iter().filter_map(late).collect();
        let Some((summary, rest)) = late.split_first() else {
            return Ok(Finding::ok(format!("{} open, none for long", rows.len())).detail("open", rows.len()));
        };
        let finding =
            Finding::warning(summary.as_str()).detail("open", rows.len()).detail("long", late.len());
        let finding = rest.iter().fold(finding, |finding, more| finding.evidence(more.as_str()));
        Ok(finding
            .evidence("an open transaction keeps its locks, and old rows from being cleared away")
            .remedy("end that program, or its connection on the server: SELECT pg_terminate_backend(PID)"))
    })
}

fn late(row: &Row) -> Option<String> {
    let (open, since, blocks) = (row.count("open_ms"), row.count("since_ms"), row.count("blocks"));
    let state = row.text("state").unwrap_or("active");
    let idle = state.starts_with("idle in transaction");
    let is_late = open >= LONG_MS || (idle && since >= IDLE_MS) || (blocks > 0 && open >= BLOCKS_MS);
    is_late.then(|| {
        let program =
            row.text("program").filter(|name| !name.is_empty()).unwrap_or("a program without a name");
        let pid = row.count("pid");
        let waiting = if blocks > 0 { format!(", and keeps {blocks} waiting") } else { String::new() };
        format!("{program} (server pid {pid}) has a transaction open for {} s, {state}{waiting}", open / 1000)
    })
}
