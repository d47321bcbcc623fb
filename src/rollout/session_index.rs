//! The names that users gave to the threads of a Codex home: `session_index.jsonl` beside its folders of transcripts.
//!
//! A line is `{"id": …, "thread_name": …, "updated_at": …}`; lines are only added, and of those of one thread the last one
//! counts. Such a home is read as it is: nothing is copied from it, and nothing in it is changed, locked or created
//! (`tests/import_codex.rs`).

use std::collections::HashMap;
use std::io::{BufRead, BufReader, ErrorKind as Os, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::disk;
use super::layout::FOLDERS;
use crate::error::{Error, ErrorKind, Result};
use crate::stores::Backfill;
use crate::stores::backfill::{BackfillProgress, BackfillReport, Reread};
use crate::stores::threads::LONGEST_NAME;
use crate::stores::threads::row::canonical_id;

const FILE: &str = "session_index.jsonl";
/// Longer lines are bad ones.
const LONGEST_LINE: u64 = 1 << 20;
/// Names that share a commit.
const AT_ONCE: usize = 500;

/// What an import of a Codex home did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CodexReport {
    /// Its transcripts.
    #[serde(flatten)]
    pub transcripts: BackfillReport,
    /// Its names.
    pub names: CodexNames,
}

/// What became of the names of a Codex home.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CodexNames {
    /// Threads that have a name there.
    pub found: u64,
    /// Threads whose row was given it now. The others have it, or a name that a user gave them here.
    pub given: u64,
    /// Named threads that are not here: their transcript is gone.
    pub without_thread: u64,
    /// Lines that could not be read.
    pub bad_lines: u64,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    thread_name: String,
}

impl Backfill {
    /// Brings in the threads of a Codex home as they are: `sessions/`, `archived_sessions/` (plain and compressed) and the
    /// names of `session_index.jsonl`. The transcripts stay where they are, and are read there; nothing in the folder is
    /// changed. Done again it reads what is new or changed. A name that a user gave a thread here stays.
    ///
    /// # Errors
    /// `NotFound` for a folder without `sessions` and `archived_sessions`; as [`run`](Self::run); of the system, when the
    /// names cannot be read.
    pub fn import_codex(
        &self,
        folder: &Path,
        heard: &mut dyn FnMut(&BackfillProgress),
    ) -> Result<CodexReport> {
        if !FOLDERS.iter().any(|name| folder.join(name).is_dir()) {
            return Err(Error::new(ErrorKind::NotFound, "there are no sessions of Codex in this folder")
                .at_path(folder)
                .advise("give the folder that CODEX_HOME names, mostly ~/.codex"));
        }
        let transcripts = self.run(folder, Reread::Changed, heard)?;
        let (names, bad_lines) = read(&folder.join(FILE))?;
        let mut told = CodexNames { found: names.len() as u64, bad_lines, ..CodexNames::default() };
        let names: Vec<_> = names.into_iter().collect();
        for some in names.chunks(AT_ONCE) {
            let (given, missing) = self.threads().name_from_elsewhere(some)?;
            told.given += given;
            told.without_thread += missing;
        }
        Ok(CodexReport { transcripts, names: told })
    }
}

/// The last name of each thread, and how many lines are bad. A line without its newline is being written.
fn read(path: &Path) -> Result<(HashMap<String, String>, u64)> {
    let failed = |error| Error::io("read the names of a Codex home", path, error);
    let file = match disk::open_to_read(path) {
        Ok(file) => file,
        Err(error) if error.kind() == Os::NotFound => return Ok((HashMap::new(), 0)),
        Err(error) => return Err(failed(error)),
    };
    let (mut names, mut bad) = (HashMap::new(), 0);
    let mut lines = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        lines.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line).map_err(failed)?;
        if !line.ends_with(b"\n") {
            if (line.len() as u64) < LONGEST_LINE {
                return Ok((names, bad));
            }
            bad += 1;
            lines.skip_until(b'\n').map_err(failed)?;
            continue;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let entry = serde_json::from_slice::<Entry>(&line).ok();
        match entry.and_then(|entry| Some((canonical_id(&entry.id)?, entry.thread_name))) {
            // A name that was taken back is an empty one.
            Some((id, name)) if name.trim().is_empty() => drop(names.remove(&id)),
            Some((id, name)) => drop(names.insert(id, name.chars().take(LONGEST_NAME).collect())),
            None => bad += 1,
        }
    }
}
