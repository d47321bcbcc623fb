//! `rowhouse support bundle`: what is in it is listed first, it holds no secret, and it is made of a broken home too. It and
//! the other commands that only look change no file of a home, whatever is wrong with it.
#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

#[path = "../../tests/log_rows/mod.rs"]
mod log_rows;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use log_rows::{event, open, write};
use rowhouse::stores::LogLevel;
use serde_json::Value;

/// Stands for every secret: nobody may find it in the archive.
const CANARY: &str = "canary7f3secretvalue";

struct Place {
    folder: tempfile::TempDir,
    home: PathBuf,
}

impl Place {
    /// A home inside the user's folder.
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let home = folder.path().join("wanda/state");
        fs::create_dir_all(&home).expect("a folder");
        Self { folder, home }
    }

    fn user(&self) -> PathBuf {
        self.folder.path().join("wanda")
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("report.tar.gz")
    }

    fn bundle(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        self.bundle_of(&self.user(), arguments)
    }

    /// With the user's folder under this name.
    fn bundle_of(&self, user: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = Command::new(assert_cmd::cargo::cargo_bin("rowhouse"))
            .arg("--home")
            .arg(&self.home)
            .args(["support", "bundle"])
            .arg(self.file())
            .args(arguments)
            .env("HOME", user)
            .env("EXAMPLE_API_TOKEN", CANARY)
            .env("RUST_LOG", format!("info,a={CANARY}"))
            .env("PAGER", format!("less --password={CANARY}"))
            .output()
            .expect("the command runs");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// The files of the archive, by name.
    fn entries(&self) -> BTreeMap<String, String> {
        let file = fs::File::open(self.file()).expect("an archive");
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
        let mut found = BTreeMap::new();
        for entry in archive.entries().expect("entries") {
            let mut entry = entry.expect("an entry");
            let path = entry.path().expect("a path").into_owned();
            assert!(
                path.starts_with(path.iter().next().expect("a folder")) && path.iter().count() == 2,
                "{}",
                path.display()
            );
            let mut text = String::new();
            entry.read_to_string(&mut text).expect("UTF-8");
            found.insert(path.file_name().expect("a name").to_string_lossy().into_owned(), text);
        }
        found
    }
}

fn fill(home: &Path) -> (rowhouse::Runtime, rowhouse::Database) {
    let (runtime, database, _) = open(home);
    write(
        &database,
        &[
            event(1_772_366_400_000_000_000, "one"),
            event(1_772_366_401_000_000_000, format!("https://me:{CANARY}@host went away"))
                .level(LogLevel::Error),
            event(1_772_366_402_000_000_000, format!("read {CANARY} of the environment")),
            event(1_772_366_403_000_000_000, "three").fields(serde_json::json!({ "api_key": CANARY })),
        ],
    );
    (runtime, database)
}

#[test]
fn the_users_folder_may_be_a_link() {
    let place = Place::new();
    let _open = fill(&place.home);
    let link = place.folder.path().join("linked-wanda");
    std::os::unix::fs::symlink(place.user(), &link).expect("a link");
    let (code, _, stderr) = place.bundle_of(&link, &["--yes"]);
    assert_eq!(code, Some(0), "{stderr}");
    for (name, text) in place.entries() {
        assert!(!text.contains("wanda"), "{name}: {text}");
    }
}

#[test]
fn the_archive_holds_what_was_listed_and_no_secret_and_not_whose_folder_it_is() {
    let place = Place::new();
    let _open = fill(&place.home);
    let (code, stdout, stderr) = place.bundle(&["--yes"]);
    assert_eq!(code, Some(0), "{stderr}");
    let entries = place.entries();
    let names: Vec<_> = entries.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "about.json",
            "config.json",
            "databases.json",
            "doctor.json",
            "logs.jsonl",
            "stats.json",
            "status.json",
            "who.json"
        ]
    );
    for (name, text) in &entries {
        assert!(stdout.contains(name), "{stdout}");
        assert!(!text.contains(CANARY) && !text.contains("wanda"), "{name}: {text}");
        let rows: Vec<Value> = match name.as_str() {
            "logs.jsonl" => text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect(),
            _ => vec![serde_json::from_str(text).expect("JSON")],
        };
        assert!(rows.iter().all(|row| row["error"].is_null()), "{name}: {text}");
    }
    assert_eq!(entries["logs.jsonl"].lines().count(), 4);
    assert!(entries["status.json"].contains("~/state/logs.sqlite"), "{}", entries["status.json"]);
    assert!(entries["databases.json"].contains("schema_version"), "{}", entries["databases.json"]);
    assert!(entries["stats.json"].contains(&std::process::id().to_string()), "{}", entries["stats.json"]);
    let mode = fs::metadata(place.file()).expect("the archive").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "nobody else reads it");
}

#[test]
fn nothing_is_written_without_consent() {
    let place = Place::new();
    let _open = fill(&place.home);
    let (code, stdout, stderr) = place.bundle(&["--dry-run"]);
    assert_eq!((code, place.file().exists()), (Some(0), false), "{stderr}");
    assert!(stdout.contains("logs.jsonl") && stdout.ends_with("nothing was written\n"), "{stdout}");
    let (code, stdout, stderr) = place.bundle(&[]);
    assert_eq!(
        (code, stdout.as_str(), place.file().exists()),
        (Some(1), "", false),
        "nobody is there to be asked"
    );
    assert!(stderr.contains("--yes"), "{stderr}");
    let (code, stdout, _) = place.bundle(&["--dry-run", "--json"]);
    let listed: Value = serde_json::from_str(&stdout).expect("one document");
    assert_eq!((code, listed["entries"].as_array().map(Vec::len)), (Some(0), Some(8)), "{listed}");
    let (code, stdout, _) = place.bundle(&["--yes", "--json", "--log-rows", "0"]);
    let written: Value = serde_json::from_str(&stdout).expect("one document");
    let length = fs::metadata(place.file()).expect("the archive").len();
    assert_eq!((code, &written["bytes"], place.entries().len()), (Some(0), &length.into(), 7), "{written}");
}

#[test]
fn a_broken_home_has_a_bundle_too() {
    let place = Place::new();
    drop(fill(&place.home));
    for wal in ["logs.sqlite-wal", "logs.sqlite-shm"] {
        let _ = fs::remove_file(place.home.join(wal));
    }
    fs::write(place.home.join("logs.sqlite"), [b'x'; 4096]).expect("broken");
    fs::write(place.home.join("registry.json"), "{").expect("broken");
    fs::write(place.home.join("config.toml"), "[logs").expect("broken");
    let (code, stdout, stderr) = place.bundle(&["--yes"]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let entries = place.entries();
    let told: Value = serde_json::from_str(&entries["databases.json"]).expect("JSON");
    assert_eq!(told["logs"]["kind"], "corrupt", "{told}");
    assert!(entries["config.json"].contains("is not valid TOML"), "{}", entries["config.json"]);
}

/// Every file below a folder with its mode and content.
fn files(folder: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
        let (path, told) = (entry.path(), entry.metadata().expect("there"));
        if told.is_dir() {
            found.extend(files(&path));
        }
        let content = if told.is_file() { fs::read(&path).expect("read") } else { Vec::new() };
        found.insert(path, (told.mode(), content));
    }
    found
}

/// The home as a program leaves it that is killed: with logs and their indexes.
fn killed(place: &Place) {
    let home = place.home.clone();
    let live = place.folder.path().join("live");
    let (logs, _kept) = fill(&live);
    let state = rowhouse::Runtime::builder(rowhouse::Home::at(&live))
        .domain(rowhouse::Domain::state())
        .open()
        .expect("a second database");
    let database = state.database("state").expect("it").within(std::time::Duration::from_secs(20));
    database.wait_for_steps(std::time::Duration::from_secs(20)).expect("no steps are left");
    for folder in ["", "locks"] {
        fs::create_dir_all(home.join(folder)).expect("a folder");
        for entry in fs::read_dir(live.join(folder)).expect("a list").map(|entry| entry.expect("an entry")) {
            if entry.metadata().expect("there").is_file() {
                fs::copy(entry.path(), home.join(folder).join(entry.file_name())).expect("copied");
            }
        }
    }
    // Whoever had steps to do in it left this.
    fs::write(home.join("locks/state.steps"), "").expect("a file");
    drop((logs, state));
}

#[test]
fn looking_leaves_the_log_of_an_emptied_database_as_it_is() {
    for log in ["all of it", "nothing"] {
        let place = Place::new();
        killed(&place);
        for name in ["state", "logs"] {
            let file = |ending: &str| place.home.join(format!("{name}.sqlite{ending}"));
            assert!(file("-wal").exists() && file("-shm").exists(), "as it was left");
            fs::write(file(""), "").expect("emptied");
            if log == "nothing" {
                fs::write(file("-wal"), "").expect("emptied");
            }
        }
        let before = files(&place.home);
        let page = place.folder.path().join("report.html");
        let page = page.to_str().expect("plain");
        for arguments in [
            &["report", "--html", page, "--force"][..],
            &["status"],
            &["stats"],
            &["who"],
            &["doctor"],
            &["doctor", "--deep"],
        ] {
            let mut command = Command::new(assert_cmd::cargo::cargo_bin("rowhouse"));
            let output = command.arg("--home").arg(&place.home).args(arguments).output().expect("it runs");
            assert!(output.status.code().is_some(), "{arguments:?}");
            let mut now = files(&place.home);
            // The report keeps its own list of sizes over time.
            now.remove(&place.home.join("sizes.jsonl"));
            assert_eq!(changed(&before, &now), [""; 0], "{log}: {arguments:?}");
        }
    }

    // Control: SQLite opens the same file for reading, and deletes the log.
    let place = Place::new();
    killed(&place);
    let file = place.home.join("state.sqlite");
    fs::write(&file, "").expect("emptied");
    let flags = rowhouse::rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let plain = rowhouse::rusqlite::Connection::open_with_flags(&file, flags).expect("opened");
    plain.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).expect("read");
    assert!(!place.home.join("state.sqlite-wal").exists());
}

#[test]
fn a_bundle_changes_nothing_in_the_home_whatever_is_wrong_with_it() {
    type Break = fn(&Path);
    let states: [(&str, Break, bool); 5] = [
        ("killed", |_| {}, true),
        (
            "may be read by others",
            |home| {
                fs::set_permissions(home, fs::Permissions::from_mode(0o755)).expect("a mode");
                fs::set_permissions(home.join("logs.sqlite"), fs::Permissions::from_mode(0o644))
                    .expect("a mode");
                fs::remove_dir_all(home.join("locks")).expect("removed");
            },
            true,
        ),
        ("no index", |home| fs::remove_file(home.join("logs.sqlite-shm")).expect("removed"), true),
        ("damaged", |home| fs::write(home.join("logs.sqlite"), [b'x'; 8192]).expect("broken"), false),
        ("emptied", |home| fs::write(home.join("logs.sqlite"), "").expect("emptied"), false),
    ];
    for (state, spoil, has_rows) in states {
        let place = Place::new();
        killed(&place);
        spoil(&place.home);
        let before = files(&place.home);
        for arguments in [&["--dry-run"][..], &["--yes"]] {
            let (code, stdout, stderr) = place.bundle(arguments);
            assert_eq!(code, Some(0), "{state}: {stdout}{stderr}");
            let changed = changed(&before, &files(&place.home));
            // A reader notes its snapshot in the index of a log, which holds nothing else.
            let indexes =
                changed.iter().filter(|path| path.ends_with("-shm") && Path::new(path).exists()).count();
            assert_eq!(changed.len(), indexes, "{state}: {arguments:?}: {changed:?}");
        }
        let rows = &place.entries()["logs.jsonl"];
        let told: Option<Value> = serde_json::from_str(rows).ok();
        let is_missing = told.is_some_and(|told| told["error"].is_string());
        assert_eq!((rows.lines().count() == 4, is_missing), (has_rows, !has_rows), "{state}: {rows}");
    }

    // Control: a command that opens the log changes the home.
    let place = Place::new();
    killed(&place);
    fs::write(place.home.join("logs.sqlite"), [b'x'; 8192]).expect("broken");
    let before = files(&place.home);
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("rowhouse"));
    command.arg("--home").arg(&place.home).args(["logs", "stats"]).output().expect("it runs");
    assert!(!changed(&before, &files(&place.home)).is_empty());
}

#[test]
fn no_output_replaces_a_database() {
    let place = Place::new();
    killed(&place);
    // Also one whose header makes no sense any more, and by way of a link to its folder.
    fs::write(place.home.join("goals.sqlite"), [&b"SQLite format 3\0"[..], &[7; 5000]].concat())
        .expect("a file");
    let link = place.folder.path().join("link");
    std::os::unix::fs::symlink(&place.home, &link).expect("a link");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("rowhouse"));
        command.arg("--home").arg(&place.home).args(arguments).output().expect("it runs").status.success()
    };
    for name in ["state.sqlite", "logs.sqlite", "goals.sqlite"] {
        let file = link.join(name);
        let before = fs::read(&file).expect("read");
        let file = file.to_str().expect("plain");
        for arguments in
            [&["support", "bundle", file, "--yes", "--force"][..], &["report", "--html", file, "--force"]]
        {
            assert!(!run(arguments), "{name}: {arguments:?}");
        }
        assert!(fs::read(file).expect("read") == before, "{name}");
    }
    let file = place.folder.path().join("old.html");
    fs::write(&file, "SQLite format 2").expect("a file");
    assert!(run(&["report", "--html", file.to_str().expect("plain"), "--force"]));
}

/// What differs between two looks at a folder.
fn changed<T: PartialEq>(before: &BTreeMap<PathBuf, T>, after: &BTreeMap<PathBuf, T>) -> Vec<String> {
    let all = before.keys().chain(after.keys().filter(|path| !before.contains_key(*path)));
    let differ = all.filter(|path| before.get(*path) != after.get(*path));
    differ.map(|path| path.display().to_string()).collect()
}
