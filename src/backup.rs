//! Copies of all databases of a home at one common instant, and the way back.
//!
//! Invariants:
//! 1. All copies of a backup show one instant: no commit of any process lies between two of them (`sqlite::hold`).
//! 2. A folder with the backup's name is complete: every copy is one file that opens alone, was checked by SQLite, is on
//!    the disk, and stands in the manifest with its hash.
//! 3. A required database is in it, or there is no backup. A best-effort one that is not in it is named, with the reason.
//!
//! The copies are made page by page, by SQLite's backup, and not by `VACUUM INTO`: that one is smaller by the free pages, but
//! takes 1.3 to 2.7 times as long (it builds every index anew), for which the write-ahead logs could not be worked off,
//! and may give rows of tables without an INTEGER PRIMARY KEY other rowids (<https://sqlite.org/lang_vacuum.html>).
//!
//! Tests: `tests/b1_backup.rs`, `tests/b2_restore.rs`.

pub(crate) mod check;
mod intent;
mod manifest;
mod restore;
mod rotation;
pub(crate) mod unfinished;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::domain::{Durability, Role};
use crate::error::{Error, ErrorKind, Result};
use crate::home::{self, PreparedHome};
use crate::sqlite::connect::Spec;
use crate::sqlite::hold::{self, Source};
use crate::telemetry::span;
pub(crate) use intent::{finish_alone, finish_interrupted, is_interrupted};
pub use manifest::{BackupDatabase, BackupManifest, LeftOut};
pub(crate) use restore::restore;
pub use restore::{RestoreOptions, RestoreReport, RestoredDatabase};
#[cfg(feature = "agent")]
pub(crate) use rotation::newest;
use unfinished::Unfinished;

/// How the folder of a backup begins while it is made.
pub(crate) const UNFINISHED: &str = ".backup-unfinished-";
/// Free space that must be left over.
const SPARE: u64 = 1 << 20;

/// Where to, and how patiently.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupOptions {
    /// The folder to make; it must not exist yet, the one above it must. Default: one named after the time, in
    /// `backups/` of the home.
    pub to: Option<PathBuf>,
    /// How long the write lock of each database is waited for. Default 10 s.
    pub wait: Duration,
    /// How many backups stay in the home's own `backups/`, this one included: older ones are removed when it is complete
    /// and checked. One that holds the last good copy of a database stays in any case. Default: all.
    pub keep: Option<usize>,
}

impl Default for BackupOptions {
    fn default() -> Self {
        Self { to: None, wait: Duration::from_secs(10), keep: None }
    }
}

impl BackupOptions {
    /// The default options, with a folder to make.
    pub fn to(folder: impl Into<PathBuf>) -> Self {
        Self { to: Some(folder.into()), ..Self::default() }
    }

    /// These options, keeping so many backups in the home's own `backups/`, at least one.
    #[must_use]
    pub fn keep(mut self, backups: usize) -> Self {
        self.keep = Some(backups);
        self
    }
}

/// What a backup or a restore does with a database at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BackupStep {
    /// Its pages are copied.
    Copying,
    /// The copy is read again, and checked.
    Checking,
}

/// How far a backup or a restore is.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct BackupProgress<'a> {
    /// The domain's name.
    pub database: &'a str,
    /// What happens to it.
    pub step: BackupStep,
    /// Bytes of this step and database that are done.
    pub bytes_done: u64,
    /// All of them.
    pub bytes_total: u64,
}

/// Told about the progress.
pub(crate) type OnProgress<'a> = dyn FnMut(&BackupProgress<'_>) + 'a;

/// A finished backup.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct BackupReport {
    /// The folder that holds it.
    pub folder: PathBuf,
    /// What is in it.
    #[serde(flatten)]
    pub manifest: BackupManifest,
    /// Older backups that were removed.
    pub removed: Vec<PathBuf>,
    /// For how long nobody could write, in microseconds.
    pub held_us: u64,
    /// How long all of it took, in microseconds.
    pub took_us: u64,
}

/// A database that belongs to the home.
pub(crate) struct Candidate {
    pub(crate) spec: Spec,
    /// As declared by this program, or by the one that wrote the registry.
    pub(crate) role: Option<Role>,
    pub(crate) durability: Option<Durability>,
    /// Why this process must not copy it.
    pub(crate) refusal: Option<Error>,
    /// The server that it is on: there is no file of it here.
    pub(crate) elsewhere: Option<String>,
}

/// Makes a backup.
///
/// # Errors
/// As [`Runtime::backup`](crate::Runtime::backup).
pub(crate) fn make(
    home: &PreparedHome,
    candidates: Vec<Candidate>,
    program: (String, String),
    options: &BackupOptions,
    progress: &mut OnProgress<'_>,
) -> Result<BackupReport> {
    let _span = span!("backup");
    let began = Instant::now();
    if options.keep.is_some_and(|keep| keep == 0 || options.to.is_some()) {
        return Err(Error::new(
            ErrorKind::Invalid,
            "only backups in the home's own folder are counted, and at least one stays",
        )
        .advise("keep one or more, and name no other folder"));
    }
    let target = Target::choose(home, options)?;
    let parent = target.parent.clone();
    let folder = Unfinished::begin(&target.parent, UNFINISHED)?;
    let mut left_out = Vec::new();
    let is_elsewhere = candidates.iter().any(|candidate| candidate.elsewhere.is_some());
    let mut copied: Vec<Candidate> = Vec::new();
    let mut sources = Vec::new();
    for candidate in candidates {
        if let Some(server) = &candidate.elsewhere {
            left_out.push(candidate.on_server(server));
            continue;
        }
        let refusal = candidate.refusal.clone().map_or(Ok(()), Err);
        match refusal.and_then(|()| Source::open(&candidate.spec, options.wait)) {
            Ok(source) => {
                sources.push(source);
                copied.push(candidate);
            }
            Err(error) => left_out.push(candidate.leave_out(error)?),
        }
    }
    // A folder without a database would look like a backup.
    if sources.is_empty() && is_elsewhere {
        let reasons: Vec<_> = left_out.iter().map(|one| &*one.reason).collect();
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("there is nothing here to copy: {}", reasons.join("; ")),
        )
        .advise("back the server up with its own tools, such as pg_dump"));
    }
    let held = loop {
        match hold::one_instant(&mut sources) {
            Ok(held) => break held,
            Err(failed) => {
                sources.remove(failed.index);
                left_out.push(copied.remove(failed.index).leave_out(failed.error)?);
            }
        }
    };
    let mut manifest = BackupManifest::new(jiff::Timestamp::now().to_string(), program);
    check_room(&sources, folder.path())?;
    let file = |name: &str| folder.path().join(manifest::file_name(name));
    // All copies first: while a snapshot is open, its log cannot be worked off.
    let mut answers = Vec::new();
    for source in sources {
        let file = file(source.name());
        drop(home::create_private_file(&file)?);
        answers.push(source.copy_to(&file, &mut |bytes_done, bytes_total| {
            let (database, step) = (source.name(), BackupStep::Copying);
            progress(&BackupProgress { database, step, bytes_done, bytes_total });
        }));
    }
    for (candidate, answer) in copied.into_iter().zip(answers) {
        let name = candidate.spec.domain.name();
        let file = file(name);
        match answer.and_then(|()| candidate.describe(&file, progress)) {
            Ok(described) => manifest.databases.push(described),
            Err(error) => {
                left_out.push(candidate.leave_out(error.in_database(name, &candidate.spec.path))?);
                remove_copy(&file)?;
            }
        }
    }
    if manifest.databases.is_empty() {
        return Err(nothing_to_copy(home, &left_out));
    }
    left_out.sort_by(|one, other| one.name.cmp(&other.name));
    manifest.left_out = left_out;
    manifest.write(folder.path())?;
    let path = target.publish(folder)?;
    let removed = match options.keep {
        Some(keep) => rotation::rotate(&parent, keep).unwrap_or_else(|error| {
            // The backup is there all the same.
            log::warn!("older backups could not be removed: {error}");
            Vec::new()
        }),
        None => Vec::new(),
    };
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    Ok(BackupReport {
        folder: path,
        manifest,
        removed,
        held_us: micros(held),
        took_us: micros(began.elapsed()),
    })
}

impl Candidate {
    /// Goes on without it, unless it is required.
    fn leave_out(&self, error: Error) -> Result<LeftOut> {
        if self.role == Some(Role::Required) {
            return Err(error);
        }
        Ok(LeftOut { name: self.spec.domain.name().to_owned(), reason: error.to_string() })
    }

    /// What a server has is backed up there, by its own tools; that it is not in here is told each time.
    fn on_server(&self, server: &str) -> LeftOut {
        let name = self.spec.domain.name().to_owned();
        let reason = format!(
            "{name}: it is on {server}; back it up there: pg_dump --format=custom --schema=rowhouse_{name} --file={name}.dump URL"
        );
        LeftOut { name, reason }
    }

    /// Checks a copy, and makes it durable.
    fn describe(&self, file: &Path, progress: &mut OnProgress<'_>) -> Result<BackupDatabase> {
        let looking = |error| Error::io("make the copy durable", file, error);
        let opened = check::open_copy(file).map_err(looking)?;
        opened.sync_all().map_err(looking)?;
        let bytes = opened.metadata().map_err(looking)?.len();
        drop(opened);
        let domain = &self.spec.domain;
        let content = check::content(file, domain)?;
        let sha256 = check::digest(file, None, &mut |bytes_done| {
            let (database, step) = (domain.name(), BackupStep::Checking);
            progress(&BackupProgress { database, step, bytes_done, bytes_total: bytes });
        })?;
        let meta = content.meta;
        Ok(BackupDatabase {
            name: domain.name().to_owned(),
            file: manifest::file_name(domain.name()),
            bytes,
            sha256,
            rows: content.rows,
            application_id: content.application_id,
            user_version: content.user_version,
            schema_version: meta.as_ref().map(|meta| meta.schema_version),
            program: meta.as_ref().map(|meta| meta.program.clone()),
            program_version: meta.as_ref().map(|meta| meta.program_version.clone()),
            written_at: meta.map(|meta| meta.written_at),
            role: self.role,
            durability: self.durability,
        })
    }
}

/// Where the finished backup goes.
struct Target {
    parent: PathBuf,
    /// `None`: named after the time.
    name: Option<PathBuf>,
}

impl Target {
    fn choose(home: &PreparedHome, options: &BackupOptions) -> Result<Self> {
        let Some(wanted) = &options.to else {
            return Ok(Self { parent: home::private_folder(home.path(), "backups")?, name: None });
        };
        let absolute =
            std::path::absolute(wanted).map_err(|error| Error::io("understand the path", wanted, error))?;
        let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
            return Err(unfinished::is_there(wanted));
        };
        let parent = std::fs::canonicalize(parent).map_err(|error| {
            Error::io("find the folder of the backup", parent, error)
                .advise("name a new folder inside one that exists")
        })?;
        if std::fs::symlink_metadata(parent.join(name)).is_ok() {
            return Err(unfinished::is_there(wanted));
        }
        Ok(Self { name: Some(parent.join(name)), parent })
    }

    fn publish(self, folder: Unfinished) -> Result<PathBuf> {
        let name = self.name.unwrap_or_else(|| {
            let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H-%M-%SZ").to_string();
            (1..u32::MAX)
                .map(|n| if n == 1 { time.clone() } else { format!("{time}-{n}") })
                .map(|name| self.parent.join(name))
                .find(|path| !path.exists())
                .expect("no disk holds so many backups of one second")
        });
        folder.publish(&name)?;
        Ok(name)
    }
}

/// Removes a copy that is not good, and what SQLite may have put beside it.
fn remove_copy(file: &Path) -> Result<()> {
    for ending in ["-wal", "-shm", "-journal", ""] {
        let path = home::with_ending(file, ending);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove the copy", &path, error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_room(sources: &[Source], folder: &Path) -> Result<()> {
    let needed = sources.iter().map(Source::bytes).sum::<Result<u64>>()?.saturating_add(SPARE);
    home::refuse_too_full(needed, folder, "the backup")
}

fn nothing_to_copy(home: &PreparedHome, left_out: &[LeftOut]) -> Error {
    let error = match left_out.first() {
        Some(first) => {
            Error::new(ErrorKind::NotFound, format!("no database could be copied: {}", first.reason))
        }
        None => Error::new(ErrorKind::NotFound, "there is no database in this home yet"),
    };
    error.at_path(home.path()).advise("name another home with --home or ROWHOUSE_HOME")
}
