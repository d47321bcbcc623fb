//! `rowhouse doctor` and `rowhouse path`: what they print, to whom, and what they never print.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, reason = "a test breaks files from outside")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rowhouse::{Domain, Home, Runtime};
use serde_json::Value;

const SCHEMA: &str = include_str!("../../docs/doctor.schema.json");
/// What must not be printed, by whatever way it came.
const CANARIES: [&str; 5] = ["canary-env", "canary-url", "canary-label", "canary-name", "canary-user"];
/// A test that is started again as a program of its own.
const PROGRAM: &str = "ROWHOUSE_TEST_PROGRAM";

/// A user with a home of four databases.
struct User {
    folder: tempfile::TempDir,
}

impl User {
    fn new() -> Self {
        let user =
            Self { folder: tempfile::Builder::new().prefix("canary-user-").tempdir().expect("a folder") };
        let runtime = Runtime::open(Home::at(user.home())).expect("created");
        for name in ["state", "logs", "goals", "device_keys"] {
            let database = runtime.database(name).expect("it").within(Duration::from_secs(20));
            while database.write(|_| Ok(())).is_err() {}
            database.wait_for_steps(Duration::from_secs(20)).expect("no steps are left");
        }
        runtime.close(Duration::from_secs(20));
        user
    }

    fn path(&self) -> PathBuf {
        self.folder.path().canonicalize().expect("the folder")
    }

    fn home(&self) -> PathBuf {
        self.path().join(".local/state/rowhouse")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home().join(format!("{name}.sqlite"))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("rowhouse"));
        for name in
            ["ROWHOUSE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "RUST_LOG", "NO_COLOR"]
        {
            command.env_remove(name);
        }
        command.env("HOME", self.path()).args(arguments);
        command
    }

    /// Runs it; with time enough for a busy machine.
    fn doctor(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        told(&mut self.command(&[&["doctor", "--timeout", "60"], arguments].concat()))
    }

    fn report(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let (code, stdout, stderr) = self.doctor(&[arguments, &["--json"]].concat());
        let report =
            serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}"));
        fits(&report);
        (code, report)
    }

    /// A write that failed, and a schema from the future.
    fn break_two(&self) {
        fs::write(self.home().join("locks/goals.latch"), 1_u64.to_ne_bytes()).expect("a number");
        by_hand(
            &self.file("state"),
            "INSERT INTO refinery_schema_history VALUES (99, 'later', '2026-01-01', '1');
             UPDATE rowhouse_meta SET schema_version = 99, oldest_writer = 99",
        );
    }
}

fn told(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().expect("the command runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn by_hand(file: &Path, sql: &str) {
    rowhouse::rusqlite::Connection::open(file).expect("the database").execute_batch(sql).expect(sql);
}

fn notable(report: &Value) -> BTreeSet<&str> {
    let checks = report["checks"].as_object().expect("by id").iter();
    let is_notable = |check: &Value| check["status"] == "warning" || check["status"] == "fail";
    checks.filter(|(_, check)| is_notable(check)).map(|(id, _)| id.as_str()).collect()
}

/// Holds a document against `docs/doctor.schema.json`, by the keywords that stand there; another keyword fails.
fn fits(document: &Value) {
    let schema: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
    check(document, &schema, &schema, "report");
    let checks = document["checks"].as_object().expect("an object");
    assert!(checks.iter().all(|(id, check)| check["id"] == **id), "keyed by id");
}

/// The same against a part of it.
fn fits_part(pointer: &str, document: &Value) {
    let schema: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
    check(document, schema.pointer(pointer).expect("a definition"), &schema, pointer);
}

fn check(value: &Value, schema: &Value, root: &Value, at: &str) {
    for (keyword, wanted) in schema.as_object().expect("a schema is an object") {
        let number = |wanted: &Value| wanted.as_u64().expect("a number");
        let holds = match keyword.as_str() {
            "$schema" | "$id" | "$defs" | "title" | "description" => true,
            "$ref" => {
                let pointer = wanted.as_str().and_then(|text| text.strip_prefix('#')).expect("of this file");
                check(value, root.pointer(pointer).expect("a definition"), root, at);
                true
            }
            "type" => {
                let all = wanted.as_array().cloned().unwrap_or_else(|| vec![wanted.clone()]);
                all.iter().any(|kind| is_of(value, kind.as_str().expect("a word")))
            }
            "const" => value == wanted,
            "enum" => wanted.as_array().expect("a list").contains(value),
            "minimum" => value.as_u64().is_some_and(|value| value >= number(wanted)),
            "minLength" => value.as_str().is_some_and(|value| value.len() as u64 >= number(wanted)),
            "pattern" => matches_pattern(value.as_str().expect("a text"), wanted.as_str().expect("a text")),
            "required" => {
                let names = wanted.as_array().expect("a list");
                names.iter().all(|name| value.get(name.as_str().expect("a word")).is_some())
            }
            "items" => {
                value.as_array().into_iter().flatten().for_each(|item| check(item, wanted, root, at));
                true
            }
            "properties" | "additionalProperties" => {
                properties(value, schema, root, at);
                true
            }
            other => panic!("{at}: a keyword that is not checked here: {other}"),
        };
        assert!(holds, "{at}: {keyword} {wanted}: {value}");
    }
}

fn properties(value: &Value, schema: &Value, root: &Value, at: &str) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let at = format!("{at}.{name}");
        match (schema["properties"].get(name), &schema["additionalProperties"]) {
            (Some(wanted), _) => check(value, wanted, root, &at),
            (None, Value::Bool(false)) => panic!("{at}: not in the schema"),
            (None, Value::Object(_)) => check(value, &schema["additionalProperties"], root, &at),
            (None, _) => {}
        }
    }
}

fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("a type that is not checked here: {other}"),
    }
}

/// The two patterns that the schema has.
fn matches_pattern(text: &str, pattern: &str) -> bool {
    match pattern {
        "^.+\\.[a-z_]+$" => text.rsplit_once('.').is_some_and(|(head, last)| {
            !head.is_empty()
                && !last.is_empty()
                && last.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        }),
        "^\\d{4}-\\d{2}-\\d{2}T\\d{2}:\\d{2}:\\d{2}(\\.\\d+)?Z$" => {
            text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok()
        }
        other => panic!("a pattern that is not checked here: {other}"),
    }
}

/// Compares with a file; numbers, sizes and places that differ from run to run are taken out. `ROWHOUSE_BLESS=1` writes it.
fn snapshot(name: &str, text: &str) {
    let stable = stable(text);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(name);
    if std::env::var_os("ROWHOUSE_BLESS").is_some() {
        fs::write(&path, &stable).expect("written");
    }
    let expected = fs::read_to_string(&path).expect("a snapshot: run with ROWHOUSE_BLESS=1 once");
    assert_eq!(stable, expected, "{name}; ROWHOUSE_BLESS=1 takes it as it is now");
}

/// `#` in the place of each number, with its unit.
fn stable(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(|letter: char| letter.is_ascii_digit()) {
        let (before, number) = rest.split_at(at);
        let is_part = |letter: char| {
            letter.is_ascii_digit()
                || letter == '.'
                || letter == ':'
                || letter == '-'
                || letter == 'T'
                || letter == 'Z'
        };
        let end = number.find(|letter: char| !is_part(letter)).unwrap_or(number.len());
        // A full stop at the end of a sentence, a comma's colon.
        let end = number[..end].trim_end_matches(['.', ':', '-']).len();
        kept.push_str(before);
        kept.push('#');
        rest = &number[end..];
        for unit in [" KiB", " MiB", " GiB", " B"] {
            if let Some(after) = rest.strip_prefix(unit) {
                rest = after;
                break;
            }
        }
    }
    kept + rest
}

/// The rows that are the same on every machine.
const ANYWHERE: &str = "home,threads,backup,file,open,write,stamp,schema,integrity,log,sidecars,pages,budget";

#[test]
fn a_sound_home_reads_well() {
    let user = User::new();
    let (code, text, stderr) = user.doctor(&["--only", ANYWHERE]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{text}");
    snapshot("doctor_sound.txt", &text);
    let (code, report) = user.report(&[]);
    assert_eq!((code, notable(&report)), (Some(0), BTreeSet::new()), "{report:#}");
    assert_eq!(report["overall_status"], "ok");
}

#[test]
fn what_is_broken_stands_first_with_its_way_out() {
    let user = User::new();
    user.break_two();
    let (code, text, _) = user.doctor(&["--only", ANYWHERE]);
    assert_eq!(code, Some(1), "{text}");
    snapshot("doctor_broken.txt", &text);
    let (_, text, _) = user.doctor(&["--only", ANYWHERE, "--summary", "--ascii"]);
    assert!(text.is_ascii(), "{text}");
    snapshot("doctor_broken_summary.txt", &text);
    let (_, text, _) = user.doctor(&["--only", "goals.write,goals.file,state.schema,counts", "--all"]);
    snapshot("doctor_broken_all.txt", &text);
    let (code, report) = user.report(&["--only", "goals.write,state.schema"]);
    assert_eq!((code, notable(&report)), (Some(1), ["goals.write", "state.schema"].into()));
    snapshot("doctor_broken.json", &(serde_json::to_string_pretty(&report).expect("JSON") + "\n"));
}

#[test]
fn exit_codes_say_how_it_went() {
    let user = User::new();
    let code = |arguments: &[&str]| user.doctor(arguments).0;
    assert_eq!(code(&["--strict"]), Some(0));
    fs::set_permissions(user.home(), fs::Permissions::from_mode(0o755)).expect("a mode");
    assert_eq!((code(&[]), code(&["--strict"])), (Some(0), Some(1)));
    fs::remove_file(user.file("goals")).expect("removed");
    assert_eq!(code(&[]), Some(1));
    for misused in [
        &["--nonsense"][..],
        &["--only", "nothing"],
        &["--summary", "--all"],
        &["--dir", "/nowhere/at/all"],
        &["--timeout", "0"],
    ] {
        assert_eq!(code(misused), Some(2), "{misused:?}");
    }
    let full = fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let status = user.command(&["doctor"]).stdout(full).stderr(Stdio::null()).status().expect("it runs");
    assert_eq!(status.code(), Some(3), "it could not say what it found");
    let (code, error) = {
        let (code, stdout, _) = user.doctor(&["--only", "nothing", "--json"]);
        (code, serde_json::from_str::<Value>(&stdout).expect("a document"))
    };
    assert_eq!((code, &error["error"]["kind"]), (Some(2), &"invalid".into()), "{error}");
}

/// `rowhouse doctor | head -1` in a script: what is wrong is still told by the exit code.
#[test]
fn a_reader_that_went_away_does_not_make_it_well() {
    let user = User::new();
    user.break_two();
    for arguments in [&["doctor"][..], &["doctor", "--all"], &["doctor", "--json"]] {
        let mut child = user.command(arguments).stdout(Stdio::piped()).spawn().expect("it runs");
        drop(child.stdout.take());
        assert_eq!(child.wait().expect("it ends").code(), Some(1), "{arguments:?}");
    }
}

/// The user's folder may be a link, and the variable that names it may be missing: it is `~` all the same.
#[test]
fn the_users_folder_is_a_tilde_by_each_of_its_names() {
    let user = User::new();
    user.break_two();
    let place = tempfile::tempdir().expect("a folder");
    let link = place.path().join("canary-user-link");
    std::os::unix::fs::symlink(user.path(), &link).expect("a link");
    let by_link = link.join(".local/state/rowhouse");
    for home in [user.home(), by_link] {
        let missing = home.join("nothing here");
        for more in [&["--all"][..], &["--json"], &["--dir", missing.to_str().expect("plain")]] {
            let home = home.to_str().expect("plain");
            let mut command = user.command(&[&["doctor", "--timeout", "60"], more].concat());
            let command = if more[0] == "--dir" { &mut command } else { command.args(["--home", home]) };
            let (_, stdout, stderr) = told(command.env("HOME", &link));
            assert!(!format!("{stdout}{stderr}").contains("canary-user"), "{more:?}: {stdout}{stderr}");
            assert!(format!("{stdout}{stderr}").contains("~/.local/state/rowhouse"), "{stdout}{stderr}");
        }
    }
    let (_, stdout, _) = told(user.command(&["path"]).env_remove("HOME"));
    let own = stdout
        .trim_end()
        .strip_suffix("/.local/state/rowhouse")
        .expect("the system knows the user")
        .to_owned();
    let (_, stdout, _) =
        told(user.command(&["doctor", "--all", "--home", &format!("{own}/canary none")]).env_remove("HOME"));
    assert!(stdout.contains("~/canary none") && !stdout.contains(&format!("{own}/canary")), "{stdout}");
}

#[test]
fn a_config_file_that_makes_no_sense_is_a_finding() {
    let user = User::new();
    fs::create_dir_all(user.path().join(".config/rowhouse")).expect("a folder");
    fs::write(user.path().join(".config/rowhouse/config.toml"), "home = \n").expect("a file");
    let (code, report) = user.report(&[]);
    assert_eq!((code, notable(&report)), (Some(1), ["environment.settings"].into()), "{report:#}");
}

/// Every value that decides something comes with what decided it: a flag, a variable, or a file and its line; what is secret
/// by its name is not there.
#[test]
fn settings_come_with_their_origin() {
    let user = User::new();
    let config = user.path().join(".config/rowhouse/config.toml");
    fs::create_dir_all(config.parent().expect("a folder")).expect("a folder");
    fs::write(&config, "# mine\nhome = \"~/.local/state/rowhouse\"\napi_token = \"canary-env\"\n")
        .expect("a file");
    let levels = "[logs]\nlevel = \"warn\"\n\n[other]\nurl = \"postgres://me:canary-url@host/db\"\nplain = \"postgres://canary@host/db\"\n";
    fs::write(user.home().join("config.toml"), levels).expect("a file");
    let settings = |arguments: &[&str]| {
        let mut command = user.command(&[&["doctor", "--json", "--only", "settings"], arguments].concat());
        let (code, stdout, stderr) = told(command.env("RUST_LOG", "debug"));
        assert!(!stdout.contains("canary"), "{stdout}");
        let report: Value = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
        fits(&report);
        assert_eq!(code, Some(0), "{report:#}");
        report["checks"]["environment.settings"].clone()
    };
    let row = settings(&[]);
    let details = &row["details"];
    assert_eq!(
        (&details["chosen_by"], &details["logs_level"], &details["logs_level_by"], &details["RUST_LOG"]),
        (&"the config file".into(), &"warn".into(), &"config.toml of the home".into(), &"debug".into()),
        "{row:#}"
    );
    assert_eq!(
        (&row["status"], &row["summary"]),
        (&"warning".into(), &"nobody asks for api_token (line 3)".into())
    );
    let evidence: Vec<_> =
        row["evidence"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    for told in [
        "home = ~/.local/state/rowhouse (~/.config/rowhouse/config.toml, line 2)",
        "api_token = [REDACTED] (~/.config/rowhouse/config.toml, line 3)",
        "logs.level = warn (~/.local/state/rowhouse/config.toml, line 2)",
        "other.url = postgres://[REDACTED]@host/db (~/.local/state/rowhouse/config.toml, line 5)",
        "other.plain = postgres://[REDACTED]@host/db (~/.local/state/rowhouse/config.toml, line 6)",
    ] {
        assert!(evidence.contains(&told), "{told}: {evidence:#?}");
    }
    let home = user.home();
    let row = settings(&["--home", home.to_str().expect("plain")]);
    assert_eq!(row["details"]["chosen_by"], "the program, or --home", "{row:#}");
    assert_eq!(row["details"]["without_a_flag"], "~/.local/state/rowhouse", "{row:#}");
    fs::remove_file(user.home().join("config.toml")).expect("removed");
    let row = settings(&[]);
    assert_eq!(
        (&row["details"]["logs_level"], &row["details"]["logs_level_by"]),
        (&"debug".into(), &"the variable RUST_LOG".into()),
        "{row:#}"
    );
}

#[test]
fn the_checks_are_listed() {
    let user = User::new();
    let (code, text, _) = user.doctor(&["--list"]);
    assert!(code == Some(0) && text.contains("DB.log") && text.contains("home.leftovers"), "{text}");
    let (_, stdout, _) = user.doctor(&["--list", "--json"]);
    let list: Value = serde_json::from_str(&stdout).expect("a document");
    fits_part("/$defs/list", &list);
    let per_database =
        list["checks"].as_array().expect("a list").iter().filter(|check| check["per_database"] == true);
    assert!(per_database.count() > 10, "{list}");
}

#[test]
fn colours_are_for_terminals_unless_asked_for() {
    let user = User::new();
    assert!(!user.doctor(&[]).1.contains('\u{1b}'));
    assert!(user.doctor(&["--color", "always"]).1.contains('\u{1b}'));
    assert!(!user.doctor(&["--color", "never"]).1.contains('\u{1b}'));
}

/// Secrets that come by the environment, the configuration, a job's label and a file's name, and the name of the user's
/// folder, are in no output of any form.
#[test]
fn no_output_holds_a_secret() {
    let user = User::new();
    user.break_two();
    let secret = "password=canary-name.sqlite";
    fs::copy(user.file("goals"), user.home().join(secret)).expect("copied");
    fs::write(user.home().join("logs.sqlite-wal.replaced-token=canary-name"), "").expect("a file");
    let other = user.path().join("other");
    fs::create_dir(&other).expect("a folder");
    fs::copy(user.file("goals"), other.join(secret)).expect("copied");
    let runtime = Runtime::builder(Home::at(user.home())).domain(Domain::logs()).open().expect("opened");
    let logs =
        runtime.database("logs").expect("it").within(Duration::from_mins(1)).label("token=canary-label");
    while logs.write(|_| Ok(())).is_err() {}
    logs.write(|_| {
        let folder = other.to_str().expect("plain");
        for arguments in [
            &[][..],
            &["--summary"],
            &["--all"],
            &["--all", "--ascii"],
            &["--all", "--color", "always"],
            &["--json"],
            &["--json", "--deep"],
            &["--all", "--deep"],
            &["--strict", "--only", "home"],
            &["--list"],
            &["--only", "canary"],
            &["--all", "--dir", folder],
            &["--json", "--dir", folder],
        ] {
            let mut command = user.command(&[&["doctor", "--timeout", "60"], arguments].concat());
            let (_, stdout, stderr) = told(
                command
                    .env("SERVICE_API_TOKEN", "canary-env-0123456789")
                    .env("RUST_LOG", "canary-env-0123456789=debug")
                    .env("XDG_RUNTIME_DIR", "postgres://me:canary-url@host/db"),
            );
            for canary in CANARIES {
                let found = [&stdout, &stderr].iter().any(|text| text.contains(canary));
                let said = arguments.contains(&"canary");
                assert!(!found || said, "{arguments:?}: {canary}\n{stdout}\n{stderr}");
            }
        }
        Ok(())
    })
    .expect("a write");
    let (_, stdout, _) = user.doctor(&["--json"]);
    assert!(stdout.contains("[REDACTED]") && stdout.contains("~/.local/state/rowhouse"), "{stdout}");
    runtime.close(Duration::from_secs(20));
}

/// What stands in the databases and in the names of transcripts is in no output that goes to somebody else: not in the doctor's,
/// in the report's page, in a support bundle, or in an error; nor is the name of the user's folder.
#[test]
fn nothing_that_is_passed_on_holds_what_a_thread_is_about() {
    let user = User::new();
    user.break_two();
    let sessions = user.home().join("sessions/2026/01/01");
    fs::create_dir_all(&sessions).expect("folders");
    let unreadable = sessions.join("rollout-2026-01-01T00-00-00-token=canary-name.jsonl");
    fs::write(&unreadable, "no transcript").expect("a file");
    let id = "019cadf1-7a5e-7b04-8f21-000000000001";
    let gone = sessions.join("rollout-2026-01-01T00-00-01-password=canary-name.jsonl");
    by_hand(
        &user.file("state"),
        &format!(
            "INSERT INTO backfill_file VALUES ('{}', 1, 1, 1, 'bad', NULL, 1, 'canary-name');
             INSERT INTO thread(id, rollout_path, created_at, updated_at, recency_at, title, preview, cwd)
             VALUES ('{id}', '{}', 1, 1, 1, 'canary-name is the title', 'canary-name', '/srv/canary-name')",
            unreadable.display(),
            gone.display()
        ),
    );
    by_hand(
        &user.file("logs"),
        "INSERT INTO log(ts, level, target, message, process_id, bytes)
         VALUES (1, 3, 'app', 'sent with password=canary-name and Bearer canary-name-0123456789', 'p', 1)",
    );
    let page = user.path().join("page.html");
    let bundle = user.path().join("bundle.tar.gz");
    let (page_at, bundle_at) = (page.to_str().expect("plain"), bundle.to_str().expect("plain"));
    let database = user.file("goals");
    for arguments in [
        &["doctor", "--timeout", "60"][..],
        &["doctor", "--timeout", "60", "--all"],
        &["doctor", "--timeout", "60", "--summary"],
        &["doctor", "--timeout", "60", "--json", "--deep"],
        &["doctor", "--dir", "password=canary-said"],
        &["report", "--html", page_at],
        &["support", "bundle", bundle_at, "--yes"],
        // A database is no place for a page: an error that names its path.
        &["report", "--html", database.to_str().expect("plain")],
    ] {
        let mut command = user.command(arguments);
        let (_, stdout, stderr) = told(
            command
                .env("SERVICE_API_TOKEN", "canary-env-0123456789")
                .env("XDG_RUNTIME_DIR", "postgres://me:canary-url@host/db"),
        );
        for canary in CANARIES.iter().chain(&["canary-said"]) {
            // What the caller named itself may be named to the caller: where a file was written.
            let shown = [stdout.replace(page_at, ""), stderr.replace(page_at, "")].concat();
            let shown = shown.replace(bundle_at, "").replace(database.to_str().expect("plain"), "");
            assert!(!shown.contains(canary), "{arguments:?}: {canary}\n{stdout}\n{stderr}");
        }
    }
    let unpacked = told(Command::new("tar").arg("-xzOf").arg(&bundle)).1;
    let page = fs::read_to_string(&page).expect("the page");
    // The row that names both files is in what is passed on.
    assert!(unpacked.contains("threads.index"), "{unpacked}");
    assert!(page.contains("whose transcript is gone"), "{page}");
    for canary in CANARIES {
        assert!(!unpacked.contains(canary), "the bundle: {canary}");
        assert!(!page.contains(canary), "the page: {canary}");
    }
}

/// What is chosen and left out at once is left out; a category, a check's name and a database stand for all of theirs; without
/// any row there is a report all the same.
#[test]
fn checks_are_chosen_and_left_out() {
    let user = User::new();
    let ids = |arguments: &[&str]| {
        let (code, report) = user.report(arguments);
        assert_eq!(code, Some(0), "{report:#}");
        report["checks"].as_object().expect("by id").keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(ids(&["--only", "state.log,goals", "--skip", "goals,state.open"]), ["state.log"]);
    assert_eq!(ids(&["--only", "disk", "--skip", "disk.space,inodes"]), ["disk.file_system"]);
    assert!(ids(&["--only", "log", "--skip", "log"]).is_empty());
    let (code, text, _) = user.doctor(&["--only", "log", "--skip", "log"]);
    assert!(code == Some(0) && text.contains("0 ok"), "{text}");
    let (_, plain, _) = user.doctor(&["--only", ANYWHERE, "--ascii", "--all", "--color", "always"]);
    assert!(plain.is_ascii() && plain.contains('\u{1b}'), "{plain}");
    let (_, json, _) = user.doctor(&["--only", "log", "--json", "--color", "always", "--ascii"]);
    assert!(!json.contains('\u{1b}'), "a document has no colours");
    // A sentence that names a command names the home as well, where a flag chose it.
    let home = user.home();
    let (_, report) = user.report(&["--home", home.to_str().expect("plain"), "--only", "backup,settings"]);
    let told = &report["checks"]["backup.age"]["evidence"][0];
    assert_eq!(told, "`rowhouse --home ~/.local/state/rowhouse backup` makes one, while programs go on");
}

/// A config file that nobody can read to its end, a pipe, keeps the doctor from nothing but the check that it is about.
#[test]
fn settings_that_do_not_answer_are_a_finding_in_time() {
    let user = User::new();
    let config = user.path().join(".config/rowhouse/config.toml");
    fs::create_dir_all(config.parent().expect("a folder")).expect("a folder");
    assert!(Command::new("mkfifo").arg(&config).status().expect("mkfifo runs").success());
    let home = user.home();
    let mut command =
        user.command(&["doctor", "--json", "--timeout", "5", "--home", home.to_str().expect("plain")]);
    let (code, stdout, stderr) = told(&mut command);
    let report: Value =
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}"));
    fits(&report);
    let told = notable(&report);
    assert!(code == Some(0) && told.contains("environment.settings"), "{report:#}");
    assert!(told.iter().all(|id| ["environment.settings", "home.others"].contains(id)), "{report:#}");
    assert!(stdout.contains("~/.local/state/rowhouse") && !stdout.contains("canary-user"), "{stdout}");
}

/// What the doctor names as the way out can be pasted into a shell, and acts on the home that was looked at: also one that a
/// flag chose, below the user's folder, with a name that a shell would take apart.
#[test]
fn commands_act_on_the_home_that_was_looked_at() {
    let user = User::new();
    let home = user.path().join("my 'files'/$(x) ");
    fs::create_dir_all(home.parent().expect("a folder")).expect("a folder");
    fs::rename(user.home(), &home).expect("moved");
    fs::set_permissions(home.join("goals.sqlite"), fs::Permissions::from_mode(0o644)).expect("a mode");
    fs::write(home.join("locks/state.latch"), 1_u64.to_ne_bytes()).expect("a number");
    let bytes = fs::read(home.join("logs.sqlite")).expect("it");
    fs::write(home.join("logs.sqlite"), vec![0xA5; bytes.len()]).expect("damaged");
    let (_, report) = user.report(&["--home", home.to_str().expect("plain")]);
    assert_eq!(notable(&report), ["goals.file", "logs.open", "state.write"].into(), "{report:#}");
    let fixes = |id: &str| report["checks"][id]["fixes"].as_array().expect("a list").clone();
    let binary = assert_cmd::cargo::cargo_bin("rowhouse");
    let path = format!("{}:/usr/bin:/bin", binary.parent().expect("a folder").display());
    let in_a_shell = |line: &str| {
        let mut shell = Command::new("/bin/sh");
        told(shell.arg("-c").arg(line).env("HOME", user.path()).env("PATH", &path).current_dir("/"))
    };
    let all = [fixes("goals.file"), fixes("logs.open")].concat();
    assert_eq!(all.len(), 3, "{all:?}");
    for fix in &all {
        let line = fix["command"].as_str().expect("a command");
        assert!(line.contains(" ~/'my ") && !line.contains("canary-user"), "{line}");
        let (code, stdout, stderr) = in_a_shell(&line.replace(" apply ", " plan "));
        assert!(code.is_some_and(|code| code < 2), "{line}: {stdout}{stderr}");
        assert!(!line.contains("plan") || stdout.contains("logs"), "{line}: {stdout}{stderr}");
    }
    let mode = fs::metadata(home.join("goals.sqlite")).expect("it").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "chmod found the file");
    assert!(!user.home().exists(), "no other home was made");
}

/// A shell tells every program where it is, in a variable whose name could be that of a password.
#[test]
fn where_the_shell_is_hides_no_path() {
    let user = User::new();
    for (name, value) in [("PWD", user.home()), ("OLDPWD", user.home()), ("A_COOKIE", user.home())] {
        let mut command = user.command(&["doctor", "--all", "--timeout", "60"]);
        let (_, stdout, _) = told(command.env(name, &value));
        assert!(stdout.contains("~/.local/state/rowhouse/state.sqlite"), "{name}: {stdout}");
        assert!(!stdout.contains("[REDACTED]"), "{name}: {stdout}");
    }
}

#[test]
fn a_folder_of_another_program_is_examined_and_its_users_named() {
    let user = User::new();
    let folder = user.path().join("other");
    fs::create_dir(&folder).expect("a folder");
    by_hand(&folder.join("state_5.sqlite"), "PRAGMA journal_mode = WAL; CREATE TABLE thread(a)");
    let held = rowhouse::rusqlite::Connection::open(folder.join("state_5.sqlite")).expect("opened");
    held.execute_batch("BEGIN IMMEDIATE").expect("held");
    let path = folder.to_str().expect("plain");
    let (code, report) = user.report(&["--dir", path]);
    assert_eq!((code, notable(&report)), (Some(0), ["state_5.sqlite.write"].into()), "{report:#}");
    let own = u64::from(std::process::id());
    assert_eq!(report["checks"]["state_5.sqlite.write"]["details"]["pid"], own, "{report:#}");
    let (code, stdout, stderr) = told(&mut user.command(&["who", "--dir", path, "--json"]));
    let who: Value =
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}"));
    let writer = &who["databases"][0]["processes"][0];
    assert_eq!(
        (code, &who["databases"][0]["name"], &writer["pid"]),
        (Some(0), &"state_5.sqlite".into(), &own.into())
    );
    let (_, text, _) = told(&mut user.command(&["who", "--dir", path, "state_5.sqlite"]));
    assert!(text.contains("writing"), "{text}");
    let (code, _, stderr) = told(&mut user.command(&["who", "--dir", path, "nothing"]));
    assert!(code == Some(1) && stderr.contains("hint:"), "{stderr}");
}

/// The same as `User::report`, run by somebody for whom file modes count: root may read everything.
fn report_of_a_plain_user(user: &User, arguments: &[&str]) -> Value {
    const NOBODY: u32 = 65534;
    let mut command = user.command(&[&["doctor", "--timeout", "60", "--json"], arguments].concat());
    if fs::metadata("/proc/self").expect("this process").uid() == 0 {
        let program = user.path().join("program");
        fs::copy(command.get_program(), &program).expect("where everybody may run it");
        let files = Command::new("chown").args(["-R", &NOBODY.to_string()]).arg(user.path()).status();
        assert!(files.expect("chown").success());
        let mut plain = Command::new(program);
        plain.args(command.get_args()).env_clear().env("HOME", user.path()).uid(NOBODY).gid(NOBODY);
        command = plain;
    }
    let (_, stdout, stderr) = told(&mut command);
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}"))
}

#[test]
fn a_file_that_this_user_may_not_read_is_told_with_the_command_that_helps() {
    let user = User::new();
    for ending in ["", "-wal"] {
        let file = user.file("state").with_extension(format!("sqlite{ending}"));
        fs::write(user.file("state").with_extension("sqlite-wal"), [0; 100]).expect("a log");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o0)).expect("a mode");
        let report = report_of_a_plain_user(&user, &["--only", "state"]);
        let row = &report["checks"]["state.file"];
        assert_eq!(
            (&row["status"], &row["summary"]),
            (&"fail".into(), &"this user may not read it".into()),
            "{row:#}"
        );
        let remedy = row["remediation"].as_str().expect("a way out");
        assert!(remedy.contains("`chmod -R u+rwX "), "{remedy}");
        let path = row["details"]["path"].as_str().expect("the file");
        assert!(path.ends_with(&format!("state.sqlite{ending}")), "{path}");
        assert_eq!(notable(&report), ["state.file"].into(), "{report:#}");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("a mode");
    }
}

#[test]
fn a_file_of_another_program_may_be_one_that_is_only_read() {
    let user = User::new();
    let folder = user.path().join("other");
    fs::create_dir(&folder).expect("a folder");
    by_hand(&folder.join("words.sqlite"), "CREATE TABLE word(a)");
    fs::set_permissions(folder.join("words.sqlite"), fs::Permissions::from_mode(0o444)).expect("a mode");
    let report = report_of_a_plain_user(&user, &["--dir", folder.to_str().expect("plain")]);
    assert_eq!(notable(&report), BTreeSet::new(), "{report:#}");
    assert_eq!(report["checks"]["words.sqlite.write"]["status"], "skipped", "{report:#}");
}

/// Neither a journal that is kept for the next transaction nor a log whose index is in memory was left by a killed program.
#[test]
fn what_another_programs_settings_leave_beside_a_database_is_no_finding() {
    let user = User::new();
    let folder = user.path().join("other");
    fs::create_dir(&folder).expect("a folder");
    by_hand(
        &folder.join("kept.sqlite"),
        "PRAGMA journal_mode = PERSIST; CREATE TABLE word(a); INSERT INTO word VALUES (1)",
    );
    let length = fs::metadata(folder.join("kept.sqlite-journal")).expect("a journal").len();
    assert!(length > 512, "{length}");
    let alone = rowhouse::rusqlite::Connection::open(folder.join("alone.sqlite")).expect("opened");
    alone
        .execute_batch(
            "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; CREATE TABLE word(a); INSERT INTO word VALUES (1)",
        )
        .expect("written");
    assert!(folder.join("alone.sqlite-wal").exists() && !folder.join("alone.sqlite-shm").exists());
    let path = folder.to_str().expect("plain");
    let (_, report) = user.report(&["--dir", path]);
    for name in ["kept.sqlite.sidecars", "alone.sqlite.sidecars"] {
        assert_eq!(report["checks"][name]["status"], "ok", "{report:#}");
    }

    // Control: without its user the log was left behind, and so was a journal with something in it.
    let left = user.path().join("left");
    fs::create_dir(&left).expect("a folder");
    for name in ["alone.sqlite", "alone.sqlite-wal", "kept.sqlite", "kept.sqlite-journal"] {
        fs::copy(folder.join(name), left.join(name)).expect("copied");
    }
    let journal = left.join("kept.sqlite-journal");
    let mut bytes = fs::read(&journal).expect("read");
    bytes[..8].copy_from_slice(&[0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7]);
    fs::write(&journal, bytes).expect("written");
    let (_, report) = user.report(&["--dir", left.to_str().expect("plain"), "--only", "sidecars"]);
    assert_eq!(notable(&report), ["alone.sqlite.sidecars", "kept.sqlite.sidecars"].into(), "{report:#}");
}

#[test]
fn program_entry() {
    let Ok(chosen) = std::env::var(PROGRAM) else { return };
    let home = if chosen.is_empty() { Home::resolve().expect("a home") } else { Home::at(chosen) };
    println!("@{}", home.path().display());
}

/// A program of this library and the command agree on the home in every combination of a flag, the environment and the config
/// file; the command says what decided it, and which other homes hold databases, and the doctor warns of them.
///
/// Scale: all 8 combinations, with databases in four places.
/// Control: a tool that knows the default place alone looks at another home in 7 of the 8.
#[test]
fn n8_one_home_for_programs_and_the_command_and_the_others_are_told() {
    let user = User::new();
    let place = |name: &str| user.path().join(name);
    for name in ["flag", "environment", "configured"] {
        drop(Runtime::builder(Home::at(place(name))).domain(Domain::goals()).open().expect("created"));
    }
    let config = user.path().join(".config/rowhouse/config.toml");
    fs::create_dir_all(config.parent().expect("a folder")).expect("a folder");
    let mut elsewhere = 0;
    for combination in 0..8_u8 {
        let (flag, environment, configured) = (combination & 1 > 0, combination & 2 > 0, combination & 4 > 0);
        let text = if configured { "home = \"~/configured\"\n" } else { "" };
        fs::write(&config, text).expect("a file");
        let chosen = [
            (flag, "flag", "given"),
            (environment, "environment", "environment"),
            (configured, "configured", "config_file"),
        ];
        let chosen: Vec<_> = chosen.iter().filter(|(is_set, ..)| *is_set).collect();
        let (home, chosen_by) = match chosen.first() {
            Some((_, name, by)) => (place(name), *by),
            None => (user.home(), "default"),
        };
        let given = place("flag");
        let given = given.to_str().expect("plain");
        let with_setting = |mut command: Command| {
            if environment {
                command.env("ROWHOUSE_HOME", place("environment"));
            }
            command
        };
        let run = |arguments: &[&str]| {
            let all = if flag { [&["--home", given], arguments].concat() } else { arguments.to_vec() };
            let (_, stdout, stderr) = told(&mut with_setting(user.command(&all)));
            serde_json::from_str::<Value>(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}"))
        };
        let mut program = Command::new(std::env::current_exe().expect("this test"));
        program.args(["--exact", "program_entry", "--nocapture", "--quiet"]).env("HOME", user.path());
        for name in ["ROWHOUSE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"] {
            program.env_remove(name);
        }
        program.env(PROGRAM, if flag { given } else { "" });
        let (_, said, _) = told(&mut with_setting(program));
        let said = said.lines().find_map(|line| Some(line.split_once('@')?.1.to_owned()));
        let path = run(&["path", "--json"]);
        assert_eq!(said.as_deref(), home.to_str(), "the program");
        assert_eq!((&path["home"], &path["chosen_by"]), (&home.to_str().into(), &chosen_by.into()), "{path}");
        assert_eq!(run(&["status", "--json"])["home"], path["home"]);
        let others: BTreeSet<_> =
            path["others"].as_array().expect("a list").iter().map(|other| other["home"].as_str()).collect();
        let expected =
            [(environment, place("environment")), (configured, place("configured")), (true, user.home())];
        let expected: Vec<_> =
            expected.into_iter().filter(|(is_set, other)| *is_set && *other != home).collect();
        assert_eq!(others, expected.iter().map(|(_, other)| other.to_str()).collect(), "{combination}");
        let report = run(&["doctor", "--timeout", "60", "--json"]);
        let warns = notable(&report).contains("home.others");
        assert_eq!(warns, !flag && !expected.is_empty(), "{report:#}");
        elsewhere += u8::from(home != user.home());
    }
    assert_eq!(elsewhere, 7);
}
