//! `rowhouse config show`: what is set, what decided it, what that took precedence over; and never a secret.
#![allow(clippy::disallowed_methods, reason = "a test writes config files")]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// A user whose config file names a home, which has a config file too.
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().expect("a folder") };
        fs::create_dir_all(place.path("config/rowhouse")).expect("a folder");
        fs::create_dir_all(place.path("home")).expect("a folder");
        place.user(&format!("home = {:?}\n", place.path("home")));
        place
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn user(&self, text: &str) {
        fs::write(self.path("config/rowhouse/config.toml"), text).expect("written");
    }

    fn home(&self, text: &str) {
        fs::write(self.path("home/config.toml"), text).expect("written");
    }

    /// The standard output and error of `config show`.
    fn show(&self, variables: &[(&str, &str)], arguments: &[&str]) -> (String, String) {
        let output = Command::new(assert_cmd::cargo::cargo_bin("rowhouse"))
            .args(["config", "show"])
            .args(arguments)
            .env_clear()
            .env("HOME", self.path("nobody"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .envs(variables.iter().copied())
            .output()
            .expect("the command runs");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        (stdout, stderr)
    }

    fn document(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Value {
        let (stdout, _) = self.show(variables, &[arguments, &["--json"]].concat());
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
    }
}

fn setting(document: &Value, name: &str) -> Value {
    let all = document["settings"].as_array().expect("settings");
    all.iter()
        .find(|setting| setting["name"] == name)
        .cloned()
        .unwrap_or_else(|| panic!("{name}: {document}"))
}

#[test]
fn a_flag_comes_before_the_environment_that_before_a_file_and_that_before_the_default() {
    let place = Place::new();
    let file = place.path("config/rowhouse/config.toml");
    let in_file = json!({"origin": "file", "source": file, "value": place.path("home")});
    let variables = [("ROWHOUSE_HOME", "/from/environment")];
    let in_environment =
        json!({"origin": "environment", "source": "ROWHOUSE_HOME", "value": "/from/environment"});
    let expect = |document: &Value, decided: &Value, shadowed: &[&Value]| {
        let found = setting(document, "home");
        for part in ["origin", "source", "value"] {
            assert_eq!(found[part], decided[part], "{found}");
        }
        let rest = found["shadowed"].as_array().cloned().unwrap_or_default();
        assert_eq!(rest.iter().collect::<Vec<_>>(), shadowed, "{found}");
    };
    let in_flag = json!({"origin": "flag", "source": "--home", "value": "/from/flag"});
    expect(&place.document(&variables, &["--home", "/from/flag"]), &in_flag, &[&in_environment, &in_file]);
    expect(&place.document(&variables, &[]), &in_environment, &[&in_file]);
    expect(&place.document(&[], &[]), &in_file, &[]);
    fs::remove_file(&file).expect("removed");
    let default = json!({"origin": "default", "value": place.path("nobody/.local/state/rowhouse")});
    let found = place.document(&[], &[]);
    expect(&found, &default, &[]);
    assert_eq!(found["files"][0], json!({"of": "user", "path": file, "present": false}));
    assert!(!Path::new(&place.path("nobody")).exists(), "looking creates nothing");
}

#[test]
fn what_decides_the_levels_of_the_log_and_the_colours_is_told_as_it_is() {
    let place = Place::new();
    place.home("[logs]\nlevel = \"warn\"\n");
    let found = place.document(&[("RUST_LOG", "debug"), ("NO_COLOR", "1"), ("PAGER", "more")], &[]);
    let levels = setting(&found, "logs.level");
    assert_eq!(
        (&levels["origin"], &levels["value"], &levels["shadowed"][0]["source"]),
        (&json!("file"), &json!("warn"), &json!("RUST_LOG")),
        "{levels}"
    );
    let color = setting(&found, "color");
    assert_eq!((&color["source"], &color["value"]), (&json!("NO_COLOR"), &json!("never")));
    assert_eq!(setting(&found, "pager")["value"], "more");
    let color = setting(&place.document(&[("NO_COLOR", "1")], &["--color", "always"]), "color");
    assert_eq!((&color["origin"], &color["value"]), (&json!("flag"), &json!("always")));
    let deadline = setting(&found, "limits.deadline_ms");
    assert_eq!((&deadline["origin"], &deadline["value"]), (&json!("default"), &json!(30_000)));
}

#[test]
fn a_file_that_cannot_be_understood_is_told_by_its_line_and_nothing_of_it() {
    let place = Place::new();
    place.user("# one\nhome = hunter2\n");
    let (stdout, stderr) = place.show(&[("ROWHOUSE_HOME", &place.path("home"))], &["--origin"]);
    assert!(stderr.contains("is not valid TOML, at line 2") && !stderr.contains("hunter2"), "{stderr}");
    assert!(stdout.contains(&place.path("home")), "{stdout}");
    place.user("");
    place.home("[state]\n\nbackend = hunter2\n");
    let mut status = Command::new(assert_cmd::cargo::cargo_bin("rowhouse"));
    let told = status.arg("--home").arg(place.path("home")).arg("status").output().expect("it runs");
    let stderr = String::from_utf8_lossy(&told.stderr);
    assert!(stderr.contains(&place.path("home/config.toml")) && stderr.contains("line 3"), "{stderr}");
    assert!(!stderr.contains("server") && !stderr.contains("hunter2"), "{stderr}");
    place.home("[logs]\nlevel = \"app=loud\"\ncolour = \"red\"\n");
    let found = place.document(&[("ROWHOUSE_HOME", &place.path("home"))], &[]);
    assert_eq!(setting(&found, "logs.level")["origin"], "default", "{found}");
    assert_eq!(found["unknown"][0]["name"], "logs.colour", "{found}");
    assert_eq!(found["problems"].as_array().map(Vec::len), Some(1), "{found}");
}

#[test]
fn no_secret_is_shown() {
    let place = Place::new();
    place.user("home = \"/data/password=hunter2secret/home\"\npassword = \"hunter2secret\"\n");
    let variables = [("PAGER", "less --token hunter2secret"), ("MY_API_TOKEN", "hunter2secret")];
    for arguments in [&["--origin"][..], &["--json"], &[]] {
        let (stdout, stderr) = place.show(&variables, arguments);
        assert!(!stdout.contains("hunter2secret") && !stderr.contains("hunter2secret"), "{stdout}{stderr}");
        assert!(stdout.contains("[REDACTED]"), "{stdout}");
    }
}

#[test]
fn a_person_reads_values_and_where_they_come_from() {
    let place = Place::new();
    let (stdout, _) = place.show(&[("ROWHOUSE_HOME", "/elsewhere")], &["--origin"]);
    let line = |begin: &str| {
        let found = stdout.lines().find(|line| line.starts_with(begin));
        found.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).unwrap_or_default()
    };
    assert_eq!(line("home"), "home /elsewhere environment ROWHOUSE_HOME", "{stdout}");
    let file = place.path("config/rowhouse/config.toml");
    assert_eq!(line("  instead of"), format!("instead of {} file {file}", place.path("home")), "{stdout}");
    assert_eq!(line("limits.deadline_ms"), "limits.deadline_ms 30 s default", "{stdout}");
    assert_eq!(line("limits.wal_soft_bytes"), "limits.wal_soft_bytes 4.0 MiB default", "{stdout}");
}
