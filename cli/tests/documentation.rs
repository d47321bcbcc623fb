//! The transcripts in the documentation are what the command says.
#![allow(clippy::disallowed_methods, reason = "a test prepares a home")]

mod common;

use common::document;

#[test]
fn the_transcripts_of_the_page_about_the_command_line_are_true() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("home");
    let transcripts = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/transcripts");
    assert_eq!(document(&home, &["import", transcripts]).0, Some(0));
    let thread = "019cadf1-7a5e-7b04-8f21-5d0c9a41e001";
    assert_eq!(document(&home, &["goals", "set", thread, "--objective", "Ship it"]).0, Some(0));
    assert_eq!(document(&home, &["logs", "level", "warn"]).0, Some(0));
    let home = home.display().to_string();
    trycmd::TestCases::new()
        .env("ROWHOUSE_HOME", &home)
        .env("XDG_CONFIG_HOME", folder.path().join("config").display().to_string())
        .env("RUST_LOG", "debug")
        .env("NO_COLOR", "1")
        .env("PAGER", "cat")
        .env("TERM", "xterm")
        .insert_var("[HOME]", home)
        .expect("a name in brackets")
        .case("../docs/command_line.md");
}
