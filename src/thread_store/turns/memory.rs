//! Turns in memory.

use super::model::{Anomaly, TurnStatus};
use super::projector::{StoredTurn, Turns};
use super::query::TurnQuery;
use crate::error::Result;

/// The turns of one thread, in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct TurnList {
    pub(crate) turns: Vec<StoredTurn>,
    pub(crate) anomalies: Vec<Anomaly>,
}

impl TurnList {
    /// Up to as many turns as the query wants, behind `start`; rolled-back ones are left out.
    pub(crate) fn page(&self, query: &TurnQuery, start: Option<u64>) -> Vec<StoredTurn> {
        let visible = self.turns.iter().filter(|turn| !turn.rolled_back).cloned();
        let wanted = query.wanted() as usize;
        if query.backwards() {
            let before = |turn: &StoredTurn| start.is_none_or(|start| turn.turn.ordinal < start);
            visible.rev().filter(before).take(wanted).collect()
        } else {
            let behind = |turn: &StoredTurn| start.is_none_or(|start| turn.turn.ordinal > start);
            visible.filter(behind).take(wanted).collect()
        }
    }
}

impl Turns for TurnList {
    fn count(&self) -> Result<u64> {
        Ok(self.turns.len() as u64)
    }

    fn last(&self) -> Result<Option<StoredTurn>> {
        Ok(self.turns.last().cloned())
    }

    fn status(&self, id: &str) -> Result<Option<TurnStatus>> {
        Ok(self.turns.iter().find(|turn| turn.turn.id == id).map(|turn| turn.turn.status))
    }

    fn put(&mut self, turn: &StoredTurn) -> Result<()> {
        let at = turn.turn.ordinal as usize;
        if at < self.turns.len() {
            self.turns[at] = turn.clone();
        } else {
            self.turns.push(turn.clone());
        }
        Ok(())
    }

    fn roll_back(&mut self, count: u64) -> Result<()> {
        let visible = self.turns.iter_mut().rev().filter(|turn| !turn.rolled_back);
        for turn in visible.take(usize::try_from(count).unwrap_or(usize::MAX)) {
            turn.rolled_back = true;
        }
        Ok(())
    }

    fn record(&mut self, anomaly: &Anomaly) -> Result<()> {
        self.anomalies.push(anomaly.clone());
        Ok(())
    }
}
