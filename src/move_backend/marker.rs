//! What stays in a home whose data went elsewhere: `<domain>.moved.json`, in the place of the file.
//!
//! Invariants:
//! 1. A domain that has the mark and no file is not opened as a file, which would be a new, empty one beside the data
//!    that was moved. Programs that were built without servers know the mark too.
//! 2. Nor is it taken for one that is not there yet: whoever would read, change, copy or restore it is refused with where its
//!    data is, and both ways on (`cli/tests/moved_away.rs`).

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

#[cfg(feature = "agent")]
use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};
use crate::home::{self, PreparedHome};

/// There from before the cut-over until nothing is left to be done.
const INTENT: &str = "move.json";

/// Where a home keeps what moves put aside, and what they did.
#[cfg(feature = "agent")]
pub(crate) const KEPT: &str = "moved";

/// Where a domain's data went.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Marker {
    /// Of the layout.
    pub(crate) version: u32,
    /// The move.
    pub(crate) id: String,
    /// The server, without user and password.
    pub(crate) moved_to: String,
    /// When, in RFC 3339.
    pub(crate) at: String,
    /// Where the file is now.
    pub(crate) kept: PathBuf,
}

/// The layout written here.
#[cfg(feature = "postgres")]
pub(super) const LAYOUT: u32 = 1;

pub(super) fn intent_of(home: &PreparedHome) -> PathBuf {
    home.path().join(INTENT)
}

/// True when a move of this home is in its cut-over, or was broken off in it.
pub(crate) fn is_cutting_over(home: &PreparedHome) -> bool {
    fs::symlink_metadata(intent_of(home)).is_ok()
}

/// Refuses to change databases of a home whose move was broken off.
///
/// # Errors
/// `Busy`.
pub(crate) fn refuse_cutting_over(home: &PreparedHome) -> Result<()> {
    if !is_cutting_over(home) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Busy, "a move of this home to another backend was broken off in its cut-over")
        .at_path(home.path())
        .advise("run `rowhouse migrate-backend --to` as before, or open the home once: either finishes it"))
}

/// What `move.json` says to whoever only looks.
#[cfg(feature = "agent")]
#[derive(Debug, Deserialize)]
pub(crate) struct CutOver {
    /// `postgres` or `sqlite`.
    pub(crate) to: String,
    /// The server, without user and password.
    pub(crate) server: String,
    /// What is moved.
    pub(crate) domains: Vec<String>,
}

/// The move of this home that is in its cut-over, or was broken off in it.
///
/// # Errors
/// `Corrupt` when it cannot be understood; of the system.
#[cfg(feature = "agent")]
pub(crate) fn cut_over(home: &PreparedHome) -> Result<Option<CutOver>> {
    #[derive(Deserialize)]
    struct Whole {
        report: CutOver,
    }
    let path = intent_of(home);
    let text = match home::read_file(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read the move under way", &path, error)),
    };
    serde_json::from_slice::<Whole>(&text).map(|whole| Some(whole.report)).map_err(|_| damaged(&path))
}

/// Nobody can tell what `move.json` was about.
#[cfg(feature = "agent")]
pub(super) fn damaged(path: &Path) -> Error {
    Error::new(ErrorKind::Corrupt, "a move was broken off, and its description is damaged")
        .at_path(path)
        .advise("the table rowhouse_move on the server says whether it was done: see docs/operations.md")
}

const ENDING: &str = ".moved.json";

fn path_of(home: &Path, domain: &str) -> PathBuf {
    home.join(format!("{domain}{ENDING}"))
}

/// The domains of a home that have the mark, by name; `None` beside one whose mark cannot be understood.
#[cfg(feature = "agent")]
pub(crate) fn marked(home: &PreparedHome) -> Vec<(String, Option<Marker>)> {
    let entries = fs::read_dir(home.path()).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let name = entry.file_name().to_str()?.strip_suffix(ENDING)?.to_owned();
            Domain::new(&*name).check().ok()?;
            let marker =
                home::read_file(entry.path()).ok().and_then(|text| serde_json::from_slice(&text).ok());
            Some((name, marker))
        })
        .collect();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

/// Where the data of a domain is that has the mark and no file: the server, and when it went there. `None` for a domain
/// whose file is here, or whose data never went.
///
/// # Errors
/// Of the system when its mark cannot be read.
pub(crate) fn gone_to(home: &PreparedHome, domain: &str) -> Result<Option<String>> {
    let path = path_of(home.path(), domain);
    let mark = home::read_file(&path);
    // The database is not looked at where there is no mark: it may be on a mount that answers nobody.
    if mark.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        || fs::symlink_metadata(home.database_path(domain)).is_ok()
    {
        return Ok(None);
    }
    let text = mark.map_err(|error| Error::io("read the mark of a move", &path, error))?;
    Ok(Some(serde_json::from_slice::<Marker>(&text).map_or_else(
        |_| "a PostgreSQL server".to_owned(),
        |marker| format!("{} at {}", marker.moved_to, marker.at),
    )))
}

/// Refuses a domain whose file was moved away, for whoever was told to use a file: a new one in its place would be a second
/// truth, and to say that there is none would hide the first. While a move is in its cut-over nobody is: opening the home
/// finishes that first.
///
/// # Errors
/// `Conflict`, saying where its data is; of the system when its mark cannot be read.
pub(crate) fn refuse_moved(home: &PreparedHome, domain: &str) -> Result<()> {
    let Some(place) = gone_to(home, domain)? else { return Ok(()) };
    if is_cutting_over(home) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Conflict, format!("its data was moved to {place}"))
        .in_database(domain, &home.database_path(domain))
        .advise(format!(
            "write backend = \"postgres\" under [{domain}] in the home's config.toml, or bring it back with `rowhouse \
             migrate-backend --to sqlite`; to begin anew without it, remove {}",
            path_of(home.path(), domain).display()
        )))
}

#[cfg(feature = "postgres")]
impl Marker {
    /// Leaves it in a home.
    pub(super) fn leave(&self, home: &Path, domain: &str) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).expect("texts and numbers are JSON");
        home::write_atomically(&path_of(home, domain), &text)
    }

    /// Takes it out: the data is back.
    pub(super) fn take(home: &Path, domain: &str) -> Result<()> {
        let path = path_of(home, domain);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("remove the mark of the move", &path, error))
            }
            _ => Ok(()),
        }
    }
}
