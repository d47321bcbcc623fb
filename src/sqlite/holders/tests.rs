#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

use super::*;

const LOCKS: &str = "\
1: POSIX  ADVISORY  READ  10 08:01:77 123 123
2: POSIX  ADVISORY  WRITE 11 08:01:77 120 121
2: -> POSIX  ADVISORY  WRITE 12 08:01:77 120 120
3: FLOCK  ADVISORY  WRITE 13 00:2f:77 0 EOF
4: FLOCK  ADVISORY  READ  14 08:01:78 0 EOF
5: OFDLCK ADVISORY  WRITE -1 08:01:77 120 120
6: POSIX  ADVISORY  WRITE -1 08:01:79 120 120
7: LEASE  ACTIVE    READ  15 08:01:77 0 EOF
8: POSIX  MANDATORY WRITE 16 103:a1:80 0 EOF
9: POSIX  ADVISORY  WRITE 0 08:01:81 0 EOF
nonsense
";

fn locks() -> Vec<HeldLock> {
    LOCKS.lines().filter_map(parse_lock).collect()
}

#[test]
fn only_exclusive_locks_that_somebody_holds_are_read() {
    let pids: Vec<_> = locks().iter().map(|lock| lock.pid).collect();
    assert_eq!(pids, [11, 13, 16]);
    let last = locks()[2];
    assert_eq!((last.device, last.inode, last.first, last.last), ((0x103, 0xa1), 80, 0, u64::MAX));
}

#[test]
fn a_lock_belongs_to_one_file_one_byte_and_one_kind() {
    let nobody = |_| false;
    let find = |kind, device, inode, byte| owner(&locks(), kind, (device, inode), byte, nobody);
    assert_eq!(find(Kind::Posix, (8, 1), 77, 120), Some(11));
    assert_eq!(find(Kind::Posix, (8, 1), 77, 122), None);
    assert_eq!(find(Kind::Posix, (8, 2), 77, 120), None);
    assert_eq!(find(Kind::Posix, (8, 1), 79, 120), None);
    assert_eq!(find(Kind::Flock, (0, 0x2f), 77, 0), Some(13));
    assert_eq!(find(Kind::Posix, (0, 0x2f), 77, 0), None);
    // Btrfs: another device in stat, but the process has the file open.
    assert_eq!(owner(&locks(), Kind::Posix, ((0, 35), 77), 120, |pid| pid == 11), Some(11));
}

#[cfg(target_os = "linux")]
mod live {
    use std::fs::File;
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::home::Home;
    use crate::sqlite::status_page::StatusPage;

    const DATABASE: &str = "ROWHOUSE_TEST_HOLD";

    /// Ends the child also when the test fails.
    struct Killed(Child);

    impl Drop for Killed {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[allow(clippy::disallowed_methods, reason = "a test's own database")]
    fn hold(database: &Path) -> rusqlite::Connection {
        let connection = rusqlite::Connection::open(database).expect("a database");
        connection
            .execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE IF NOT EXISTS t(a); BEGIN IMMEDIATE; INSERT INTO t VALUES (1);")
            .expect("a write transaction");
        connection
    }

    fn wait_for_line(child: &mut Child) {
        let mut lines = BufReader::new(child.stdout.as_mut().expect("piped")).lines();
        lines
            .find(|line| line.as_ref().expect("text").contains("holding"))
            .expect("the child holds")
            .expect("text");
    }

    /// Not a test by itself: what the child of the next one runs.
    #[test]
    fn child_that_holds() {
        let Some(database) = std::env::var_os(DATABASE) else { return };
        let database = std::path::PathBuf::from(database);
        let page = StatusPage::create(&database.with_file_name("run"), "holder", "9.9").expect("a page");
        page.slot("state").job_started(b"import", 1234);
        let _connection = hold(&database);
        println!("holding");
        let _ = std::io::stdin().read_line(&mut String::new());
    }

    #[test]
    fn another_process_in_a_write_transaction_is_named_with_its_job() {
        let root = tempfile::tempdir().expect("a folder");
        let home = Home::at(root.path()).prepare().expect("a home");
        let database = home.database_path("state");
        assert_eq!(write_lock_holder(&database), None);
        let program = std::env::current_exe().expect("this program");
        let mut child = Killed(
            Command::new(&program)
                .args(["--exact", "sqlite::holders::tests::live::child_that_holds", "--nocapture"])
                .env(DATABASE, &database)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("a child"),
        );
        wait_for_line(&mut child.0);
        let found = write_lock_holder(&database).expect("a holder");
        assert_eq!(found.pid, child.0.id());
        assert_eq!(Some(&*found.command), program.file_name().and_then(|name| name.to_str()));
        assert_eq!((found.label.as_deref(), found.since, found.stopped), (Some("import"), Some(1234), false));
        assert_eq!((found.program.as_deref(), found.version.as_deref()), (Some("holder"), Some("9.9")));

        let pid = rustix::process::Pid::from_child(&child.0);
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("stopped");
        rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::UNTRACED).expect("stopped");
        let stopped = write_lock_holder(&database).expect("a holder");
        assert!(stopped.stopped && stopped.to_string().ends_with(", job import, stopped)"), "{stopped}");
        rustix::process::kill_process(pid, rustix::process::Signal::CONT).expect("continued");

        child.0.stdin.take().expect("piped").write_all(b"\n").expect("told");
        child.0.wait().expect("ended");
        assert_eq!(write_lock_holder(&database), None);
    }

    #[test]
    fn this_process_can_be_the_holder() {
        let root = tempfile::tempdir().expect("a folder");
        let database = root.path().join("state.sqlite");
        let connection = hold(&database);
        assert_eq!(write_lock_holder(&database).map(|holder| holder.pid), Some(std::process::id()));
        connection.execute_batch("COMMIT").expect("committed");
        assert_eq!(write_lock_holder(&database), None);
        connection.execute_batch("PRAGMA journal_mode=DELETE; BEGIN IMMEDIATE").expect("a transaction");
        assert_eq!(write_lock_holder(&database).map(|holder| holder.pid), Some(std::process::id()));
    }

    #[test]
    fn the_holder_of_a_lock_file_is_named() {
        let root = tempfile::tempdir().expect("a folder");
        let home = Home::at(root.path()).prepare().expect("a home");
        let page = StatusPage::create(&home.run_dir(), "example", "1").expect("a page");
        page.slot("state").job_started(b"import", 1);
        let path = home.lock_path("state.turn");
        assert_eq!(flock_holder(&path), None);
        let file = File::create(&path).expect("a file");
        file.lock().expect("locked");
        let found = flock_holder(&path).expect("a holder");
        assert_eq!((found.pid, found.label.as_deref()), (std::process::id(), Some("import")));
        drop(file);
        assert_eq!(flock_holder(&path), None);
    }
}
