//! Whose file it is, and whether its schema is one that this program knows.

use super::super::finding::Finding;
use super::super::scope::Scope;
use super::super::subject::Subject;
use crate::error::ErrorKind;
use crate::sqlite::migrate::{self, Access};

pub(super) fn stamp(scope: &Scope, subject: &Subject) -> Finding {
    subject.opened(scope, |look| {
        let (ours, number) = look.stamp()?;
        let told = |finding: Finding| finding.detail("stamp", format!("{number:08x}"));
        if !ours || number == 0 {
            return Ok(told(Finding::fail("the file does not carry this library's stamp").kind(ErrorKind::Conflict))
                .evidence("it was written anew by another tool (a dump, VACUUM INTO an older file), or is another program's")
                .remedy("if it is a dump of the right database its program takes it back at the next open; else put the right file there"));
        }
        if look.has_log()? {
            return Ok(told(Finding::ok("this library's")));
        }
        // A restore and a compaction put it there so; so does a tool, and it does no harm before somebody opens it.
        let anew = "it has no write-ahead log yet: its program makes one when it opens it next";
        if !subject.is_in_use(scope) {
            return Ok(told(Finding::ok("this library's, and not opened since it was written anew"))
                .evidence(anew));
        }
        if subject.is_held(scope) {
            return Ok(told(Finding::ok(format!("this library's; who is in the way of its program is told by {}.write", subject.name)))
                .evidence(anew));
        }
        Ok(told(Finding::warning("it has no write-ahead log, and somebody has it open"))
            .evidence("a restore or a compaction wrote it anew, or another tool changed its journal mode")
            .remedy("its program makes one when it opens it next; readers and writers wait for each other until then"))
    })
}

pub(super) fn schema(scope: &Scope, subject: &Subject) -> Finding {
    let Some(domain) = &subject.domain else {
        return Finding::skipped("another program declared it, and knows its schema");
    };
    subject.opened(scope, |look| {
        if !look.stamp()?.0 {
            return Ok(Finding::skipped(format!("it is not this library's: see {}.stamp", subject.name)));
        }
        let state = match migrate::inspect(look.connection(), domain) {
            Ok(state) => state,
            // SQLite finds nothing wrong: the record itself makes no sense.
            Err(error)
                if error.kind() == ErrorKind::Conflict
                    || (error.kind() == ErrorKind::Corrupt && error.sqlite_code().is_none()) =>
            {
                return Ok(Finding::of_error(&error));
            }
            Err(error) => return Err(error),
        };
        let known = migrate::newest_of(domain);
        let told = |finding: Finding| {
            finding
                .detail("version", state.found_version.unsigned_abs())
                .detail("known", known.unsigned_abs())
        };
        if let Some(refusal) = state.access.refusal() {
            let finding = if matches!(state.access, Access::ReadOnly(_)) {
                Finding::warning(refusal.message())
            } else {
                Finding::fail(refusal.message())
            };
            let advice =
                refusal.advice().unwrap_or("install the version of the program that wrote it").to_owned();
            return Ok(told(finding.kind(refusal.kind())).remedy(advice));
        }
        if let Some(first) = state.warnings.first() {
            let finding = told(Finding::warning(first.as_str()).kind(ErrorKind::Conflict))
                .remedy("ask whoever makes the program: an applied migration is never edited");
            return Ok(state.warnings[1..]
                .iter()
                .fold(finding, |finding, more| finding.evidence(more.as_str())));
        }
        let finding = told(Finding::ok(format!("version {}", state.found_version)));
        Ok(match state.pending.len() {
            0 => finding,
            pending => finding.evidence(format!(
                "{pending} newer migrations: the next program of this version applies them"
            )),
        })
    })
}
