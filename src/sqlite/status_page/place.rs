//! Where the pages lie: in the home's `run/`, unless a store into a mapped file could kill the process there.
//!
//! On a copy-on-write file system (Btrfs, say) a store into a mapped page that was written back needs new space;
//! on a full disk the process gets SIGBUS instead. There the pages lie in shared memory, in
//! `/dev/shm/rowhouse-<device>-<inode>` after the numbers of `run/`, which every process of the home finds.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// The folder for a new page, created if need be.
///
/// # Errors
/// `Unsupported` when there is none that is safe; `Io` from the system.
pub(super) fn prepare(run_dir: &Path) -> Result<PathBuf> {
    let folder = find(run_dir)?;
    if folder != run_dir {
        // Somebody may have been first: what counts is whose it is.
        let _ = DirBuilder::new().mode(0o700).create(&folder);
        let found = fs::symlink_metadata(&folder)
            .map_err(|error| Error::io("look at the folder of the status pages", &folder, error))?;
        let ours = found.uid() == rustix::process::geteuid().as_raw();
        if !found.is_dir() || !ours || found.mode() & 0o077 != 0 {
            return Err(Error::new(ErrorKind::Unsupported, "there is no safe place for a status page")
                .at_path(&folder)
                .advise("everything works without; remove that folder to have status pages"));
        }
    }
    Ok(folder)
}

/// The folder in which the pages of a home are, if there are any.
///
/// # Errors
/// `Io` and the like when `run/` cannot be looked at.
#[cfg(target_os = "linux")]
pub(super) fn find(run_dir: &Path) -> Result<PathBuf> {
    let failed = |error| Error::io("look at the folder of the status pages", run_dir, error);
    let system = rustix::fs::statfs(run_dir).map_err(|error| failed(error.into()))?;
    if stores_in_place(system.f_type as u32) {
        return Ok(run_dir.to_owned());
    }
    let found = fs::metadata(run_dir).map_err(failed)?;
    Ok(in_shared_memory(found.dev(), found.ino()))
}

/// The folder in which the pages of a home are: `run/`, for there is no shared memory with names here.
#[cfg(not(target_os = "linux"))]
pub(super) fn find(run_dir: &Path) -> Result<PathBuf> {
    let _ = (stores_in_place, in_shared_memory);
    Ok(run_dir.to_owned())
}

/// Removes an empty folder in shared memory; `run/` stays.
pub(super) fn leave(folder: &Path) {
    if folder.parent() == Some(Path::new("/dev/shm")) && folder.file_name().is_some_and(|name| name != "run")
    {
        let _ = fs::remove_dir(folder);
    }
}

fn in_shared_memory(device: u64, inode: u64) -> PathBuf {
    PathBuf::from(format!("/dev/shm/rowhouse-{device:x}-{inode:x}"))
}

/// True for file systems that overwrite a block where it is, by their magic number: ext2/3/4, XFS, tmpfs, ramfs.
fn stores_in_place(f_type: u32) -> bool {
    matches!(f_type, 0xEF53 | 0x5846_5342 | 0x0102_1994 | 0x8584_58F6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copying_file_systems_are_told_from_those_that_overwrite() {
        assert!([0xEF53, 0x5846_5342, 0x0102_1994].into_iter().all(stores_in_place));
        // Btrfs, bcachefs, overlayfs, ZFS, F2FS
        let copying = [0x9123_683E, 0xCA45_1A4E, 0x794C_7630, 0x2FC1_2FC1, 0xF2F5_2010];
        assert!(!copying.into_iter().any(stores_in_place));
    }

    #[test]
    fn a_place_is_found_for_a_folder_that_exists() {
        let run = tempfile::tempdir().expect("a folder");
        let prepared = prepare(run.path()).expect("a place");
        assert_eq!(find(run.path()).expect("the same place"), prepared);
        assert_eq!(find(&run.path().join("missing")).expect_err("nothing").kind(), ErrorKind::NotFound);
        leave(&prepared);
        assert_eq!(prepared.exists(), prepared == run.path());
    }
}
