//! What a power cut would leave of files: a disk that has what was synced, and nothing else.
//!
//! Between two syncs a file's writes are only in the kernel's cache. A sync that succeeds brings them to the disk. After one
//! that fails the kernel takes them for written, so that no later sync brings them there; only writing them again does
//! (<https://wiki.postgresql.org/wiki/Fsync_Errors>).
//!
//! That a file was cut is on the disk with the next sync, too; a file system may write it down at any time before. So there
//! are two disks, and what is promised has to hold on both ([`Cuts`]).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A disk that keeps the files of one database from now on, until this is dropped.
pub struct Disk(PathBuf);

/// By path.
static FILES: Mutex<BTreeMap<String, Kept>> = Mutex::new(BTreeMap::new());

/// When the disk learns that a file was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cuts {
    AtOnce,
    /// With the next sync that succeeds.
    Synced,
}

impl Cuts {
    pub const ALL: [Self; 2] = [Self::AtOnce, Self::Synced];
}

#[derive(Default)]
struct Kept {
    /// For each of [`Cuts`].
    on_disk: [Vec<u8>; 2],
    /// What was done since the last sync.
    in_cache: Vec<Change>,
}

enum Change {
    Written(usize, Vec<u8>),
    Cut(usize),
}

impl Change {
    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Self::Cut(length) => file.truncate(*length),
            Self::Written(at, bytes) => {
                let end = at + bytes.len();
                if file.len() < end {
                    file.resize(end, 0);
                }
                file[*at..end].copy_from_slice(bytes);
            }
        }
    }
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
            files().insert(name, Kept { on_disk: [on_disk.clone(), on_disk], in_cache: Vec::new() });
        }
        Self(database.to_owned())
    }

    /// What is there after a power cut, as files of the same names in `folder`; answers the database.
    #[allow(clippy::disallowed_methods, reason = "a test looks at files from outside")]
    pub fn after_a_power_cut(&self, folder: &Path, cuts: Cuts) -> PathBuf {
        let main = folder.join(self.0.file_name().expect("a file"));
        for (from, to) in names(&self.0).zip(names(&main)) {
            std::fs::write(to, &files()[&from].on_disk[cuts as usize]).expect("written");
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
        kept.in_cache.push(Change::Written(usize::try_from(at).expect("an offset"), bytes.to_vec()));
    }
}

pub(super) fn truncated(name: &str, length: i64) {
    let length = usize::try_from(length).expect("a length");
    if let Some(kept) = files().get_mut(name) {
        let cut = Change::Cut(length);
        cut.apply(&mut kept.on_disk[Cuts::AtOnce as usize]);
        kept.in_cache.push(cut);
    }
}

/// A sync has ended.
pub(super) fn synced(name: &str, fine: bool) {
    let mut files = files();
    let Some(kept) = files.get_mut(name) else { return };
    for change in std::mem::take(&mut kept.in_cache).into_iter().filter(|_| fine) {
        kept.on_disk.iter_mut().for_each(|file| change.apply(file));
    }
}
