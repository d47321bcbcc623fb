//! What a chat agent keeps: a thread that survives a crash in the middle of an answer, and is gone on with.
//!
//! ```console
//! $ cargo run --example chat -- /tmp/chat "Hello there"             begins a thread and prints its id
//! $ CHAT_CRASH=1 cargo run --example chat -- /tmp/chat "Hello" ID   dies in the middle of the answer
//! $ cargo run --example chat -- /tmp/chat "Where were we?" ID       shows what is there, and goes on
//! ```

use std::path::Path;

use rowhouse::rollout::{Item, NewRollout};
use rowhouse::thread_store::{LiveThread, TurnQuery};
use rowhouse::{Home, Runtime};
use serde_json::json;

fn main() -> rowhouse::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [home, question] => chat(home.as_ref(), question, None),
        [home, question, thread] => chat(home.as_ref(), question, Some(thread)),
        _ => {
            eprintln!("chat HOME QUESTION [THREAD]");
            std::process::exit(2);
        }
    }
}

/// Asks one question, in a new thread or in one that is there.
pub(crate) fn chat(home: &Path, question: &str, thread: Option<&str>) -> rowhouse::Result<()> {
    // In files here, or on the server that the home's configuration names: nothing below asks which.
    let store = Runtime::open(Home::at(home))?.thread_store()?;
    let mut turns = 0;
    let live = match thread {
        None => {
            LiveThread::create(store, &NewRollout { source: Some(json!("cli")), ..NewRollout::default() })?
        }
        Some(thread) => {
            for turn in store.list_turns(thread, &TurnQuery::new().limit(500))?.turns {
                let (asked, answered) = (turn.turn.user_text, turn.turn.agent_text);
                println!("{}: {asked:?} {answered:?}", turn.turn.status.as_str());
                turns = turn.turn.ordinal + 1;
            }
            // From here on nobody else can write it; a line that a crash tore was cut off.
            LiveThread::resume(store, thread)?
        }
    };
    println!("thread {}", live.id());
    let turn = format!("turn-{turns}");
    let event = |kind: &str, field: &str, text: &str| {
        Item::new("event_msg", &json!({"type": kind, "turn_id": turn, field: text}))
    };
    live.append(&[event("task_started", "by", "chat")?, event("user_message", "message", question)?])?;
    live.flush()?; // The question survives a power cut before the model is asked.

    for (number, sentence) in model(question).enumerate() {
        // What was shown is in the file: it survives a crash of this program.
        live.append(&[event("agent_message", "message", &sentence)?])?;
        println!("{sentence}");
        if number == 0 && std::env::var_os("CHAT_CRASH").is_some() {
            std::process::abort();
        }
    }
    live.append(&[event("task_complete", "by", "chat")?])?;
    live.close() // Flushes, and gives the thread to whoever wants it next.
}

/// A model that is not very bright.
fn model(question: &str) -> impl Iterator<Item = String> {
    ["You say: ", "I say nothing about: "].into_iter().map(move |words| format!("{words}{question}"))
}
