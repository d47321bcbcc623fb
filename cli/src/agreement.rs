//! Before something is removed or replaced: a look at what, a question, or `--yes`.
//!
//! Invariants: who answers anything but yes is told that nothing was changed, and the command has failed; nobody is asked
//! where standard input is no terminal.
//!
//! Tests: `cli/tests/asking_first.rs`.

use std::fmt;

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

/// A person was asked, and does not want it. A script that goes on only when the command worked must not go on.
#[derive(Debug)]
pub(crate) struct Declined;

impl fmt::Display for Declined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing was changed")
    }
}

impl std::error::Error for Declined {}

impl Agreement {
    /// Goes on: asks a person, unless they said so before.
    ///
    /// # Errors
    /// [`Declined`]; `Invalid` when nobody is there to be asked; of reading the answer.
    pub(crate) fn given(&self, question: &str, output: &Output) -> Result<()> {
        if self.yes { Ok(()) } else { agreed(question, output) }
    }
}

/// Asks a person.
///
/// # Errors
/// As [`Agreement::given`].
pub(crate) fn agreed(question: &str, output: &Output) -> Result<()> {
    if output.agreed(&format!("{question} [y/N]"), ADVICE)? { Ok(()) } else { Err(Declined.into()) }
}
