//! Before something is removed or replaced: a look at what, a question, or `--yes`.

use anyhow::Result;
use clap::Args;

use crate::output::Output;

/// What to do when nobody is there to be asked.
pub(crate) const ADVICE: &str = "look with --dry-run, then say --yes";

/// Of every command that takes away what cannot come back by itself.
#[derive(Args)]
pub(crate) struct Agreement {
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    /// Say what would be done, and do nothing
    #[arg(long, conflicts_with = "yes")]
    pub(crate) dry_run: bool,
}

impl Agreement {
    /// Whether to go on: asks a person, unless they said so before.
    ///
    /// # Errors
    /// `Invalid` when nobody is there to be asked; of reading the answer.
    pub(crate) fn given(&self, question: &str, output: &Output) -> Result<bool> {
        Ok(self.yes || output.agreed(&format!("{question} [y/N]"), ADVICE)?)
    }
}
