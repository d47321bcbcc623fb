//! Puts a rewritten file in place of a database's old one.

use std::time::Instant;

use super::{CompactReport, CompactedDatabase, MaintainOptions, MaintainProgress, MaintainStep, OnProgress};
use crate::backup::unfinished::Unfinished;
use crate::backup::{check, finish_alone};
use crate::error::{Error, ErrorKind, Result};
use crate::home::{self, PreparedHome};
use crate::move_backend::marker::refuse_cutting_over;
use crate::presence::Alone;
use crate::presence::live::{refuse_live, who_is_there};
use crate::sqlite::compact::Original;
use crate::sqlite::connect::{Spec, lock_until};

/// How the folder is named in which a new file is written.
const UNFINISHED: &str = ".compact-unfinished-";
/// Free space that must be left over.
const SPARE: u64 = 1 << 20;
/// What somebody who has a database open keeps from being done to it.
const COMPACTED: &str = "compacted";

/// # Errors
/// As [`Builder::compact`](crate::Builder::compact).
pub(crate) fn compact(
    home: &PreparedHome,
    specs: Vec<Spec>,
    options: &MaintainOptions,
    progress: &mut OnProgress<'_>,
) -> Result<CompactReport> {
    let names: Vec<_> = specs.iter().map(|spec| spec.domain.name().to_owned()).collect();
    let Some(alone) = Alone::try_enter(home)? else {
        return Err(who_is_there(home, &names, COMPACTED));
    };
    finish_alone(home, &alone)?;
    refuse_cutting_over(home)?;
    refuse_live(home, &names, COMPACTED)?;
    let mut report = CompactReport { home: home.path().to_owned(), databases: Vec::new() };
    for spec in specs {
        report.databases.push(one(home, &spec, options, progress)?);
    }
    Ok(report)
}

fn one(
    home: &PreparedHome,
    spec: &Spec,
    options: &MaintainOptions,
    progress: &mut OnProgress<'_>,
) -> Result<CompactedDatabase> {
    let name = spec.domain.name().to_owned();
    let named = |error: Error| error.in_database(&name, &spec.path);
    let length = || std::fs::symlink_metadata(&spec.path).map_or(0, |found| found.len());
    let bytes_before = length();
    let mut original = Original::open(spec, options.wait)?;
    home::refuse_too_full(original.bytes.saturating_add(SPARE), home.path(), "compacting").map_err(named)?;
    let staging = Unfinished::begin(home.path(), UNFINISHED)?;
    let file = staging.path().join(format!("{name}.sqlite"));
    drop(home::create_private_file(&file)?);
    original.rewrite(&file, &mut |bytes_done, bytes_total| {
        let (database, step) = (name.as_str(), MaintainStep::Rewriting);
        progress(&MaintainProgress { database, step, bytes_done, bytes_total });
    })?;
    let rows = check(&original, &file, spec).map_err(named)?;
    staging.sync()?;
    original.close().map_err(named)?;
    let _init = lock_until(&spec.init_lock, Instant::now() + options.wait).map_err(named)?;
    // Who opened it meanwhile without this library would go on in a file that is not at its path any more.
    refuse_live(home, std::slice::from_ref(&name), COMPACTED)?;
    put_in_place(home, spec, &file).map_err(named)?;
    Ok(CompactedDatabase { bytes: length(), path: spec.path.clone(), name, bytes_before, rows })
}

/// Checks the new file, compares it with the old one, and makes it durable; answers how many rows it has.
fn check(original: &Original, file: &std::path::Path, spec: &Spec) -> Result<u64> {
    let content = check::content(file, &spec.domain)?;
    let number = |pragma: &str| {
        original
            .connection()
            .pragma_query_value(None, pragma, |row| row.get::<_, i32>(0))
            .map(i32::cast_unsigned)
    };
    let same = content.rows == check::rows(original.connection())?
        && content.application_id == number("application_id")?
        && content.user_version == number("user_version")?;
    if !same {
        return Err(Error::new(ErrorKind::Corrupt, "what was written is not what the database holds")
            .advise("nothing was changed; run `rowhouse backup`, and look at the disk"));
    }
    let durable = |error| Error::io("make the new file durable", file, error);
    check::open_copy(file).map_err(durable)?.sync_all().map_err(durable)?;
    Ok(content.rows.values().sum())
}

/// The log and its index go first: the old file holds everything, and they do not belong to the new one.
fn put_in_place(home: &PreparedHome, spec: &Spec, file: &std::path::Path) -> Result<()> {
    for ending in ["-wal", "-shm"] {
        let beside = home::with_ending(&spec.path, ending);
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove the empty log", &beside, error));
            }
            _ => {}
        }
    }
    home::sync_folder(home.path())?;
    std::fs::rename(file, &spec.path)
        .map_err(|error| Error::io("put the new file in place of", &spec.path, error))?;
    home::sync_folder(home.path())
}
