//! `rowhouse threads fork`: a new thread in this home that begins with another one's past.

use anyhow::Result;
use clap::Args;
use rowhouse::Home;
use rowhouse::rollout::NewRollout;
use rowhouse::thread_store::ForkPoint;
use serde_json::json;

use super::Row;
use crate::open;
use crate::output::{self, Output};
use crate::waiting::until_free;

#[derive(Args)]
pub(super) struct ForkArguments {
    /// The thread; the beginning or the end of its id is enough
    #[arg(value_name = "ID")]
    id: String,
    /// Only up to the end of this turn; `threads turns` lists them
    #[arg(long, value_name = "TURN", conflicts_with = "before_turn")]
    after_turn: Option<String>,
    /// Only up to the beginning of this turn
    #[arg(long, value_name = "TURN")]
    before_turn: Option<String>,
}

pub(super) fn run(home: &Home, arguments: &ForkArguments, output: &Output) -> Result<()> {
    let runtime = open::state(home)?;
    let (store, threads) = (runtime.thread_store()?, runtime.threads());
    let id = threads.find_id(&arguments.id)?;
    let source = store.read(&id)?;
    let point = match (&arguments.after_turn, &arguments.before_turn) {
        (Some(turn), _) => ForkPoint::AfterTurn(turn.clone()),
        (None, Some(turn)) => ForkPoint::BeforeTurn(turn.clone()),
        (None, None) => ForkPoint::End,
    };
    let new = NewRollout {
        cwd: source.cwd,
        originator: Some("rowhouse".to_owned()),
        cli_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        source: Some(json!("cli")),
        model_provider: source.model_provider,
        memory_mode: Some(source.memory_mode),
        git: source.git,
        ..NewRollout::default()
    };
    // A fork waits only a moment for its row. Whoever has the index locked is waited for before there is anything.
    until_free(home, &runtime, "state")?;
    let forked = store.fork(&id, &point, &new)?;
    store.shutdown(&forked)?;
    // Somebody may have locked it again.
    if !threads.get(&forked).is_ok_and(|row| row.is_some()) {
        output::warn("the list does not show the fork yet; `rowhouse reindex` brings it in");
    }
    if output.is_json() {
        return output.document(&Row::from(store.read(&forked)?));
    }
    output::note(&format!("a fork of {id}"));
    output.text(&format!("{forked}\n"))
}
