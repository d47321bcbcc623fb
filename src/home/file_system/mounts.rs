//! The mounts of this process, and the one that a path is on (`proc_pid_mountinfo(5)`).
//!
//! Invariant: reading the list touches none of the mounts, so that it cannot hang on a dead one. A path is found the
//! way the kernel finds it, from the root down the tree of mounts: a mount that another one hides counts for nothing.
#![cfg_attr(not(target_os = "linux"), allow(dead_code))] // no list there

use std::ffi::OsString;
#[cfg(target_os = "linux")]
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::kinds::{self, Kind};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    id: u64,
    parent: u64,
    /// Where it is mounted, by its canonical path.
    pub(super) point: PathBuf,
    /// The kind of file system, as the kernel calls it: `ext4`, `fuse.sshfs`.
    pub(super) name: String,
}

impl Mount {
    pub(super) fn kind(&self) -> Kind {
        kinds::by_name(&self.name)
    }

    /// True for a folder in which mounts appear when they are touched (autofs).
    pub(super) fn is_automatic(&self) -> bool {
        self.name == "autofs"
    }
}

/// The mounts of this process; none where the system does not list them.
#[derive(Clone, Debug, Default)]
pub(super) struct Mounts(Vec<Mount>);

impl Mounts {
    /// As they are now, for this thread.
    #[cfg(target_os = "linux")]
    pub(super) fn read() -> Self {
        // A thread can be in a namespace of its own.
        let list = crate::home::open_to_read(Path::new("/proc/thread-self/mountinfo"))
            .or_else(|_| crate::home::open_to_read(Path::new("/proc/self/mountinfo")));
        // The kernel writes the list as it is read: a few large reads, not many small ones.
        let mut listed = Vec::with_capacity(1 << 16);
        match list.and_then(|mut list| list.read_to_end(&mut listed)) {
            Ok(_) => Self::parse(&listed),
            Err(_) => Self::default(),
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn read() -> Self {
        Self::default()
    }

    pub(super) fn parse(listed: &[u8]) -> Self {
        Self(listed.split(|byte| *byte == b'\n').filter_map(parse_line).collect())
    }

    /// The mount that an absolute path is on, taken as it is written: its links must have been followed.
    pub(super) fn of(&self, path: &Path) -> Option<&Mount> {
        self.way(path).pop()
    }

    /// The mounts that the kernel passes on the way to a path, from the root on; the last one is that of the path.
    pub(super) fn way(&self, path: &Path) -> Vec<&Mount> {
        // The mounts above one that has the path have it too, so that no others count.
        let has_it = |mount: &&Mount| path.starts_with(&mount.point);
        let candidates: Vec<&Mount> = self.0.iter().filter(has_it).collect();
        let mut way: Vec<&Mount> = Vec::new();
        // Each step goes one mount deeper: there are at most as many as there are mounts.
        while way.len() < candidates.len()
            && let Some(next) = below(way.last().copied(), &candidates)
        {
            way.push(next);
        }
        way
    }

    /// The mount at exactly this place, if there is one.
    pub(super) fn at(&self, path: &Path) -> Option<&Mount> {
        self.of(path).filter(|mount| mount.point == path)
    }
}

/// The first mount on the way down from `above`, or from the root, of those that have the path.
fn below<'a>(above: Option<&Mount>, candidates: &[&'a Mount]) -> Option<&'a Mount> {
    let is_next = |mount: &&Mount| match above {
        Some(above) => mount.parent == above.id && mount.id != above.id,
        None => mount.id == mount.parent || candidates.iter().all(|other| other.id != mount.parent),
    };
    // The nearest to the root is met first; of two at one place, the later one hides the earlier.
    candidates.iter().copied().filter(is_next).rev().min_by_key(|mount| mount.point.as_os_str().len())
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`; any number of fields stands before the hyphen.
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let point = unescaped(fields.nth(2)?);
    let name = unescaped(fields.skip_while(|field| *field != b"-").nth(1)?);
    Some(Mount { id, parent, point: point.into(), name: name.to_string_lossy().into_owned() })
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The kernel writes blank, tab, line feed and backslash as `\` and three octal digits.
fn unescaped(text: &[u8]) -> OsString {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let code = if byte == b'\\' { octal(after) } else { None };
        plain.push(code.unwrap_or(byte));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    OsString::from_vec(plain)
}

fn octal(text: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(text.get(..3)?).ok()?;
    u8::from_str_radix(digits, 8).ok()
}

/// A path without `.` and `..`, as it is written: no link is followed.
pub(super) fn written_out(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                out.pop();
            }
            std::path::Component::CurDir => {}
            other => out.push(other),
        }
    }
    debug_assert!(out.as_os_str().as_bytes().first() == Some(&b'/'), "only absolute paths come here");
    out
}
