//! Which SQLite another process has loaded, where that is a shared library. One that is built into a program cannot be told.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::home;

/// How the library's file is called, on every system that has it.
const LIBRARY: &[u8] = b"libsqlite3.so";
/// It takes a third of that.
const MOST_BYTES: u64 = 8 << 20;
/// The first version with a write-ahead log.
const OLDEST: u32 = 3_007_000;

/// Its version, as `3_051_003`; `None` where it cannot be told.
pub(super) fn version(pid: u32) -> Option<u32> {
    let maps = home::read_file(format!("/proc/{pid}/maps")).ok()?;
    let library = maps.split(|byte| *byte == b'\n').find_map(path)?;
    // By the process's own root: it may be in a container.
    let library = Path::new("/proc").join(pid.to_string()).join("root").join(library.strip_prefix("/").ok()?);
    let mut bytes = Vec::new();
    home::open_to_read(&library).ok()?.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    told_by(&bytes)
}

/// The library's path in a line of `proc_pid_maps(5)`.
fn path(line: &[u8]) -> Option<PathBuf> {
    let start = line.iter().position(|byte| *byte == b'/')?;
    let path = Path::new(std::ffi::OsStr::from_bytes(&line[start..]));
    path.file_name()?.as_bytes().starts_with(LIBRARY).then(|| path.to_owned())
}

/// `sqlite3_version[]`, a text of its own among the library's constants. `None` where there are two that look like it.
fn told_by(library: &[u8]) -> Option<u32> {
    let texts = library.split(|byte| *byte == 0).filter(|text| (5..=8).contains(&text.len()));
    let versions: BTreeSet<u32> = texts.filter_map(number).filter(|version| *version >= OLDEST).collect();
    let mut versions = versions.into_iter();
    versions.next().filter(|_| versions.next().is_none())
}

/// `3.46.1` as `3_046_001`.
fn number(text: &[u8]) -> Option<u32> {
    let mut parts = std::str::from_utf8(text).ok()?.split('.').map(|part| {
        let plain = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse::<u32>().ok().filter(|number| plain && *number < 1_000)
    });
    let (major, minor, patch) = (parts.next()??, parts.next()??, parts.next()??);
    (major == 3 && parts.next().is_none()).then_some(major * 1_000_000 + minor * 1_000 + patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_among_the_constants() {
        assert_eq!(told_by(b"x\0\x003.46.1\0SQLite 3.1.2\0"), Some(3_046_001));
        assert_eq!(told_by(b"3.46.1\x003.46.1\0"), Some(3_046_001));
        assert_eq!(told_by(b"3.46.1\x003.45.0\0"), None, "two");
        for none in [&b""[..], b"3.46\0", b"3.46.1.2\0", b"4.46.1\0", b"3.4.x1\0", b"3.6.23\0", b"3.+6.1\0"] {
            assert_eq!(told_by(none), None, "{none:?}");
        }
    }

    #[test]
    fn the_library_is_found_among_the_maps() {
        let line = b"7f0-7f1 r--p 00000000 08:01 131 /usr/lib/x86_64-linux-gnu/libsqlite3.so.0.8.6";
        assert_eq!(path(line), Some("/usr/lib/x86_64-linux-gnu/libsqlite3.so.0.8.6".into()));
        for none in [&b"7f0-7f1 r--p 0 0:0 0 [heap]"[..], b"7f0-7f1 r--p 0 0:0 0 /usr/lib/libc.so.6", b""] {
            assert_eq!(path(none), None);
        }
    }
}
