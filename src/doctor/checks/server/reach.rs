//! Whether the server can be reached, by whom, and what it is.

use super::super::super::finding::Finding;
use super::super::super::scope::Scope;
use super::asked::{asked, facts, judged, look, named};
use crate::postgres::look::facts::{Clock, Direct};
use crate::postgres::look::{Answer, Host};

/// The newest release that these programs were tried with.
const NEWEST_TRIED: i64 = 18;
const OLDEST: i64 = crate::postgres::OLDEST / 10_000;
/// Leases are counted in minutes, by the server's clock; ages are shown by this one.
const CLOCKS_APART_MS: i64 = 2_000;

pub(super) fn reachable(scope: &Scope) -> Finding {
    judged(|| {
        let look = look(scope)?;
        let told = look.hosts.iter().fold(judge(&look.hosts), |finding, host| {
            finding.evidence(format!("{}: {}", host.name, says(&host.answer)))
        });
        Ok(told.detail("hosts", look.hosts.len()))
    })
}

fn says(answer: &Answer) -> String {
    match answer {
        Answer::Writes => "takes writes".to_owned(),
        Answer::Follows => "a standby, can only be read".to_owned(),
        Answer::Full(error) | Answer::Refused(error) => error.message().to_owned(),
        Answer::Silent => "accepts connections, and does not answer".to_owned(),
    }
}

fn judge(hosts: &[Host]) -> Finding {
    let is = |wanted: fn(&Answer) -> bool| hosts.iter().find(|host| wanted(&host.answer));
    if let Some(writes) = is(|answer| matches!(answer, Answer::Writes)) {
        let lost = |host: &&Host| matches!(host.answer, Answer::Refused(_) | Answer::Silent);
        return match hosts.iter().find(lost) {
            None => Finding::ok(format!("{} takes writes", writes.name)),
            Some(lost) => {
                Finding::warning(format!("{} takes writes, {} does not answer", writes.name, lost.name))
                    .remedy("look why: after the next fail-over it would be missing")
            }
        };
    }
    if is(|answer| matches!(answer, Answer::Full(_))).is_some() {
        return Finding::ok("it runs, and has no connection free: see server.connections");
    }
    if let Some(follows) = is(|answer| matches!(answer, Answer::Follows)) {
        return Finding::fail(format!("{} is a standby, and no host takes writes", follows.name))
            .remedy("name the server that takes writes in the URL, or all of them; or promote the standby");
    }
    match hosts.first().map(|host| &host.answer) {
        Some(Answer::Refused(error)) => Finding::of_error(error),
        _ => Finding::fail("the server accepts connections, and does not answer").remedy(
            "look whether its processes are stopped (kill -CONT) or its machine is overloaded, and whether a firewall swallows what is sent",
        ),
    }
}

pub(super) fn version(scope: &Scope) -> Finding {
    judged(|| {
        let row = asked(&facts(scope)?.version)?;
        let (number, words) = (row.number("number").unwrap_or(0), row.text("words").unwrap_or_default());
        let release = format!("{}.{}", number / 10_000, number % 10_000);
        let told = |finding: Finding| finding.detail("version", release.as_str()).detail("says", words);
        if !words.starts_with("PostgreSQL ") {
            return Ok(told(Finding::warning("it is not PostgreSQL itself")).remedy(
                "it speaks the same protocol; what is used here that others may lack stands in docs/operations.md",
            ));
        }
        if number < OLDEST * 10_000 {
            let finding =
                Finding::fail(format!("it is PostgreSQL {release}, the oldest that will do is {OLDEST}"));
            return Ok(told(finding).remedy("upgrade the server"));
        }
        if row.text("encoding") != Some("UTF8") {
            return Ok(told(Finding::fail("the database is not kept in UTF-8"))
                .remedy("create it with ENCODING 'UTF8'"));
        }
        let finding = told(Finding::ok(format!("PostgreSQL {release}")));
        Ok(if number / 10_000 > NEWEST_TRIED {
            finding
                .evidence(format!("newer than those that this release was tried with: up to {NEWEST_TRIED}"))
        } else {
            finding
        })
    })
}

pub(super) fn tls(scope: &Scope) -> Finding {
    judged(|| {
        let facts = facts(scope)?;
        let row = asked(&facts.session)?;
        let told = |finding: Finding| finding.detail("encrypted", row.is("encrypted"));
        // With a pooler the server tells of the way from there on.
        if facts.pooled {
            return Ok(told(Finding::ok(
                "as far as the pooler it is as the URL says; from there on the pooler decides",
            ))
            .detail("far", !named(scope)?.is_near));
        }
        Ok(match (row.is("encrypted"), named(scope)?.is_near || row.is("socket")) {
            (true, _) => {
                let protocol = row.text("protocol").unwrap_or("TLS");
                told(Finding::ok(protocol)).detail("protocol", protocol)
            }
            (false, true) => told(Finding::ok("not encrypted, and it does not leave this machine")),
            (false, false) => told(Finding::fail("what goes over the network is not encrypted"))
                .remedy("turn ssl on at the server, and take sslmode out of the URL"),
        })
    })
}

pub(super) fn pooler(scope: &Scope) -> Finding {
    judged(|| {
        let facts = facts(scope)?;
        let told = |finding: Finding| {
            finding.detail("pooler", facts.pooled).detail("direct_url", facts.direct.is_some())
        };
        Ok(told(match (&facts.direct, facts.pooled) {
            (None, false) => Finding::ok("none was recognised"),
            (None, true) => {
                Finding::warning("a pooler stands between, and migrations have no way past it")
                    .evidence("a program that brings a newer schema is refused: a pooler's own timeouts could end it in the middle")
                    .remedy("name the server itself as direct_url under [state.postgres]")
            }
            (Some(Direct::Same), true) => Finding::ok("a pooler; migrations go past it"),
            (Some(Direct::Same), false) => Finding::ok("none was recognised; direct_url leads to the same database"),
            (Some(Direct::Pooled), _) => Finding::warning("direct_url leads to a pooler as well")
                .remedy("name the server itself as direct_url under [state.postgres]"),
            (Some(Direct::Other), _) => Finding::fail("direct_url leads to another database than url").remedy(
                "correct one of them: migrations would be made where nobody looks; ROWHOUSE_POSTGRES_URL counts before url",
            ),
            (Some(Direct::Failed(error)), _) => {
                Finding::fail(format!("direct_url leads nowhere: {}", error.message()))
                    .remedy("correct direct_url under [state.postgres]: the next migration needs it")
            }
        }))
    })
}

pub(super) fn clock(scope: &Scope) -> Finding {
    judged(|| {
        let facts = facts(scope)?;
        asked(&facts.version)?;
        Ok(facts.clock.map_or_else(|| Finding::skipped("the server does not tell"), of_clock))
    })
}

fn of_clock(Clock { ahead_ms, within_ms }: Clock) -> Finding {
    let apart = ahead_ms.abs().saturating_sub(within_ms);
    let told = |finding: Finding| finding.detail("apart_ms", ahead_ms.unsigned_abs());
    if apart < CLOCKS_APART_MS {
        return told(Finding::ok("they agree"));
    }
    let side = if ahead_ms > 0 { "ahead of" } else { "behind" };
    told(Finding::warning(format!("the server's clock is {} s {side} this one", apart / 1000)))
        .evidence("leases and claims go by the server's clock, ages and times that are shown by this one")
        .remedy("set the one that is wrong (timedatectl)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::command::Shell;
    use crate::doctor::report::Status;
    use crate::error::{Error, ErrorKind};

    fn status(finding: Finding) -> Status {
        finding.into_check("server.x", "server", &Shell::plain()).status
    }

    #[test]
    fn clocks_agree_as_far_as_the_question_took() {
        for (ahead_ms, within_ms, expected) in [
            (0, 1, Status::Ok),
            (1_999, 1, Status::Ok),
            (5_000, 1, Status::Warning),
            (-5_000, 1, Status::Warning),
            (5_000, 4_000, Status::Ok),
            (i64::MIN + 1, 1, Status::Warning),
        ] {
            assert_eq!(status(of_clock(Clock { ahead_ms, within_ms })), expected, "{ahead_ms} {within_ms}");
        }
    }

    #[test]
    fn one_host_that_writes_is_enough_and_one_that_is_gone_is_told() {
        let refused = || Answer::Refused(Error::new(ErrorKind::Io, "no route"));
        let full = || Answer::Full(Error::new(ErrorKind::Busy, "no connection free"));
        for (answers, expected) in [
            (vec![Answer::Writes], Status::Ok),
            (vec![Answer::Follows, Answer::Writes], Status::Ok),
            (vec![refused(), Answer::Writes], Status::Warning),
            (vec![Answer::Writes, Answer::Silent], Status::Warning),
            (vec![Answer::Follows], Status::Fail),
            (vec![refused()], Status::Fail),
            (vec![Answer::Silent], Status::Fail),
            (vec![full()], Status::Ok),
        ] {
            let shown = format!("{answers:?}");
            let hosts: Vec<_> = answers
                .into_iter()
                .map(|answer| Host { name: "postgres://h/x".to_owned(), answer })
                .collect();
            assert_eq!(status(judge(&hosts)), expected, "{shown}");
        }
    }
}
