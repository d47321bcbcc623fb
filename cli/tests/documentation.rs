//! The transcripts in the documentation are what the command says, and no page has one that is not run.
#![allow(clippy::disallowed_methods, reason = "a test prepares a home")]

#[path = "common/transcript.rs"]
mod transcript;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use rowhouse::{Domain, Home, Runtime};

/// The pages with transcripts, each run by a test below.
const RUN: [&str; 3] = ["docs/broken_homes.md", "docs/command_line.md", "docs/operations.md"];
/// What a block may be beside a transcript. Commands of `sh` blocks are understood by the command: a test beside its
/// arguments says so.
const OTHERS: [&str; 6] = ["", "rust", "sh", "sql", "text", "toml"];
/// In the environment of a process that is the agent of a page: its home.
const AGENT: &str = "ROWHOUSE_TEST_AGENT";

fn pages() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let names =
        fs::read_dir(root.join("docs")).expect("docs").map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| format!("docs/{}", name.display()));
    let pages = names.chain(["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(str::to_owned));
    pages.filter(|name| Path::new(name).extension().is_some_and(|ending| ending == "md")).collect()
}

fn text(page: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(page)).expect(page)
}

#[test]
fn every_transcript_in_the_documentation_is_run() {
    let mut found = BTreeSet::new();
    for page in pages() {
        for (info, line, lines) in transcript::blocks(&text(&page)) {
            // What a checkout is built and tested with: `.ci/run` takes it from there.
            if page == "README.md" && lines.iter().all(|line| line.starts_with("$ cargo ")) {
                continue;
            }
            if info == "console" {
                found.insert(page.clone());
                continue;
            }
            assert!(OTHERS.contains(&info.as_str()), "{page}:{line}: what is a block of {info:?}?");
            let looks = lines.iter().find(|line| line.trim_start().starts_with("$ "));
            assert_eq!(looks, None, "{page}:{line}: a transcript is a block of console, which is run");
        }
    }
    assert_eq!(found, RUN.map(str::to_owned).into(), "a page with transcripts needs a test here");
}

fn run(page: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    // Named as it is to be seen in lists of processes.
    let program = folder.path().join("agent");
    let own = std::env::current_exe().expect("this test");
    fs::create_dir(folder.path().join("real")).expect("a folder");
    std::os::unix::fs::symlink(&own, folder.path().join("real/agent")).expect("a link");
    let script = format!(
        "#!/bin/bash\nmkfifo ~/.agent\n\
         {AGENT}=\"$*\" '{}' --exact the_agent_of_a_page --nocapture >~/.agent 2>/dev/null &\n\
         while read -r line; do case $line in *@*) echo \"${{line#*@}}\"; break; esac; done <~/.agent\nrm ~/.agent\n",
        folder.path().join("real/agent").display()
    );
    let mut file = fs::File::create(&program).expect("a program");
    file.write_all(script.as_bytes()).expect("written");
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a program");
    drop(file);
    let rowhouse = assert_cmd::cargo::cargo_bin("rowhouse");
    transcript::run(page, &[("rowhouse", rowhouse), ("agent", program)]);
}

/// Not a test but the program of a page, when it was started as that: it begins a write that ends with `agent.done`.
#[test]
fn the_agent_of_a_page() {
    let Some(doing) = std::env::var_os(AGENT) else { return };
    let domains = [Domain::state(), Domain::logs()].map(|domain| domain.program("agent", "1.4"));
    let builder = Runtime::builder(Home::resolve().expect("a home"));
    let runtime = domains.into_iter().fold(builder, rowhouse::Builder::domain).open().expect("opened");
    let logs = runtime.database("logs").expect("the domain");
    logs.write(|tx| tx.execute("CREATE TABLE IF NOT EXISTS note(text TEXT)", [])).expect("written");
    fs::write("agent.pid", std::process::id().to_string()).expect("written");
    let state = runtime.database("state").expect("the domain").label(doing.to_str().expect("a word"));
    let _ = state.write(|_| {
        println!("@agent: {} ...", doing.display());
        // Until the page lets it end; where its test was killed, not for ever.
        for _ in 0..2_000 {
            if Path::new("agent.done").exists() {
                break;
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
        Ok(())
    });
}

#[test]
fn the_page_about_the_command_line_is_true() {
    run("docs/command_line.md");
}

#[test]
fn the_page_about_operations_is_true() {
    run("docs/operations.md");
}

#[test]
fn the_page_about_broken_homes_is_true() {
    run("docs/broken_homes.md");
}
