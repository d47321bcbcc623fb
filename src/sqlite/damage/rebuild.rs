//! A new database with what can be read of a damaged one.
//!
//! Invariants:
//! 1. The damaged files are only read, and not by SQLite.
//! 2. Rows go into the schema of their own time, and then through the migrations that came later, as they would have in the
//!    undamaged file.
//! 3. Rows that a migration put there give way to those of the file. They come back only in tables that lost rows.
//! 4. How far each step came is kept like any row, unless the step says that it makes again what was lost.
//! 5. A file of a newer schema is left to a program that knows it.
//! 6. Full-text indexes are made anew from their texts. What another virtual table held is told to be missing.
//! 7. What is answered is checked by SQLite and durable, as one file without a log.

use std::path::Path;

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rusqlite::types::ValueRef;

use super::report::{self, KeptRows};
use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};
use crate::home;
use crate::salvage::{self, Known};
use crate::sqlite::connect::Spec;
use crate::sqlite::history::{HISTORY, META, OWN_TABLES};
use crate::sqlite::migration::Migration;
use crate::sqlite::new_file::NewFile;
use crate::sqlite::{merge, migrate, steps};

const SKIP: [&str; 2] = [HISTORY, META];

/// What was kept and lost.
pub(super) struct Built {
    pub(super) tables: Vec<KeptRows>,
    /// Virtual tables whose rows were not read.
    pub(super) not_read: Vec<String>,
    /// What was lost includes the whole log.
    pub(super) log_lost: bool,
}

/// Builds it at `target`.
///
/// # Errors
/// `SchemaTooNew`; `Full`; of the migrations; of SQLite.
pub(super) fn build(spec: &Spec, main: &Path, log: &Path, target: &Path) -> Result<Built> {
    let length = |path: &Path| std::fs::symlink_metadata(path).map_or(0, |found| found.len());
    let log = Some(log).filter(|log| length(log) > 0);
    if length(main) == 0 {
        // It may be missing altogether; an empty one is read the same.
        drop(home::create_private_file(main));
    }
    let folder = target.parent().unwrap_or(target);
    let needed = length(main) + log.map_or(0, length);
    home::refuse_too_full(needed, folder, "salvaging the damaged database")?;
    let domain = at_its_version(spec, main, log)?;
    // Ours, of a process that was killed.
    for ending in ["", "-journal"] {
        let _ = std::fs::remove_file(home::with_ending(target, ending));
    }
    let program = (&*spec.program.0, &*spec.program.1);
    let file = NewFile::create(target, &domain, program)?;
    let new = file.connection();
    let fresh = shape_of(spec, &domain)?;
    // A step that is done must not run again over rows that it has rewritten.
    steps::make_room(new)?;
    let made_by_migrations = merge::tables_with_rows(&fresh)?;
    merge::empty(new, &made_by_migrations)?;
    new.execute_batch("PRAGMA foreign_keys=ON")?;
    // What triggers made of the rows is among the rows.
    new.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    let found = salvage::fill(main, log, &Known::of(new)?, new, &SKIP)?;
    new.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, true)?;
    steps::begin_anew_after_salvage(new, &spec.domain)?;
    let tables = report::tables(&found, &OWN_TABLES);
    let lossy: Vec<_> = made_by_migrations
        .into_iter()
        .filter(|name| tables.iter().find(|table| table.table == *name).is_none_or(|table| table.lost > 0))
        .collect();
    merge::add_missing(&fresh, new, &lossy)?;
    migrate::migrate(new, &spec.domain, program)?;
    file.finish()?;
    let log_lost = found.wal.is_some_and(|wal| !wal.header_holds);
    Ok(Built { tables, not_read: found.virtual_tables, log_lost })
}

/// The rows that [`build`] would keep, without a file.
///
/// # Errors
/// As [`build`].
pub(super) fn count(spec: &Spec, main: &Path, log: &Path) -> Result<Vec<KeptRows>> {
    let log = Some(log).filter(|log| std::fs::symlink_metadata(log).is_ok_and(|found| found.len() > 0));
    let domain = at_its_version(spec, main, log)?;
    let shape = shape_of(spec, &domain)?;
    let found = salvage::salvage(main, log, &Known::of(&shape)?, |_| Ok(()))?;
    Ok(report::tables(&found, &OWN_TABLES))
}

/// The domain as it was when the file was last migrated, as far as its history can still be read.
fn at_its_version(spec: &Spec, main: &Path, log: Option<&Path>) -> Result<Domain> {
    let mut domain = spec.domain.clone();
    let known = migrate::validate(&domain)?;
    let newest = known.last().map_or(0, Migration::version);
    let found = version_of(spec, main, log)?.unwrap_or(newest);
    if found > newest {
        return Err(Error::new(
            ErrorKind::SchemaTooNew,
            format!("the damaged database's schema is version {found}, this program knows up to {newest}"),
        )
        .advise("start the newer program that wrote it: it salvages what can be read"));
    }
    if found < newest && known.iter().any(|migration| migration.version() <= found) {
        let keep = known.iter().filter(|migration| migration.version() <= found).count();
        domain.migrations.truncate(keep);
        domain.steps.clear();
        (domain.oldest_reader, domain.oldest_writer) = (1, 1);
    }
    Ok(domain)
}

/// The highest migration in a history that can be read. All tables are known to the look, so that no other's row is taken
/// for one of the history.
fn version_of(spec: &Spec, main: &Path, log: Option<&Path>) -> Result<Option<i64>> {
    let shape = shape_of(spec, &spec.domain)?;
    let mut version = None;
    salvage::salvage(main, log, &Known::of(&shape)?, |row| {
        if row.table == HISTORY
            && let [ValueRef::Integer(found), ValueRef::Text(_), _, ValueRef::Text(checksum)] = row.values
            && std::str::from_utf8(checksum).is_ok_and(|digits| digits.parse::<u64>().is_ok())
        {
            version = version.max(Some(*found));
        }
        Ok(())
    })?;
    Ok(version)
}

/// An empty database with the schema.
fn shape_of(spec: &Spec, domain: &Domain) -> Result<Connection> {
    let shape = Connection::open_in_memory()?;
    if let Some(run) = &spec.domain.on_connect {
        run(&shape)?;
    }
    migrate::migrate(&shape, domain, ("", ""))?;
    Ok(shape)
}
