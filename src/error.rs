//! One cloneable error, by kind, naming the database, the file, the holder and the next step.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::ErrorCode;
use rusqlite::ffi;

use crate::sqlite::holders::Holder;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as a program decides on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// Another process or connection held a lock for longer than the deadline.
    Busy,
    /// The deadline passed; nothing was done.
    Timeout,
    /// The deadline passed while the commit was under way: it may or may not be durable.
    OutcomeUnknown,
    /// The queue, the disk or a budget has no room.
    Full,
    /// The database can only be read.
    ReadOnly,
    /// The file under the database was replaced by another one.
    Replaced,
    /// The file is damaged, or not a database.
    Corrupt,
    /// A newer program wrote a schema that this one must not touch.
    SchemaTooNew,
    /// After a failed write or fsync the database refuses work until [`reopen`](crate::Database::reopen).
    Latched,
    /// The database or the runtime is closed, or this process is a fork of the one that opened it.
    Closed,
    /// A write was started from inside a job.
    Reentrant,
    /// No such row, file, thread or database.
    NotFound,
    /// It contradicts what is there already.
    Conflict,
    /// The input is not acceptable.
    Invalid,
    /// A constraint of the schema refused it.
    Constraint,
    /// This engine, platform or file system cannot do it.
    Unsupported,
    /// The job's own error, given with [`Error::job`].
    Job,
    /// The job panicked; its effects were rolled back.
    Panicked,
    /// The operating system or SQLite failed otherwise.
    Io,
}

impl ErrorKind {
    /// The kind as one lower-case word, as it appears in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Timeout => "timeout",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Full => "full",
            Self::ReadOnly => "read_only",
            Self::Replaced => "replaced",
            Self::Corrupt => "corrupt",
            Self::SchemaTooNew => "schema_too_new",
            Self::Latched => "latched",
            Self::Closed => "closed",
            Self::Reentrant => "reentrant",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Invalid => "invalid",
            Self::Constraint => "constraint",
            Self::Unsupported => "unsupported",
            Self::Job => "job",
            Self::Panicked => "panicked",
            Self::Io => "io",
        }
    }
}

/// The one error of this crate. Cheap to clone; never carries a bound value or a user's text in its message.
///
/// ```
/// use rowhouse::{Error, ErrorKind};
/// #[derive(Debug, PartialEq)]
/// struct CacheFull;
/// impl std::fmt::Display for CacheFull {
///     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("the cache is full") }
/// }
/// impl std::error::Error for CacheFull {}
///
/// let error = Error::job(CacheFull);
/// assert_eq!(error.kind(), ErrorKind::Job);
/// assert_eq!(error.downcast_ref::<CacheFull>(), Some(&CacheFull));
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    database: Option<String>,
    path: Option<PathBuf>,
    holder: Option<Holder>,
    retry_after: Option<Duration>,
    advice: Option<Cow<'static, str>>,
    code: Option<i32>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of a kind, with a message that holds no user data.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            database: None,
            path: None,
            holder: None,
            retry_after: None,
            advice: None,
            code: None,
            source: None,
        }))
    }

    /// A job's own error: rolls the job back and comes back to its caller, to be found with
    /// [`downcast_ref`](Self::downcast_ref).
    pub fn job(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        let mut made = Self::new(ErrorKind::Job, "the job gave up");
        made.inner_mut().source = Some(Arc::new(error));
        made
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What happened, without the database, the file, the holder and the next step.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The domain whose database it concerns.
    pub fn database(&self) -> Option<&str> {
        self.0.database.as_deref()
    }

    /// The file it concerns.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The process in the way, where it could be told.
    pub fn holder(&self) -> Option<&Holder> {
        self.0.holder.as_ref()
    }

    /// How long to wait before trying again, where trying again makes sense.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// What to do next, as a sentence for a person.
    pub fn advice(&self) -> Option<&str> {
        self.0.advice.as_deref()
    }

    /// SQLite's extended result code, where SQLite said it (<https://sqlite.org/rescode.html>).
    pub fn sqlite_code(&self) -> Option<i32> {
        self.0.code
    }

    /// The job's own error (see [`Error::job`]) or the underlying one, if it is of this type.
    pub fn downcast_ref<E: std::error::Error + 'static>(&self) -> Option<&E> {
        self.0.source.as_ref().and_then(|source| source.downcast_ref())
    }

    /// True for the kinds that went away by waiting: busy, timeout, full.
    pub fn is_transient(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Busy | ErrorKind::Timeout | ErrorKind::Full)
    }

    fn inner_mut(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.0)
    }

    /// Names the database and its file, unless a nearer place named them already.
    #[must_use]
    pub fn in_database(mut self, name: &str, path: &Path) -> Self {
        if self.0.database.is_none() {
            let inner = self.inner_mut();
            inner.database = Some(name.to_owned());
            if inner.path.is_none() {
                inner.path = Some(path.to_owned());
            }
        }
        self
    }

    /// Names the file, unless a nearer place named one already.
    #[must_use]
    pub fn at_path(mut self, path: &Path) -> Self {
        if self.0.path.is_none() {
            self.inner_mut().path = Some(path.to_owned());
        }
        self
    }

    /// Says what to do next.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<Cow<'static, str>>) -> Self {
        self.inner_mut().advice = Some(advice.into());
        self
    }

    /// Names the process in the way.
    #[must_use]
    pub fn held_by(mut self, holder: Option<Holder>) -> Self {
        self.inner_mut().holder = holder;
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_in(mut self, after: Duration) -> Self {
        self.inner_mut().retry_after = Some(after);
        self
    }

    /// The same error as another kind.
    #[must_use]
    pub fn as_kind(mut self, kind: ErrorKind) -> Self {
        self.inner_mut().kind = kind;
        self
    }

    /// The same error in other words, which hold no user data either.
    #[must_use]
    pub(crate) fn worded(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.inner_mut().message = message.into();
        self
    }

    /// Keeps the underlying error behind [`source`](std::error::Error::source).
    #[must_use]
    pub fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.inner_mut().source = Some(Arc::new(source));
        self
    }

    /// An operating-system error while doing something to a path.
    pub fn io(doing: &'static str, path: &Path, error: std::io::Error) -> Self {
        use std::io::ErrorKind as Os;
        let kind = match error.kind() {
            Os::StorageFull | Os::QuotaExceeded => ErrorKind::Full,
            Os::ReadOnlyFilesystem | Os::PermissionDenied => ErrorKind::ReadOnly,
            Os::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Io,
        };
        let made = Self::new(kind, format!("could not {doing}: {error}")).at_path(path);
        let made = match kind {
            ErrorKind::Full => made.advise("free some space on that disk and try again"),
            ErrorKind::ReadOnly => made.advise(
                "give your user write permission there, choose another home with --home or ROWHOUSE_HOME, \
                 or run without keeping anything: Builder::ephemeral()",
            ),
            _ => made,
        };
        made.caused_by(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        if let Some(database) = &inner.database {
            write!(f, "{database}: ")?;
        }
        match (inner.kind, &inner.source) {
            (ErrorKind::Job, Some(source)) => write!(f, "{source}")?,
            _ => f.write_str(&inner.message)?,
        }
        if let Some(path) = &inner.path {
            write!(f, " ({})", path.display())?;
        }
        if let Some(holder) = &inner.holder {
            write!(f, "; held by {holder}")?;
        }
        if let Some(advice) = &inner.advice {
            write!(f, "; {advice}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {self}", self.0.kind.as_str())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as _)
    }
}

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
    let kind = match failure.code {
        // The -shm file could not grow: the disk is full (<https://sqlite.org/rescode.html#ioerr_shmsize>).
        _ if failure.extended_code == ffi::SQLITE_IOERR_SHMSIZE => ErrorKind::Full,
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => ErrorKind::Busy,
        ErrorCode::OperationInterrupted => ErrorKind::Timeout,
        ErrorCode::DiskFull => ErrorKind::Full,
        ErrorCode::ReadOnly => ErrorKind::ReadOnly,
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => ErrorKind::Corrupt,
        ErrorCode::ConstraintViolation => ErrorKind::Constraint,
        ErrorCode::AuthorizationForStatementDenied => ErrorKind::Unsupported,
        ErrorCode::TooBig
        | ErrorCode::TypeMismatch
        | ErrorCode::ParameterOutOfRange
        | ErrorCode::ApiMisuse
        | ErrorCode::Unknown => ErrorKind::Invalid,
        _ => ErrorKind::Io,
    };
    match kind {
        ErrorKind::Constraint => match text.and_then(|text| constraint_name(failure.extended_code, text)) {
            Some(constraint) => Error::new(kind, format!("{name}: {constraint}")),
            None => Error::new(kind, name),
        },
        ErrorKind::Unsupported => Error::new(kind, format!("{name}: not allowed inside a job")).advise(
            "jobs may not control transactions, attach databases, set pragmas, or create temporary objects",
        ),
        ErrorKind::Timeout => Error::new(kind, "stopped at its deadline"),
        ErrorKind::Full => Error::new(kind, name).advise("free some space on that disk and try again"),
        _ => Error::new(kind, name),
    }
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
