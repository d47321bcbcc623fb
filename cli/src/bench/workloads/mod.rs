//! What is measured: who writes, what a row is, and the loops around it. Knows nothing of arguments and tables, so
//! that the criterion benches of the library run the same code.

pub(crate) mod bulk;
pub(crate) mod callers;
pub(crate) mod goals;
pub(crate) mod histogram;
pub(crate) mod opens;
pub(crate) mod reads;
pub(crate) mod storm;
pub(crate) mod subjects;

use std::path::Path;

use rowhouse::rusqlite::{Connection, OpenFlags};
use rowhouse::{Error, ErrorKind, Result};

/// The table of every database here.
pub(crate) const SCHEMA: &str = "CREATE TABLE item(id INTEGER PRIMARY KEY, k TEXT, v TEXT, ts INTEGER)";
/// One row, about 200 bytes with its key and header.
pub(crate) const INSERT: &str = "INSERT INTO item(k, v, ts) VALUES (?1, ?2, ?3)";
/// One row by key.
pub(crate) const SELECT: &str = "SELECT v FROM item WHERE id = ?1";
/// What each row holds in `k`.
pub(crate) const KEY: &str = "key";
/// What each row holds in `v`: 192 bytes.
pub(crate) const VALUE: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\
                                0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\
                                0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// What an acknowledged commit survives, in SQLite's own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Synchronous {
    Full,
    Normal,
}

impl Synchronous {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Normal => "normal",
        }
    }
}

/// Compares what a file holds with what was acknowledged; call it when the subject is closed.
///
/// # Errors
/// `Corrupt` when the two differ; of SQLite.
pub(crate) fn verify(database: &Path, acknowledged: u64) -> Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    #[expect(clippy::disallowed_methods, reason = "looks at the file from outside of what is measured")]
    let connection = Connection::open_with_flags(database, flags)?;
    let held: i64 = connection.query_row("SELECT count(*) FROM item", [], |row| row.get(0))?;
    if held as u64 == acknowledged {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Corrupt,
        format!("{acknowledged} writes were acknowledged, the file holds {held} rows"),
    )
    .at_path(database)
    .advise("do not trust this run: report it together with the file"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn both_openers_open_the_same_home_also_beside_a_holder() {
        use opens::Opener;
        let home = tempfile::tempdir().expect("a folder");
        Opener::Rowhouse.time(home.path()).expect("it is created");
        let names = opens::DOMAINS.map(|(name, _)| name.to_owned());
        let held = opens::hold(home.path(), &names).expect("four write transactions");
        Opener::Rowhouse.time(home.path()).expect("it opens");
        Opener::Plain.time(home.path()).expect("it opens");
        drop(held);
    }

    #[test]
    fn every_subject_acknowledges_what_its_file_then_holds_and_a_missing_row_is_an_error() {
        use subjects::Kind;
        let folder = tempfile::tempdir().expect("a folder");
        for kind in [Kind::Rowhouse, Kind::Pool, Kind::Mutex, Kind::Raw] {
            let folder = folder.path().join(kind.as_str());
            let subject = kind.open(&folder, "bench", Synchronous::Normal).expect("it opens");
            let callers = if kind == Kind::Raw { 1 } else { 3 };
            let seen = callers::insert_for(&subject, callers, Duration::from_millis(30)).expect("it writes");
            drop(subject);
            let file = kind.file(&folder, "bench");
            verify(&file, seen.ops).expect("all rows are there");
            let lost = verify(&file, seen.ops + 1).expect_err("one row less than acknowledged");
            assert_eq!(lost.kind(), ErrorKind::Corrupt);
        }
    }
}
