//! Which process has which file open, and which locks on it: one pass over `/proc/PID/fd` (`proc_pid_fd(5)`) and, for
//! the files that are looked for, `/proc/PID/fdinfo`.
//!
//! Invariants: nothing is opened but folders of `/proc`; a file is compared by device and inode, not by its path, which
//! another mount may spell differently; only a descriptor whose last name is one of those looked for is followed by
//! `stat`, so a network file system that hangs holds nobody up; a process that cannot be looked at is counted, not
//! passed over.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind as Os;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::locks::{FileId, Lock};
use crate::processes::{self, ProcessStat, ProcessState};

const PROC: &str = "/proc";
/// What the kernel writes after the path of a file that has none any more.
const DELETED: &[u8] = b" (deleted)";

/// What is looked for.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Files by what they are, with the last part of their names.
    files: BTreeSet<FileId>,
    names: BTreeSet<OsString>,
}

impl Wanted {
    /// Looks for this file too, if there is one.
    pub(super) fn add(&mut self, file: &Path) -> Option<FileId> {
        let id = FileId::of(file)?;
        self.names.insert(file.file_name()?.to_owned());
        self.files.insert(id);
        Some(id)
    }
}

/// What a pass found.
#[derive(Debug, Default)]
pub(super) struct OpenFiles {
    /// By file and process: how many descriptors.
    pub(super) open: HashMap<FileId, BTreeMap<u32, u32>>,
    /// By file: the locks that these processes hold.
    pub(super) locks: HashMap<FileId, Vec<Lock>>,
    /// Files without a name, by what they are.
    pub(super) deleted: BTreeMap<FileId, Deleted>,
    /// Processes whose descriptors may not be seen.
    pub(super) unreadable: BTreeSet<u32>,
}

/// A file that was deleted and still is open somewhere.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Deleted {
    /// Its last path.
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) pids: BTreeSet<u32>,
}

/// Looks at all processes; where a folder is given, also for files that were deleted below it. `None` where there is no `/proc`.
pub(super) fn look(wanted: &Wanted, folder: Option<&Path>) -> Option<OpenFiles> {
    let mut found = OpenFiles::default();
    for entry in fs::read_dir(PROC).ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let refused =
            found.add_process(pid, wanted, folder).is_err_and(|error| error.kind() == Os::PermissionDenied);
        if refused && processes::stat(pid).is_none_or(may_have_files) {
            found.unreadable.insert(pid);
        }
    }
    Some(found)
}

fn may_have_files(process: ProcessStat) -> bool {
    !process.is_kernel() && process.state() != ProcessState::Ended
}

impl OpenFiles {
    fn add_process(&mut self, pid: u32, wanted: &Wanted, folder: Option<&Path>) -> std::io::Result<()> {
        for entry in fs::read_dir(format!("{PROC}/{pid}/fd"))? {
            let descriptor = entry?.path();
            let target = match fs::read_link(&descriptor) {
                Ok(target) => target,
                Err(error) if error.kind() == Os::PermissionDenied => return Err(error),
                // Closed meanwhile.
                Err(_) => continue,
            };
            match Target::of(&target, wanted, folder) {
                Target::Other => {}
                Target::Wanted => self.add_open(pid, &descriptor, wanted),
                Target::Deleted(path) => self.add_deleted(pid, &descriptor, &target, path),
            }
        }
        Ok(())
    }

    fn add_open(&mut self, pid: u32, descriptor: &Path, wanted: &Wanted) {
        let Ok(found) = fs::metadata(descriptor) else { return };
        let id = FileId::from(&found);
        if wanted.files.contains(&id) {
            *self.open.entry(id).or_default().entry(pid).or_default() += 1;
            let number = descriptor.file_name().and_then(OsStr::to_str).unwrap_or_default();
            self.locks.entry(id).or_default().extend(Lock::of_descriptor(pid, number));
        }
    }

    fn add_deleted(&mut self, pid: u32, descriptor: &Path, target: &Path, path: &Path) {
        let Ok(found) = fs::metadata(descriptor) else { return };
        let id = FileId::from(&found);
        // A folder takes no space that matters; and a file may really be called `x (deleted)`.
        if found.is_file() && FileId::of(target) != Some(id) {
            let deleted = self.deleted.entry(id).or_insert_with(|| Deleted {
                path: path.to_owned(),
                // What still has a name elsewhere (a hard link) is not freed by closing it.
                bytes: if found.nlink() == 0 { found.len() } else { 0 },
                pids: BTreeSet::new(),
            });
            deleted.pids.insert(pid);
        }
    }
}

/// What a descriptor's link says.
#[derive(Debug, PartialEq, Eq)]
enum Target<'p> {
    /// It may be a file that is looked for.
    Wanted,
    /// A file that was deleted below the folder, with its last path.
    Deleted(&'p Path),
    Other,
}

impl<'p> Target<'p> {
    fn of(link: &'p Path, wanted: &Wanted, folder: Option<&Path>) -> Self {
        if link.file_name().is_some_and(|name| wanted.names.contains(name)) {
            return Self::Wanted;
        }
        match link.as_os_str().as_bytes().strip_suffix(DELETED) {
            Some(path) => {
                let path = Path::new(OsStr::from_bytes(path));
                if folder.is_some_and(|folder| path.starts_with(folder)) {
                    Self::Deleted(path)
                } else {
                    Self::Other
                }
            }
            None => Self::Other,
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
#[allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_link_is_told_by_its_name_and_by_what_the_kernel_adds() {
        let wanted = Wanted { names: ["state.sqlite-wal".into()].into(), ..Wanted::default() };
        let home = Some(Path::new("/h"));
        let target = |link: &'static str| Target::of(Path::new(link), &wanted, home);
        assert_eq!(target("/h/state.sqlite-wal"), Target::Wanted);
        assert_eq!(target("/seen/from/a/container/state.sqlite-wal"), Target::Wanted);
        assert_eq!(
            target("/h/state.sqlite-wal (deleted)"),
            Target::Deleted(Path::new("/h/state.sqlite-wal"))
        );
        assert_eq!(target("/h/run/1-2.page (deleted)"), Target::Deleted(Path::new("/h/run/1-2.page")));
        for other in [
            "/h/state.sqlite",
            "/hh/x (deleted)",
            "/memfd:x (deleted)",
            "socket:[1]",
            "pipe:[2]",
            "(deleted)",
        ] {
            assert_eq!(target(other), Target::Other, "{other}");
        }
    }

    #[test]
    fn descriptors_are_counted_and_deleted_files_measured_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path().canonicalize().expect("its path");
        let (kept, gone) = (folder.join("kept"), folder.join("gone"));
        let open = [File::create(&kept), File::open(&kept)].map(|file| file.expect("a file"));
        open[1].lock_shared().expect("locked");
        fs::write(&gone, [0; 5000]).expect("written");
        let _held = [File::open(&gone), File::open(&gone)].map(|file| file.expect("a file"));
        let named = File::create(folder.join("named (deleted)")).expect("a file");
        let mut wanted = Wanted::default();
        let id = wanted.add(&kept).expect("it is there");
        assert_eq!(wanted.add(&folder.join("missing")), None);
        let before = look(&wanted, Some(&folder)).expect("/proc");
        assert!(before.deleted.is_empty(), "{before:?}");
        fs::remove_file(&gone).expect("removed");

        let own = std::process::id();
        let found = look(&wanted, Some(&folder)).expect("/proc");
        assert_eq!(found.open[&id].get(&own), Some(&2));
        assert!(found.locks[&id].iter().any(|lock| lock.pid == own && !lock.exclusive), "{found:?}");
        let deleted: Vec<_> = found.deleted.values().collect();
        let [deleted] = deleted[..] else { panic!("one file: {deleted:?}") };
        assert!(deleted.path == gone && deleted.bytes == 5000 && deleted.pids.contains(&own), "{deleted:?}");
        drop(named);
    }
}
