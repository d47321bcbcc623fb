//! Which file systems a home may not be on.
//!
//! SQLite's write-ahead log needs memory that every process on the file shares, and locks that hold
//! (<https://sqlite.org/wal.html>). Network and shared-folder file systems promise neither, and what they
//! break stays unnoticed until the database is damaged: they are refused by name, before anything is created.

use std::path::Path;

use crate::error::{Error, ErrorKind, Result};

/// Refuses a home whose file system cannot hold a database. Looks at the nearest folder that exists.
///
/// # Errors
/// `Unsupported`, naming the file system.
pub(super) fn check(home: &Path) -> Result<()> {
    for folder in home.ancestors() {
        match rustix::fs::statfs(folder) {
            Ok(found) => {
                return refusal(&found).map_or(Ok(()), |name| {
                    Err(Error::new(
                        ErrorKind::Unsupported,
                        format!("the home is on {name}, where a SQLite database gets damaged"),
                    )
                    .at_path(home)
                    .advise(
                        "choose a home on a local disk with --home or ROWHOUSE_HOME, or configure PostgreSQL",
                    ))
                });
            }
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {}
            Err(error) => return Err(Error::io("look at the file system", folder, error.into())),
        }
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn refusal(found: &rustix::fs::StatFs) -> Option<&'static str> {
    refused(found.f_type as u32)
}

#[cfg(target_os = "macos")]
fn refusal(found: &rustix::fs::StatFs) -> Option<&'static str> {
    (found.f_flags & libc::MNT_LOCAL as u32 == 0).then_some("a network file system")
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn refusal(_: &rustix::fs::StatFs) -> Option<&'static str> {
    None
}

/// The name of a file system that is refused, by its magic number (`statfs(2)`, `linux/magic.h`).
#[cfg(target_os = "linux")]
fn refused(f_type: u32) -> Option<&'static str> {
    Some(match f_type {
        0x0000_6969 => "NFS",
        0x0000_517B | 0xFE53_4D42 | 0xFF53_4D42 => "an SMB (Windows) share",
        0x0000_564C => "an NCP (NetWare) share",
        0x0102_1997 => "9p (a folder shared with a virtual machine or WSL)",
        0x6573_5546 => "FUSE or virtiofs (a mounted or shared folder)",
        0x6A65_6A63 => "a folder shared with a container's host",
        0x786F_4256 => "a VirtualBox shared folder",
        0xBACB_ACBC => "a VMware shared folder",
        0x7C7C_6673 => "a Parallels shared folder",
        0x5346_414F | 0x6B41_4653 => "AFS",
        0x00C3_6400 => "Ceph",
        0x7375_7245 => "Coda",
        0x4750_4653 => "GPFS",
        0x0BD0_0BD0 => "Lustre",
        0x7461_636F => "OCFS2",
        0x0116_1970 => "GFS2",
        0x1983_0326 => "BeeGFS",
        0x2003_0528 => "OrangeFS",
        0xAAD7_AAEA => "PanFS",
        0xBEEF_DEAD => "StorNext",
        0x0131_11A8 => "Ibrix",
        0x6163_6673 => "ACFS",
        _ => return None,
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn network_and_shared_file_systems_are_refused_by_name() {
        for (magic, name) in [
            (0x6969, "NFS"),
            (0x517B, "SMB"),
            (0xFE53_4D42, "SMB"),
            (0xFF53_4D42, "SMB"),
            (0x0102_1997, "9p"),
            (0x6573_5546, "FUSE"),
            (0x5346_414F, "AFS"),
            (0x00C3_6400, "Ceph"),
            (0x7375_7245, "Coda"),
            (0x4750_4653, "GPFS"),
            (0x0BD0_0BD0, "Lustre"),
            (0x7461_636F, "OCFS2"),
        ] {
            assert!(refused(magic).is_some_and(|found| found.contains(name)), "{name}");
        }
        assert!(refused(0x6A65_6A63).is_some());
    }

    #[test]
    fn local_file_systems_are_accepted() {
        // ext2/3/4, XFS, Btrfs, tmpfs, overlayfs, F2FS, ZFS, bcachefs, ramfs
        let local = [
            0xEF53,
            0x5846_5342,
            0x9123_683E,
            0x0102_1994,
            0x794C_7630,
            0xF2F5_2010,
            0x2FC1_2FC1,
            0xCA45_1A4E,
            0x8584_58F6,
        ];
        assert!(local.iter().all(|magic| refused(*magic).is_none()));
    }

    #[test]
    fn a_folder_that_does_not_exist_yet_is_judged_by_the_one_above() {
        let above = tempfile::tempdir().expect("a folder");
        check(&above.path().join("not/yet/there")).expect("a local disk");
    }
}
