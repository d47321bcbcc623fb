//! What the numbers were measured on.

#![allow(clippy::disallowed_methods, reason = "files of the kernel, and one that is made to be synced")]

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

use rowhouse::{Error, Result, rusqlite};
use serde::Serialize;

const SYNCS: usize = 200;

/// The machine, as far as it explains the numbers.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) filesystem: String,
    pub(crate) fsync_us: f64,
    pub(crate) sqlite: &'static str,
}

impl Machine {
    /// Looks at the machine and measures the disk of a folder.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(crate) fn look(folder: &Path) -> Result<Self> {
        let uname = rustix::system::uname();
        Ok(Self {
            cpu: cpu().unwrap_or_else(|| uname.machine().to_string_lossy().into_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: format!("{} {}", uname.sysname().to_string_lossy(), uname.release().to_string_lossy()),
            filesystem: file_system(folder).unwrap_or_else(|| "unknown".to_owned()),
            fsync_us: fsync_us(folder)?,
            sqlite: rusqlite::version(),
        })
    }
}

fn cpu() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The type of the mount that holds a folder: the longest mount point that leads to it
/// (<https://docs.kernel.org/filesystems/proc.html>, mountinfo).
fn file_system(folder: &Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    type_of(&folder, &mounts)
}

fn type_of(folder: &Path, mounts: &str) -> Option<String> {
    mounts
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let point = unescape(left.split(' ').nth(4)?);
            let kind = right.split(' ').next()?;
            folder
                .starts_with(&point)
                .then(|| (Path::new(&point).as_os_str().as_bytes().len(), kind.to_owned()))
        })
        // Of two mounts on one point the later one hides the earlier.
        .max_by_key(|(length, _)| *length)
        .map(|(_, kind)| kind)
}

/// Space, tab, newline and backslash are written as octal numbers there.
fn unescape(point: &str) -> String {
    point.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// The median time to append 4 KiB and make them durable.
///
/// # Errors
/// When the folder cannot be written.
pub(crate) fn fsync_us(folder: &Path) -> Result<f64> {
    let path = folder.join("fsync");
    let failed = |error| Error::io("measure an fsync", &path, error);
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
    let block = [0x5a; 4096];
    let mut took = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let begun = Instant::now();
        file.write_all(&block).and_then(|()| file.sync_data()).map_err(failed)?;
        took.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    drop(file);
    std::fs::remove_file(&path).map_err(failed)?;
    Ok(super::report::rounded(super::report::median(&took)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_mount_point_decides_and_the_later_mount_hides_the_earlier() {
        let mounts = "21 1 8:1 / / rw - ext4 /dev/a rw\n\
                      22 21 0:5 / /mnt/my\\040disk rw shared:1 - xfs /dev/b rw\n\
                      23 21 0:6 / /tmp rw - ext4 /dev/c rw\n\
                      24 23 0:7 / /tmp rw - tmpfs tmpfs rw\n";
        assert_eq!(type_of(Path::new("/home/a"), mounts).as_deref(), Some("ext4"));
        assert_eq!(type_of(Path::new("/mnt/my disk/x"), mounts).as_deref(), Some("xfs"));
        assert_eq!(type_of(Path::new("/mnt/my"), mounts).as_deref(), Some("ext4"));
        assert_eq!(type_of(Path::new("/tmp/x"), mounts).as_deref(), Some("tmpfs"));
    }
}
