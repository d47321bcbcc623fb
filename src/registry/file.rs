//! `registry.json`: `{"databases": {"<name>": {"role", "durability", "schema_version", "program",
//! "program_version", "written_at", ...}}, ...}`.
//!
//! Invariants: fields and entries that this version does not know are kept; the file changes only under
//! `locks/registry.lock`, by replacement.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind as Os, Read};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::RegistryEntry;
use crate::error::{Error, ErrorKind, Result};
use crate::home::{PreparedHome, open_lock_file, open_to_read, write_atomically};
use crate::sqlite::holders::flock_holder;

const DATABASES: &str = "databases";
const LOCK: &str = "registry.lock";
const LOCK_WAIT: Duration = Duration::from_secs(1);
/// No honest registry comes near; a larger file is damaged.
const MOST_BYTES: u64 = 1 << 20;
/// Damaged files that are kept; a further one replaces the last.
const BAD_FILES: u32 = 8;

/// The whole file; empty when there is none.
///
/// # Errors
/// `Corrupt` when it is not what this module writes; `ReadOnly` or `Io` from the system.
pub(super) fn read(path: &Path) -> Result<Map<String, Value>> {
    let failed = |error| Error::io("read the registry", path, error);
    let mut bytes = Vec::new();
    match open_to_read(path) {
        Ok(file) => file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?,
        Err(error) if error.kind() == Os::NotFound => return Ok(Map::new()),
        Err(error) => return Err(failed(error)),
    };
    let damaged = || {
        Error::new(ErrorKind::Corrupt, "the registry is damaged; databases are not affected")
            .at_path(path)
            .advise("it is set aside and written anew when a runtime opens this home")
    };
    if bytes.len() as u64 > MOST_BYTES {
        return Err(damaged());
    }
    let content: Map<String, Value> =
        serde_json::from_slice(&bytes).map_err(|error| damaged().caused_by(error))?;
    let sound = match content.get(DATABASES) {
        None => true,
        Some(Value::Object(entries)) => entries.values().all(Value::is_object),
        Some(_) => false,
    };
    if sound { Ok(content) } else { Err(damaged()) }
}

/// The names that have an entry.
pub(super) fn names(content: &Map<String, Value>) -> impl Iterator<Item = &str> {
    content.get(DATABASES).and_then(Value::as_object).into_iter().flat_map(Map::keys).map(String::as_str)
}

/// The entry of a database.
pub(super) fn entry<'a>(content: &'a Map<String, Value>, name: &str) -> Option<&'a Map<String, Value>> {
    content.get(DATABASES)?.get(name)?.as_object()
}

/// One field, if it is there and fits.
pub(super) fn field<T: serde::de::DeserializeOwned>(entry: &Map<String, Value>, name: &str) -> Option<T> {
    T::deserialize(entry.get(name)?).ok()
}

/// Merges entries into the registry of a home.
///
/// # Errors
/// As for `RuntimeDbRegistry::record`.
pub(super) fn merge(home: &PreparedHome, entries: &[RegistryEntry]) -> Result<()> {
    let path = home.registry_path();
    if read(&path).is_ok_and(|content| entries.iter().all(|entry| says(&content, entry))) {
        return Ok(());
    }
    let _lock = lock(&home.lock_path(LOCK))?;
    let mut content = match read(&path) {
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            set_aside(&path)?;
            Map::new()
        }
        read => read?,
    };
    for entry in entries {
        if !says(&content, entry) {
            put(&mut content, entry);
        }
    }
    let mut bytes = serde_json::to_vec_pretty(&content)
        .map_err(|error| Error::new(ErrorKind::Invalid, "the registry is not JSON").caused_by(error))?;
    bytes.push(b'\n');
    write_atomically(&path, &bytes)
}

/// The fields of an entry, its time excepted.
fn fields(entry: &RegistryEntry) -> [(&'static str, Value); 5] {
    let (program, version) = entry.program.clone().unzip();
    [
        ("role", json!(entry.role)),
        ("durability", json!(entry.durability)),
        ("schema_version", json!(entry.schema_version)),
        ("program", json!(program)),
        ("program_version", json!(version)),
    ]
}

/// True when the registry holds this already.
fn says(content: &Map<String, Value>, wanted: &RegistryEntry) -> bool {
    let null = Value::Null;
    entry(content, &wanted.name).is_some_and(|found| {
        let same = |name: &str, value: &Value| found.get(name).unwrap_or(&null) == value;
        fields(wanted).iter().all(|(name, value)| same(name, value))
            && wanted.written_at.as_ref().is_none_or(|time| same("written_at", &json!(time)))
    })
}

fn put(content: &mut Map<String, Value>, entry: &RegistryEntry) {
    let databases = content.entry(DATABASES).or_insert_with(|| Value::Object(Map::new()));
    if !databases.is_object() {
        *databases = Value::Object(Map::new());
    }
    let found = &mut databases[&entry.name];
    if !found.is_object() {
        *found = Value::Object(Map::new());
    }
    for (name, value) in fields(entry) {
        found[name] = value;
    }
    found["written_at"] =
        json!(entry.written_at.clone().unwrap_or_else(|| jiff::Timestamp::now().to_string()));
}

/// Moves a damaged registry out of the way, to the first free `registry.json.bad-<n>`.
fn set_aside(path: &Path) -> Result<()> {
    let name = |number| crate::home::with_ending(path, &format!(".bad-{number}"));
    let number = (1..BAD_FILES).find(|number| !name(*number).exists()).unwrap_or(BAD_FILES);
    fs::rename(path, name(number)).map_err(|error| Error::io("set the damaged registry aside", path, error))
}

/// Takes the registry's lock. There is no lock with a time limit: a helper thread waits for it, and gives it
/// back at once when it comes too late.
fn lock(path: &Path) -> Result<File> {
    let failed = |error| Error::io("lock the registry", path, error);
    let file = open_lock_file(path)?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("rowhouse-lock".to_owned())
        .spawn(move || {
            let locked = file.lock().map(|()| file);
            // A receiver that gave up makes this fail, which drops the file and with it the lock.
            let _ = sender.try_send(locked);
        })
        .map_err(failed)?;
    match receiver.recv_timeout(LOCK_WAIT) {
        Ok(locked) => locked.map_err(failed),
        Err(_) => Err(Error::new(ErrorKind::Busy, "another process keeps the registry locked")
            .at_path(path)
            .held_by(flock_holder(path))
            .advise("continue or end that process")),
    }
}
