//! `rowhouse top` in a pseudo-terminal: it shows what a process does that was started before it, and leaves the terminal
//! as it was, however it ends. Without a terminal it says who else can be asked.
#![cfg(feature = "tui")]

mod common;
#[path = "common/terminal.rs"]
mod terminal;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};

use common::{document, rowhouse};
use rowhouse::{Home, Runtime};
use rustix::termios::{LocalModes, tcgetattr};
use terminal::Terminal;

fn top(home: &Path) -> Terminal {
    Terminal::start(home, 120, &["top", "--every", "0.1"])
}

/// Whether lines are edited and keys shown, as a shell has it.
fn is_as_it_was(terminal: &Terminal) -> bool {
    let modes = tcgetattr(&terminal.theirs).expect("its modes").local_modes;
    modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
}

/// Waits for the end, and for the sequences that go back from the other screen.
fn ends(mut terminal: Terminal) -> ExitStatus {
    terminal.wait_for("\u{1b}[?1049l");
    terminal.wait_for("\u{1b}[?25h");
    let ended = terminal.child.wait().expect("it ends");
    assert!(is_as_it_was(&terminal), "the modes of the terminal");
    ended
}

#[test]
fn a_process_started_before_is_seen_and_the_terminal_is_left_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = Runtime::open(Home::at(folder.path())).expect("a home");
    let state = runtime.database("state").expect("the domain");
    let pid = std::process::id().to_string();
    for (end, signal) in [("q", None), ("\u{3}", None), ("\u{1b}[B ", Some(15))] {
        let mut terminal = top(folder.path());
        terminal.wait_for("\u{1b}[?1049h");
        terminal.wait_for("device_keys");
        terminal.wait_for(&pid);
        assert!(!is_as_it_was(&terminal), "keys come one by one while it draws");
        state.write(|_| Ok(())).expect("written");
        terminal.type_in(end);
        if let Some(number) = signal {
            terminal.wait_for("held");
            let id = terminal.child.id().to_string();
            assert!(Command::new("kill").args(["-TERM", &id]).status().expect("kill runs").success());
            assert_eq!(ends(terminal).signal(), Some(number));
        } else {
            assert_eq!(ends(terminal).code(), Some(0));
        }
    }
}

/// A look that does not come back is told, and `q` and Ctrl-C still end it; the terminal is as it was.
///
/// What hangs is the home's registry: a pipe that nobody writes to stands in its place after the first look.
#[test]
fn a_look_that_hangs_keeps_nobody_from_ending() {
    for end in ["q", "\u{3}"] {
        let folder = tempfile::tempdir().expect("a folder");
        drop(Runtime::open(Home::at(folder.path())).expect("a home"));
        let mut terminal = top(folder.path());
        terminal.wait_for("device_keys");
        let registry = folder.path().join("registry.json");
        let pipe = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
        std::fs::rename(&pipe, &registry).expect("in its place");
        // Spaces that are there already are not drawn again.
        terminal.wait_for("answer");
        terminal.type_in(end);
        assert_eq!(ends(terminal).code(), Some(0));
    }
}

#[test]
fn without_a_terminal_it_says_what_to_ask_instead() {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, stdout, stderr) = rowhouse(folder.path(), &["top"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert_eq!(
        stderr,
        "error: this draws on a terminal, and there is none\nhint: a script asks `rowhouse stats --json`\n"
    );
    let (code, told) = document(folder.path(), &["top"]);
    assert_eq!((code, &told["error"]["kind"]), (Some(1), &"invalid".into()), "{told}");
}
