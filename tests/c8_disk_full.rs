//! A disk that fills up: logs stop first, what matters goes on in what is left, and everybody comes back by itself.

#![allow(clippy::disallowed_methods, reason = "a test looks at files from outside")]

mod processes;
mod small_disk;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use processes::{Child, integrity, listen, plain, role, say, text};
use rowhouse::{Database, Domain, Error, ErrorKind, Health, Home, Limits, Migration, Runtime, Ticket};
use small_disk::SmallDisk;

const TABLES: &[Migration] = &[Migration {
    name: "V1__rows",
    sql: "CREATE TABLE item(id INTEGER PRIMARY KEY, process INTEGER NOT NULL, body BLOB NOT NULL);",
}];
const INSERT: &str = "INSERT INTO item(process, body) VALUES (?1, zeroblob(?2))";

const THIS: &str = "c8_logs_leave_the_last_of_the_disk_to_state_and_all_comes_back";

/// An eighth of it is the reserve.
const DISK: usize = 64 << 20;
/// What somebody else has on it, and takes away in the end.
const OTHERS: usize = 24 << 20;

struct Both {
    state: Database,
    logs: Database,
    _runtime: Runtime,
    process: u32,
    acknowledged: u64,
}

impl Both {
    fn open(home: &Path, reserve: u64) -> Self {
        let mut limits = Limits::default();
        limits.disk_reserve = reserve;
        // On a disk in memory the log would be the larger part otherwise.
        limits.wal_soft = 1 << 20;
        let runtime = Runtime::builder(Home::at(home))
            .domain(Domain::new("state").migrations(TABLES))
            .domain(Domain::new("logs").migrations(TABLES).best_effort())
            .limits(limits)
            .open()
            .expect("opened");
        let database = |name| runtime.database(name).expect("a domain");
        let (state, logs) = (database("state"), database("logs"));
        Self { state, logs, _runtime: runtime, process: std::process::id(), acknowledged: 0 }
    }

    fn write_state(&mut self, bytes: u32) -> Result<(), Error> {
        let process = self.process;
        self.state.write(|tx| tx.execute(INSERT, (process, bytes)))?;
        self.acknowledged += 1;
        Ok(())
    }

    /// A batch of log rows, and waits for it.
    fn write_logs(&self) -> Result<(), String> {
        let process = self.process;
        let submit = |_| self.logs.submit(move |tx| tx.execute(INSERT, (process, 4000)));
        let tickets: Result<Vec<_>, _> = (0..64).map(submit).collect();
        tickets.map_err(|error| error.to_string())?.into_iter().try_for_each(soon)
    }

    /// Until the disk takes no more of something: what was refused, logs and state.
    fn fill(&mut self) -> String {
        let mut refused = [0; 2];
        while refused[1] == 0 && self.logs.stats().shed == 0 {
            refused[0] += u64::from(self.write_logs().is_err());
            refused[1] += u64::from(self.write_state(100).is_err());
        }
        // Logs go on being tried, as they are in life.
        for _ in 0..10 {
            refused[0] += u64::from(self.write_logs().is_err());
            refused[1] += u64::from(self.write_state(100).is_err());
        }
        format!("logs {} state {} shed {}", refused[0], refused[1], self.logs.stats().shed)
    }

    /// Writes state until the disk is really full; says how.
    fn exhaust(&mut self) -> String {
        let before = self.acknowledged;
        loop {
            if let Err(error) = self.write_state(20_000) {
                let (kind, rows) = (error.kind(), self.acknowledged - before);
                return format!(
                    "{kind:?} after {rows} rows: {error}: {}",
                    error.advice().unwrap_or_default()
                );
            }
        }
    }
}

/// What waits for room longer than this counts as refused.
fn soon(mut ticket: Ticket<usize>) -> Result<(), String> {
    let answer = ticket.wait_for(Duration::from_millis(300));
    answer.ok_or("it still waits for room")?.map(drop).map_err(|error| error.to_string())
}

#[test]
fn child_entry() {
    let Some(arguments) = role() else { return };
    let [_, home, reserve] = &arguments[..] else { panic!("a home and a reserve: {arguments:?}") };
    let mut both = Both::open(Path::new(home), reserve.parse().expect("bytes"));
    let started = Instant::now();
    while both.write_logs().is_err() {
        assert!(started.elapsed() < Duration::from_mins(1), "logs are attached: {:?}", both.logs.health());
    }
    say("ready");
    loop {
        let answer = match &*listen() {
            "fill" => both.fill(),
            "exhaust" => both.exhaust(),
            "state" => both.write_state(100).err().map_or("fine".into(), |error| error.to_string()),
            "logs" => both.write_logs().err().unwrap_or("fine".into()),
            "read" => {
                let count = both.state.read(|at| {
                    at.row("SELECT count(*) FROM item WHERE process = ?1", [both.process], |row| row.get(0))
                });
                count.map_or_else(|error| error.to_string(), |count: i64| count.to_string())
            }
            "acknowledged" => both.acknowledged.to_string(),
            "health" => match (both.state.health(), both.logs.health()) {
                (state, Health::Degraded { reason, .. }) => format!("{state:?} {reason}"),
                (state, logs) => format!("{state:?} {logs:?}"),
            },
            _ => return,
        };
        say(&format!("answer {answer}"));
    }
}

struct Crowd(Vec<Child>);

impl Crowd {
    fn start(count: usize, home: &Path, reserve: u64) -> Self {
        let reserve = reserve.to_string();
        let children: Vec<_> = (0..count).map(|_| Child::start("both", &[text(home), &reserve])).collect();
        for child in &children {
            child.wait_for("ready");
        }
        Self(children)
    }

    /// All at once.
    fn ask(&mut self, what: &str) -> Vec<String> {
        for child in &mut self.0 {
            child.tell(what);
        }
        self.0.iter().map(|child| child.wait_for("answer")).collect()
    }

    /// Each until it says so once: who went on would fill the disk again before the last one looks.
    fn until_fine(&mut self, what: &str) {
        let started = Instant::now();
        for child in &mut self.0 {
            loop {
                child.tell(what);
                let answer = child.wait_for("answer");
                if answer == "fine" {
                    break;
                }
                assert!(started.elapsed() < Duration::from_mins(1), "{what}: {answer}");
            }
        }
    }
}

/// What each process was refused while the disk filled: by word.
fn counts(answers: &[String]) -> BTreeMap<&str, u64> {
    let mut sums = BTreeMap::new();
    for answer in answers {
        let words: Vec<_> = answer.split(' ').collect();
        for pair in words.chunks_exact(2) {
            *sums.entry(pair[0]).or_default() += pair[1].parse::<u64>().expect("a count");
        }
    }
    sums
}

/// A best-effort database looks at the free space while it writes, and takes no work below the reserve; required ones go
/// on. When the disk is really full they answer `Full` with the bytes that are free, reads go on, and everything continues
/// by itself when somebody makes room.
///
/// Scale: three processes with state and logs each, on a file system with 40 MiB for them and a reserve of 8 MiB.
///
/// Control: without the reserve (`Limits::disk_reserve = 0`) the same logs take the last byte, and state is refused with
/// them.
#[test]
fn c8_logs_leave_the_last_of_the_disk_to_state_and_all_comes_back() {
    let Some(disk) = used_disk() else { return };
    let home = disk.path().join("home");
    let mut crowd = Crowd::start(3, &home, 64 << 20);

    // The disk fills while everybody writes.
    let answers = crowd.ask("fill");
    let refused = counts(&answers);
    assert!(refused["logs"] > 0 && refused["shed"] > 0, "{answers:?}");
    assert_eq!(refused["state"], 0, "state went on: {answers:?}");
    for told in crowd.ask("logs") {
        assert!(told.contains("are kept for databases that matter more"), "{told}");
        assert!(told.contains("bytes are free") && told.contains("free some space"), "{told}");
    }
    for told in crowd.ask("health") {
        assert!(told.starts_with("Ready ") && told.contains("bytes are free"), "{told}");
    }

    // Nothing is left at all.
    disk.fill(64 << 10);
    for told in crowd.ask("exhaust") {
        println!("{told}");
        assert!(told.starts_with(&format!("{:?} after ", ErrorKind::Full)), "{told}");
        assert!(told.contains("bytes are free there") && told.contains("free some space"), "{told}");
    }
    let known = crowd.ask("acknowledged");
    assert_eq!(crowd.ask("read"), known, "the programs run on, and read what was acknowledged");

    // Somebody makes room.
    disk.empty();
    crowd.until_fine("state");
    assert!(crowd.ask("logs").iter().all(|told| told != "fine"), "what is left is still kept for state");
    std::fs::remove_file(disk.path().join("others")).expect("much room");
    crowd.until_fine("logs");
    crowd.until_fine("state");
    let known = crowd.ask("acknowledged");
    assert_eq!(crowd.ask("read"), known, "nothing acknowledged is missing");
    drop(crowd);
    for name in ["state.sqlite", "logs.sqlite"] {
        assert_eq!(integrity(&home.join(name)), "ok");
    }
    let rows: i64 = plain(&home.join("state.sqlite"))
        .query_row("SELECT count(*) FROM item", [], |row| row.get(0))
        .expect("a count");
    assert_eq!(rows, known.iter().map(|count| count.parse::<i64>().expect("a count")).sum::<i64>());

    // Without the reserve.
    let Some(disk) = used_disk() else { return };
    let mut crowd = Crowd::start(3, &disk.path().join("home"), 0);
    let answers = crowd.ask("fill");
    assert!(counts(&answers)["state"] > 0, "the control kept something for state: {answers:?}");
}

fn used_disk() -> Option<SmallDisk> {
    let disk = SmallDisk::mount(THIS, DISK)?;
    std::fs::write(disk.path().join("others"), vec![1; OTHERS]).expect("there is room");
    Some(disk)
}
