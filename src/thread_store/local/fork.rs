//! A thread with another one's past.
//!
//! Its transcript gets its name when all of it is durable: after a crash there is the whole fork, or none
//! (`tests/thread_store_crashes.rs`).

use std::path::Path;

use super::super::store::ForkPoint;
use super::super::turns::Span;
use super::writing::Writing;
use super::{HAND_OVER, Inner};
use crate::error::{Error, ErrorKind, Result};
use crate::rollout::{Item, NewRollout, Reader, Rollouts};
use crate::telemetry;

/// Lines that are copied with one write, at most, and their bytes.
const COPIED_AT_ONCE: usize = 1_000;
const BYTES_AT_ONCE: usize = 1 << 20;

impl Inner {
    pub(super) fn fork(&self, source: &str, point: &ForkPoint, thread: &NewRollout) -> Result<String> {
        let path = self.path(source)?;
        let end = match point {
            ForkPoint::End => u64::MAX,
            ForkPoint::AfterTurn(turn) => self.place(source, &path, turn)?.end,
            ForkPoint::BeforeTurn(turn) => self.place(source, &path, turn)?.start,
        };
        let new = NewRollout { forked_from_id: Some(source.to_owned()), ..thread.clone() };
        let (mut writing, forked) = self.begin(&new, Rollouts::create_unseen)?;
        if let Err(error) = self.copy(&forked, &mut writing, &path, end) {
            drop(writing);
            self.take_back(&forked);
            return Err(error);
        }
        self.register(&forked, writing)?;
        Ok(forked)
    }

    fn place(&self, source: &str, path: &Path, turn: &str) -> Result<Span> {
        self.index.turn(source, path, turn)?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("thread {source} has no turn of this id"))
                .advise("list its turns")
        })
    }

    /// Copies the lines before an offset, but for the first one and for what was said about the source.
    fn copy(&self, forked: &str, writing: &mut Writing, source: &Path, end: u64) -> Result<()> {
        let mut reader = Reader::open(source)?;
        let mut items = Vec::new();
        let mut bytes = 0;
        loop {
            let before = reader.position().offset;
            let line = if before < end { reader.next()? } else { None };
            let line = line.filter(|line| line.offset < end);
            let last = line.is_none();
            if let Some(line) = line
                && !matches!(line.kind.as_ref(), "session_meta" | "thread_metadata")
            {
                bytes += line.text.len();
                items.push(Item::line(line.text)?);
            }
            if last || items.len() >= COPIED_AT_ONCE || bytes >= BYTES_AT_ONCE {
                writing.fill(forked, &std::mem::take(&mut items))?;
                bytes = 0;
            }
            if last {
                return self.finish_fork(forked, writing);
            }
        }
    }

    /// Removes a fork that was seen already, and could not be finished; one that was not is gone with its recorder.
    fn take_back(&self, forked: &str) {
        let removed = self.rollouts.lease(forked, HAND_OVER).and_then(|lease| {
            self.rollouts.trash(&lease)?;
            self.rollouts.empty_trash(forked)
        });
        if let Err(error) = removed {
            telemetry::warn(&format_args!("a fork that failed is still there, as thread {forked}: {error}"));
        }
    }
}
