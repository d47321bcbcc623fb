//! A database has one write-ahead log, whatever name its folder goes by.

mod processes;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use processes::Child;
use rowhouse::{Domain, ErrorKind, Home, Runtime};

const WRITES: i64 = 100;

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["write", home] => {
            let runtime = processes::open(home.as_ref());
            let database = runtime.database("work").expect("the domain");
            processes::ready();
            for _ in 0..WRITES {
                database.write(|tx| tx.execute("UPDATE counter SET n = n + 1", [])).expect("written");
            }
            processes::say("written");
            processes::listen();
        }
        ["insert", path] => {
            let connection = processes::plain(path.as_ref());
            connection.execute("INSERT INTO t VALUES (1)", []).expect("written");
            processes::say("inserted");
            processes::listen();
        }
        _ => panic!("no such role: {arguments:?}"),
    }
}

fn logs(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a list").map(|entry| entry.expect("an entry").path());
    entries.filter(|path| path.to_string_lossy().ends_with("-wal")).collect()
}

/// The home's folder is canonicalised once, so that all its names lead to one file and one log; a database file that is
/// itself a link, of either kind, is refused and no log comes into being.
///
/// Scale: 3 processes write 100 rows each through the folder, a link to it, and a link to a folder above it.
/// Control: plain connections through the two names of a hard link have two logs, and do not see each other's rows.
#[test]
fn n7_one_log_behind_a_link() {
    let folder = processes::folder();
    let root = folder.path().canonicalize().expect("the folder");
    let home = root.join("real/home");
    fs::create_dir_all(&home).expect("a folder");
    symlink(&home, root.join("link")).expect("a link");
    symlink("real", root.join("above")).expect("a link");
    let names = [home.clone(), root.join("link"), root.join("above/home")];
    let mut writers: Vec<_> =
        names.iter().map(|name| Child::start("write", &[processes::text(name)])).collect();
    processes::start_together(&mut writers);
    for writer in &writers {
        writer.wait_for("written");
    }
    assert_eq!(logs(&home), [home.join("work.sqlite-wal")]);
    assert_eq!((logs(&root), logs(&root.join("real"))), (Vec::new(), Vec::new()));
    for mut writer in writers {
        writer.tell("enough");
        writer.finish();
    }
    let runtime = processes::open(&home);
    let count = runtime
        .database("work")
        .expect("the domain")
        .read(|at| at.row("SELECT n FROM counter", [], |row| row.get::<_, i64>(0)));
    assert_eq!(count.expect("the counter"), 3 * WRITES);
    drop(runtime);

    // The file itself is a link.
    for (name, hard) in [("soft", false), ("hard", true)] {
        let other = root.join(name);
        fs::create_dir(&other).expect("a folder");
        let file = processes::file(&other);
        let make = if hard { |from, to| fs::hard_link(from, to) } else { |from, to| symlink(from, to) };
        make(processes::file(&home), file.clone()).expect("a link");
        let open =
            Runtime::builder(Home::at(&other)).domain(Domain::new("work").migrations(processes::SCHEMA));
        let error = open.open().map(drop).expect_err("two names");
        assert_eq!((error.kind(), error.path()), (ErrorKind::Invalid, Some(&*file)), "{error}");
        assert!(logs(&other).is_empty(), "a log beside the link");
    }

    let [here, there] = ["here.sqlite", "there.sqlite"].map(|name| root.join(name));
    let made = processes::plain(&here);
    made.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(())).expect("WAL");
    made.execute_batch("CREATE TABLE t(a)").expect("a table");
    drop(made);
    fs::hard_link(&here, &there).expect("a second name");
    let mut control = Child::start("insert", &[processes::text(&there)]);
    control.wait_for("inserted");
    let seen: i64 =
        processes::plain(&here).query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("read");
    assert_eq!(seen, 0, "the control sees the other name's log");
    control.tell("enough");
    control.finish();
}
