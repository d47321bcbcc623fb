//! What is done to all databases of a home at once: backup, restore, maintenance, and moves between engines.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use super::enter::enter;
use super::{Builder, Inner, OPEN, unnamed_program};
use crate::backup::{
    self, BackupOptions, BackupProgress, BackupReport, Candidate, RestoreOptions, RestoreReport,
};
use crate::config::Limits;
use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};
use crate::forks;
use crate::home::{Home, PreparedHome};
use crate::maintenance::{self, CompactReport, MaintainOptions, MaintainProgress, MaintainReport};
use crate::move_backend::marker::refuse_moved;
#[cfg(feature = "postgres")]
use crate::move_backend::{self, MoveOptions, MoveProgress, MoveReport};
use crate::presence::Presence;
use crate::registry::RuntimeDbRegistry;
use crate::sqlite::Database;
use crate::sqlite::connect::Spec;
use crate::sqlite::guard;

impl Builder {
    fn refuse_ephemeral(&self) -> Result<()> {
        if self.ephemeral { Err(nothing_on_a_disk()) } else { Ok(()) }
    }

    /// Copies all databases of the home, as [`Runtime::backup`](super::Runtime::backup) does, without opening it: nothing is created or migrated.
    /// The domains given here, if any, say which databases are required; for others, that is what the registry says.
    ///
    /// # Errors
    /// As [`Runtime::backup`](super::Runtime::backup); `NotFound` when there is no home.
    pub fn backup(
        self,
        options: &BackupOptions,
        progress: &mut dyn FnMut(&BackupProgress<'_>),
    ) -> Result<BackupReport> {
        self.refuse_ephemeral()?;
        self.home.locate()?;
        let folder = self.home.prepare()?;
        refuse_read_only(&folder, "a backup")?;
        let place = OPEN.lock().entry((folder.path().to_owned(), false)).or_default().clone();
        let place = place.lock();
        if let Some(inner) = place.upgrade().filter(|inner| inner.owner == forks::generation()) {
            drop(place);
            return inner.backup(options, progress);
        }
        let presence = enter(&folder, Instant::now() + options.wait)?;
        let program = self.known_program();
        let declared = self.domains.into_iter().map(|domain| (domain.clone(), None)).collect();
        let found = candidates(&self.home, &folder, &self.limits, &presence, declared, &[])?;
        backup::make(&folder, found, program, options, progress)
    }

    /// Maintains the databases of the home, as [`Runtime::maintain`](super::Runtime::maintain) does, without opening it.
    ///
    /// # Errors
    /// As [`Runtime::maintain`](super::Runtime::maintain); `NotFound` when there is no home.
    pub fn maintain(
        self,
        options: &MaintainOptions,
        progress: &mut dyn FnMut(&MaintainProgress<'_>),
    ) -> Result<MaintainReport> {
        self.refuse_ephemeral()?;
        self.home.locate()?;
        let folder = self.home.prepare()?;
        refuse_read_only(&folder, "maintaining")?;
        let place = OPEN.lock().entry((folder.path().to_owned(), false)).or_default().clone();
        let place = place.lock();
        if let Some(inner) = place.upgrade().filter(|inner| inner.owner == forks::generation()) {
            drop(place);
            return inner.maintain(options, progress);
        }
        let presence = enter(&folder, Instant::now() + options.wait)?;
        let declared = self.domains.into_iter().map(|domain| (domain, None)).collect();
        let found = candidates(&self.home, &folder, &self.limits, &presence, declared, &options.databases)?;
        maintenance::maintain(&folder, chosen(found, &folder, options)?, options, progress)
    }

    /// Writes databases of the home anew, without their free pages, also those that cannot give them back one by one; each
    /// gets the place of the old file when it is whole and checked. Nobody may have the home open.
    ///
    /// Needs as much free space as the new file has. Killed at any moment it leaves the old file as it was.
    ///
    /// # Errors
    /// Then the database that is named is as it was.
    /// - `Busy`: somebody has a database open; names who.
    /// - `Full`: there is not enough room; says how much is needed and how much is there.
    /// - `Corrupt`: the database, or what was written, is damaged. `NotFound`: there is none of that name.
    /// - `Unsupported`: a schema needs functions or collations that this program does not bring along.
    /// - `ReadOnly`, `Io`: of the system.
    pub fn compact(
        self,
        options: &MaintainOptions,
        progress: &mut dyn FnMut(&MaintainProgress<'_>),
    ) -> Result<CompactReport> {
        self.refuse_ephemeral()?;
        self.home.locate()?;
        let folder = self.home.prepare()?;
        refuse_read_only(&folder, "compacting")?;
        let declared = self.domains.into_iter().map(|domain| (domain, None)).collect();
        // Nobody of this library has it open, so neither has this call: it has the home alone.
        let alone = Presence::default();
        let found = candidates(&self.home, &folder, &self.limits, &alone, declared, &options.databases)?;
        let specs = chosen(found, &folder, options)?.into_iter().map(|candidate| candidate.spec).collect();
        maintenance::compact(&folder, specs, options, progress)
    }

    /// Puts the databases of a backup into the home, which nobody may have open: all of them or none. Databases that are
    /// not in the backup stay as they are. What was there is moved to the home's `quarantine/`.
    ///
    /// The domains given here are those whose schemas this program knows. A restore that is broken off is finished by
    /// the next one, or by the next [`open`](Self::open).
    ///
    /// # Errors
    /// Then nothing was changed.
    /// - `Busy`: somebody has a database open; names who.
    /// - `Corrupt`: the backup is damaged. `NotFound`: it is no backup.
    /// - `SchemaTooNew`: a newer program made it, or wrote a schema that this one must not read.
    /// - `Conflict`: a database belongs to another domain. `Full`: there is not enough room.
    /// - `Unsupported`, `Invalid`, `ReadOnly`, `Io`: as when opening.
    pub fn restore(
        self,
        backup: &Path,
        options: &RestoreOptions,
        progress: &mut dyn FnMut(&BackupProgress<'_>),
    ) -> Result<RestoreReport> {
        self.refuse_ephemeral()?;
        backup::restore(&self.home, &self.domains, backup, options, progress)
    }

    /// Moves the domains given here that can be on a server there, or back into files of the home, and changes the home's
    /// `config.toml` to say so. Domains that are there already, and those that are always files, stay as they are. With its
    /// threads go their histories: transcripts in a home, rows on a server.
    ///
    /// Nobody may have the home open; on the way to files every table on the server is locked for all machines, which then
    /// find it gone. Both sides are read back and compared before the target counts. The source is put aside, never
    /// deleted. Killed at any moment, exactly one side counts: the next move, or the next [`open`](Self::open), finishes
    /// what was committed. The server is the one that the home's `config.toml` or the variable
    /// `ROWHOUSE_POSTGRES_URL` names.
    ///
    /// # Errors
    /// Then nothing was changed, but for `OutcomeUnknown`.
    /// - `Busy`: somebody writes a transcript; or has the home open, or writes on the server, for longer than [`MoveOptions::wait`].
    /// - `Conflict`: everything is there already; the target holds rows or transcripts of its own; the
    ///   schemas differ; a transcript stands in no list.
    /// - `Invalid`: the other side cannot hold some values, which are named; the configuration names no server, or cannot
    ///   be changed.
    /// - `NotFound`: there is no home, or nothing in it. `Full`: there is not enough room.
    /// - `Corrupt`: what was read back is not what was copied; a transcript cannot be read.
    /// - `OutcomeUnknown`: the connection was lost in the commit and the server cannot be asked: the next call does.
    /// - `SchemaTooNew`, `ReadOnly`, `Unsupported`, `Io`: as when opening.
    #[cfg(feature = "postgres")]
    pub fn migrate_backend(
        self,
        options: &MoveOptions,
        progress: &mut dyn FnMut(&MoveProgress<'_>),
    ) -> Result<MoveReport> {
        self.refuse_ephemeral()?;
        move_backend::run(&self.home, &self.domains, &self.limits, options, progress)
    }
}

impl Inner {
    pub(super) fn backup(
        &self,
        options: &BackupOptions,
        progress: &mut dyn FnMut(&BackupProgress<'_>),
    ) -> Result<BackupReport> {
        if self.memory.is_some() {
            return Err(nothing_on_a_disk());
        }
        refuse_read_only(&self.folder, "a backup")?;
        let open: Vec<_> = self.databases.read().values().cloned().collect();
        let presence = enter(&self.folder, Instant::now() + options.wait)?;
        let program =
            open.iter().find_map(|(domain, _)| domain.program.clone()).unwrap_or_else(unnamed_program);
        let limits =
            open.first().map_or_else(Limits::default, |(_, database)| database.spec().limits.clone());
        let declared = open.into_iter().map(|(domain, database)| (domain, Some(database))).collect();
        let found = candidates(&self.home, &self.folder, &limits, &presence, declared, &[])?;
        backup::make(&self.folder, found, program, options, progress)
    }

    pub(super) fn maintain(
        &self,
        options: &MaintainOptions,
        progress: &mut dyn FnMut(&MaintainProgress<'_>),
    ) -> Result<MaintainReport> {
        guard::refuse_in_job()?;
        if self.memory.is_some() {
            return Err(nothing_on_a_disk());
        }
        refuse_read_only(&self.folder, "maintaining")?;
        let open: Vec<_> = self.databases.read().values().cloned().collect();
        let presence = enter(&self.folder, Instant::now() + options.wait)?;
        let limits =
            open.first().map_or_else(Limits::default, |(_, database)| database.spec().limits.clone());
        let declared = open.into_iter().map(|(domain, database)| (domain, Some(database))).collect();
        let found = candidates(&self.home, &self.folder, &limits, &presence, declared, &options.databases)?;
        maintenance::maintain(&self.folder, chosen(found, &self.folder, options)?, options, progress)
    }
}

/// The databases of a home, by name: those declared here, and those that the registry knows. None of those that are wanted
/// (all, where none is named) was moved to a server of which the configuration does not say so.
fn candidates(
    home: &Home,
    folder: &PreparedHome,
    limits: &Limits,
    presence: &Presence,
    declared: Vec<(Domain, Option<Database>)>,
    wanted: &[String],
) -> Result<Vec<Candidate>> {
    let on_disk = |domain: &Domain| {
        let program = domain.program.clone().unwrap_or_else(unnamed_program);
        Spec::new(domain, folder, program, limits, None, presence)
    };
    let mut found = BTreeMap::new();
    for known in RuntimeDbRegistry::new(home).list()? {
        let spec = on_disk(&Domain::new(&known.name));
        let (role, durability) = (known.role, known.durability);
        let elsewhere = elsewhere(&known);
        found.insert(known.name, Candidate { spec, role, durability, refusal: None, elsewhere });
    }
    for (domain, database) in declared {
        domain.check()?;
        let (role, durability) = (Some(domain.role()), Some(domain.durability));
        let refusal = database.as_ref().and_then(Database::refuses_backup);
        let spec = database.map_or_else(|| on_disk(&domain), |database| database.spec().clone());
        let elsewhere = found.remove(domain.name()).and_then(|known: Candidate| known.elsewhere);
        found.insert(domain.name, Candidate { spec, role, durability, refusal, elsewhere });
    }
    for (name, candidate) in &found {
        if candidate.elsewhere.is_none() && (wanted.is_empty() || wanted.contains(name)) {
            refuse_moved(folder, name)?;
        }
    }
    Ok(found.into_values().collect())
}

/// On which server it is, when it is not here.
fn elsewhere(known: &crate::registry::DatabaseInfo) -> Option<String> {
    #[cfg(feature = "agent")]
    return known.server.as_ref().map(|place| place.server.clone());
    #[cfg(not(feature = "agent"))]
    {
        let _ = known;
        None
    }
}

/// Those of the candidates that were asked for, or all that have a file.
fn chosen(
    found: Vec<Candidate>,
    folder: &PreparedHome,
    options: &MaintainOptions,
) -> Result<Vec<maintenance::Candidate>> {
    let asked_for =
        |candidate: &&Candidate| options.databases.iter().any(|name| name == candidate.spec.domain.name());
    if let Some((candidate, server)) = found
        .iter()
        .filter(asked_for)
        .find_map(|candidate| Some((candidate, candidate.elsewhere.as_deref()?)))
    {
        let message = format!("{} is on {server}, not in a file", candidate.spec.domain.name());
        return Err(Error::new(ErrorKind::Unsupported, message).advise(
            "the server gives space back by itself (autovacuum); VACUUM FULL there writes its tables anew",
        ));
    }
    let is_there = |candidate: &Candidate| {
        candidate.elsewhere.is_none() && std::fs::symlink_metadata(&candidate.spec.path).is_ok()
    };
    let present: Vec<_> = found.into_iter().filter(is_there).collect();
    let named = |name: &str| present.iter().any(|candidate| candidate.spec.domain.name() == name);
    if let Some(missing) = options.databases.iter().find(|name| !named(name)) {
        return Err(Error::new(ErrorKind::NotFound, format!("this home has no database {missing:.32}"))
            .at_path(folder.path())
            .advise("`rowhouse status` lists the databases of a home"));
    }
    let is_wanted = |candidate: &Candidate| {
        options.databases.is_empty()
            || options.databases.iter().any(|name| name == candidate.spec.domain.name())
    };
    let wanted = present.into_iter().filter(is_wanted);
    Ok(wanted.map(|Candidate { spec, refusal, .. }| maintenance::Candidate { spec, refusal }).collect())
}

fn nothing_on_a_disk() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "databases that are kept in memory only are not copied, restored, maintained or compacted",
    )
}

fn refuse_read_only(folder: &PreparedHome, what: &str) -> Result<()> {
    folder.read_only().map_or(Ok(()), |why| {
        Err(why
            .clone()
            .advise(format!("{what} needs the write locks: do it as a user who may write the home")))
    })
}
