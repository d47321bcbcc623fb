//! Puts the databases of a backup into a home: all of them or none.
//!
//! Invariants:
//! 1. Nothing is changed before the whole backup was checked, nobody has a database of the home open, and every new file
//!    lies whole in the home. What is put in place has the hash that the manifest says.
//! 2. Whoever uses this library and has the home open keeps it from being restored, by a lock; whoever uses SQLite
//!    directly, as far as the system tells.
//! 3. Afterwards no file of another generation lies beside a database.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::intent::{self, Intent, STAGING};
use super::manifest::{BackupDatabase, BackupManifest};
use super::unfinished::Unfinished;
use super::{BackupProgress, BackupStep, OnProgress, SPARE, check};
use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};
use crate::home::{self, Home, PreparedHome};
use crate::move_backend::marker::{refuse_cutting_over, refuse_moved};
use crate::presence::Alone;
use crate::presence::live::{refuse_live, who_is_there};
use crate::registry::{RegistryEntry, RuntimeDbRegistry};
use crate::sqlite::connect::{Locked, lock_until};
use crate::sqlite::migrate::Access;

/// How long somebody who creates or migrates a database is waited for.
const INIT_WAIT: Duration = Duration::from_secs(5);

/// What somebody who has a database open keeps from being done to it.
const RESTORED: &str = "restored";

/// How a backup is restored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreOptions {
    /// Only check, and say what would be done.
    pub dry_run: bool,
}

impl RestoreOptions {
    /// Changes nothing: checks everything, and answers what would be done.
    pub fn dry_run() -> Self {
        Self { dry_run: true }
    }
}

/// What a restore did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct RestoreReport {
    /// The backup.
    pub backup: PathBuf,
    /// The instant that it shows, in RFC 3339.
    pub created_at: String,
    /// The home.
    pub home: PathBuf,
    /// True when nothing was changed.
    pub dry_run: bool,
    /// The databases of the backup.
    pub databases: Vec<RestoredDatabase>,
    /// Databases of the home that the backup does not hold: they stay as they are.
    pub untouched: Vec<String>,
    /// Where the files are that were there before; `None` when there were none, or nothing was changed.
    pub quarantine: Option<PathBuf>,
    /// An earlier restore had been interrupted, and was finished first.
    pub finished_earlier: bool,
    /// Sentences for a person: a schema that is newer than this program.
    pub warnings: Vec<String>,
}

/// A database that was restored, or would be.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct RestoredDatabase {
    /// The domain's name.
    pub name: String,
    /// Its file in the home.
    pub path: PathBuf,
    /// Size of that file.
    pub bytes: u64,
    /// Rows of all its tables.
    pub rows: u64,
    /// Another file was in its place.
    pub replaces: bool,
}

/// Restores a backup.
///
/// # Errors
/// As [`Builder::restore`](crate::Builder::restore).
pub(crate) fn restore(
    home: &Home,
    domains: &[Domain],
    from: &Path,
    options: &RestoreOptions,
    progress: &mut OnProgress<'_>,
) -> Result<RestoreReport> {
    let from = std::fs::canonicalize(from)
        .map_err(|error| Error::io("find the backup", from, error).advise("name the folder of a backup"))?;
    let manifest = BackupManifest::read(&from)?;
    let warnings = verify(&from, &manifest, domains, progress)?;
    let mut report = RestoreReport {
        backup: from.clone(),
        created_at: manifest.created_at.clone(),
        home: home.path().to_owned(),
        dry_run: options.dry_run,
        databases: Vec::new(),
        untouched: Vec::new(),
        quarantine: None,
        finished_earlier: false,
        warnings,
    };
    let names: Vec<_> = manifest.databases.iter().map(|database| database.name.clone()).collect();
    refuse_on_server(home, &names)?;
    if options.dry_run {
        match home.locate() {
            Ok(folder) => {
                names.iter().try_for_each(|name| refuse_moved(&folder, name))?;
                refuse_live(&folder, &names, RESTORED)?;
                report.compare(Some(&folder), home, &manifest)?;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => report.compare(None, home, &manifest)?,
            Err(error) => return Err(error),
        }
        return Ok(report);
    }
    let folder = home.prepare()?;
    if let Some(why) = folder.read_only() {
        return Err(why.clone());
    }
    let Some(alone) = Alone::try_enter(&folder)? else {
        return Err(who_is_there(&folder, &names, RESTORED));
    };
    report.finished_earlier = intent::finish_alone(&folder, &alone)?;
    refuse_cutting_over(&folder)?;
    names.iter().try_for_each(|name| refuse_moved(&folder, name))?;
    let _init = init_locks(&folder, &manifest)?;
    refuse_live(&folder, &names, RESTORED)?;
    report.compare(Some(&folder), home, &manifest)?;
    let needed = manifest.databases.iter().map(|database| database.bytes).sum::<u64>();
    home::refuse_too_full(needed.saturating_add(SPARE), folder.path(), "restoring")?;
    let staging = Unfinished::begin(folder.path(), STAGING)?;
    stage(&from, &manifest, &staging, progress)?;
    // Who opened one meanwhile without this library would go on in a file that is not at its path any more.
    refuse_live(&folder, &names, RESTORED)?;
    let intent = Intent::announce(&folder, &from, staging.path(), &names)?;
    staging.keep();
    intent.finish(&folder)?;
    report.quarantine = intent.kept(&folder);
    // It describes; what counts is in the databases.
    if let Err(error) = RuntimeDbRegistry::new(home).record_all(&entries(&manifest)) {
        report.warnings.push(format!("the registry could not be written: {error}"));
    }
    Ok(report)
}

/// A file of a domain that the configuration puts on a server would lie there, and nobody would read it.
fn refuse_on_server(home: &Home, names: &[String]) -> Result<()> {
    let known = RuntimeDbRegistry::new(home).list()?;
    let Some(there) = known.iter().find(|known| known.is_on_server() && names.contains(&known.name)) else {
        return Ok(());
    };
    let message = format!(
        "the backup holds {}, which the configuration of this home puts on a PostgreSQL server",
        there.name
    );
    Err(Error::new(ErrorKind::Conflict, message).at_path(home.path()).advise(
        "restore it into another home (--home), and move it to the server from there; or take `backend` out of config.toml first",
    ))
}

impl RestoreReport {
    /// What is there now, beside what will be.
    fn compare(
        &mut self,
        folder: Option<&PreparedHome>,
        home: &Home,
        manifest: &BackupManifest,
    ) -> Result<()> {
        if let Some(folder) = folder {
            folder.path().clone_into(&mut self.home);
        }
        for database in &manifest.databases {
            let path = folder.map_or_else(
                || home.path().join(&database.file),
                |folder| folder.database_path(&database.name),
            );
            self.databases.push(RestoredDatabase {
                name: database.name.clone(),
                bytes: database.bytes,
                rows: database.rows.values().sum(),
                replaces: std::fs::symlink_metadata(&path).is_ok(),
                path,
            });
        }
        if folder.is_some() {
            let present = RuntimeDbRegistry::new(home).list()?.into_iter().filter(|found| found.present);
            self.untouched = present
                .map(|found| found.name)
                .filter(|name| manifest.databases.iter().all(|database| database.name != *name))
                .collect();
        }
        Ok(())
    }
}

/// Checks every file of a backup; answers what is odd about it and does not keep it from being restored.
fn verify(
    from: &Path,
    manifest: &BackupManifest,
    domains: &[Domain],
    progress: &mut OnProgress<'_>,
) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for database in &manifest.databases {
        let file = from.join(&database.file);
        let known = domains.iter().find(|domain| domain.name() == database.name);
        let other = Domain::new(&database.name);
        let mut checked = || {
            verify_one(&file, database, known.unwrap_or(&other), progress)?;
            known.map_or(Ok(Access::ReadWrite), |domain| check::access(&file, domain))
        };
        let access = checked().map_err(|error| error.in_database(&database.name, &file))?;
        if let Some(why) = access.refusal() {
            warnings.push(format!("{}: {why}", database.name));
        }
    }
    Ok(warnings)
}

fn verify_one(
    file: &Path,
    database: &BackupDatabase,
    domain: &Domain,
    progress: &mut OnProgress<'_>,
) -> Result<()> {
    let found = home::check_database_file(file)?
        .ok_or_else(|| Error::new(ErrorKind::Corrupt, "a file of the backup is missing").at_path(file))?;
    if found.len() != database.bytes
        || hashed(file, None, database, BackupStep::Checking, progress)? != database.sha256
    {
        return Err(changed());
    }
    let content = check::content(file, domain)?;
    let same = content.rows == database.rows
        && content.application_id == database.application_id
        && content.user_version == database.user_version;
    if same { Ok(()) } else { Err(changed()) }
}

fn hashed(
    file: &Path,
    copy: Option<&mut std::fs::File>,
    database: &BackupDatabase,
    step: BackupStep,
    progress: &mut OnProgress<'_>,
) -> Result<String> {
    let (name, bytes_total) = (&database.name, database.bytes);
    check::digest(file, copy, &mut |bytes_done| {
        progress(&BackupProgress { database: name, step, bytes_done, bytes_total });
    })
}

fn changed() -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "the backup is damaged: this file is not the one that its manifest describes",
    )
    .advise("restore another backup; nothing was changed")
}

/// Copies everything into the home, and looks at each byte once more on the way.
fn stage(
    from: &Path,
    manifest: &BackupManifest,
    staging: &Unfinished,
    progress: &mut OnProgress<'_>,
) -> Result<()> {
    for database in &manifest.databases {
        let path = staging.path().join(&database.file);
        let mut copy = home::create_private_file(&path)?;
        let source = from.join(&database.file);
        if hashed(&source, Some(&mut copy), database, BackupStep::Copying, progress)? != database.sha256 {
            return Err(changed().in_database(&database.name, &source));
        }
        copy.sync_all().map_err(|error| Error::io("make the file durable", &path, error))?;
    }
    staging.sync()
}

/// Keeps everybody from creating or migrating these databases, in the order of their names.
fn init_locks(home: &PreparedHome, manifest: &BackupManifest) -> Result<Vec<Locked>> {
    let deadline = Instant::now() + INIT_WAIT;
    let mut names: Vec<_> = manifest.databases.iter().map(|database| &*database.name).collect();
    names.sort_unstable();
    names.iter().map(|name| lock_until(&home.lock_path(&format!("{name}.init")), deadline)).collect()
}

fn entries(manifest: &BackupManifest) -> Vec<RegistryEntry> {
    let entry = |database: &BackupDatabase| {
        Some(RegistryEntry {
            name: database.name.clone(),
            role: database.role?,
            durability: database.durability?,
            schema_version: database.schema_version?,
            program: database.program.clone().zip(database.program_version.clone()),
            written_at: database.written_at.clone(),
        })
    };
    manifest.databases.iter().filter_map(entry).collect()
}
