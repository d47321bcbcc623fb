//! The look at a database for [`repair`](crate::repair): what is wrong, and what a repair would keep.

use std::time::Instant;

use super::set::Set;
use super::suspicion::{self, Verdict};
use super::{DamageReport, KeptRows, emptied, rebuild};
use crate::error::{Error, ErrorKind, Result};
use crate::home::with_ending;
use crate::repair::Finding;
use crate::sqlite::clock::instant_after;
use crate::sqlite::connect::{Patience, Spec, lock_until};
use crate::sqlite::read_only::{Files, Source};

/// How often a file that somebody writes is looked at again.
const LOOKS: u32 = 3;

impl Spec {
    /// What is wrong with the database; changes nothing, and holds nobody up. Without the rows that can be kept.
    ///
    /// # Errors
    /// Of opening it, when that is not damage; `Busy` when it is written so often that it cannot be told.
    pub(crate) fn find_damage(&self) -> Result<Option<Finding>> {
        let unfinished = Set::unfinished(self).is_some();
        let found = match self.judge() {
            Ok(Some(found)) => found,
            Ok(None) if unfinished => "an earlier repair was broken off".to_owned(),
            Ok(None) => return Ok(None),
            Err(error) if self.may_be_replaced(&error) => error.message().to_owned(),
            Err(error) => return Err(error),
        };
        Ok(Some(Finding {
            database: self.domain.name().to_owned(),
            path: self.path.clone(),
            found,
            action: self.domain.damage_policy(),
            rows: None,
            unfinished,
        }))
    }

    /// The rows that a salvage would keep. `None` when somebody changed the files while they were read. This process has no
    /// connection to them: they are read as files, and closing them drops its locks.
    ///
    /// # Errors
    /// `SchemaTooNew`; of the system.
    pub(crate) fn count_rows(&self) -> Result<Option<Vec<KeptRows>>> {
        if !self.path.exists() {
            return Ok(None);
        }
        let before = Files::look_settled(&self.path)?;
        let rows = rebuild::count(self, &self.path, &with_ending(&self.path, "-wal"));
        let unchanged = Files::look(&self.path).is_ok_and(|now| now == before);
        if unchanged { rows.map(Some) } else { Ok(None) }
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
            Ok(Some(found)) => Error::new(ErrorKind::Corrupt, found),
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
        for _ in 0..LOOKS {
            // What reads without writing; SQLite looks at nothing before the first statement.
            let source = Source::find(&self.path)?;
            let verdict = self.judge_by(&source);
            if matches!(verdict, Ok(Verdict::Whole | Verdict::Unsure)) {
                return Ok(None);
            }
            // A mixture of before and after somebody's change looks damaged.
            if source.was_whole() {
                return match verdict? {
                    Verdict::Damaged(found) => Ok(Some(found)),
                    Verdict::Whole | Verdict::Unsure => Ok(None),
                };
            }
        }
        Err(Error::new(ErrorKind::Busy, "it is written while it is looked at").advise("try again"))
    }

    fn judge_by(&self, source: &Source) -> Result<Verdict> {
        let connection = self.made_ready(source.open()?)?;
        suspicion::check(&connection, None)
    }
}
