//! One cloneable error, by kind, naming the database, the file, the holder and the next step.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::sqlite::holders::Holder;

mod sqlite;

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
    /// Every kind, in the order of their declaration.
    pub(crate) const ALL: [Self; 19] = [
        Self::Busy,
        Self::Timeout,
        Self::OutcomeUnknown,
        Self::Full,
        Self::ReadOnly,
        Self::Replaced,
        Self::Corrupt,
        Self::SchemaTooNew,
        Self::Latched,
        Self::Closed,
        Self::Reentrant,
        Self::NotFound,
        Self::Conflict,
        Self::Invalid,
        Self::Constraint,
        Self::Unsupported,
        Self::Job,
        Self::Panicked,
        Self::Io,
    ];

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

    /// What to do next where the error itself says nothing nearer. A damaged file is the only reason to bring an older
    /// one back; what is the caller's own has no general answer.
    fn usual_advice(self) -> Option<&'static str> {
        Some(match self {
            Self::Busy => "try again, or end the process that holds it",
            Self::Timeout => "try again, or give it a longer deadline",
            Self::OutcomeUnknown => "look whether the change is there before doing it again",
            Self::Full => "free some space on that disk, or raise the quota, and try again",
            Self::ReadOnly => {
                "give your user write permission to the file and its folder, or choose another home"
            }
            Self::Replaced => "stop whatever replaces it, then call reopen() or start the program again",
            Self::Corrupt => {
                "keep a copy of the file and of those beside it (-wal, -shm), then restore it from a backup"
            }
            Self::SchemaTooNew => "install the version of the program that wrote it, or a newer one",
            Self::Latched => "check the disk, then call reopen()",
            Self::Closed => "open the runtime again",
            Self::Io => "look at the disk and at the system's log, then try again",
            Self::Reentrant
            | Self::NotFound
            | Self::Conflict
            | Self::Invalid
            | Self::Constraint
            | Self::Unsupported
            | Self::Job
            | Self::Panicked => return None,
        })
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
        self.0.advice.as_deref().or_else(|| self.0.kind.usual_advice())
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
        let made = Self::new(kind, format!("could not {doing}: {}", without_temporary(&error))).at_path(path);
        let no_descriptor = matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
        let made = match kind {
            _ if no_descriptor => made.advise("close files, or raise the limit of open files (ulimit -n)"),
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

/// What the system said, without the name of a temporary file, which `tempfile` adds: nobody asked for that file.
fn without_temporary(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" at path \"") {
        Some((said, _)) if error.raw_os_error().is_none() => said.to_owned(),
        _ => text,
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
        if let Some(advice) = self.advice() {
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
