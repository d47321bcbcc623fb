//! What a person meets: exit codes, `error:` and `hint:`, and help.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

#[path = "common/terminal.rs"]
mod terminal;

use assert_cmd::Command;
use terminal::Terminal;
use unicode_width::UnicodeWidthStr;

fn rowhouse() -> Command {
    let mut command = Command::cargo_bin("rowhouse").expect("the binary is built");
    command.env_remove("ROWHOUSE_HOME");
    command
}

fn told(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().expect("the command runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_command_line_that_is_not_understood_exits_with_2() {
    for arguments in [
        &["nonsense"][..],
        &[],
        &["threads"],
        &["threads", "list", "--limit", "0"],
        &["threads", "list", "--sort", "colour"],
        &["bench", "contention", "--only", "nothing"],
        &["bench", "contention", "--seconds", "-1"],
        &["bench", "startup", "--only", "nothing"],
        &["bench", "stores", "--only", "nothing"],
        &["bench", "stores", "--threads", "0"],
        &["bench", "backend", "--only", "nothing"],
        &["bench", "backend", "--url", "postgres://a@b/c", "--programs", "/"],
    ] {
        let (code, stdout, stderr) = told(rowhouse().args(arguments));
        assert_eq!(code, Some(2), "{arguments:?}: {stdout}{stderr}");
        assert!(stdout.is_empty() && !stderr.is_empty(), "{arguments:?}: {stdout}");
    }
}

#[test]
fn a_failure_is_told_with_its_next_step_on_standard_error() {
    let (code, stdout, stderr) = told(rowhouse().args(["import", "/nonexistent/folder"]));
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.starts_with("error: no such folder (/nonexistent/folder)\nhint: "), "{stderr}");
}

#[test]
fn a_home_that_is_not_there_is_told_in_words_of_the_command_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("nowhere");
    for word in ["maintain", "compact", "backup", "reindex", "backfill"] {
        let (code, _, stderr) = told(rowhouse().arg("--home").arg(&home).arg(word));
        assert_eq!(code, Some(1), "{word}: {stderr}");
        assert!(
            stderr.contains("there is no home here yet") && !stderr.contains("runtime"),
            "{word}: {stderr}"
        );
        assert!(!home.exists(), "{word} makes nothing");
    }
}

#[test]
fn what_is_named_in_place_of_a_folder_of_transcripts_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| {
        std::fs::write(folder.path().join(name), "x").expect("a file");
        folder.path().join(name).display().to_string()
    };
    for (arguments, hint) in [
        (vec!["import".to_owned(), file("e.rowhouse")], "rowhouse import home FILE"),
        (vec!["import".to_owned(), file("one.jsonl")], "the folder that holds it"),
        (vec!["import".to_owned(), "codex".to_owned()], "rowhouse import codex DIR"),
    ] {
        let mut command = rowhouse();
        command.env("HOME", folder.path()).env_remove("CODEX_HOME").args(&arguments);
        let (code, _, stderr) = told(&mut command);
        assert!(code == Some(1) && stderr.contains(hint), "{arguments:?}: {stderr}");
        assert!(!folder.path().join(".local").exists(), "no home is made for nothing");
    }
}

#[test]
fn help_is_data_and_shows_examples() {
    for arguments in
        [&["help"][..], &["--help"], &["help", "bench", "contention"], &["threads", "list", "--help"]]
    {
        let (code, stdout, stderr) = told(rowhouse().args(arguments));
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stdout.contains("Examples:"), "{arguments:?}: {stdout}");
        assert!(!stdout.contains("worker"), "{arguments:?}: {stdout}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    use std::process::{Command, Stdio};
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = Command::new(assert_cmd::cargo::cargo_bin("rowhouse"))
        .args(["--home", "/nonexistent/home", "status"])
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .expect("the command runs");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_table_in_a_pipe_has_no_colours() {
    let home = tempfile::tempdir().expect("a folder");
    std::fs::write(home.path().join("cache.sqlite"), "").expect("a file");
    let (code, stdout, stderr) = told(rowhouse().arg("--home").arg(home.path()).arg("status"));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("cache") && !stdout.contains('\u{1b}'), "{stdout:?}");
}

#[test]
fn a_writing_process_ends_when_its_parent_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let work = format!(
        r#"{{"insert":{{"subject":"raw","folder":{:?},"domain":"x","synchronous":"full","callers":1,"time":{{"secs":600,"nanos":0}}}}}}"#,
        folder.path()
    );
    let (code, stdout, stderr) = told(rowhouse().args(["worker", &work]).write_stdin(""));
    assert_eq!((code, stdout.as_str()), (Some(1), "ready\n"), "{stderr}");
    assert!(stderr.contains("the parent went away"), "{stderr}");
}

#[test]
fn status_shows_how_far_a_step_is() {
    use rowhouse::{Domain, Error, ErrorKind, Home, Migration, Progress, Runtime, Step, Watermark};
    const PAGE: &[Migration] = &[Migration { name: "V1__page", sql: "CREATE TABLE page(url TEXT)" }];
    let home = tempfile::tempdir().expect("a folder");
    let step = Step::new("fill", 1, |_, piece| match piece.after() {
        Watermark::Start => Ok(Progress::More { to: Watermark::Number(1), rows: 1 }),
        _ => Err(Error::new(ErrorKind::Job, "not today")),
    });
    let cache = Domain::new("cache").migrations(PAGE).step(step.total(|_| Ok(4)));
    let runtime = Runtime::builder(Home::at(home.path())).domain(cache).open().expect("a runtime");
    let database = runtime.database("cache").expect("the domain");
    let mut seen = 0;
    while database.steps().expect("the step")[0].rows == 0 {
        seen = database.wait_for_change(seen, std::time::Duration::from_secs(1)).expect("a wait");
    }
    let (code, stdout, stderr) = told(rowhouse().arg("--home").arg(home.path()).arg("status"));
    assert_eq!(code, Some(0), "{stderr}");
    // "waiting" when it has failed often enough by now.
    assert!(stdout.contains("\nstep cache.fill: ") && stdout.contains(", 25 %, 1 row done"), "{stdout}");
    let (_, document, _) = told(rowhouse().arg("--json").arg("--home").arg(home.path()).arg("status"));
    let document: serde_json::Value = serde_json::from_str(&document).expect("one document");
    assert_eq!(document["steps"]["cache"][0]["percent"], 25, "{document}");
}

/// Control: in a pipe, where nobody counts columns, lines are longer.
#[test]
fn tables_fit_a_terminal_and_miss_nothing_of_importance() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("a folder with a name that is as long as some are/home");
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/transcripts");
    assert_eq!(told(rowhouse().arg("--home").arg(&home).args(["import", samples])).0, Some(0));
    std::fs::write(home.join("config.toml"), "[logs]\nlevel = \"warn,some_app::net=debug,other=off\"\n")
        .expect("written");
    for (command, last) in [
        (&["backfill", "status"][..], "complete"),
        (&["doctor", "--list"], "of a domain that is there"),
        (&["config", "show", "--origin"], "logs.level"),
        (&["support", "bundle", "x.tar.gz", "--dry-run"], "newest log rows"),
    ] {
        let (_, piped, _) = told(rowhouse().arg("--home").arg(&home).args(command));
        assert!(piped.lines().any(|line| line.width() > 60), "{command:?}: {piped}");
        for columns in [80, 60] {
            let (ended, shown) = Terminal::start(&home, columns, command).end();
            assert!(ended.success(), "{command:?}: {shown}");
            let shown = anstream::adapter::strip_str(&shown).to_string();
            // What stands below the tables is prose.
            let table: Vec<_> = shown
                .lines()
                .skip_while(|line| !line.contains("  "))
                .take_while(|line| !line.contains(" file: "))
                .collect();
            for line in &table {
                assert!(line.trim_end().width() <= usize::from(columns), "{command:?}: {line}\n{shown}");
            }
            let joined: String = table.concat().split_whitespace().collect();
            let last: String = last.split_whitespace().collect();
            assert!(joined.contains(&last), "{command:?} in {columns}: {shown}");
        }
    }
}

#[test]
fn an_error_names_what_was_asked_for_and_no_temporary_file() {
    let home = tempfile::tempdir().expect("a folder");
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/transcripts");
    assert_eq!(told(rowhouse().arg("--home").arg(home.path()).args(["import", samples])).0, Some(0));
    for arguments in [
        &["export", "/nonexistent/x.rowhouse"][..],
        &["report", "--html", "/nonexistent/x.html"],
        &["logs", "export", "--output", "/proc/x.jsonl"],
    ] {
        let (code, _, stderr) = told(rowhouse().arg("--home").arg(home.path()).args(arguments));
        assert_eq!(code, Some(1), "{stderr}");
        assert!(!stderr.contains(".new-") && !stderr.contains(".rowhouse-"), "{stderr}");
        assert!(stderr.contains("/nonexistent") || stderr.contains("/proc/x.jsonl"), "{stderr}");
    }
}
