//! The look at a database for [`repair`](crate::repair): what is wrong, and what a repair would keep.

use std::time::Instant;

use super::set::Set;
use super::suspicion::{self, Verdict};
use super::{DamageReport, check_header, emptied, rebuild};
use crate::domain::OnDamage;
use crate::error::Result;
use crate::home::with_ending;
use crate::repair::Finding;
use crate::sqlite::clock::instant_after;
use crate::sqlite::connect::{Patience, Spec, lock_until};
use crate::sqlite::read_only::Source;

impl Spec {
    /// What is wrong with the database; changes nothing. `alone`: nobody has it open, this process included.
    ///
    /// # Errors
    /// Of opening it, when that is not damage.
    pub(crate) fn find_damage(&self, alone: bool) -> Result<Option<Finding>> {
        let unfinished = Set::unfinished(self).is_some();
        let found = match self.judge() {
            Ok(Some(found)) => found,
            Ok(None) if unfinished => "an earlier repair was broken off".to_owned(),
            Ok(None) => return Ok(None),
            Err(error) if self.may_be_replaced(&error) => error.message().to_owned(),
            Err(error) => return Err(error),
        };
        let action = self.domain.damage_policy();
        let readable = alone && !unfinished && action == OnDamage::Salvage && self.path.exists();
        let rows = readable
            .then(|| rebuild::count(self, &self.path, &with_ending(&self.path, "-wal")))
            .transpose()?;
        Ok(Some(Finding {
            database: self.domain.name().to_owned(),
            path: self.path.clone(),
            found,
            action,
            rows,
            unfinished,
        }))
    }

    /// Sets it right when it is damaged. The caller has the home alone.
    ///
    /// # Errors
    /// Of opening it, when that is not damage; of moving and salvaging.
    pub(crate) fn repair(&self, deadline: Instant) -> Result<Option<DamageReport>> {
        let _lock = lock_until(&self.init_lock, deadline)?;
        if let Some(report) = self.finish_unfinished()? {
            return Ok(Some(report));
        }
        let error = match self.judge() {
            Ok(None) => return Ok(None),
            Ok(Some(found)) => crate::Error::new(crate::ErrorKind::Corrupt, found),
            Err(error) if self.may_be_replaced(&error) => error,
            Err(error) => return Err(error),
        };
        self.set_damaged_aside(&error).map(Some)
    }

    /// What SQLite's check of the whole file says.
    fn judge(&self) -> Result<Option<String>> {
        let _patience = Patience::until(instant_after(self.limits.deadline));
        if self.look()? == 0 {
            return if self.is_emptied() { Err(emptied()) } else { Ok(None) };
        }
        // What reads without writing; SQLite looks at nothing before the first statement.
        let source = Source::find(&self.path)?;
        let connection = source.open()?;
        check_header(&connection, &self.path)?;
        let connection = self.made_ready(connection)?;
        match suspicion::check(&connection, None)? {
            Verdict::Damaged(found) => Ok(Some(found)),
            Verdict::Whole | Verdict::Unsure => Ok(None),
        }
    }
}
