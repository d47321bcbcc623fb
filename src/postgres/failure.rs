//! What an error of the server means: its kind, and whether the transaction is to be run again.
//!
//! | SQLSTATE | means | then |
//! |---|---|---|
//! | 40001, 40P01 | others wrote what it read; a deadlock | the whole transaction again |
//! | 53300 | the server has no place | again, a little later |
//! | 55P03 | a lock was not to be had until the deadline, nearly | `Busy` |
//! | 57P01 to 57P05, 08xxx, 25P03, 25P04, none at all | the connection is lost | another connection, then again |
//! | 25006 | a standby answers | another connection, where there are several hosts |
//! | 26000, 42P05 | a pooler that was not recognised | `Unsupported`, with the setting that helps |
//! | 0A000 of a prepared statement | its table has other columns since | again, on a new connection |
//! | 57014 | the deadline | `Timeout` |
//! | any whose severity is FATAL or PANIC, on a connection that was made | the connection is lost | another connection, then again |
//! | no answer until the deadline | the server or the way to it stands still | the connection is lost; `Timeout` |
//! | others | the caller's, or the server's | told |
//!
//! In answer to a COMMIT only an ERROR whose code is known here says that nothing was committed: what ends the connection may
//! come behind the commit, and a pooler that lost its server says so in words of its own. [`Failure::leaves_open`] tells them
//! apart; to ask once more costs a round trip, to be wrong a write.
//!
//! The server's own texts may quote values, so none of them is passed on: the code, and what is named of the schema.

use tokio_postgres::error::{DbError, Severity};

use crate::error::{Error, ErrorKind};

/// What is to be done about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// It is told.
    Final,
    /// The transaction is over, and may be run again.
    Again,
    /// The same, and what is prepared on the connection is of a schema that has changed.
    Stale,
    /// The connection is gone; what was being committed may be there or not.
    Lost,
}

/// A failure of the server, or of the way to it.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) class: Class,
    pub(super) error: Error,
    pub(super) of_commit: OfCommit,
}

/// What an answer to a COMMIT says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OfCommit {
    /// It was not done.
    Refused,
    /// Nothing.
    Unclear,
    /// Nothing, and the connection ends with it.
    Ended,
}

impl Failure {
    pub(super) fn told(error: Error) -> Self {
        Self { class: Class::Final, error, of_commit: OfCommit::Refused }
    }

    /// Whether what was being committed may be there or not.
    pub(super) fn leaves_open(&self) -> bool {
        self.of_commit != OfCommit::Refused
    }

    /// The connection said nothing more.
    pub(super) fn lost() -> Self {
        Self::of_way(Error::new(ErrorKind::Io, "the connection to the PostgreSQL server was lost"))
    }

    /// The system could not reach the server.
    pub(super) fn unreachable(error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::TimedOut {
            return Self::late();
        }
        Self::of_way(Error::new(ErrorKind::Io, format!("the PostgreSQL server cannot be reached: {error}")))
    }

    /// The time was over before the server answered.
    pub(super) fn late() -> Self {
        Self::of_way(Error::new(ErrorKind::Timeout, "the PostgreSQL server did not answer in time"))
    }

    /// The time was over before the server was asked.
    pub(super) fn over() -> Self {
        Self::told(Error::new(ErrorKind::Timeout, "the deadline passed; nothing was done"))
    }

    /// A server that only answers reads, where one is wanted that takes writes.
    pub(super) fn read_only() -> Self {
        let error = Error::new(ErrorKind::ReadOnly, "this server takes no writes");
        Self { class: Class::Lost, error: error.advise(OTHER_SERVER), of_commit: OfCommit::Ended }
    }

    /// One that takes writes where one is wanted that does not, or the other way round.
    pub(super) fn other_kind(wants_writes: bool) -> Self {
        if wants_writes {
            return Self::read_only();
        }
        Self::of_way(Error::new(ErrorKind::Io, "the PostgreSQL server is not read-only, as its URL asks"))
    }

    fn of_way(error: Error) -> Self {
        let advice = "look whether the server runs, and whether its address is right";
        Self { class: Class::Lost, error: error.advise(advice), of_commit: OfCommit::Ended }
    }

    /// The same when it came from the beginning of a transaction that may write: a standby says that it cannot do that.
    pub(super) fn at_begin(self) -> Self {
        match self.error.kind() {
            ErrorKind::Unsupported => Self { class: self.class, ..Self::read_only() },
            _ => self,
        }
    }

    /// The same when it came on a connection that was made: whatever ends it, the connection is lost. Before, when it is
    /// made, the code says why there is none.
    pub(super) fn on_connection(self) -> Self {
        if self.of_commit == OfCommit::Ended { Self { class: Class::Lost, ..self } } else { self }
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        error.as_db_error().map_or_else(|| of_driver(&error), of_server)
    }
}

const OTHER_SERVER: &str = "name the server that does in the URL, or all of them";

fn of_driver(error: &tokio_postgres::Error) -> Failure {
    // Of the driver's own errors only those of the system have nothing of the caller's in them.
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            return Failure::unreachable(io);
        }
        source = inner.source();
    }
    Failure::lost()
}

fn of_server(error: &DbError) -> Failure {
    let code = error.code().code();
    let of_commit = of_commit(error);
    let (class, kind, what) = match error.routine() {
        // The only place in the server that says so of a statement that it has prepared, in every language.
        Some("RevalidateCachedQuery") => (Class::Stale, ErrorKind::Busy, "the schema has changed"),
        _ => meaning(code).unwrap_or((Class::Final, ErrorKind::Io, "the server failed")),
    };
    let mut message = format!("{what} (SQLSTATE {code}");
    for named in [error.table(), error.column(), error.constraint()].into_iter().flatten() {
        message.push(' ');
        message.push_str(named);
    }
    message.push(')');
    let made = Error::new(kind, message);
    let error = match code {
        "28000" | "28P01" => made.advise("correct the user and the password in the URL of the server"),
        "25006" => made.advise(OTHER_SERVER),
        "26000" | "42P05" => made.advise("say under [state.postgres]: pooler = \"transaction\""),
        "3D000" => made.advise("create the database on the server, or correct its name in the URL"),
        "42P01" | "3F000" => made.advise("open the home again: where its data was moved to is said there"),
        "42501" => made.advise("give the user of the URL the right to create and use its schemas"),
        _ => made,
    };
    Failure { class, error, of_commit }
}

fn of_commit(error: &DbError) -> OfCommit {
    // The word that is the same in every language is one that poolers leave out.
    let is_error = match error.parsed_severity() {
        Some(severity) => severity == Severity::Error,
        None => error.severity() == "ERROR",
    };
    match meaning(error.code().code()) {
        _ if !is_error => OfCommit::Ended,
        None | Some((Class::Lost, ..)) => OfCommit::Unclear,
        Some(_) => OfCommit::Refused,
    }
}

/// `None` for a code that nothing is known of.
fn meaning(code: &str) -> Option<(Class, ErrorKind, &'static str)> {
    use Class::{Again, Final, Lost};
    Some(match code {
        "40001" | "40P01" => (Again, ErrorKind::Busy, "others go on writing what this needs"),
        "55P03" => (Final, ErrorKind::Busy, "another connection held a lock for too long"),
        "53300" => (Again, ErrorKind::Busy, "the server has no connection free"),
        "57014" => (Final, ErrorKind::Timeout, "the server stopped the statement"),
        "57P04" | "3D000" => (Final, ErrorKind::NotFound, "the server has no such database"),
        "57P03" => (Lost, ErrorKind::Busy, "the server is starting, stopping or recovering"),
        "25P03" | "25P04" | "57P01" | "57P02" | "57P05" => {
            (Lost, ErrorKind::Io, "the server ended the connection")
        }
        "25006" => (Final, ErrorKind::ReadOnly, "this server takes no writes"),
        "28000" | "28P01" => (Final, ErrorKind::Invalid, "the server refused the user or the password"),
        "42501" => (Final, ErrorKind::ReadOnly, "the server's user lacks a permission"),
        "26000" | "42P05" => {
            (Final, ErrorKind::Unsupported, "something before the server mixes up prepared statements")
        }
        "53100" | "53200" | "53400" => (Final, ErrorKind::Full, "the server has no room"),
        "XX001" | "XX002" => (Final, ErrorKind::Corrupt, "the server found damaged data"),
        "42P01" | "3F000" => (Final, ErrorKind::NotFound, "the server has no such table"),
        "0A000" => (Final, ErrorKind::Unsupported, "the server cannot do it"),
        _ if code.starts_with("08") => (Lost, ErrorKind::Io, "the connection to the server was lost"),
        _ if code.starts_with("23") => {
            (Final, ErrorKind::Constraint, "a constraint of the schema refused it")
        }
        _ if ["22", "42", "54"].iter().any(|class| code.starts_with(class)) => {
            (Final, ErrorKind::Invalid, "the server refused a statement or a value")
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_run_again_and_what_may_not() {
        for (code, class, kind) in [
            ("40001", Class::Again, ErrorKind::Busy),
            ("40P01", Class::Again, ErrorKind::Busy),
            ("55P03", Class::Final, ErrorKind::Busy),
            ("53300", Class::Again, ErrorKind::Busy),
            ("57P01", Class::Lost, ErrorKind::Io),
            ("25P04", Class::Lost, ErrorKind::Io),
            ("08006", Class::Lost, ErrorKind::Io),
            ("57014", Class::Final, ErrorKind::Timeout),
            ("23505", Class::Final, ErrorKind::Constraint),
            ("28P01", Class::Final, ErrorKind::Invalid),
            ("22P02", Class::Final, ErrorKind::Invalid),
            ("XX001", Class::Final, ErrorKind::Corrupt),
            ("42P01", Class::Final, ErrorKind::NotFound),
        ] {
            let (found, its, _) = meaning(code).expect(code);
            assert_eq!((found, its), (class, kind), "{code}");
        }
        assert_eq!(meaning("99999"), None);
    }
}
