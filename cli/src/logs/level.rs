//! `rowhouse logs level`: which events programs write, shown and set.

use anyhow::Result;
use clap::Args;
use rowhouse::Home;
use rowhouse::stores::logs::{LevelOrigin, LogLevels, log_levels, set_log_levels};
use serde::Serialize;

use crate::output::Output;

#[derive(Args)]
pub(super) struct LevelArguments {
    // Given as text: clippy would have the help in backticks.
    #[arg(
        value_name = "DIRECTIVES",
        help = "off, error, warn, info, debug or trace; or for some targets only: info,hyper=warn,my_app=debug"
    )]
    levels: Option<LogLevels>,
    #[arg(
        long,
        conflicts_with = "levels",
        help = "Take the setting out: then RUST_LOG counts, or the program"
    )]
    reset: bool,
}

#[derive(Serialize)]
struct Level {
    levels: String,
    origin: LevelOrigin,
}

pub(super) fn run(home: &Home, arguments: &LevelArguments, output: &Output) -> Result<()> {
    if arguments.reset || arguments.levels.is_some() {
        set_log_levels(home, arguments.levels.as_ref())?;
    }
    let (levels, origin) = log_levels(home)?;
    if output.is_json() {
        return output.document(&Level { levels: levels.to_string(), origin });
    }
    let origin = match origin {
        LevelOrigin::Config => "set in the home's config.toml",
        LevelOrigin::Environment => "by RUST_LOG, as it is here",
        _ => "by default; a program may say otherwise",
    };
    output.text(&format!("{levels}  ({origin})\n"))
}
