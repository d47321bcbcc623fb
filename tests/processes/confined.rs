//! Processes that may not write a home: as another user, through a read-only mount that only they see, or in a sandbox
//! that access(2) does not know of.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]
#![allow(dead_code)] // each test file uses the part it needs

use std::ffi::{CStr, CString};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// An ordinary user: `nobody`.
pub(crate) const USER: u32 = 65_534;

/// True when tests may change users and mounts. Otherwise says what is done instead.
pub(crate) fn is_root() -> bool {
    // SAFETY: asks, and changes nothing.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        eprintln!("not root: no other user and no mount here, permissions are taken away instead");
    }
    root
}

/// As `id` says.
pub(crate) fn user_name(user: u32) -> String {
    let answer = std::process::Command::new("id").args(["-nu", &user.to_string()]).output().expect("id");
    String::from_utf8_lossy(&answer.stdout).trim().to_owned()
}

/// This process is an ordinary user's from now on.
pub(crate) fn become_user() {
    // SAFETY: no pointers but a null one with the length 0. The C library changes all threads.
    let changed = unsafe {
        libc::setgroups(0, std::ptr::null()) == 0 && libc::setgid(USER) == 0 && libc::setuid(USER) == 0
    };
    assert!(changed, "{}", std::io::Error::last_os_error());
}

/// This thread, and those that it starts, see `folder` mounted read-only.
pub(crate) fn mount_read_only(folder: &Path) {
    let path = CString::new(folder.as_os_str().as_bytes()).expect("a path");
    own_mounts();
    mount(Some(&path), &path, None, libc::MS_BIND, None);
    mount(None, &path, None, libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY, None);
}

/// This thread, and those that it starts, see only their own user's processes.
pub(crate) fn hide_processes() {
    own_mounts();
    mount(Some(c"proc"), c"/proc", Some(c"proc"), 0, Some(c"hidepid=2"));
}

/// Mounts of this thread's own from now on.
fn own_mounts() {
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0, "{}", std::io::Error::last_os_error());
    mount(None, c"/", None, libc::MS_REC | libc::MS_PRIVATE, None);
}

fn mount(
    source: Option<&CStr>,
    target: &CStr,
    kind: Option<&CStr>,
    flags: libc::c_ulong,
    options: Option<&CStr>,
) {
    let text = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: C strings that outlive the call, or null where the system takes that.
    let code = unsafe { libc::mount(text(source), target.as_ptr(), text(kind), flags, text(options).cast()) };
    assert_eq!(code, 0, "{}", std::io::Error::last_os_error());
}

/// Where this kernel can (Landlock): this thread, and those that it starts, write nowhere but below `folder`.
pub(crate) fn write_only_below(folder: &Path) {
    #[repr(C, packed)]
    struct Beneath {
        allowed: u64,
        folder: libc::c_int,
    }
    // To write a file; to create and remove anything (`linux/landlock.h`).
    let writing: u64 = 1 << 1 | 0b1_1111_1111 << 4;
    let folder = fs::File::open(folder).expect("a folder");
    let beneath = Beneath { allowed: writing, folder: folder.as_raw_fd() };
    // SAFETY: the first argument points to the eight bytes of `writing`, the second is their number; the rule's fields
    // are those of `struct landlock_path_beneath_attr`; all outlive the calls.
    unsafe {
        let rules = libc::syscall(libc::SYS_landlock_create_ruleset, &raw const writing, 8, 0);
        assert!(rules >= 0, "{}", std::io::Error::last_os_error());
        let added = libc::syscall(libc::SYS_landlock_add_rule, rules, 1, &raw const beneath, 0);
        assert_eq!(added, 0, "{}", std::io::Error::last_os_error());
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let restricted = libc::syscall(libc::SYS_landlock_restrict_self, rules, 0);
        assert_eq!(restricted, 0, "{}", std::io::Error::last_os_error());
    }
}

/// True when this kernel has such sandboxes.
pub(crate) fn has_sandboxes() -> bool {
    let none = std::ptr::null::<u64>();
    // SAFETY: with the flag 1 and no rules it answers a version.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0, 1) };
    if version < 1 {
        eprintln!("this kernel has no Landlock: nothing is tried in a sandbox");
    }
    version >= 1
}

/// Everything in a folder, itself included.
pub(crate) fn everything(folder: &Path) -> Vec<PathBuf> {
    let mut all = vec![folder.to_owned()];
    for entry in fs::read_dir(folder).expect("a list").flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            all.extend(everything(&entry.path()));
        } else {
            all.push(entry.path());
        }
    }
    all.sort();
    all
}

/// Name, size, mode and time of the last change of everything in a folder.
pub(crate) fn content(folder: &Path) -> Vec<(PathBuf, u64, u32, i64, i64)> {
    let look = |path: PathBuf| {
        let found = fs::symlink_metadata(&path).expect("there");
        (path, found.len(), found.mode(), found.mtime(), found.mtime_nsec())
    };
    everything(folder).into_iter().map(look).collect()
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the mode");
}

/// `chmod -R a+rX,a-w`: everybody may read, nobody may write.
pub(crate) fn make_read_only(folder: &Path) {
    for path in everything(folder) {
        set_mode(&path, if path.is_dir() { 0o555 } else { 0o444 });
    }
}

/// So that the folder can be removed again.
pub(crate) fn make_writable(folder: &Path) {
    set_mode(folder, 0o700);
    for entry in fs::read_dir(folder).expect("a list").flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_writable(&entry.path());
        }
    }
}

/// Lets everybody pass through the temporary folder that a home is in.
pub(crate) fn open_the_way(folder: &Path) {
    set_mode(folder, 0o755);
}
