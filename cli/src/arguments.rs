//! The command line.

use std::path::PathBuf;

use anstyle::{AnsiColor, Style};
use clap::builder::Styles;
use clap::{Parser, Subcommand};
use rowhouse::Home;

const EXAMPLES: &str = "\
Examples:
  rowhouse demo                                 see it work, in a folder that is removed again
  rowhouse import ~/.myagent/sessions           index the transcripts of a folder
  rowhouse import codex                         the threads of Codex, where they are
  rowhouse export threads.rowhouse              all threads as one file; there: rowhouse import home FILE
  rowhouse backfill --follow                    index the home's own, or watch who does
  rowhouse threads list --cwd . --limit 20      what was worked on here
  rowhouse logs tail -f --level warn            what programs log, as they do
  rowhouse goals list --status active            what threads are to reach, and what they used
  rowhouse status --json | jq .databases        which databases there are, for scripts
  rowhouse stats --watch                        what the programs that use them do
  rowhouse who                                  which processes use them, and which one is in the way
  rowhouse doctor                               what is wrong, and what to do
  rowhouse backup                               copy everything, while programs go on writing
  rowhouse maintain                             give space that deleted rows left back to the disk
  rowhouse bench contention --quick             what this disk can do

The home is --home, else ROWHOUSE_HOME, else the one of your configuration, else the XDG state folder.
Exit codes: 0 it worked, 1 it did not, 2 the command line was not understood.";

/// Look at, fill, measure and care for a home of SQLite databases
#[derive(Parser)]
#[command(name = "rowhouse", version, after_help = EXAMPLES, styles = styles(), max_term_width = 110)]
#[command(arg_required_else_help = true, disable_help_subcommand = false)]
pub(crate) struct Arguments {
    /// The folder of the databases
    #[arg(long, global = true, value_name = "DIR")]
    home: Option<PathBuf>,
    /// Print one JSON document and nothing else on standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// The databases of a home: what they are, who wrote them, how large they are
    Status(crate::status::StatusArguments),
    /// What every process did with the databases: jobs, times, waits, errors
    Stats(crate::stats::StatsArguments),
    /// Who has the databases open, writes, waits, is stopped, or keeps deleted files
    Who(crate::who::WhoArguments),
    /// What is wrong, what it comes from, and what to do: looks, changes nothing
    Doctor(crate::doctor::DoctorArguments),
    /// Where the home and its files are, and what decided it
    Path(crate::path::PathArguments),
    /// Bring threads in: the transcripts of a folder, a Codex home, or an exported home
    Import(crate::backfill::ImportArguments),
    /// Write all threads into one file, for another machine
    Export(crate::portable::ExportArguments),
    /// Index the transcripts of the home, or show how far that is
    Backfill(crate::backfill::BackfillArguments),
    /// Look for transcripts that are new, changed, moved or gone
    Reindex(crate::backfill::ReindexArguments),
    /// The threads of a home
    Threads(crate::threads::ThreadsArguments),
    /// What programs wrote into the log: newest rows, queries, exports, following
    Logs(crate::logs::LogsArguments),
    /// The keys of this device that sign for an account and a client
    Keys(crate::keys::KeysArguments),
    /// The goals of threads, with what they may use and what they used
    Goals(crate::goals::GoalsArguments),
    /// The memories that are drawn from threads
    Memories(crate::memories::MemoriesArguments),
    /// Copy all databases at one instant, while programs go on writing
    Backup(crate::backup::BackupArguments),
    /// Put the databases of a backup in place of those that are there
    Restore(crate::restore::RestoreArguments),
    /// What is damaged, what can be kept of it, and setting it right
    Repair(crate::repair::RepairArguments),
    /// Give free space back to the disk, while programs go on writing
    Maintain(crate::maintain::MaintainArguments),
    /// Write databases anew without their free space, while nobody has them open
    Compact(crate::maintain::CompactArguments),
    /// See it work: four processes write to one database of a throw-away home
    Demo(crate::demo::DemoArguments),
    /// Measure this disk, side by side with the usual ways to share a database
    Bench(crate::bench::BenchArguments),
    /// Write as one of several processes (started by the demo and the benches)
    #[command(hide = true)]
    Worker(crate::children::WorkerArguments),
}

impl Arguments {
    pub(crate) fn home(&self) -> rowhouse::Result<Home> {
        match &self.home {
            Some(folder) => Ok(Home::at(folder)),
            None => Home::resolve(),
        }
    }
}

fn styles() -> Styles {
    let heading = Style::new().bold();
    Styles::styled()
        .header(heading)
        .usage(heading)
        .literal(AnsiColor::Cyan.on_default())
        .placeholder(Style::new().dimmed())
        .error(AnsiColor::Red.on_default().bold())
        .valid(AnsiColor::Green.on_default())
        .invalid(AnsiColor::Yellow.on_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
