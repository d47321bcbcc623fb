//! Whatever the umask, nothing of a home can be read by other users: new files from their first byte, old ones from the
//! next open, without a lock being lost.
#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]
#![cfg(target_os = "linux")]

#[path = "processes/confined.rs"]
mod confined;
mod processes;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use confined::{everything, set_mode};
use processes::{Child, SCHEMA, listen, open, plain, say, text};
use rowhouse::{Domain, Home, Runtime};

const INSERT: &str = "INSERT INTO item(job, part) VALUES (1, 1)";

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["fill", umask, home] => fill(umask, home.as_ref()),
        ["plain", umask, folder] => {
            set_umask(umask);
            plain(&Path::new(folder).join("plain.sqlite"))
                .execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x)")
                .expect("a table");
        }
        ["hold", home] => hold(home.as_ref()),
        _ => panic!("{words:?}"),
    }
}

fn set_umask(octal: &str) {
    // SAFETY: changes a number of this process.
    unsafe { libc::umask(libc::mode_t::from_str_radix(octal, 8).expect("an octal number")) };
}

fn mode(path: &Path) -> Option<u32> {
    fs::symlink_metadata(path).ok().map(|found| found.mode() & 0o777)
}

/// What others may use in a folder: each path with its mode.
fn open_to_others(folder: &Path) -> BTreeSet<String> {
    let found = everything(folder).into_iter().filter_map(|path| Some((mode(&path)?, path)));
    found
        .filter(|(mode, path)| mode & 0o077 != 0 || (!path.is_dir() && mode & 0o100 != 0))
        .map(|(mode, path)| format!("{mode:o} {}", path.display()))
        .collect()
}

/// Makes a home with everything that an open creates, while a thread looks at it again and again.
fn fill(umask: &str, home: &Path) {
    set_umask(umask);
    let done = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut seen = BTreeSet::new();
            while !done.load(Ordering::Relaxed) {
                if home.exists() {
                    seen.extend(open_to_others(home));
                }
            }
            seen
        });
        let runtime = Runtime::builder(Home::at(home))
            .agent_domains()
            .domain(Domain::new("work").migrations(SCHEMA))
            .open()
            .expect("opened");
        for name in runtime.names() {
            let one: i64 = runtime
                .database(&name)
                .and_then(|db| db.read(|at| at.row("SELECT 1", [], |row| row.get(0))))
                .expect("read");
            assert_eq!(one, 1);
        }
        runtime.database("work").and_then(|db| db.write(|tx| tx.execute(INSERT, []))).expect("written");
        say(&format!("files {}", everything(home).iter().filter(|path| path.is_file()).count()));
        done.store(true, Ordering::Relaxed);
        looking.join().expect("looked")
    });
    say(&format!("seen {seen:?}"));
}

/// Has a database open, and says when it was told that somebody else opened it.
fn hold(home: &Path) {
    let runtime = open(home);
    let work = runtime.database("work").expect("it");
    work.write(|tx| tx.execute(INSERT, [])).expect("written");
    work.read(|at| at.row("SELECT count(*) FROM item", [], |row| row.get::<_, i64>(0))).expect("read");
    say("holding");
    while !listen().is_empty() {
        work.write(|tx| tx.execute(INSERT, [])).expect("written");
        say("written");
    }
}

/// Folders are 0700 and files 0600 (databases, logs, indexes, locks, status pages, registry) from their first byte.
///
/// Scale: umask 022 and 000, five domains, looked at all the while they are created.
/// Control: a plain connection under the same umasks leaves a file that everybody may read (0644).
#[test]
fn x1_new_files_are_private_from_their_first_byte() {
    for umask in ["022", "000"] {
        let folder = processes::folder();
        let home = folder.path().join("above/home");
        let child = Child::start("fill", &[umask, text(&home)]);
        let files: usize = child.wait_for("files").parse().expect("a number");
        assert!(files >= 5 * 5, "databases with log, index and two lock files each: {files}");
        assert_eq!(child.wait_for("seen"), "{}", "umask {umask}");
        child.finish();
        assert_eq!(open_to_others(&home), BTreeSet::new(), "umask {umask}");
        assert_eq!(mode(&home), Some(0o700));

        let control = processes::folder();
        Child::start("plain", &[umask, text(control.path())]).finish();
        assert_eq!(mode(&control.path().join("plain.sqlite")), Some(0o644), "control");
    }
}

/// SQLite's locks on the files of a home, as the kernel lists them: process, file and range. While others lock and unlock
/// the list may leave some out, so it is read several times; one that is gone stays gone.
fn locks(home: &Path) -> BTreeSet<String> {
    let files = everything(home);
    let inodes: BTreeSet<u64> =
        files.iter().filter_map(|path| fs::symlink_metadata(path).ok()).map(|found| found.ino()).collect();
    let of_home = |line: &str| {
        let inode = line.split_whitespace().nth(5).and_then(|file| file.rsplit(':').next()?.parse().ok());
        line.contains("POSIX") && inode.is_some_and(|inode: u64| inodes.contains(&inode))
    };
    let mut found = BTreeSet::new();
    for _ in 0..30 {
        let all = fs::read_to_string("/proc/locks").expect("the list");
        let ours = all.lines().filter(|line| of_home(line));
        found.extend(ours.filter_map(|line| Some(line.split_once(": ")?.1.to_owned())));
    }
    found
}

/// What an older program or a copy left open to others is made private at the next open, by path: the locks of those who
/// have it open stay, in this process and in others. What belongs to somebody else is not touched.
///
/// Scale: one process that has it open, another that opens it, and a second open in the same process.
/// Control: to change a mode by opening the file drops the locks of the process that does.
#[test]
fn x1_old_files_are_made_private_and_no_lock_is_lost() {
    let folder = processes::folder();
    let home = folder.path().canonicalize().expect("canonical").join("home");
    let mut child = Child::start("hold", &[text(&home)]);
    child.wait_for("holding");
    let loosen = || {
        for path in everything(&home) {
            set_mode(&path, if path.is_dir() { 0o755 } else { 0o644 });
        }
        for (name, text) in [
            ("backups/1/work.sqlite", "b"),
            ("quarantine/1/work.sqlite-wal", "q"),
            ("registry.json.bad-1", "r"),
        ] {
            let path: PathBuf = home.join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
            fs::write(&path, text).expect("written");
        }
        assert!(!open_to_others(&home).is_empty());
    };
    loosen();
    let before = locks(&home);
    assert!(before.len() >= 2, "{before:?}");
    let runtime = open(&home);
    assert_eq!(open_to_others(&home), BTreeSet::new());
    let during = locks(&home);
    assert!(during.is_superset(&before), "lost: {:?}", before.difference(&during));

    // A further open in this process, which has locks of its own by now.
    let read = "SELECT count(*) FROM item";
    let work = runtime.database("work").expect("it");
    assert_eq!(work.read(|at| at.row(read, [], |row| row.get::<_, i64>(0))).expect("read"), 1);
    loosen();
    let before = locks(&home);
    let again = Runtime::builder(Home::at(&home))
        .domain(Domain::new("work").migrations(SCHEMA))
        .domain(Domain::new("more"))
        .open()
        .expect("opened");
    assert_eq!(open_to_others(&home), BTreeSet::new());
    let after = locks(&home);
    assert!(after.is_superset(&before), "lost: {:?}", before.difference(&after));
    child.tell("write");
    child.wait_for("written");
    assert_eq!(work.read(|at| at.row(read, [], |row| row.get::<_, i64>(0))).expect("read"), 2);

    // Control, last: it does lose locks.
    let own = |locks: BTreeSet<String>| {
        let pid = format!(" {} ", std::process::id());
        locks.into_iter().filter(|line| line.contains(&pid)).count()
    };
    let had = own(locks(&home));
    let opened = fs::File::open(home.join("work.sqlite")).expect("opened");
    opened.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("the mode");
    drop(opened);
    assert!(own(locks(&home)) < had, "control: a mode changed by descriptor loses no lock");
    drop((again, work, runtime));
    child.finish();
}
