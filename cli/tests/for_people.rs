//! What a person meets: exit codes, `error:` and `hint:`, and help.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

use assert_cmd::Command;

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
    assert!(stdout.contains("\nstep cache.fill: ") && stdout.contains(", 25 %, 1 rows done"), "{stdout}");
    let (_, document, _) = told(rowhouse().arg("--json").arg("--home").arg(home.path()).arg("status"));
    let document: serde_json::Value = serde_json::from_str(&document).expect("one document");
    assert_eq!(document["steps"]["cache"][0]["percent"], 25, "{document}");
}
