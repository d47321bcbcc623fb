//! What this program finds in its schemas, and whether it may use them.

use super::super::super::finding::Finding;
use super::super::super::scope::Scope;
use super::super::super::words::number;
use super::asked::{facts, judged, settled};
use crate::error::ErrorKind;
use crate::postgres::look::facts::{Facts, Schema};
use crate::sqlite::migrate::{Access, State};

/// The worst of all domains decides, the others are told.
pub(super) fn schema(scope: &Scope) -> Finding {
    judged(|| {
        settled(scope)?;
        let facts = facts(scope)?;
        let all: Vec<_> = facts.schemas.iter().map(of_schema).collect();
        let worst = all.iter().map(|said| said.grave).max().unwrap_or(Grave::Fine);
        let decides = all.iter().find(|said| said.grave == worst);
        let summary = match decides {
            Some(said) if worst > Grave::Fine => said.words.clone(),
            _ => all.iter().map(|said| said.words.as_str()).collect::<Vec<_>>().join(", "),
        };
        let finding = match worst {
            Grave::Fine => Finding::ok(summary),
            Grave::Untold => Finding::skipped(summary),
            Grave::Warning => Finding::warning(summary),
            Grave::Fail => Finding::fail(summary),
        };
        let finding = match decides.and_then(|said| said.advice.as_ref()) {
            Some(advice) => finding.remedy(advice.as_str()),
            None => finding,
        };
        Ok(all
            .iter()
            .flat_map(|said| said.evidence.iter())
            .fold(finding, |finding, more| finding.evidence(more.as_str())))
    })
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Grave {
    Fine,
    Untold,
    Warning,
    Fail,
}

/// What is to be said of one schema.
struct Said {
    grave: Grave,
    words: String,
    advice: Option<String>,
    evidence: Vec<String>,
}

fn of_schema(Schema { domain, state, .. }: &Schema) -> Said {
    let said =
        |grave, words: String, advice: Option<String>| Said { grave, words, advice, evidence: Vec::new() };
    match state {
        Ok(None) => Said {
            evidence: vec![format!("{domain}: the first program that opens the home makes it")],
            ..said(Grave::Fine, format!("{domain} is not there yet"), None)
        },
        Ok(Some(state)) => of_state(domain, state),
        Err(error) if error.kind() == ErrorKind::ReadOnly => {
            said(Grave::Untold, format!("{domain} may not be read: see server.permissions"), None)
        }
        Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::Corrupt) => {
            said(Grave::Fail, format!("{domain}: {}", error.message()), error.advice().map(str::to_owned))
        }
        Err(error) => said(Grave::Untold, format!("{domain} could not be read: {}", error.message()), None),
    }
}

fn of_state(domain: &str, state: &State) -> Said {
    if let Some(refusal) = state.access.refusal() {
        // A program opens it on a server only when it may write: it would have to refuse each write itself.
        let evidence = matches!(state.access, Access::ReadOnly(_))
            .then(|| format!("{domain}: its writer lets this program read, which it does in files only"));
        return Said {
            grave: Grave::Fail,
            words: format!("{domain}: {}", refusal.message()),
            advice: refusal.advice().map(str::to_owned),
            evidence: evidence.into_iter().collect(),
        };
    }
    if let Some((first, more)) = state.warnings.split_first() {
        return Said {
            grave: Grave::Warning,
            words: format!("{domain}: {first}"),
            advice: Some("ask whoever makes the program: an applied migration is never edited".to_owned()),
            evidence: more.iter().map(|more| format!("{domain}: {more}")).collect(),
        };
    }
    let pending = (!state.pending.is_empty()).then(|| {
        let count = number(state.pending.len() as u64, "newer migration");
        format!("{domain}: {count}, applied by the next program of this version")
    });
    Said {
        grave: Grave::Fine,
        words: format!("{domain} version {}", state.found_version),
        advice: None,
        evidence: pending.into_iter().collect(),
    }
}

pub(super) fn permissions(scope: &Scope) -> Finding {
    judged(|| {
        settled(scope)?;
        let facts = facts(scope)?;
        Ok(lacking(facts).unwrap_or_else(|| {
            let tried = facts.schemas.iter().filter(|schema| matches!(schema.write, Some(Ok(())))).count();
            Finding::ok(if tried > 0 {
                "a row was written, and rolled back"
            } else {
                "nothing is there to write yet"
            })
            .detail("tried", tried)
        }))
    })
}

fn lacking(facts: &Facts) -> Option<Finding> {
    const GRANT: &str = "let the owner of the schemas grant it, or use the owner's name in the URL";
    if facts.version.as_ref().is_ok_and(|row| row.is("follows")) {
        return Some(Finding::skipped("no host takes writes: see server.reachable"));
    }
    facts.schemas.iter().find_map(|Schema { domain, name, rights, write, .. }| {
        let rights = match rights {
            Ok(rights) => rights,
            Err(error) => {
                return Some(Finding::skipped(format!("the server does not tell: {}", error.message())));
            }
        };
        if !rights.is("exists") {
            return (!rights.is("may_create")).then(|| {
                Finding::fail(format!("{domain} is not there yet, and the user may not create schemas"))
                    .remedy("GRANT CREATE ON DATABASE ... TO ... for the first start")
            });
        }
        if !rights.is("may_use") {
            return Some(Finding::fail(format!("the user may not use the schema {name}")).remedy(GRANT));
        }
        if let Some(closed) = rights.text("closed") {
            return Some(
                Finding::fail(format!("the user may not read and write all tables of {name}"))
                    .evidence(format!("not open: {closed}"))
                    .remedy(GRANT),
            );
        }
        match write {
            Some(Err(error)) if matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Busy) => {
                Some(Finding::skipped(format!("{domain}: {}", error.message())))
            }
            Some(Err(error)) => Some(Finding::of_error(error).detail("schema", name.as_str())),
            _ => None,
        }
    })
}
