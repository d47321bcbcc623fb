//! Which events are taken is the user's choice: by the home's `config.toml`, by `RUST_LOG`, also while programs run.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

mod processes;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use processes::Child;
use rowhouse::stores::logs::{
    LogEvent, LogLevel, LogLevels, LogOptions, LogSink, log_levels, set_log_levels,
};
use rowhouse::{ErrorKind, Home, Runtime};

/// How soon a change of the setting counts in a program that runs: it looks every two seconds, when it gets to run.
const SOON: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_mins(1);

#[test]
fn child_entry() {
    let Some(arguments) = processes::role() else { return };
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["program", home] => program(home.as_ref()),
        ["origin", home] => {
            let (levels, origin) = log_levels(&Home::at(*home)).expect("levels");
            processes::say(&format!("{levels} {origin:?}"));
        }
        other => panic!("{other:?}"),
    }
}

fn emit_all(sink: &LogSink) {
    for level in LogLevel::ALL {
        sink.emit(LogEvent::new(level, "app", format!("{level}")));
        sink.emit(LogEvent::new(level, "noisy::part", format!("{level} of noisy")));
    }
}

/// Says something at every level whenever it is told to, and whether it has the logs open.
fn program(home: &Path) {
    let runtime = Runtime::open(Home::at(home)).expect("opens");
    let sink = runtime.log_sink(LogOptions::default()).expect("a sink");
    loop {
        match processes::listen().as_str() {
            "say" => {
                emit_all(&sink);
                sink.flush(LONG).expect("written");
            }
            "wait" => {
                let wanted = processes::listen().parse().expect("levels");
                until("the level is followed", || sink.levels() == wanted);
            }
            "end" => break,
            other => panic!("{other}"),
        }
        let open = std::fs::read_dir("/proc/self/fd").expect("/proc").flatten().any(|fd| {
            std::fs::read_link(fd.path()).is_ok_and(|path| path.to_string_lossy().contains("logs.sqlite"))
        });
        processes::say(&format!("done {} {open}", sink.stats().emitted));
    }
    runtime.close(LONG);
}

fn until(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let (_keep, never) = channel::<()>();
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < LONG, "{what} did not come");
        let _ = never.recv_timeout(Duration::from_millis(20));
    }
    began.elapsed()
}

struct Program(Child);

impl Program {
    fn start(home: &Path, rust_log: &str) -> Self {
        Self(Child::start_in("program", &[processes::text(home)], &[("RUST_LOG", rust_log)]))
    }

    /// How many events were taken so far, and whether the logs are open.
    fn say(&mut self) -> (u64, bool) {
        self.0.tell("say");
        self.done()
    }

    fn done(&self) -> (u64, bool) {
        let line = self.0.wait_for("done");
        let (emitted, open) = line.split_once(' ').expect("two words");
        (emitted.parse().expect("a number"), open == "true")
    }

    fn wait_for(&mut self, levels: &LogLevels) -> Duration {
        let began = Instant::now();
        self.0.tell("wait");
        self.0.tell(&levels.to_string());
        self.done();
        began.elapsed()
    }

    fn end(mut self) {
        self.0.tell("end");
        self.0.finish();
    }
}

/// The levels of the rows there are, lowest first. Only while no program runs.
fn levels_of_rows(home: &Path) -> Vec<i64> {
    let plain = processes::plain(&home.join("logs.sqlite"));
    let mut rows = plain.prepare("SELECT DISTINCT level FROM log ORDER BY level").expect("a table");
    rows.query_map([], |row| row.get(0)).expect("rows").map(|row| row.expect("a row")).collect()
}

fn log_files(home: &Path) -> Vec<String> {
    let names = std::fs::read_dir(home).expect("a home").flatten();
    names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("logs."))
        .collect()
}

/// With `off`, from the environment or the home's setting, no file of the logs is created, and one that is there is not
/// opened; with `warn` no row is below WARN; and a program that runs follows the home's setting within seconds, also from
/// `off` and back.
///
/// Scale: 7 programs, 10 events each time.
/// Control: the same program without a setting creates the file and writes INFO.
#[test]
fn g2_the_level_is_the_users_choice() {
    let home = processes::folder();
    let home = home.path();
    let mut off = Program::start(home, "off");
    assert_eq!(off.say(), (0, false));
    assert_eq!(log_files(home), [""; 0]);

    // From off to a level, while it runs.
    let at = Home::at(home);
    let warn: LogLevels = "warn,noisy=off".parse().expect("levels");
    set_log_levels(&at, Some(&warn)).expect("set");
    let took = off.wait_for(&warn);
    println!("followed after {took:?}");
    assert!(took < SOON, "{took:?}");
    assert_eq!(off.say(), (2, true));
    // And back.
    set_log_levels(&at, Some(&LogLevels::off())).expect("set");
    assert!(off.wait_for(&LogLevels::off()) < SOON);
    assert_eq!(off.say().0, 2);
    off.end();
    assert_eq!(levels_of_rows(home), [4, 5]);

    // What is there is not opened; the home's setting comes before the environment's.
    let mut program = Program::start(home, "trace");
    assert_eq!(program.say(), (0, false));
    program.end();

    set_log_levels(&at, None).expect("taken out");
    let mut program = Program::start(home, "warn");
    assert_eq!(program.say(), (4, true));
    program.end();
    assert_eq!(levels_of_rows(home), [4, 5]);

    let mut control = Program::start(home, "");
    assert_eq!(control.say(), (6, true));
    control.end();
    assert_eq!(levels_of_rows(home), [3, 4, 5]);
}

#[test]
fn a_program_without_logs_says_how_to_turn_them_on() {
    let home = processes::folder();
    let runtime = Runtime::builder(Home::at(home.path()))
        .agent_domains()
        .log_levels(LogLevels::off())
        .open()
        .expect("opens");
    let error = runtime.database("logs").expect_err("off");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.advice().is_some_and(|advice| advice.contains("logs level")), "{error}");
    // Another part of the program that names them gets them.
    let named =
        Runtime::builder(Home::at(home.path())).domain(rowhouse::Domain::logs()).open().expect("opens");
    named.database("logs").expect("named");
    runtime.database("logs").expect("they are there now");
}

/// Logs that were off are opened when they are turned on, whoever asks for them at that moment.
#[test]
fn logs_are_turned_on_while_everybody_asks_for_them() {
    let home = processes::folder();
    let at = Home::at(home.path());
    set_log_levels(&at, Some(&LogLevels::off())).expect("set");
    let runtime = Runtime::open(at.clone()).expect("opens");
    let sink = runtime.log_sink(LogOptions::default()).expect("a sink");
    let found = Arc::new(AtomicUsize::new(0));
    for _ in 0..4 {
        let (runtime, found) = (runtime.clone(), found.clone());
        std::thread::spawn(move || {
            while runtime.database("logs").is_err() {}
            found.fetch_add(1, Ordering::Relaxed);
        });
    }
    set_log_levels(&at, Some(&LogLevels::all(LogLevel::Info))).expect("set");
    until("they are turned on", || {
        sink.emit(LogEvent::new(LogLevel::Info, "app", "on"));
        found.load(Ordering::Relaxed) == 4
    });
    sink.flush(LONG).expect("written");
    runtime.close(LONG);
}

#[test]
fn where_the_level_comes_from_is_told() {
    let folder = processes::folder();
    let home = folder.path().join("home");
    let origin = |rust_log: &str| {
        let child = Child::start_in("origin", &[processes::text(&home)], &[("RUST_LOG", rust_log)]);
        child.line().expect("an answer")
    };
    assert_eq!(
        origin("app=debug,[span]=trace"),
        "info,app=debug Environment",
        "also where there is no home yet"
    );
    assert_eq!(origin("[span]=trace"), "info Program");
    set_log_levels(&Home::at(&home), Some(&LogLevels::off())).expect("set before anything else");
    assert_eq!(origin("trace"), "off Config");
    let config = home.join("config.toml");
    std::fs::write(&config, "# kept\n[other]\na = 1\n").expect("a file");
    set_log_levels(&Home::at(&home), Some(&LogLevels::all(LogLevel::Error))).expect("set");
    assert_eq!(origin("trace"), "error Config");
    assert_eq!(
        std::fs::read_to_string(&config).expect("a file"),
        "# kept\n[other]\na = 1\n[logs]\nlevel = \"error\"\n"
    );
}

/// A setting that cannot be understood neither stops a program nor turns its logs off.
#[test]
fn a_bad_setting_changes_nothing() {
    let folder = processes::folder();
    let home = folder.path();
    std::fs::write(home.join("config.toml"), "[logs]\nlevel = \"app=loud\"\n").expect("a file");
    let error = log_levels(&Home::at(home)).expect_err("loud is no level");
    assert_eq!(
        (error.kind(), error.path()),
        (ErrorKind::Invalid, Some(&*home.join("config.toml"))),
        "{error}"
    );
    let runtime = Runtime::open(Home::at(home)).expect("opens");
    let sink = runtime.log_sink(LogOptions::default()).expect("a sink");
    assert_eq!(sink.levels().to_string(), LogLevels::default().to_string());
    std::fs::write(home.join("config.toml"), "[logs]\nlevel = \"debug\"\n").expect("a file");
    until("it is followed", || sink.levels() == LogLevels::all(LogLevel::Debug));
    std::fs::write(home.join("config.toml"), "[logs\n").expect("a file");
    std::fs::write(home.join("config.toml"), "[logs]\nlevel = \"warn\"\n").expect("a file");
    until("it is followed", || sink.levels() == LogLevels::all(LogLevel::Warn));
}
