//! A home on a file system that cannot hold a database is refused at once, with advice, and nothing is left there; a
//! home on a local disk is accepted, however the mounts are nested.
//!
//! The shared folders here are real mounts of a FUSE server (`fuse`), in a mount namespace of a child process.
#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]
#![cfg(target_os = "linux")]

mod fuse;
mod processes;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fuse::Server;
use processes::Child;
use rowhouse::rusqlite::Connection;
use rowhouse::{Domain, Error, ErrorKind, Home, Runtime, RuntimeDbRegistry};

/// How long a refusal may take.
const AT_ONCE: Duration = Duration::from_millis(100);

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    let (role, rest) = arguments.split_first().expect("a role");
    let paths: Vec<PathBuf> = rest.iter().map(PathBuf::from).collect();
    match (&**role, &*paths) {
        ("refusals", [folder]) => refusals(folder),
        ("dead", [folder]) => dead(folder),
        ("nested", [folder]) => nested(folder),
        ("leftovers", [folder]) => leftovers(folder),
        ("mounted_files", [folder]) => mounted_files(folder),
        ("two_hosts", [folder]) => two_hosts(folder),
        ("one_lock", [folder]) => one_lock(folder),
        ("write_by_turns", [one, other]) => write_by_turns(one, other),
        ("lock_both", [one, other]) => lock_both(one, other),
        ("insert", [path]) => {
            let connection = plain(path).expect("a database");
            connection.execute("INSERT INTO t VALUES ('there', 1)", []).expect("written");
            processes::say("inserted");
            processes::listen();
        }
        ("statfs", [path]) => {
            processes::say("looks");
            let answer = rustix::fs::statfs(path);
            processes::say(&format!("saw {answer:?}"));
        }
        ("files", [path]) => println!("@made {:?}", plain(path).is_ok()),
        _ => panic!("no such role: {arguments:?}"),
    }
}

/// Runs a role in a process that may mount; false where this machine cannot.
fn with_mounts(test: &str, role: &str) -> bool {
    let local = processes::folder();
    accepted(&local.path().join("home"));
    if !fuse::available(test) {
        return false;
    }
    let folder = processes::folder();
    let child = Child::start(role, &[processes::text(&folder.path().canonicalize().expect("the folder"))]);
    println!("{test}: {}", child.wait_for("held"));
    child.finish();
    true
}

/// A new folder in a folder.
fn new(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(&path).expect("a folder");
    path
}

fn open(home: &Path) -> rowhouse::Result<Runtime> {
    Runtime::builder(Home::at(home)).domain(Domain::new("work").migrations(processes::SCHEMA)).open()
}

/// Opens, writes, lists and closes.
fn accepted(home: &Path) {
    let runtime = open(home).expect("a local disk");
    let database = runtime.database("work").expect("the domain");
    database.write(|tx| tx.execute("UPDATE counter SET n = n + 1", [])).expect("written");
    assert_eq!(RuntimeDbRegistry::new(&Home::at(home)).list().expect("listed").len(), 1);
    runtime.close(Duration::from_secs(20));
}

/// Refused at once by all who look, naming the home, what is wrong and what to do.
fn refused(home: &Path, words: &[&str]) -> Error {
    refused_within(AT_ONCE, home, words)
}

fn refused_within(bound: Duration, home: &Path, words: &[&str]) -> Error {
    let given = Home::at(home);
    let looks: [fn(&Home) -> rowhouse::Result<()>; 3] = [
        |home| open(home.path()).map(drop),
        |home| RuntimeDbRegistry::new(home).list().map(drop),
        |home| RuntimeDbRegistry::new(home).inspect("work").map(drop),
    ];
    let mut last = None;
    for look in looks {
        // The fastest of three: other work on the machine only ever makes it slower.
        let once = || {
            let started = Instant::now();
            let error = look(&given).expect_err("it must be refused");
            (started.elapsed(), error)
        };
        let tries = [once(), once(), once()];
        let (took, error) = tries.into_iter().min_by_key(|(took, _)| *took).expect("three");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert_eq!(error.path(), Some(home), "{error}");
        for word in words {
            assert!(error.message().contains(word), "{word} is missing: {error}");
        }
        let advice = error.advice().expect("advice");
        for word in ["--home /", "ROWHOUSE_HOME=/", "PostgreSQL"] {
            assert!(advice.contains(word), "{advice}");
        }
        assert!(took < bound, "{took:?}: {error}");
        last = Some(error);
    }
    last.expect("three looks")
}

/// A connection as any program makes one.
#[allow(clippy::disallowed_methods)] // the control
fn plain(path: &Path) -> rowhouse::rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(()))?;
    connection.execute_batch("CREATE TABLE IF NOT EXISTS t(who TEXT, n INTEGER)")?;
    Ok(connection)
}

/// A network home is refused by its name in the list of mounts: not one request goes to its server, and nothing is
/// created there.
///
/// Scale: one FUSE mount under the names of SSHFS, GlusterFS and others, alive; homes that exist or not, through links.
/// Control: plain connections of two hosts to one database on it lose acknowledged rows, or find it malformed.
#[test]
fn n1_a_network_home_is_refused_untouched() {
    if with_mounts("n1", "refusals") {
        with_mounts("n1, control", "two_hosts");
    }
}

fn refusals(folder: &Path) {
    fuse::own_mounts();
    let local = new(folder, "local");
    for (number, name) in ["fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse"].into_iter().enumerate() {
        let share = new(folder, &format!("share {number}"));
        let server = Server::new();
        server.add_folder("home");
        server.mount(&share, name);
        let words = [name, "mounted at", share.to_str().expect("text")];
        symlink(&share, local.join(format!("link{number}"))).expect("a link");
        for home in [
            share.clone(),
            share.join("home"),
            share.join("not/yet/there"),
            local.join(format!("link{number}/home")),
            local.join(format!("../share {number}/home")),
        ] {
            refused(&home, &words);
        }
        assert_eq!(server.requests(), 0, "the share was touched");
        assert_eq!(server.names(), ["home"]);
    }
    processes::say("held");
}

fn two_hosts(folder: &Path) {
    fuse::own_mounts();
    let server = Server::new();
    let hosts = ["one", "other", "later"].map(|name| {
        let place = new(folder, name);
        server.mount(&place, "fuse.nfs");
        place
    });
    let texts = hosts.each_ref().map(|path| processes::text(path));
    // In a process of its own: the server may not wait for memory that it is itself to fill.
    let writers = Child::start("write_by_turns", &texts[..2]);
    let acknowledged: u64 = writers.wait_for("acknowledged").parse().expect("a number");
    writers.finish();
    let reader = Child::start("write_by_turns", &[texts[2], ""]);
    let found = reader.wait_for("found");
    reader.finish();
    assert!(acknowledged > 0, "the control wrote nothing");
    assert_ne!(found, format!("{acknowledged} ok"), "the control lost nothing");
    processes::say(&format!("held {acknowledged} rows acknowledged, then found: {found}"));
}

/// Two hosts write by turns, each through a mount of its own. With one host only: what is there afterwards.
fn write_by_turns(one: &Path, other: &Path) {
    let file = |host: &Path| host.join("shared.sqlite");
    if other.as_os_str().is_empty() {
        let found = plain(&file(one)).and_then(|connection| {
            let check: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
            let rows: i64 = connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0))?;
            Ok(format!("{rows} {check}"))
        });
        return processes::say(&format!("found {}", found.unwrap_or_else(|error| error.to_string())));
    }
    let mut acknowledged = 0;
    let first = plain(&file(one)).expect("the first host");
    let second = plain(&file(other));
    for n in 0..200 {
        for (who, host) in [("first", Some(&first)), ("second", second.as_ref().ok())] {
            let written = host.map(|host| host.execute("INSERT INTO t VALUES (?1, ?2)", (who, n)));
            acknowledged += u64::from(matches!(written, Some(Ok(1))));
        }
    }
    processes::say(&format!("acknowledged {acknowledged}"));
}

/// A mount whose server is dead is refused as fast as a live one, for its home is not touched; where the way leads
/// through it, it gets 60 ms. Nothing hangs, and the process ends.
///
/// Scale: a FUSE mount that answers nothing: a home on it, below it, behind a link, and on a disk mounted inside a
/// share that falls silent.
/// Control: statfs(2) of that mount does not come back in a second.
#[test]
fn n1_a_dead_mount_hangs_nobody() {
    with_mounts("n1", "dead");
}

fn dead(folder: &Path) {
    fuse::own_mounts();
    let dead = new(folder, "dead");
    fuse::mount_dead(&dead, "fuse.sshfs");
    let words = ["fuse.sshfs", "mounted at", processes::text(&dead)];
    refused(&dead, &words);
    refused(&dead.join("home"), &words);
    symlink(&dead, folder.join("link")).expect("a link");
    refused(&folder.join("link/home"), &words);

    // The way to a local disk leads through a share that falls silent.
    let (disk, share) = (new(folder, "disk"), new(folder, "other share"));
    let server = Server::new();
    server.add_folder("disk");
    server.mount(&share, "fuse.virtiofs");
    fuse::bind(&disk, &share.join("disk"));
    let home = share.join("disk/home");
    accepted(&home);
    server.fall_silent();
    let words = ["fuse.virtiofs", "mounted at", processes::text(&share), "does not answer"];
    let started = Instant::now();
    refused_within(10 * AT_ONCE, &home, &words);
    // Only the first look waited.
    assert!(started.elapsed() < 10 * AT_ONCE, "{:?}", started.elapsed());
    let stuck = fs::read_dir("/proc/self/task").expect("/proc").flatten().filter(|task| {
        fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "rowhouse-look")
    });
    assert_eq!(stuck.count(), 1, "threads pile up");

    let mut control = Child::start("statfs", &[processes::text(&dead)]);
    control.wait_for("looks");
    assert_eq!(control.line_by(Instant::now() + Duration::from_secs(1)), None, "the dead mount answers");
    control.kill();
    processes::say("held");
}

/// A folder that is shared with another system is refused in far less than 100 ms with advice, and nothing is left in
/// it.
///
/// Scale: one FUSE mount on which files can be made.
/// Control: a plain connection makes its files there.
#[test]
fn n3_a_shared_folder_is_refused_and_stays_empty() {
    with_mounts("n3", "leftovers");
}

fn leftovers(folder: &Path) {
    fuse::own_mounts();
    let share = new(folder, "c");
    let server = Server::new();
    server.mount(&share, "fuse.drvfs");
    refused(&share.join("Users/me/home"), &["fuse.drvfs"]);
    refused(&share, &["fuse.drvfs"]);
    assert!(server.names().is_empty(), "left behind: {:?}", server.names());

    let control = Child::start("files", &[processes::text(&share.join("plain.sqlite"))]);
    assert_eq!(control.wait_for("made"), "true");
    control.finish();
    assert!(server.names().contains(&"plain.sqlite".to_owned()), "the control made nothing");
    processes::say("held");
}

/// The mount that really holds the home counts: a shared folder in a local disk is refused, a local disk in a shared
/// folder is accepted, likewise when one hides the other; a database that is there is neither touched nor changed.
///
/// Scale: real mounts, two and three deep: tmpfs, the disk and FUSE.
/// Control: the first mount whose place is a prefix of the path (`/`) calls each of these a local disk.
#[test]
fn n4_the_mount_that_holds_the_home_counts() {
    with_mounts("n4", "nested");
}

fn nested(folder: &Path) {
    fuse::own_mounts();
    let disk = new(folder, "disk");
    let server = Server::new();
    server.add_folder("ram");
    server.add_folder("disk");

    // A share in the disk, a disk and a memory in the share, a share in that.
    let share = new(folder, "share");
    server.mount(&share, "fuse.virtiofs");
    fuse::mount("ram", &share.join("ram"), "tmpfs", 0, "");
    fuse::bind(&disk, &share.join("disk"));
    refused(&share.join("home"), &["fuse.virtiofs", share.to_str().expect("text")]);
    accepted(&share.join("ram/home"));
    accepted(&share.join("disk/home"));
    assert!(disk.join("home/work.sqlite").exists());
    let inner = new(&share.join("disk"), "inner");
    Server::new().mount(&inner, "fuse.inner");
    refused(&inner.join("home"), &["fuse.inner", inner.to_str().expect("text")]);

    // The control: `/` comes first in the list, and is a prefix of everything.
    let list = fs::read_to_string("/proc/thread-self/mountinfo").expect("the list");
    let first = list
        .lines()
        .find(|line| line.split(' ').nth(4).is_some_and(|point| processes::text(&share).starts_with(point)));
    assert!(!first.expect("a mount").contains("fuse"), "the control is none");

    // A home that is in use is hidden by a share, and comes back as it was.
    let home = new(folder, "home");
    accepted(&home);
    let before = fs::read(home.join("work.sqlite")).expect("the database");
    Server::new().mount(&home, "fuse.over");
    refused(&home, &["fuse.over"]);
    fuse::mount("ram", &home, "tmpfs", 0, "");
    accepted(&home);
    fuse::unmount(&home);
    refused(&home, &["fuse.over"]);
    fuse::unmount(&home);
    assert!(fs::read(home.join("work.sqlite")).expect("the database") == before, "it was changed");
    assert_eq!(before[18..20], [2, 2], "a write-ahead log, as before");
    accepted(&home);

    // A mount over the folder above hides a share below it.
    let above = new(folder, "above");
    Server::new().mount(&new(&above, "below"), "fuse.hidden");
    refused(&above.join("below/home"), &["fuse.hidden"]);
    fuse::mount("ram", &above, "tmpfs", 0, "");
    accepted(&above.join("below/home"));
    processes::say("held");
}

/// A database file that is mounted by itself is refused, whatever it comes from: its log would stay behind under the
/// other name. One from a shared folder is not even touched.
///
/// Scale: one file of a disk and one of a FUSE mount, over the database of a home.
/// Control: plain connections to the two names of a mounted file do not see each other's rows.
#[test]
fn n7_a_database_file_mounted_by_itself_is_refused() {
    with_mounts("n7", "mounted_files");
}

fn mounted_files(folder: &Path) {
    fuse::own_mounts();
    let home = new(folder, "home");
    accepted(&home);
    let file = processes::file(&home);
    let elsewhere = new(folder, "elsewhere");

    // From the same disk: `docker run -v /elsewhere/work.sqlite:/home/work.sqlite`.
    fs::copy(&file, elsewhere.join("work.sqlite")).expect("copied");
    fuse::bind(&elsewhere.join("work.sqlite"), &file);
    let error = open(&home).map(drop).expect_err("two names");
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert_eq!((error.database(), error.path()), (Some("work"), Some(&*file)), "{error}");
    assert!(error.advice().is_some_and(|advice| advice.contains("mount the folder")), "{error}");
    fuse::unmount(&file);
    let [here, there] = [folder.join("plain.sqlite"), elsewhere.join("plain.sqlite")];
    fs::write(&here, "").expect("a place to mount at");
    drop(plain(&there).expect("a database"));
    fuse::bind(&there, &here);
    let mut control = Child::start("insert", &[processes::text(&there)]);
    control.wait_for("inserted");
    let seen = plain(&here).and_then(|here| here.query_row("SELECT count(*) FROM t", [], |row| row.get(0)));
    assert_eq!(seen.ok(), Some(0), "the control sees the other log");
    control.tell("enough");
    control.finish();

    // From a shared folder.
    let share = new(folder, "share");
    let server = Server::new();
    server.add_file("work.sqlite");
    server.mount(&share, "fuse.grpcfuse");
    fuse::bind(&share.join("work.sqlite"), &file);
    let before = server.requests();
    let error = open(&home).map(drop).expect_err("a shared file");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert_eq!((error.database(), error.path()), (Some("work"), Some(&*file)), "{error}");
    assert!(error.message().contains("fuse.grpcfuse"), "{error}");
    let survey = RuntimeDbRegistry::new(&Home::at(&home)).survey().expect("listed");
    assert_eq!((survey.databases.len(), survey.warnings.len()), (1, 1), "{survey:?}");
    assert!(survey.warnings[0].contains("fuse.grpcfuse"), "{survey:?}");
    assert_eq!(server.requests(), before, "the file was touched");
    fuse::unmount(&file);

    // The folder of the locks counts as well.
    Server::new().mount(&home.join("locks"), "fuse.locks");
    refused(&home, &["fuse.locks"]);
    fuse::unmount(&home.join("locks"));
    accepted(&home);
    processes::say("held");
}

/// A media share is refused at once with the way out, and no request goes to its server.
///
/// Scale: FUSE mounts under the names of GlusterFS and mergerfs.
/// Control: two plain connections, one on each host, hold SQLite's write lock of one database at the same time.
#[test]
fn n9_a_media_share_is_refused() {
    with_mounts("n9", "one_lock");
}

fn one_lock(folder: &Path) {
    fuse::own_mounts();
    let server = Server::new();
    let hosts = [("one", "fuse.glusterfs"), ("other", "fuse.mergerfs")].map(|(place, name)| {
        let place = new(folder, place);
        server.mount(&place, name);
        refused(&place.join("config"), &[name]);
        place
    });
    assert_eq!((server.requests(), server.names().len()), (0, 0));
    let control = Child::start("lock_both", &hosts.each_ref().map(|path| processes::text(path)));
    assert_eq!(control.wait_for("locked"), "both");
    control.finish();
    processes::say("held");
}

fn lock_both(one: &Path, other: &Path) {
    let hosts = [one, other].map(|host| plain(&host.join("media.sqlite")).expect("a database"));
    let taken = hosts.iter().filter(|host| host.execute_batch("BEGIN IMMEDIATE").is_ok()).count();
    processes::say(if taken == 2 { "locked both" } else { "locked one" });
}
