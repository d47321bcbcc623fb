//! Whether a row's file is where the row says. Lists do not look: that would be a call to the file system per row, also
//! for who does not ask.

use std::io;
use std::path::Path;

use super::row::ThreadRow;
use crate::error::{Error, Result};

/// What is at a row's `rollout_path` now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TranscriptState {
    /// The row names no file: it is a thread without one.
    None,
    /// A file, plain or compressed (`.zst`).
    Present,
    /// No file. The row stays as it is until it is repaired or deleted.
    Missing,
}

impl ThreadRow {
    /// Looks whether its transcript is there. Neither reads the file nor changes the row.
    ///
    /// # Errors
    /// `Io` when the file system does not tell, for want of permission for example.
    pub fn transcript_state(&self) -> Result<TranscriptState> {
        let Some(path) = &self.rollout_path else { return Ok(TranscriptState::None) };
        // A file may have been compressed, or restored, since the row was written.
        let other = path.strip_suffix(".zst").map_or_else(|| format!("{path}.zst"), str::to_owned);
        for path in [path, &other].map(Path::new) {
            match std::fs::metadata(path) {
                Ok(found) if found.is_file() => return Ok(TranscriptState::Present),
                Ok(_) => {}
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(error) => return Err(Error::io("look for the transcript", path, error)),
            }
        }
        Ok(TranscriptState::Missing)
    }
}
