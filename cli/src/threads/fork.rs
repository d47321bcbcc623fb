//! `rowhouse threads fork`: a new thread in this home that begins with another one's past.

use anyhow::Result;
use clap::Args;
use rowhouse::Home;
use rowhouse::rollout::NewRollout;
use rowhouse::thread_store::ForkPoint;
use serde_json::json;

use super::Row;
use super::history::find;
use crate::output::{self, Output};

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
    let (store, id) = find(home, &arguments.id)?;
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
    let forked = store.fork(&id, &point, &new)?;
    store.shutdown(&forked)?;
    if output.is_json() {
        return output.document(&Row::from(store.read(&forked)?));
    }
    output::note(&format!("a fork of {id}"));
    output.text(&format!("{forked}\n"))
}
