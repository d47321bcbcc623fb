//! The example `chat` does what docs/threads.md says of it.

#[path = "../examples/chat.rs"]
#[allow(dead_code, reason = "its main reads a command line")]
mod chat;

use std::path::Path;
use std::process::{Command, Output};

use rowhouse::thread_store::{ItemsView, LocalThreadStore, ThreadStore, TurnQuery, TurnStatus};
use rowhouse::{Home, Runtime};

/// Runs the example in a process of its own.
fn run(home: &Path, question: &str, thread: Option<&str>, crash: bool) -> (Output, String) {
    let mut command = Command::new(std::env::current_exe().expect("this test's binary"));
    command.args(["--exact", "child_entry", "--nocapture"]);
    command.env("CHAT_HOME", home).env("CHAT_QUESTION", question).env_remove("CHAT_CRASH");
    command.envs(thread.map(|thread| ("CHAT_THREAD", thread)));
    command.envs(crash.then_some(("CHAT_CRASH", "1")));
    let output = command.output().expect("a process");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (output, said)
}

/// What a child does; alone it does nothing.
#[test]
fn child_entry() {
    let (Some(home), Ok(question)) = (std::env::var_os("CHAT_HOME"), std::env::var("CHAT_QUESTION")) else {
        return;
    };
    let thread = std::env::var("CHAT_THREAD").ok();
    chat::chat(home.as_ref(), &question, thread.as_deref()).expect("a chat");
}

#[test]
fn a_chat_that_crashes_in_mid_answer_is_gone_on_with() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("home");
    let (crashed, said) = run(&home, "Hello", None, true);
    assert!(!crashed.status.success() && said.contains("You say: Hello"), "{said}");
    assert!(!said.contains("I say nothing"), "{said}");
    let thread = said.split_once("thread ").expect("an id").1[..36].to_owned();

    let (resumed, said) = run(&home, "Where were we?", Some(&thread), false);
    assert!(resumed.status.success(), "{said}{}", String::from_utf8_lossy(&resumed.stderr));
    assert!(said.contains(r#"interrupted: Some("Hello") Some("You say: Hello")"#), "{said}");

    let store = LocalThreadStore::new(&Runtime::open(Home::at(&home)).expect("opened")).expect("a store");
    let page = store.list_turns(&thread, &TurnQuery::new().items(ItemsView::Full)).expect("turns");
    let turns: Vec<_> = page.turns.iter().map(|turn| (turn.turn.status, turn.items.len())).collect();
    assert_eq!(turns, [(TurnStatus::Interrupted, 3), (TurnStatus::Completed, 5)]);
    assert_eq!(store.read(&thread).expect("a row").title.as_deref(), Some("Hello"));
}
