//! `rowhouse completions`: what completes commands and options in a shell, made from the command line itself.

use anyhow::Result;
use clap::Args;
use clap_complete::Shell;
use serde::Serialize;

use crate::arguments;
use crate::output::Output;

#[derive(Args)]
#[command(after_help = "\
Examples:
  rowhouse completions bash > ~/.local/share/bash-completion/completions/rowhouse
  rowhouse completions zsh > ~/.zfunc/_rowhouse          (with fpath+=~/.zfunc before compinit)
  rowhouse completions fish > ~/.config/fish/completions/rowhouse.fish")]
pub(crate) struct CompletionsArguments {
    /// For which shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Serialize)]
struct Document {
    shell: String,
    script: String,
}

pub(crate) fn run(arguments: &CompletionsArguments, output: &Output) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut arguments::command(), "rowhouse", &mut script);
    if output.is_json() {
        let script = String::from_utf8(script)?;
        return output.document(&Document { shell: arguments.shell.to_string(), script });
    }
    output.bytes(&script)
}
