//! Ids that are still to be looked at.

use super::sql;
use crate::error::Result;
use crate::sql::Session;
use crate::stores::threads::Direction;

/// From `low` to `high`, both included; none when `low` is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) low: i64,
    pub(super) high: i64,
}

/// The head of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) id: i64,
    pub(super) ts: i64,
}

impl Ids {
    pub(super) const ALL: Self = Self { low: i64::MIN, high: i64::MAX };
    pub(super) const NONE: Self = Self { low: 1, high: 0 };

    pub(super) fn and(self, other: Self) -> Self {
        Self { low: self.low.max(other.low), high: self.high.min(other.high) }
    }

    /// What is left behind `id`, walking that way.
    pub(super) fn behind(self, direction: Direction, id: i64) -> Self {
        match direction {
            // There is no id beyond either end.
            Direction::Ascending => {
                id.checked_add(1).map_or(Self::NONE, |low| self.and(Self { low, ..Self::ALL }))
            }
            Direction::Descending => {
                id.checked_sub(1).map_or(Self::NONE, |high| self.and(Self { high, ..Self::ALL }))
            }
        }
    }

    /// What is on this side of `id`, with `id` itself.
    pub(super) fn up_to(self, direction: Direction, id: i64) -> Self {
        match direction {
            Direction::Ascending => self.and(Self { high: id, ..Self::ALL }),
            Direction::Descending => self.and(Self { low: id, ..Self::ALL }),
        }
    }

    /// The end that a walk comes to last.
    pub(super) fn end(self, direction: Direction) -> i64 {
        match direction {
            Direction::Ascending => self.high,
            Direction::Descending => self.low,
        }
    }
}

/// The first row there is between these ids, walking that way.
pub(super) fn first(at: &impl Session, direction: Direction, ids: Ids) -> Result<Option<Place>> {
    let rows = at.query(sql::FIRST.of(direction), &[ids.low.into(), ids.high.into()])?;
    rows.first().map(|row| Ok(Place { id: row.get("id")?, ts: row.get("ts")? })).transpose()
}

/// Ids of the rows that there are: the oldest and the newest one.
pub(super) fn all(at: &impl Session) -> Result<Ids> {
    let oldest = first(at, Direction::Ascending, Ids::ALL)?;
    let newest = first(at, Direction::Descending, Ids::ALL)?;
    Ok(oldest.zip(newest).map_or(Ids::NONE, |(oldest, newest)| Ids { low: oldest.id, high: newest.id }))
}

/// Which log it is: another one after it was begun anew.
pub(super) fn generation(at: &impl Session) -> Result<i64> {
    at.query(sql::GENERATION, &[])?.first().map_or(Ok(0), |row| row.get("generation"))
}
