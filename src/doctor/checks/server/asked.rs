//! The one look at the server, as a check asks for it.

use super::super::super::finding::Finding;
use super::super::super::scope::Scope;
use super::super::super::server::OnServer;
use crate::error::Result as Answer;
use crate::move_backend::marker::is_cutting_over;
use crate::postgres::look;
use crate::postgres::look::facts::{Facts, Look};

const SEE_SETTINGS: &str = "the server is not known: see server.settings";

/// The row of a check that ends early.
pub(super) struct Early(Box<Finding>);

pub(super) fn skipped(why: impl Into<String>) -> Early {
    Early(Box::new(Finding::skipped(why)))
}

/// A check that may end early.
pub(super) fn judged(judge: impl FnOnce() -> Result<Finding, Early>) -> Finding {
    judge().unwrap_or_else(|Early(finding)| *finding)
}

pub(super) fn named<'c>(scope: &Scope<'c>) -> Result<&'c OnServer, Early> {
    match &scope.context.server {
        Some(Ok(server)) => Ok(server),
        _ => Err(skipped(SEE_SETTINGS)),
    }
}

/// What was seen of its hosts.
pub(super) fn look<'c>(scope: &Scope<'c>) -> Result<&'c Look, Early> {
    named(scope)?.look(scope.until).map_err(|_| skipped(SEE_SETTINGS))
}

/// What the best of them said.
pub(super) fn facts<'c>(scope: &Scope<'c>) -> Result<&'c Facts, Early> {
    let look = look(scope)?;
    look.facts.as_ref().ok_or_else(|| {
        let full = look.hosts.iter().any(|host| matches!(host.answer, look::Answer::Full(_)));
        let row = if full { "connections" } else { "reachable" };
        skipped(format!("the server could not be asked: see server.{row}"))
    })
}

/// While a move is not finished nobody uses the schemas, and which of them count is told elsewhere.
pub(super) fn settled(scope: &Scope) -> Result<(), Early> {
    match scope.context.home() {
        Ok(home) if is_cutting_over(home) => Err(skipped("a move is not finished: see home.moved")),
        _ => Ok(()),
    }
}

/// A question that failed is a skipped check, with the reason.
pub(super) fn asked<T>(answer: &Answer<T>) -> Result<&T, Early> {
    answer.as_ref().map_err(|error| skipped(format!("the server does not tell: {}", error.message())))
}
