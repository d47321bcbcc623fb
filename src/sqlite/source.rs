//! A database whose rows are read to be taken elsewhere.
//!
//! Invariant: with the home alone, nobody writes it while this lives: also a program that knows nothing of this library finds
//! it locked. What is read is one snapshot.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::clock::instant_after;
use super::connect::Spec;
use super::generation::User;
use super::migrate;
use super::visit::Visit;
use crate::error::{Error, ErrorKind, Result};
use crate::presence::Alone;

pub(crate) struct Source {
    visit: Visit,
    /// Its schema is as this program knows it.
    pub(crate) is_settled: bool,
}

impl Source {
    /// Opens it beside whoever has it open; nothing is changed.
    ///
    /// # Errors
    /// `NotFound`; `ReadOnly` or `SchemaTooNew` when a newer program wrote it; of SQLite.
    pub(crate) fn look(spec: &Spec, wait: Duration) -> Result<Self> {
        let visit = Visit::begin(spec, User::Maintenance, wait)?;
        spec.named(visit.connection().execute_batch("BEGIN").map_err(Error::from))?;
        Self::of(visit)
    }

    /// Opens it alone, brings it to the newest schema, works its log off, and locks it.
    ///
    /// # Errors
    /// As opening a home; `Busy` when somebody has it locked, or reads it.
    pub(crate) fn hold(spec: &Spec, _: &Alone, wait: Duration) -> Result<Self> {
        let until = instant_after(wait);
        drop(spec.open_writer(until)?);
        let mut visit = Visit::begin(spec, User::Maintenance, wait)?;
        let mut hold = || {
            if !visit.work_log_off()? {
                return Err(Error::new(
                    ErrorKind::Busy,
                    "somebody reads the database, so it cannot be moved",
                )
                .advise("stop that program and try again; nothing was changed"));
            }
            visit.lock(until.max(Instant::now()))
        };
        spec.named(hold())?;
        Self::of(visit)
    }

    fn of(visit: Visit) -> Result<Self> {
        let spec = visit.spec().clone();
        let state = spec.named(migrate::inspect(visit.connection(), &spec.domain))?;
        if let Some(refusal) = state.access.refusal() {
            return Err(spec.name(refusal));
        }
        Ok(Self { visit, is_settled: state.settled() })
    }

    pub(crate) fn connection(&self) -> &Connection {
        self.visit.connection()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.visit.unlock();
    }
}
