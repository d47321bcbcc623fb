//! After the COMMIT: the home follows. Each part may be done twice, so whoever is killed in between is followed by the next.

use std::fs;
use std::path::{Path, PathBuf};

use super::intent::Intent;
use super::marker::{LAYOUT, Marker};
use super::{Backend, MoveProgress, MoveStep, OnProgress};
use crate::config::backend::Backends;
use crate::config::file::{config_of, text_of};
use crate::error::{Error, ErrorKind, Result};
use crate::home::{self, PreparedHome, access, with_ending};

const MANIFEST: &str = "manifest.json";

/// Everything of a database.
const ENDINGS: [&str; 4] = ["-wal", "-shm", "-journal", ""];

/// Tells which part of the cut-over comes next.
pub(super) fn tell(progress: &mut OnProgress<'_>, what: &str) {
    progress(&MoveProgress { step: MoveStep::CuttingOver, what, rows_done: 0, rows_total: 0 });
}

/// Makes the home follow a move that was committed.
pub(super) fn finish(home: &PreparedHome, intent: &Intent, progress: &mut OnProgress<'_>) -> Result<()> {
    match intent.report.to {
        Backend::Postgres => leave_files(home, intent, progress)?,
        Backend::Sqlite => take_files(home, intent, progress)?,
    }
    tell(progress, "the home's config.toml");
    write_config(home, &intent.report.domains, intent.report.to == Backend::Postgres)?;
    tell(progress, "the manifest");
    let text = serde_json::to_vec_pretty(&intent.report).expect("texts and numbers are JSON");
    home::write_atomically(&intent.folder(home).join(MANIFEST), &text)?;
    tell(progress, "the end");
    Intent::remove(home)?;
    if let Some(staging) = intent.staging(home) {
        // It is empty, or will be swept by the next move.
        let _ = fs::remove_dir(staging);
    }
    Ok(())
}

/// Takes back what was prepared for a move that was not committed.
pub(super) fn take_back(home: &PreparedHome, intent: &Intent) -> Result<()> {
    Intent::remove(home)?;
    // What stays of these is swept by the next move, and does no harm until then.
    if let Some(staging) = intent.staging(home) {
        let _ = fs::remove_dir_all(staging);
    }
    let _ = fs::remove_dir(intent.folder(home));
    Ok(())
}

/// The data is on the server: the files go aside, and a mark says where it is.
fn leave_files(home: &PreparedHome, intent: &Intent, progress: &mut OnProgress<'_>) -> Result<()> {
    let (report, folder) = (&intent.report, intent.folder(home));
    tell(progress, "the marks in the home");
    for domain in &report.domains {
        let marker = Marker {
            version: LAYOUT,
            id: report.id.clone(),
            moved_to: report.server.clone(),
            at: report.at.clone(),
            kept: folder.join(format!("{domain}.sqlite")),
        };
        marker.leave(home.path(), domain)?;
    }
    for domain in &report.domains {
        tell(progress, &format!("{domain}.sqlite"));
        let file = home.database_path(domain);
        // The log before the file: a file never lies there without what belongs to it.
        for ending in ENDINGS {
            rename(&with_ending(&file, ending), &folder.join(format!("{domain}.sqlite{ending}")))?;
        }
    }
    for transcripts in &intent.transcripts {
        tell(progress, transcripts);
        rename(&home.path().join(transcripts), &folder.join(transcripts))?;
    }
    home::sync_folder(&folder)?;
    home::sync_folder(home.path())
}

/// The data is in new files: they get their names.
fn take_files(home: &PreparedHome, intent: &Intent, progress: &mut OnProgress<'_>) -> Result<()> {
    let staging = intent.staging(home).unwrap_or_else(|| intent.folder(home));
    for transcripts in &intent.transcripts {
        tell(progress, transcripts);
        let (from, to) = (staging.join(transcripts), home.path().join(transcripts));
        if !rename(&from, &to)? && fs::symlink_metadata(&to).is_err() {
            return Err(gone(intent, transcripts, &from));
        }
    }
    for domain in &intent.report.domains {
        tell(progress, &format!("{domain}.sqlite"));
        let (from, to) = (staging.join(format!("{domain}.sqlite")), home.database_path(domain));
        if !rename(&from, &to)? && fs::symlink_metadata(&to).is_err() {
            return Err(gone(intent, domain, &from));
        }
    }
    home::sync_folder(home.path())?;
    tell(progress, "the marks in the home");
    for domain in &intent.report.domains {
        Marker::take(home.path(), domain)?;
    }
    home::sync_folder(home.path())
}

fn gone(intent: &Intent, what: &str, from: &Path) -> Error {
    Error::new(ErrorKind::Corrupt, format!("a move was broken off, and what was prepared for {what} is gone"))
        .at_path(from)
        .advise(format!("the rows are still on the server: {}", intent.report.kept.join(", ")))
}

/// True when there was such a file.
fn rename(from: &Path, to: &Path) -> Result<bool> {
    match home::rename_to_free_name(from, to) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("rename the file", from, error)),
    }
}

/// The home's config file itself, wherever a link leads.
fn config_file(home: &PreparedHome) -> PathBuf {
    let file = config_of(home.path());
    fs::canonicalize(&file).unwrap_or(file)
}

/// The lines that a move will change in the home's config file.
///
/// # Errors
/// `Invalid` when they cannot be changed; `ReadOnly` when the file cannot be written.
pub(super) fn plan_config(home: &PreparedHome, domains: &[String], to_server: bool) -> Result<Vec<String>> {
    let file = config_file(home);
    let text = text_of(&file)?.unwrap_or_default();
    let (_, lines) = Backends::moved(&text, domains, to_server).map_err(|error| error.at_path(&file))?;
    access::writable_folder(file.parent().unwrap_or(home.path()))?;
    Ok(lines)
}

fn write_config(home: &PreparedHome, domains: &[String], to_server: bool) -> Result<()> {
    let file = config_file(home);
    let text = text_of(&file)?.unwrap_or_default();
    let (changed, _) = Backends::moved(&text, domains, to_server).map_err(|error| error.at_path(&file))?;
    if changed == text { Ok(()) } else { home::write_atomically(&file, changed.as_bytes()) }
}
