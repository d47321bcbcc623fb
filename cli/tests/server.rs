//! A home whose state is on a PostgreSQL server, as the command shows it: what it knows of the server, what it says where a
//! file would be needed, and what it says when the server cannot be used. On a real server.
#![cfg(feature = "postgres")]
#![allow(clippy::disallowed_methods, reason = "a test writes config files and looks at a home from outside")]

mod common;
#[path = "../../tests/engines/mod.rs"]
mod engines;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use common::{document, rowhouse};
use engines::server::{configure, shared};
use rowhouse::{Domain, Home, Runtime};
use serde_json::Value;
use tempfile::TempDir;

/// What must not be printed.
const CANARY: &str = "canary-of-a-password";
const THREAD: &str = "019cadf1-7a5e-7b04-8f21-000000000001";

fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).expect("private");
    folder
}

/// A home with a thread and a goal on a server, behind a password, and its logs here.
struct Place {
    home: TempDir,
    database: String,
    url: String,
}

impl Place {
    fn new() -> Self {
        let home = folder();
        let database = shared().new_database();
        let url = format!("{} password={CANARY}", shared().url("app", &database));
        configure(home.path(), &url);
        let runtime = Runtime::builder(Home::at(home.path()));
        let runtime = runtime.domain(Domain::state()).domain(Domain::goals()).domain(Domain::logs());
        let runtime = runtime.open().expect("a runtime");
        let goal = rowhouse::stores::goals::NewGoal::new("Ship it");
        runtime.goals().replace(THREAD, &goal).expect("a goal");
        let logs = runtime.database("logs").expect("logs").within(std::time::Duration::from_mins(1));
        logs.write(|_| Ok(())).expect("attached");
        runtime.close(std::time::Duration::from_mins(1));
        Self { home, database, url }
    }

    fn home(&self) -> &Path {
        self.home.path()
    }

    /// It ends well, and prints no secret.
    fn says(&self, arguments: &[&str]) -> (String, String) {
        let (code, stdout, stderr) = rowhouse(self.home(), arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {stdout}{stderr}");
        assert!(!format!("{stdout}{stderr}").contains(CANARY), "{arguments:?}: {stdout}{stderr}");
        (stdout, stderr)
    }

    fn tells(&self, arguments: &[&str]) -> Value {
        let (code, told) = document(self.home(), arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {told}");
        assert!(!told.to_string().contains(CANARY), "{arguments:?}: {told}");
        told
    }

    /// It fails, in words that name the server, and prints no secret.
    fn refuses(&self, arguments: &[&str], kind: &str) -> Value {
        let (code, told) = document(self.home(), arguments);
        assert_eq!((code, told["error"]["kind"].as_str()), (Some(1), Some(kind)), "{arguments:?}: {told}");
        let text = told.to_string();
        assert!(!text.contains(CANARY) && text.contains("server"), "{arguments:?}: {told}");
        assert!(told["error"]["advice"].is_string(), "{arguments:?}: {told}");
        told
    }
}

/// Databases that lie in a home.
fn files(home: &Path) -> BTreeSet<String> {
    let found = std::fs::read_dir(home).expect("the home").flatten();
    let names = found.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(".sqlite")).collect()
}

#[test]
fn status_says_where_each_domain_is_and_how_large() {
    let place = Place::new();
    let (text, _) = place.says(&["status"]);
    let row = text.lines().find(|line| line.starts_with("goals") && line.contains("rowhouse_goals"));
    assert!(row.is_some_and(|row| row.contains(&place.database)), "{text}");
    assert!(text.contains("on a server") && text.contains("PostgreSQL "), "{text}");
    let told = place.tells(&["status"]);
    let domains = told["server"]["domains"].as_array().expect("domains");
    assert_eq!(
        domains.iter().map(|domain| domain["name"].as_str().unwrap_or_default()).collect::<Vec<_>>(),
        ["goals", "state"]
    );
    assert!(
        domains.iter().all(|domain| domain["bytes"].as_u64() > Some(0) && domain["schema_version"].is_i64()),
        "{told}"
    );
    let databases = told["databases"].as_array().expect("databases");
    let goals = databases.iter().find(|database| database["name"] == "goals").expect("goals");
    assert_eq!(
        (goals["present"].as_bool(), goals["server"]["schema"].as_str()),
        (Some(false), Some("rowhouse_goals"))
    );
    let logs = databases.iter().find(|database| database["name"] == "logs").expect("logs");
    assert_eq!((logs["present"].as_bool(), logs["server"].is_null()), (Some(true), true));
    // One that does not answer is told, and keeps nothing else from being shown.
    configure(place.home(), &format!("host=/nowhere user=app password={CANARY}"));
    let (text, warning) = place.says(&["status"]);
    assert!(text.contains("logs") && warning.contains("could not be asked"), "{text}{warning}");
}

#[test]
fn who_names_programs_of_all_machines() {
    let place = Place::new();
    let runtime = Runtime::builder(Home::at(place.home())).domain(Domain::state()).open().expect("open");
    runtime.threads().get(THREAD).expect("read");
    let (text, _) = place.says(&["who"]);
    let own = format!(":{}", std::process::id());
    assert!(text.lines().any(|line| line.contains(&own) && line.contains("idle")), "{text}");
    let told = place.tells(&["who", "state"]);
    let sessions = told["server"]["sessions"].as_array().expect("sessions");
    assert!(
        sessions.iter().any(|session| session["name"].as_str().is_some_and(|name| name.ends_with(&own))),
        "{told}"
    );
    assert_eq!(told["databases"], Value::Array(Vec::new()), "nobody has a file of it");
}

#[test]
fn path_says_that_there_is_no_file_and_why() {
    let place = Place::new();
    let told = place.refuses(&["path", "state"], "unsupported");
    assert!(told["error"]["message"].as_str().is_some_and(|said| said.contains("rowhouse_state")), "{told}");
    let all = place.tells(&["path"]);
    let state = all["databases"].as_array().into_iter().flatten().find(|file| file["name"] == "state");
    assert!(state.is_some_and(|state| state["path"].is_null() && state["server"].is_object()), "{all}");
    place.says(&["path", "logs"]);
}

#[test]
fn what_counts_files_says_that_these_are_none() {
    let place = Place::new();
    let (text, _) = place.says(&["stats"]);
    assert!(text.lines().any(|line| line.starts_with("goals") && line.contains("on postgres://")), "{text}");
    assert_eq!(place.tells(&["stats"])["schema_version"], 1);
    let page = place.home().join("page.html");
    place.says(&["report", "--html", page.to_str().expect("UTF-8")]);
    let page = std::fs::read_to_string(page).expect("the page");
    assert!(page.contains("on a server") && page.contains("rowhouse_goals") && !page.contains(CANARY));
    let archive = place.home().join("report.tar.gz");
    let archive = archive.to_str().expect("UTF-8");
    place.says(&["support", "bundle", archive, "--yes"]);
    let read = Command::new("tar").args(["-xzOf", archive]).output().expect("tar");
    let text = String::from_utf8_lossy(&read.stdout);
    assert!(text.contains("\"schema\": \"rowhouse_goals\"") && !text.contains(CANARY), "{text}");
}

/// What a process does on a server is read by other processes, as what it does in files is.
#[test]
fn stats_read_what_another_process_does_on_a_server() {
    let place = Place::new();
    let runtime = Runtime::builder(Home::at(place.home())).domain(Domain::state()).domain(Domain::goals());
    let runtime = runtime.open().expect("open");
    let goal = rowhouse::stores::goals::NewGoal::new("Ship it twice");
    for _ in 0..3 {
        runtime.goals().replace(THREAD, &goal).expect("a goal");
    }
    runtime.goals().get(THREAD).expect("read");
    let known = &runtime.stats()["goals"];
    assert_eq!((known.jobs, known.reads, known.errors.total()), (3, 1, 0));
    assert!(known.connections >= 1 && known.connections_lent == 0, "{known:?}");

    let told = place.tells(&["stats", "goals"]);
    let goals = &told["databases"][0];
    assert_eq!(goals["processes"][0]["pid"], std::process::id());
    assert_eq!(goals["processes"][0]["stats"], serde_json::json!(known), "the same as it knows itself");
    let (text, _) = place.says(&["stats"]);
    assert!(text.contains("on a server") && text.contains("0 in use"), "{text}");
    let own = std::process::id().to_string();
    assert!(text.lines().any(|line| line.starts_with("goals") && line.contains(&own)), "{text}");
}

#[test]
fn a_backup_says_each_time_what_is_not_in_it() {
    let place = Place::new();
    let target = place.home().join("monday");
    let target = target.to_str().expect("UTF-8");
    let (_, warning) = place.says(&["backup", target]);
    for name in ["goals", "state"] {
        let said = format!("pg_dump --format=custom --schema=rowhouse_{name}");
        assert!(warning.contains(&said), "{warning}");
    }
    let manifest = std::fs::read_to_string(Path::new(target).join("manifest.json")).expect("a manifest");
    assert!(manifest.contains("left_out") && manifest.contains("rowhouse_goals"), "{manifest}");
    assert_eq!(files(Path::new(target)), BTreeSet::from(["logs.sqlite".to_owned()]));
    // Of a home with nothing but that there is no backup.
    std::fs::remove_file(place.home().join("logs.sqlite")).expect("removed");
    std::fs::remove_file(place.home().join("registry.json")).expect("removed");
    place.refuses(&["backup", place.home().join("none").to_str().expect("UTF-8")], "unsupported");
    assert!(!place.home().join("none").exists());
}

#[test]
fn a_restore_puts_no_file_where_nobody_reads_it() {
    let place = Place::new();
    let before = folder();
    Runtime::open(Home::at(before.path())).expect("in files").close(std::time::Duration::from_mins(1));
    let backup = before.path().join("monday");
    let backup = backup.to_str().expect("UTF-8");
    assert_eq!(rowhouse(before.path(), &["backup", backup]).0, Some(0));
    for asked in [&["restore", backup, "--yes"][..], &["restore", backup, "--dry-run"]] {
        place.refuses(asked, "conflict");
    }
    assert_eq!(files(place.home()), BTreeSet::from(["logs.sqlite".to_owned()]));
}

#[test]
fn what_cares_for_files_says_that_a_server_cares_for_itself() {
    let place = Place::new();
    for command in ["maintain", "compact"] {
        let (_, warning) = place.says(&[command]);
        assert!(warning.contains("goals is on postgres://") && warning.contains("state is on"), "{warning}");
        place.refuses(&[command, "state"], "unsupported");
    }
    place.refuses(&["repair", "plan", "state"], "unsupported");
    place.refuses(&["repair", "apply", "goals", "--yes"], "unsupported");
    let told = place.tells(&["repair", "plan"]);
    let databases = told["databases"].as_array().expect("databases").iter();
    let states: Vec<_> =
        databases.map(|looked| (looked["database"].as_str(), looked["state"].as_str())).collect();
    assert!(
        states.contains(&(Some("state"), Some("unknown"))) && states.contains(&(Some("logs"), Some("fine"))),
        "{told}"
    );
}

#[test]
fn an_export_brings_what_is_on_a_server_and_an_import_needs_a_home_in_files() {
    let place = Place::new();
    let runtime = Runtime::builder(Home::at(place.home())).domain(Domain::state()).open().expect("open");
    let facts = rowhouse::stores::ThreadFacts {
        id: THREAD.to_owned(),
        title: Some("A thread on a server".to_owned()),
        ..rowhouse::stores::ThreadFacts::default()
    };
    runtime.threads().upsert(&[facts]).expect("a thread");
    drop(runtime);
    let file = place.home().join("all.rowhouse");
    let file = file.to_str().expect("UTF-8");
    let told = place.tells(&["export", file]);
    assert_eq!((told["rows"].as_u64(), told["goals"].as_u64()), (Some(1), Some(1)), "{told}");
    for asked in [&["import", "home", file][..], &["import", "home", file, "--dry-run"]] {
        place.refuses(asked, "unsupported");
    }
    assert_eq!(files(place.home()), BTreeSet::from(["logs.sqlite".to_owned()]));
    let here = folder();
    assert_eq!(rowhouse(here.path(), &["import", "home", file]).0, Some(0));
    let (_, shown) = document(here.path(), &["threads", "list"]);
    assert!(shown.to_string().contains("A thread on a server"), "{shown}");
}

/// Whatever is wrong with the server ends a command with an error that says so, and makes no file in the home instead.
/// Scale: 6 wrong settings, each with 3 commands.
/// Control: the same commands without the setting make files, which is what a fall-back would look like.
#[test]
fn r5_a_command_ends_with_an_error_and_makes_no_file() {
    let database = shared().new_database();
    shared().client(&database).batch_execute("CREATE ROLE keeper LOGIN").expect("a role");
    let nowhere = folder();
    let import = folder();
    let commands =
        [&["threads", "list"][..], &["goals", "list"], &["import", import.path().to_str().expect("UTF-8")]];
    for (url, kind) in [
        (format!("postgres://app:{CANARY}@h:x/y"), "invalid"),
        (format!("host={} user=app password={CANARY}", nowhere.path().display()), "io"),
        (format!("{} password={CANARY}", shared().url("guarded", &database)), "invalid"),
        (shared().url("app", "no_such_database"), "not_found"),
        (shared().url("keeper", &database), "read_only"),
        (format!("host=10.0.0.9 user=app sslmode=disable password={CANARY}"), "invalid"),
    ] {
        let home = folder();
        configure(home.path(), &url);
        for command in commands {
            let (code, told) = document(home.path(), command);
            assert_eq!((code, told["error"]["kind"].as_str()), (Some(1), Some(kind)), "{command:?}: {told}");
            assert!(told["error"]["advice"].is_string() && !told.to_string().contains(CANARY), "{told}");
            assert_eq!(files(home.path()), BTreeSet::new(), "{command:?}");
        }
    }
    let control = folder();
    assert_eq!(rowhouse(control.path(), commands[2]).0, Some(0));
    assert!(files(control.path()).contains("state.sqlite"));
}

#[test]
fn config_show_tells_what_decides_and_no_secret() {
    let place = Place::new();
    let (text, warning) = place.says(&["config", "show", "--origin"]);
    let name = format!("/{}", place.database);
    assert!(
        text.contains("state.postgres.url") && text.contains(&name) && warning.is_empty(),
        "{text}{warning}"
    );
    let told = place.tells(&["config", "show"]);
    let setting = |told: &Value, name: &str| {
        let all = told["settings"].as_array().expect("settings");
        all.iter().find(|setting| setting["name"] == name).cloned().unwrap_or_default()
    };
    assert_eq!(
        (
            setting(&told, "goals.backend")["value"].as_str(),
            setting(&told, "goals.backend")["origin"].as_str()
        ),
        (Some("postgres"), Some("file"))
    );
    assert_eq!(
        (
            setting(&told, "state.postgres.pool_size")["value"].as_u64(),
            setting(&told, "logs.backend")["value"].as_str()
        ),
        (Some(10), Some("sqlite"))
    );

    let output = Command::new(assert_cmd::cargo::cargo_bin("rowhouse"))
        .args(["config", "show", "--json", "--home"])
        .arg(place.home())
        .env("ROWHOUSE_POSTGRES_URL", format!("postgres://ada:{CANARY}@db.example/agents"))
        .output()
        .expect("the command runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(!text.contains(CANARY), "{text}");
    let told: Value = serde_json::from_str(&text).expect("a document");
    let url = setting(&told, "state.postgres.url");
    assert_eq!(
        (url["origin"].as_str(), url["value"].as_str()),
        (Some("environment"), Some("postgres://db.example:5432/agents")),
        "{url}"
    );
    assert_eq!(url["shadowed"].as_array().map(Vec::len), Some(1), "{url}");

    // It is the one that is used.
    let output = Command::new(assert_cmd::cargo::cargo_bin("rowhouse"))
        .args(["goals", "list", "--home"])
        .arg(place.home())
        .env(
            "ROWHOUSE_POSTGRES_URL",
            format!("{}_none", place.url.replace(&format!(" password={CANARY}"), "")),
        )
        .output()
        .expect("the command runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("3D000"), "{said}");
}
