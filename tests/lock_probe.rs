//! On a file system that is not known, a home is accepted when its locks hold, and refused in less than a second when
//! they do not.
//!
//! The file system is overlayfs, as in a container; a seccomp filter makes its locks fail, as in a sandbox.
#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]
#![cfg(target_os = "linux")]

mod fuse;
mod processes;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use processes::Child;
use rowhouse::{Domain, ErrorKind, Home, Runtime};

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    let [role, folder] = &arguments[..] else { panic!("two arguments: {arguments:?}") };
    fuse::own_mounts();
    let layer = overlay(folder.as_ref());
    let setting = [libc::F_SETLK as u32, libc::F_OFD_SETLK as u32];
    match &**role {
        "fine" => fine(&layer),
        "bytes" => {
            filter(libc::SYS_fcntl, 1, u32::MAX, &setting, fails_with(libc::ENOLCK));
            refused(&layer, "byte-range locks do not hold");
            pool_waits(&layer);
        }
        // A lock that is granted to everybody: the call says that all is well.
        "granted" => {
            filter(libc::SYS_fcntl, 1, u32::MAX, &setting, fails_with(0));
            refused(&layer, "byte-range locks do not hold");
        }
        "flock" => {
            let all = [libc::LOCK_EX as u32 | libc::LOCK_NB as u32];
            filter(libc::SYS_flock, 1, u32::MAX, &all, fails_with(libc::ENOLCK));
            refused(&layer, "file locks (flock) do not hold");
        }
        "memory" => {
            let shared = libc::MAP_SHARED as u32;
            filter(libc::SYS_mmap, 3, shared, &[shared], fails_with(libc::ENODEV));
            refused(&layer, "mapped memory is not shared");
        }
        "hangs" => {
            filter(libc::SYS_fcntl, 1, u32::MAX, &setting, libc::SECCOMP_RET_USER_NOTIF);
            refused(&layer, "does not answer");
        }
        // A kernel without locks of an opening: SQLite's own work.
        "old" => {
            filter(libc::SYS_fcntl, 1, u32::MAX, &[libc::F_OFD_SETLK as u32], fails_with(libc::EINVAL));
            fine(&layer);
        }
        _ => panic!("no such role: {role}"),
    }
    processes::say("held");
}

/// A writable layer over a read-only one, as a container has.
fn overlay(folder: &Path) -> PathBuf {
    let [lower, upper, work, merged] = ["lower", "upper", "work", "merged"].map(|name| {
        let path = folder.join(name);
        fs::create_dir(&path).expect("a folder");
        path
    });
    let text = |path: &Path| processes::text(path).to_owned();
    let data = format!("lowerdir={},upperdir={},workdir={}", text(&lower), text(&upper), text(&work));
    fuse::mount("overlay", &merged, "overlay", 0, &data);
    merged
}

fn fails_with(error: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | error as u32
}

/// From here on a system call answers `action` in this thread and those it starts, when an argument, masked, is one of
/// these (`seccomp(2)`).
fn filter(call: libc::c_long, argument: u32, mask: u32, values: &[u32], action: u32) {
    let instruction = |code: u32, k: u32, jt: usize, jf: usize| libc::sock_filter {
        code: code as u16,
        jt: jt as u8,
        jf: jf as u8,
        k,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    let count = values.len();
    // The number of the call is at 0 of the data that a filter sees, its arguments (8 bytes each) follow from 16.
    let mut program = vec![
        instruction(load, 0, 0, 0),
        instruction(equal, call as u32, 0, count + 2),
        instruction(load, 16 + 8 * argument, 0, 0),
        instruction(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, mask, 0, 0),
    ];
    for (at, value) in values.iter().enumerate() {
        program.push(instruction(equal, *value, count - at, 0));
    }
    program.push(instruction(answer, libc::SECCOMP_RET_ALLOW, 0, 0));
    program.push(instruction(answer, action, 0, 0));
    let whole = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let listens =
        if action == libc::SECCOMP_RET_USER_NOTIF { libc::SECCOMP_FILTER_FLAG_NEW_LISTENER } else { 0 };
    // SAFETY: a setting of this process, with numbers only.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the kernel copies the program, which outlives the call. The descriptor that it may answer, of the one
    // that would have to say what becomes of a call, stays open and silent on purpose.
    let answer =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, listens, &raw const whole) };
    assert!(answer >= 0, "seccomp: {}", std::io::Error::last_os_error());
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).expect("a list").map(|entry| entry.expect("an entry").path()).collect()
}

fn fine(layer: &Path) {
    let home = layer.join("home");
    let runtime = processes::open(&home);
    let database = runtime.database("work").expect("the domain");
    database.write(|tx| tx.execute("UPDATE counter SET n = 1", [])).expect("written");
    runtime.close(Duration::from_secs(20));
    assert_eq!(entries(layer), [home], "the probe left something");
}

fn refused(layer: &Path, fault: &str) {
    let home = layer.join("home");
    let started = Instant::now();
    let open =
        Runtime::builder(Home::at(&home)).domain(Domain::new("work").migrations(processes::SCHEMA)).open();
    let took = started.elapsed();
    let error = open.map(drop).expect_err("it must be refused");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert_eq!(error.path(), Some(&*home));
    for words in ["overlay, mounted at", processes::text(layer), fault] {
        assert!(error.message().contains(words), "{error}");
    }
    assert!(error.advice().is_some_and(|advice| advice.contains("ROWHOUSE_HOME=/")), "{error}");
    processes::say(&format!("refused in {took:?}"));
    // A fault is seen at once; what hangs is given up after 0.8 s.
    let bound = if fault == "does not answer" { 8 } else { 1 };
    assert!(took < Duration::from_secs(bound), "{took:?}");
    assert!(entries(layer).is_empty(), "something was left: {:?}", entries(layer));
}

/// The control: SQLite takes "no locks here" for "locked", and a pool waits as long as it is told to.
fn pool_waits(layer: &Path) {
    let patience = Duration::from_secs(2);
    let started = Instant::now();
    let manager = r2d2_sqlite::SqliteConnectionManager::file(layer.join("plain.sqlite"))
        .with_init(|connection| connection.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(a)"));
    let answer = r2d2::Pool::builder().max_size(1).connection_timeout(patience).build(manager);
    assert!(answer.is_err(), "the control opened a database without locks");
    assert!(started.elapsed() >= patience, "the control did not wait");
}

/// A file system that is not known must show that byte-range locks, flock and shared memory work, in a file that is gone
/// again; a fault or a hang refuses the home in less than a second.
///
/// Scale: a real overlay, with each of five faults (seccomp), and without.
/// Control: a pool of plain connections waits until its own timeout when locks fail, here 2 s.
#[test]
fn n5_locks_that_do_not_hold_are_told_at_once() {
    let known = fs::read_to_string("/proc/filesystems").expect("/proc");
    let missing = (!known.contains("overlay")).then(|| "the kernel has no overlay".to_owned());
    if !fuse::may_mount("n5", missing) {
        let local = processes::folder();
        drop(processes::open(local.path()));
        return;
    }
    for role in ["fine", "old", "bytes", "granted", "flock", "memory", "hangs"] {
        let folder = processes::folder();
        let child =
            Child::start(role, &[processes::text(&folder.path().canonicalize().expect("the folder"))]);
        while let Some(line) = child.line().filter(|line| line != "held") {
            println!("{role}: {line}");
        }
        child.finish();
    }
}
