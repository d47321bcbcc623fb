//! What is in the way of a database, as its health, its callers and its log are told.

use std::sync::atomic::Ordering;

use super::{Shared, warn};
use crate::error::{Error, ErrorKind};
use crate::sqlite::admission::Bound;
use crate::sqlite::check;
use crate::sqlite::damage::DamageReport;
use crate::sqlite::damage::suspicion;
use crate::sqlite::health::Health;
use crate::sqlite::identity::Lost;
use crate::sqlite::latch;
use crate::sqlite::recover::Loss;

impl Shared {
    /// The files are not ours any more. Nothing is written to them from here on; the writer looks after what they held.
    pub(in crate::sqlite) fn lost(&self, found: Lost) -> Error {
        let (loss, error) = match found {
            // Its commit is in the log, and whoever salvages may find it there.
            Lost::Damaged(error) => return self.suspect(error).as_kind(ErrorKind::OutcomeUnknown),
            // Its commit stands, as far as anybody can tell.
            Lost::Unread(error) => return self.name(error).as_kind(ErrorKind::OutcomeUnknown),
            Lost::File(error) => (Loss::File, self.latch(error)),
            Lost::Log(error) if self.best_effort => return self.latch(error),
            Lost::Log(error) => {
                // Opened again by the writer, at once: what comes meanwhile waits.
                self.health.open_anew();
                (Loss::Log, self.name(error))
            }
        };
        if !self.best_effort {
            *self.found_lost.lock() = Some(loss);
        }
        self.lanes.poke();
        error
    }

    /// No more writes: after this answer nothing of this generation can be believed. A best-effort database is attached
    /// again by its writer.
    pub(in crate::sqlite) fn latch(&self, error: Error) -> Error {
        if error.sqlite_code().is_some_and(suspicion::is_suspicious) {
            return self.suspect(error);
        }
        let error = self.name(error);
        if latch::is_of_the_disk(&error) {
            self.spec.latch.raise();
        }
        if self.best_effort {
            self.detach(error.clone());
            self.lanes.poke();
            return error;
        }
        if error.kind() != ErrorKind::Replaced {
            self.failed.store(true, Ordering::Relaxed);
        }
        let refusal = match error.kind() {
            ErrorKind::Replaced => error.clone(),
            _ => self
                .name(Error::new(ErrorKind::Latched, "an earlier write to the disk failed"))
                .advise("check the disk, then call reopen()")
                .caused_by(error.clone()),
        };
        self.health.set(Health::Latched, Some(refusal));
        if let Some(slot) = &self.slot {
            slot.set_latched(true);
        }
        error
    }

    /// A write of another process failed, so nothing is acknowledged here either. The writer opens the database again when
    /// somebody has recovered it.
    pub(in crate::sqlite) fn failed_elsewhere(&self) -> Error {
        let error = self.name(latch::failed_elsewhere());
        if self.best_effort {
            self.detach(error.clone());
        } else {
            self.health.open_anew();
            self.found_lost.lock().get_or_insert(Loss::Trust);
        }
        self.lanes.poke();
        error
    }

    /// The background check found damage, twice. When SQLite says so too, the file is set aside as the domain wants it; when
    /// the trees of a table do not fit to each other, it stays, for nobody can tell which one is right.
    pub(in crate::sqlite) fn damaged(&self, found: check::Damage) {
        match found {
            check::Damage::Pages(error) => {
                self.suspicion.confirm();
                self.suspect(error);
            }
            check::Damage::Trees(error) if self.best_effort => {
                // The next pass finds it again.
                if !self.health.warnings().iter().any(|told| told == error.message()) {
                    self.health.warn(error.message().to_owned());
                    warn(&self.name(error));
                }
            }
            check::Damage::Trees(error) if self.health.is_writable() => self.refuse_damaged(&error),
            // It is shut for another reason, which must not be forgotten for this one.
            check::Damage::Trees(error) => warn(&self.name(error)),
        }
    }

    /// SQLite met damage. Nothing is written until the writer has looked into it.
    pub(in crate::sqlite) fn suspect(&self, error: Error) -> Error {
        let error = self.name(error);
        if self.best_effort {
            self.detach(error.clone());
        } else if self.health.is_writable() {
            let told = Error::new(
                ErrorKind::Corrupt,
                "SQLite met damage in the database; it is being looked into, and nothing is written meanwhile",
            );
            self.health.set(Health::Latched, Some(self.name(told.caused_by(error.clone()))));
        }
        self.suspicion.raise(error.clone());
        self.lanes.poke();
        error
    }

    /// A read failed. Whether that is damage of the file is looked into; nothing waits for it.
    pub(in crate::sqlite) fn met_in_a_read(&self, error: &Error) {
        let suspicious = error.sqlite_code().is_some_and(suspicion::is_suspicious);
        if suspicious && self.health.is_writable() && !self.suspicion.is_calm() {
            self.suspicion.raise(error.clone());
            self.lanes.poke();
        }
    }

    /// The file is whole, or nothing can be said of it.
    pub(in crate::sqlite) fn suspicion_passed(&self) {
        let of_this = self.health.refusal().is_some_and(|refusal| refusal.kind() == ErrorKind::Corrupt);
        if of_this && !self.failed.load(Ordering::Relaxed) && self.gate.enter().is_some() {
            self.health.attached();
        }
    }

    /// The file is damaged, and its domain wants it to stay where it is.
    pub(in crate::sqlite) fn refuse_damaged(&self, error: &Error) {
        let told = Error::new(ErrorKind::Corrupt, format!("the database is damaged: {}", error.message()))
            .caused_by(error.clone());
        let told = self.name(told);
        warn(&told);
        self.health.set(Health::Latched, Some(told));
    }

    /// The file is damaged, and is being set aside.
    pub(in crate::sqlite) fn quarantine(&self, error: &Error) {
        let told = Error::new(
            ErrorKind::Corrupt,
            format!(
                "the database is damaged ({}); it is being set aside, and comes back by itself",
                error.message()
            ),
        )
        .advise("look whether what you wrote last is there when it is back");
        let told = self.name(told);
        // Said aloud once it is done.
        if self.best_effort {
            self.health.detach(told);
        } else {
            self.health.set(Health::Quarantined, Some(told));
        }
    }

    /// It was set aside, and there is a new one.
    pub(in crate::sqlite) fn tell_damage(&self, report: DamageReport) {
        self.health.warn(report.to_string());
        *self.damage.lock() = Some(report);
    }

    /// Something is in the way of writes.
    pub(in crate::sqlite) fn degrade(&self, trouble: Error) {
        let trouble = self.name(trouble);
        if self.health.degrade(trouble.clone()) {
            warn(&trouble);
        }
    }

    /// A bound is reached. A best-effort database lets no work in until it is [opened](Self::open_again); a required one
    /// only says so, in its health.
    pub(in crate::sqlite) fn shut(&self, bound: Bound, why: Error) {
        self.raise(bound, why, self.best_effort);
    }

    /// A bound is about to be reached, or cannot be kept any more: the health says so, and work goes on.
    pub(in crate::sqlite) fn alarm(&self, bound: Bound, why: Error) {
        self.raise(bound, why, false);
    }

    fn raise(&self, bound: Bound, why: Error, refuses: bool) {
        let why = self.name(why);
        let news = self.admission.reach(bound, why.clone(), refuses);
        self.health.bounded(|| self.admission.alarm());
        if news {
            warn(&why);
        }
    }

    /// A bound is not reached any more.
    pub(in crate::sqlite) fn open_again(&self, bound: Bound) {
        if self.admission.is_reached(bound) {
            self.admission.open(bound);
            self.health.bounded(|| self.admission.alarm());
        }
    }

    /// A best-effort database cannot be used until it is attached again.
    pub(in crate::sqlite) fn detach(&self, trouble: Error) {
        let trouble = self.name(trouble);
        if self.health.detach(trouble.clone()) {
            warn(&trouble);
        }
    }
}
