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
        value_parser = levels,
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

/// A word alone is a level. The library reads any other as a target of which everything is taken, as `RUST_LOG` has it; of a
/// person it is more likely a slip.
fn levels(text: &str) -> Result<LogLevels, String> {
    let parsed = |text: &str| text.parse::<LogLevels>().map_err(|error| error.to_string());
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty() && !word.contains('='));
    for word in words {
        if parsed(word)?.to_string().contains('=') {
            return Err(format!(
                "{word} is no level (off, error, warn, info, debug, trace); of a target: {word}=debug"
            ));
        }
    }
    parsed(text)
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
