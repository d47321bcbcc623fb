//! SQLite's result codes as kinds, each with its next step.
//!
//! Invariants: the words are SQLite's for the code (`sqlite3_errstr`), never its message for the case, which may quote
//! values; a backup is brought up for a damaged file only, never for a lock, a deadline, or a version.

use std::time::Duration;

use rusqlite::{ErrorCode, ffi};

use super::{Error, ErrorKind};

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        match &error {
            rusqlite::Error::SqliteFailure(failure, text) => {
                let mut made = from_code(*failure, text.as_deref());
                made.inner_mut().code = Some(failure.extended_code);
                made.caused_by(error)
            }
            rusqlite::Error::SqlInputError { error: failure, .. } => {
                let mut made = Self::new(
                    ErrorKind::Invalid,
                    format!("SQLite refused the statement ({})", code_name(*failure)),
                );
                made.inner_mut().code = Some(failure.extended_code);
                made.caused_by(error)
            }
            rusqlite::Error::QueryReturnedNoRows => Self::new(ErrorKind::NotFound, "no such row"),
            rusqlite::Error::InvalidColumnType(index, ..)
            | rusqlite::Error::FromSqlConversionFailure(index, ..) => {
                Self::new(ErrorKind::Invalid, format!("column {index} does not hold the type asked for"))
                    .caused_by(error)
            }
            rusqlite::Error::InvalidColumnIndex(index) => {
                Self::new(ErrorKind::Invalid, format!("there is no column {index}")).caused_by(error)
            }
            rusqlite::Error::InvalidColumnName(_) => {
                Self::new(ErrorKind::Invalid, "there is no column of that name").caused_by(error)
            }
            rusqlite::Error::InvalidParameterCount(given, wanted) => Self::new(
                ErrorKind::Invalid,
                format!("{given} parameters given, the statement takes {wanted}"),
            )
            .caused_by(error),
            rusqlite::Error::MultipleStatement => {
                Self::new(ErrorKind::Invalid, "more than one statement in one text").caused_by(error)
            }
            rusqlite::Error::ExecuteReturnedResults => {
                Self::new(ErrorKind::Invalid, "the statement returns rows: read it with `row` or `rows`")
                    .caused_by(error)
            }
            _ => Self::new(ErrorKind::Invalid, "the value or statement does not fit").caused_by(error),
        }
    }
}

/// Maps SQLite's result codes to kinds. Texts that may carry values stay behind `source()`.
fn from_code(failure: ffi::Error, text: Option<&str>) -> Error {
    let name = code_name(failure);
    let kind = kind_of(failure);
    let told = match kind {
        ErrorKind::Constraint => match text.and_then(|text| constraint_name(failure.extended_code, text)) {
            Some(constraint) => Error::new(kind, format!("{name}: {constraint}")),
            None => Error::new(kind, name),
        },
        ErrorKind::Timeout => Error::new(kind, "stopped at its deadline"),
        ErrorKind::Unsupported if failure.code == ErrorCode::AuthorizationForStatementDenied => {
            Error::new(kind, format!("{name}: not allowed inside a job"))
        }
        _ => Error::new(kind, name),
    };
    let told = match kind {
        ErrorKind::Busy if failure.code != ErrorCode::DatabaseLocked => told.retry_in(Duration::from_secs(1)),
        _ => told,
    };
    match next_step(failure) {
        Some(advice) => told.advise(advice),
        None => told,
    }
}

/// By the extended code where that says more than the first (<https://sqlite.org/rescode.html>).
fn kind_of(failure: ffi::Error) -> ErrorKind {
    match failure.extended_code {
        // The -shm file could not grow.
        ffi::SQLITE_IOERR_SHMSIZE => return ErrorKind::Full,
        // Its contents do not fit their checksum.
        ffi::SQLITE_IOERR_DATA => return ErrorKind::Corrupt,
        ffi::SQLITE_READONLY_DBMOVED | ffi::SQLITE_IOERR_VNODE => return ErrorKind::Replaced,
        ffi::SQLITE_CANTOPEN_ISDIR | ffi::SQLITE_CANTOPEN_SYMLINK => return ErrorKind::Invalid,
        ffi::SQLITE_IOERR_AUTH => return ErrorKind::ReadOnly,
        _ => {}
    }
    match failure.code {
        // The last: the lock of the write-ahead log's index was lost to others again and again.
        ErrorCode::DatabaseBusy
        | ErrorCode::DatabaseLocked
        | ErrorCode::SchemaChanged
        | ErrorCode::FileLockingProtocolFailed => ErrorKind::Busy,
        ErrorCode::OperationInterrupted => ErrorKind::Timeout,
        ErrorCode::DiskFull => ErrorKind::Full,
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied => ErrorKind::ReadOnly,
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => ErrorKind::Corrupt,
        ErrorCode::ConstraintViolation => ErrorKind::Constraint,
        ErrorCode::AuthorizationForStatementDenied | ErrorCode::NoLargeFileSupport => ErrorKind::Unsupported,
        ErrorCode::TooBig
        | ErrorCode::TypeMismatch
        | ErrorCode::ParameterOutOfRange
        | ErrorCode::ApiMisuse
        | ErrorCode::OperationAborted
        | ErrorCode::Unknown => ErrorKind::Invalid,
        _ => ErrorKind::Io,
    }
}

/// What to do about it, where the code says more than its kind.
fn next_step(failure: ffi::Error) -> Option<&'static str> {
    Some(match failure.extended_code {
        ffi::SQLITE_BUSY_RECOVERY => {
            "another process is reading the write-ahead log in after a crash: try again in a moment"
        }
        ffi::SQLITE_BUSY_SNAPSHOT => "somebody committed after this one had read: begin again",
        ffi::SQLITE_SCHEMA => "somebody changed the schema meanwhile: try again",
        ffi::SQLITE_READONLY_DIRECTORY => {
            "give your user write permission to the folder, or choose another home"
        }
        ffi::SQLITE_CORRUPT_INDEX => {
            "an index does not fit its table: keep a copy of the file, then run REINDEX or restore it from a backup"
        }
        ffi::SQLITE_CANTOPEN_ISDIR => "move the folder away",
        ffi::SQLITE_CANTOPEN_SYMLINK => {
            "put the database itself here, or use the home that the link leads to"
        }
        ffi::SQLITE_IOERR_LOCK
        | ffi::SQLITE_IOERR_UNLOCK
        | ffi::SQLITE_IOERR_RDLOCK
        | ffi::SQLITE_IOERR_CHECKRESERVEDLOCK
        | ffi::SQLITE_IOERR_SHMLOCK => "the file system gave no lock: choose a home on a local disk",
        ffi::SQLITE_NOMEM | ffi::SQLITE_IOERR_NOMEM => "free some memory and try again",
        _ => match failure.code {
            ErrorCode::DatabaseLocked => "let the other statement of this job that uses the table end first",
            ErrorCode::CannotOpen => "look whether the folder is there and whether your user may use it",
            ErrorCode::AuthorizationForStatementDenied => {
                "jobs may not control transactions, attach databases, set pragmas, or create temporary objects"
            }
            _ => return None,
        },
    })
}

/// The table and columns of a UNIQUE, NOT NULL or PRIMARY KEY message: names of the schema, never values. A trigger can
/// word its message like one, but has another code.
fn constraint_name(code: i32, text: &str) -> Option<String> {
    let of_the_schema = matches!(
        code,
        ffi::SQLITE_CONSTRAINT_UNIQUE
            | ffi::SQLITE_CONSTRAINT_PRIMARYKEY
            | ffi::SQLITE_CONSTRAINT_ROWID
            | ffi::SQLITE_CONSTRAINT_NOTNULL
            | ffi::SQLITE_CONSTRAINT_CHECK
    );
    if !of_the_schema {
        return None;
    }
    let (what, names) = text.split_once(" constraint failed: ")?;
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | ',' | ' ');
    (matches!(what, "UNIQUE" | "NOT NULL" | "PRIMARY KEY" | "CHECK")
        && names.len() <= 200
        && names.chars().all(plain))
    .then(|| names.to_owned())
}

fn code_name(failure: ffi::Error) -> String {
    format!("{} (SQLite code {})", ffi::code_to_str(failure.extended_code), failure.extended_code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_code(code: i32) -> Error {
        rusqlite::Error::SqliteFailure(ffi::Error::new(code), None).into()
    }

    /// What each code is (<https://sqlite.org/rescode.html>).
    const KINDS: &[(i32, ErrorKind)] = &[
        (ffi::SQLITE_BUSY, ErrorKind::Busy),
        (ffi::SQLITE_BUSY_RECOVERY, ErrorKind::Busy),
        (ffi::SQLITE_BUSY_SNAPSHOT, ErrorKind::Busy),
        (ffi::SQLITE_BUSY_TIMEOUT, ErrorKind::Busy),
        (ffi::SQLITE_LOCKED, ErrorKind::Busy),
        (ffi::SQLITE_LOCKED_SHAREDCACHE, ErrorKind::Busy),
        (ffi::SQLITE_PROTOCOL, ErrorKind::Busy),
        (ffi::SQLITE_SCHEMA, ErrorKind::Busy),
        (ffi::SQLITE_INTERRUPT, ErrorKind::Timeout),
        (ffi::SQLITE_FULL, ErrorKind::Full),
        (ffi::SQLITE_IOERR_SHMSIZE, ErrorKind::Full),
        (ffi::SQLITE_PERM, ErrorKind::ReadOnly),
        (ffi::SQLITE_READONLY, ErrorKind::ReadOnly),
        (ffi::SQLITE_READONLY_RECOVERY, ErrorKind::ReadOnly),
        (ffi::SQLITE_READONLY_CANTLOCK, ErrorKind::ReadOnly),
        (ffi::SQLITE_READONLY_CANTINIT, ErrorKind::ReadOnly),
        (ffi::SQLITE_READONLY_DIRECTORY, ErrorKind::ReadOnly),
        (ffi::SQLITE_READONLY_DBMOVED, ErrorKind::Replaced),
        (ffi::SQLITE_CORRUPT, ErrorKind::Corrupt),
        (ffi::SQLITE_CORRUPT_VTAB, ErrorKind::Corrupt),
        (ffi::SQLITE_CORRUPT_INDEX, ErrorKind::Corrupt),
        (ffi::SQLITE_CORRUPT_SEQUENCE, ErrorKind::Corrupt),
        (ffi::SQLITE_NOTADB, ErrorKind::Corrupt),
        (ffi::SQLITE_IOERR_SHORT_READ, ErrorKind::Io),
        (ffi::SQLITE_IOERR_DATA, ErrorKind::Corrupt),
        (ffi::SQLITE_CANTOPEN, ErrorKind::Io),
        (ffi::SQLITE_CANTOPEN_FULLPATH, ErrorKind::Io),
        (ffi::SQLITE_CANTOPEN_ISDIR, ErrorKind::Invalid),
        (ffi::SQLITE_CANTOPEN_SYMLINK, ErrorKind::Invalid),
        (ffi::SQLITE_IOERR, ErrorKind::Io),
        (ffi::SQLITE_IOERR_READ, ErrorKind::Io),
        (ffi::SQLITE_IOERR_WRITE, ErrorKind::Io),
        (ffi::SQLITE_IOERR_FSYNC, ErrorKind::Io),
        (ffi::SQLITE_IOERR_FSTAT, ErrorKind::Io),
        (ffi::SQLITE_IOERR_LOCK, ErrorKind::Io),
        (ffi::SQLITE_IOERR_SHMMAP, ErrorKind::Io),
        (ffi::SQLITE_NOMEM, ErrorKind::Io),
        (ffi::SQLITE_NOLFS, ErrorKind::Unsupported),
        (ffi::SQLITE_AUTH, ErrorKind::Unsupported),
        (ffi::SQLITE_CONSTRAINT_UNIQUE, ErrorKind::Constraint),
        (ffi::SQLITE_TOOBIG, ErrorKind::Invalid),
        (ffi::SQLITE_MISMATCH, ErrorKind::Invalid),
        (ffi::SQLITE_ABORT_ROLLBACK, ErrorKind::Invalid),
    ];

    #[test]
    fn every_code_has_its_kind_and_keeps_its_number() {
        for &(code, kind) in KINDS {
            let error = of_code(code);
            assert_eq!((error.kind(), error.sqlite_code()), (kind, Some(code)), "{error}");
        }
    }

    #[test]
    fn what_went_wrong_outside_of_a_job_has_a_next_step_and_only_damage_asks_for_a_backup() {
        for &(code, kind) in KINDS {
            let error = of_code(code);
            let inside = matches!(kind, ErrorKind::Timeout | ErrorKind::Invalid | ErrorKind::Constraint);
            assert!(inside || kind == ErrorKind::Unsupported || error.advice().is_some(), "{error}");
            let told = error.to_string().to_lowercase();
            let asks = ["repair", "restore", "backup", "quarantine", "reindex"]
                .iter()
                .any(|word| told.contains(word));
            assert_eq!(asks, kind == ErrorKind::Corrupt, "{error}");
        }
    }

    #[test]
    fn a_constraint_message_names_the_column_and_never_the_value() {
        let connection = rusqlite::Connection::open_in_memory().expect("an in-memory database");
        connection
            .execute_batch("CREATE TABLE t(a TEXT UNIQUE); INSERT INTO t VALUES ('secret');")
            .expect("setup");
        let error =
            Error::from(connection.execute("INSERT INTO t VALUES ('secret')", []).expect_err("unique"));
        assert_eq!(error.kind(), ErrorKind::Constraint);
        assert!(error.to_string().contains("t.a"), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn a_message_raised_by_a_trigger_stays_behind_source() {
        let connection = rusqlite::Connection::open_in_memory().expect("an in-memory database");
        connection
            .execute_batch(
                "CREATE TABLE t(a TEXT); CREATE TRIGGER r BEFORE INSERT ON t BEGIN SELECT RAISE(ABORT, 'secret text'); END;",
            )
            .expect("setup");
        let error = Error::from(connection.execute("INSERT INTO t VALUES ('x')", []).expect_err("raised"));
        assert_eq!(error.kind(), ErrorKind::Constraint);
        assert!(!error.to_string().contains("secret"), "{error}");
        let source = std::error::Error::source(&error).expect("a source").to_string();
        assert!(source.contains("secret text"), "{source}");
    }

    #[test]
    fn the_text_of_a_bad_statement_stays_behind_source() {
        let connection = rusqlite::Connection::open_in_memory().expect("an in-memory database");
        let error = Error::from(connection.prepare("SELECT 'secret' FROM nowhere").expect_err("no table"));
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
