//! The Migrator: what schema a file has, whether this program fits it, and the way from there to the newest.
//!
//! Names, hashes and history are refinery's. Its runner is not used: it knows no transaction around all it does, and
//! no lock between processes.
//!
//! Invariants, and the tests that hold them (below):
//! - A look takes no write lock: `a_warm_look_passes_beside_a_writer`.
//! - What another process did before the write lock came is not done again: `a_second_look_*`.
//! - Everything pending, the history and `rowhouse_meta` are one commit:
//!   `everything_is_one_commit`, `a_connection_lost_before_the_commit_leaves_nothing`, `a_failed_*`.
//! - A migration's text cannot leave that transaction: `a_text_that_would_leave_the_transaction_is_refused`.
//! - A newer schema is used as far as its writer said, and never changed: `a_newer_schema_*`.
//! - Of two programs of one version the stricter word counts, also when nothing else is pending:
//!   `a_stricter_word_is_written_without_a_migration`.
//! - What the file holds is data, and an error when it makes no sense: `bad_meta_is_an_error`,
//!   `tables_without_a_history_are_not_migrated`, and in `history`.
//! - What is in the way of a migration and is not ours is named: `a_foreign_trigger_in_the_way_is_named`.
//! - Line endings do not count: `line_endings_do_not_count`.
//!
//! Nothing here deletes anything because of a version.

use std::collections::BTreeMap;

use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::{Batch, Connection, Transaction, TransactionBehavior};

use super::fence::Fence;
use super::ffi;
use super::history::{self, Applied, HISTORY, META, SchemaMeta};
use super::migration::Migration;
use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};

/// How far a program may go with the schema it found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// The schema is this program's, older, or newer and still open to its writes.
    ReadWrite,
    /// The schema is newer, and its writer lets this program read only.
    ReadOnly(Newer),
    /// The schema is newer than this program may read.
    TooNew(Newer),
}

/// A schema newer than this program, and what to install for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Newer {
    found: i64,
    known: i64,
    /// Program and version that wrote it, where the file says so.
    install: Option<(String, String)>,
}

impl Access {
    /// Why this program may not write, when it may not.
    pub(crate) fn refusal(&self) -> Option<Error> {
        match self {
            Self::ReadWrite => None,
            Self::ReadOnly(newer) => Some(newer.refuse(ErrorKind::ReadOnly, "may only read it")),
            Self::TooNew(newer) => Some(newer.refuse(ErrorKind::SchemaTooNew, "may not read it")),
        }
    }
}

impl Newer {
    fn refuse(&self, kind: ErrorKind, but: &str) -> Error {
        let Self { found, known, .. } = self;
        let error = Error::new(
            kind,
            format!("its schema is version {found}, this program knows up to {known} and {but}"),
        );
        match &self.install {
            Some((program, version)) => error.advise(format!("install {program} {version} or newer")),
            None => error.advise("install the version of the program that wrote it, or a newer one"),
        }
    }
}

/// What a look at a file found.
#[derive(Debug)]
pub(crate) struct State {
    /// How far this program may go.
    pub(crate) access: Access,
    /// What a [`migrate`] would apply, in order. Empty when the schema is newer than this program.
    pub(crate) pending: Vec<Migration>,
    /// The highest migration applied; 0 for none.
    pub(crate) found_version: i64,
    /// Differences that hinder nobody and that somebody should know: for the domain's health.
    pub(crate) warnings: Vec<String>,
    /// The schema is newer than this program, however far it may go with it.
    pub(crate) newer: bool,
    /// The schema cookie at that moment; 0 where there is none.
    pub(crate) cookie: i64,
    described: bool,
}

impl State {
    /// Nothing to create or migrate: [`migrate`] would not write.
    pub(crate) fn settled(&self) -> bool {
        self.pending.is_empty() && self.described
    }

    /// Refuses a schema that this program may not even read.
    ///
    /// # Errors
    /// `SchemaTooNew`, naming what to install.
    pub(crate) fn check(&self) -> Result<()> {
        match (&self.access, self.access.refusal()) {
            (Access::TooNew(_), Some(error)) => Err(error),
            _ => Ok(()),
        }
    }
}

/// What a [`migrate`] did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The migrations applied now, in order (`V1__init`).
    pub(crate) applied: Vec<String>,
    /// The schema's version afterwards.
    pub(crate) schema_version: i64,
}

/// The domain's migrations, parsed and hashed. Line endings are normalised first, so that a checkout with CRLF is the
/// same schema.
///
/// # Errors
/// `Invalid`, naming the migration that is misnamed, out of order, or not SQL text; `Invalid` when `compatible_from`
/// names a version that does not exist.
pub(crate) fn validate(domain: &Domain) -> Result<Vec<Migration>> {
    let mut migrations: Vec<Migration> = Vec::with_capacity(domain.migrations.len());
    for given in &domain.migrations {
        let name = given.name;
        let migration = Migration::parse(name, given.sql).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, format!("the migration {name} is not named V<number>__<name>"))
                .advise(
                    "number migrations from 1 to 2147483647, and use letters, digits and _ in their names",
                )
        })?;
        if given.sql.contains('\0') {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("the migration {name} contains a NUL character"),
            )
            .advise("SQLite would ignore the text after it: remove it"));
        }
        if let Some(last) = migrations.last()
            && last.version() >= migration.version()
        {
            return Err(Error::new(ErrorKind::Invalid, format!("the migration {name} comes after {last}"))
                .advise(
                    "give every migration a number of its own, and list them in the order of their numbers",
                ));
        }
        migrations.push(migration);
    }
    let newest = newest(&migrations);
    if domain.oldest_writer.max(domain.oldest_reader) > newest.max(1) {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!(
                "compatible_from asks for versions {} and {}, the newest migration is {newest}",
                domain.oldest_reader, domain.oldest_writer
            ),
        )
        .advise("name versions of this domain's own migrations in compatible_from"));
    }
    Ok(migrations)
}

/// Looks at a file, as one snapshot, with reading statements only.
///
/// # Errors
/// `Invalid` of [`validate`]; `Conflict` when the file is another domain's or a migration is missing below an applied
/// one; `Corrupt` when the history or `rowhouse_meta` cannot be understood (SQLite itself found nothing wrong:
/// [`Error::sqlite_code`] is `None`); of SQLite. A schema that is too new is an answer: [`State::check`].
pub(crate) fn inspect(connection: &Connection, domain: &Domain) -> Result<State> {
    let known = validate(domain)?;
    // Dropped, it ends the snapshot. Inside the migrator's transaction that one is the snapshot.
    let _snapshot = connection
        .is_autocommit()
        .then(|| Transaction::new_unchecked(connection, TransactionBehavior::Deferred))
        .transpose()?;

    let meta = history::read_meta(connection)?;
    let applied = history::read_history(connection)?;
    let state = judge(domain, known, meta, &applied, || history::has_tables(connection))?;
    Ok(State { cookie: history::cookie(connection)?, ..state })
}

/// What a record of migrations means to a program, whichever engine holds it.
///
/// # Errors
/// Those of [`inspect`] that are about the record.
pub(crate) fn judge(
    domain: &Domain,
    known: Vec<Migration>,
    meta: Option<SchemaMeta>,
    applied: &BTreeMap<i64, Applied>,
    has_tables: impl FnOnce() -> Result<bool>,
) -> Result<State> {
    if let Some(meta) = &meta
        && meta.domain != domain.name
    {
        return Err(Error::new(
            ErrorKind::Conflict,
            format!("the file belongs to the domain {}, not to {}", shown(&meta.domain), domain.name),
        )
        .advise(
            "give each domain a file of its own; if a file was renamed or restored, put the right one back",
        ));
    }
    let found_version = applied.keys().next_back().copied().unwrap_or(0).max(0);
    if let Some(meta) = &meta
        && meta.schema_version > found_version
    {
        return Err(history::damaged(format!(
            "{META} says that the schema is version {}, {HISTORY} ends at {found_version}",
            meta.schema_version
        )));
    }

    if meta.is_none() && applied.is_empty() && !known.is_empty() && has_tables()? {
        return Err(history::damaged(
            "it has tables, and no record of the migrations that made them".to_owned(),
        ));
    }

    let known_version = newest(&known);
    let newer = Newer {
        found: found_version,
        known: known_version,
        install: meta.as_ref().map(|meta| (shown(&meta.program), shown(&meta.program_version))),
    };
    let access = match &meta {
        _ if found_version <= known_version => Access::ReadWrite,
        Some(meta) if known_version >= meta.oldest_writer => Access::ReadWrite,
        Some(meta) if known_version >= meta.oldest_reader => Access::ReadOnly(newer),
        _ => Access::TooNew(newer),
    };
    // An older program has no say; one of the same version may only add to what was said.
    let described = meta.is_some_and(|meta| {
        found_version > known_version
            || (meta.oldest_reader >= domain.oldest_reader && meta.oldest_writer >= domain.oldest_writer)
    });
    let (pending, warnings) = compare(known, applied)?;
    Ok(State {
        access,
        pending,
        found_version,
        warnings,
        newer: found_version > known_version,
        cookie: 0,
        described,
    })
}

/// Brings a file to the domain's newest schema, or leaves it as it was. A settled file is not written to, nor locked.
///
/// The caller holds the lock file that keeps other processes from initialising the same file, has set the busy handler,
/// and installs its own authorizer afterwards: this one removes any.
///
/// # Errors
/// Those of [`inspect`] and [`State::check`]; of the migration that failed, by name, with SQLite's code; `Unsupported`
/// when its text would leave the transaction; `Busy`.
pub(crate) fn migrate(connection: &Connection, domain: &Domain, program: (&str, &str)) -> Result<Outcome> {
    if let Some(outcome) = nothing_to_do(&inspect(connection, domain)?)? {
        return Ok(outcome);
    }
    // Rolls back when it is dropped, whatever the reason.
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let state = inspect(connection, domain)?;
    if let Some(outcome) = nothing_to_do(&state)? {
        return Ok(outcome);
    }
    let outcome = apply(connection, domain, &state, program)?;
    transaction.commit().map_err(|error| {
        let error = Error::from(ffi::full_quota(connection).unwrap_or(error));
        let message = match &outcome.applied[..] {
            [] => format!("{META} could not be committed: {}", error.message()),
            names => format!("{} could not be committed: {}", names.join(", "), error.message()),
        };
        let advice = match error.kind() {
            ErrorKind::Constraint => {
                "nothing was changed; a deferred foreign key that is still violated shows here"
            }
            kind => undone(kind).unwrap_or("nothing was changed; start it again when that is mended"),
        };
        error.worded(message).advise(advice)
    })?;
    Ok(outcome)
}

fn nothing_to_do(state: &State) -> Result<Option<Outcome>> {
    state.check()?;
    Ok(state.settled().then(|| Outcome { applied: Vec::new(), schema_version: state.found_version }))
}

/// Everything of a migration but BEGIN and COMMIT.
fn apply(connection: &Connection, domain: &Domain, state: &State, program: (&str, &str)) -> Result<Outcome> {
    let mut applied = Vec::with_capacity(state.pending.len());
    for migration in &state.pending {
        run(connection, migration)?;
        history::record(connection, migration)?;
        applied.push(migration.to_string());
    }
    let schema_version = state.found_version.max(newest(&state.pending));
    history::describe(connection, domain, schema_version, program)?;
    Ok(Outcome { applied, schema_version })
}

/// Runs one migration's text inside the transaction, and makes sure that it stays inside.
fn run(connection: &Connection, migration: &Migration) -> Result<()> {
    let fence = Fence::around(connection)?;
    let mut batch = Batch::new(connection, migration.sql());
    let mut number = 0;
    let mut step = || -> rusqlite::Result<bool> {
        number += 1;
        let Some(mut statement) = batch.next()? else { return Ok(false) };
        let mut rows = statement.raw_query();
        while rows.next()?.is_some() {}
        Ok(true)
    };
    let result = loop {
        match step() {
            Ok(true) if connection.is_autocommit() => {
                break Err(Error::new(ErrorKind::Unsupported, "it ended the transaction"));
            }
            Ok(true) => {}
            Ok(false) => break Ok(()),
            Err(error) => break Err(ffi::full_quota(connection).unwrap_or(error).into()),
        }
    };
    result.map_err(|error| {
        let place = format!("the migration {migration}, statement {number}");
        if let Some(what) = fence.refused() {
            return error.worded(format!("{place}: {what} is not allowed in a migration")).advise(
                "all pending migrations share one transaction: leave out transaction control, ATTACH, DETACH and \
                 pragmas other than defer_foreign_keys; nothing was changed",
            );
        }
        if let Some(object) = in_the_way(&error) {
            let message = format!("{place}: the {object} does not fit the change: {}", error.message());
            return error.worded(message).advise(format!(
                "if the {object} is not the program's, drop it or repair it; nothing was changed"
            ));
        }
        let message = format!("{place}: {}", error.message());
        error.clone().worded(message).advise(match error.kind() {
            ErrorKind::Busy | ErrorKind::Timeout => "nothing was changed; try again",
            kind => undone(kind).unwrap_or("nothing was changed; correct the migration"),
        })
    })
}

/// What to do where the disk is the reason.
fn undone(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::Full => Some(
            "nothing was changed; free some space on that disk, or raise the quota or the limit, then start it again",
        ),
        ErrorKind::Io => {
            Some("nothing was changed; look at the disk and the system's log, then start it again")
        }
        _ => None,
    }
}

/// A trigger, view or index that an ALTER TABLE would break, where SQLite says so: "error in trigger NAME: ...". Names of
/// the schema, never values.
fn in_the_way(error: &Error) -> Option<String> {
    let text = match error.downcast_ref::<rusqlite::Error>()? {
        rusqlite::Error::SqliteFailure(_, Some(text)) => text,
        rusqlite::Error::SqlInputError { msg, .. } => msg,
        _ => return None,
    };
    let (kind, rest) = text.strip_prefix("error in ")?.split_once(' ')?;
    let (name, _) = rest.split_once([':', ' '])?;
    matches!(kind, "trigger" | "view" | "index" | "table").then(|| format!("{kind} {}", shown(name)))
}

/// What is pending, and the warnings.
fn compare(known: Vec<Migration>, history: &BTreeMap<i64, Applied>) -> Result<(Vec<Migration>, Vec<String>)> {
    let mut warnings = Vec::new();
    let known_version = newest(&known);
    let newer = history.keys().next_back().is_some_and(|&found| found > known_version);
    for (version, applied) in history.range(..=known_version) {
        match known.iter().find(|migration| migration.version() == *version) {
            None => warnings.push(format!(
                "the migration V{version}__{} was applied, and is not among this program's",
                shown(&applied.name)
            )),
            Some(migration) if migration.checksum() != applied.checksum => {
                warnings.push(format!("the migration {migration} was changed after it was applied"));
            }
            Some(_) => {}
        }
    }
    let highest = known
        .iter()
        .map(Migration::version)
        .filter(|version| history.contains_key(version))
        .max()
        .unwrap_or(0);
    let mut pending = Vec::new();
    for migration in known {
        if history.contains_key(&migration.version()) {
            continue;
        }
        if migration.version() < highest {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("the migration {migration} was never applied, although V{highest} was"),
            )
            .advise("give the late migration a number above those applied; nothing was changed"));
        }
        if newer {
            warnings.push(format!(
                "the migration {migration} was not applied before the newer schema was written"
            ));
        } else {
            pending.push(migration);
        }
    }
    Ok((pending, warnings))
}

/// The newest schema that a program knows.
pub(crate) fn newest_of(domain: &Domain) -> i64 {
    let versions = domain.migrations.iter().filter_map(|given| Migration::parse(given.name, ""));
    versions.map(|migration| migration.version()).max().unwrap_or(0)
}

fn newest(migrations: &[Migration]) -> i64 {
    migrations.last().map_or(0, Migration::version)
}

/// A name out of a file, fit for a message.
pub(super) fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}

#[cfg(test)]
mod tests;
