//! What a power cut would leave of files: a disk that has what was synced, and nothing else.
//!
//! Between two syncs a file's writes are only in the kernel's cache. A sync that succeeds brings them to the disk. After one
//! that fails the kernel takes them for written, so that no later sync brings them there; only writing them again does
//! (<https://wiki.postgresql.org/wiki/Fsync_Errors>).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A disk that keeps the files of one database from now on, until this is dropped.
pub struct Disk(PathBuf);

/// By path.
static FILES: Mutex<BTreeMap<String, Kept>> = Mutex::new(BTreeMap::new());

#[derive(Default)]
struct Kept {
    on_disk: Vec<u8>,
    /// What was written since the last sync, and where.
    in_cache: Vec<(usize, Vec<u8>)>,
}

fn files() -> MutexGuard<'static, BTreeMap<String, Kept>> {
    FILES.lock().unwrap_or_else(PoisonError::into_inner)
}

const ENDINGS: [&str; 2] = ["", "-wal"];

fn names(database: &Path) -> impl Iterator<Item = String> {
    let name = database.to_str().expect("a plain path").to_owned();
    ENDINGS.into_iter().map(move |ending| format!("{name}{ending}"))
}

impl Disk {
    /// Everything that the files hold now is on it. Nobody has them open.
    #[allow(clippy::disallowed_methods, reason = "a test looks at files from outside")]
    pub fn of(database: &Path) -> Self {
        super::install();
        for name in names(database) {
            let on_disk = std::fs::read(&name).unwrap_or_default();
            files().insert(name, Kept { on_disk, in_cache: Vec::new() });
        }
        Self(database.to_owned())
    }

    /// What is there after a power cut, as files of the same names in `folder`; answers the database.
    #[allow(clippy::disallowed_methods, reason = "a test looks at files from outside")]
    pub fn after_a_power_cut(&self, folder: &Path) -> PathBuf {
        let main = folder.join(self.0.file_name().expect("a file"));
        for (from, to) in names(&self.0).zip(names(&main)) {
            std::fs::write(to, &files()[&from].on_disk).expect("written");
        }
        main
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for name in names(&self.0) {
            files().remove(&name);
        }
    }
}

pub(super) fn written(name: &str, at: i64, bytes: &[u8]) {
    if let Some(kept) = files().get_mut(name) {
        kept.in_cache.push((usize::try_from(at).expect("an offset"), bytes.to_vec()));
    }
}

pub(super) fn truncated(name: &str, length: i64) {
    let length = usize::try_from(length).expect("a length");
    if let Some(kept) = files().get_mut(name) {
        kept.on_disk.truncate(length);
        kept.in_cache.retain(|(at, _)| *at < length);
    }
}

/// A sync has ended.
pub(super) fn synced(name: &str, fine: bool) {
    let mut files = files();
    let Some(kept) = files.get_mut(name) else { return };
    let in_cache = std::mem::take(&mut kept.in_cache);
    for (at, bytes) in in_cache.into_iter().filter(|_| fine) {
        let end = at + bytes.len();
        if kept.on_disk.len() < end {
            kept.on_disk.resize(end, 0);
        }
        kept.on_disk[at..end].copy_from_slice(&bytes);
    }
}
