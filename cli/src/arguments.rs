//! The command line.

use std::path::{Path, PathBuf};

use std::ffi::OsString;

use anstream::ColorChoice;
use anstyle::{AnsiColor, Style};
use clap::builder::Styles;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use rowhouse::Home;

use crate::help;

const EXAMPLES: &str = "\
Examples:
  rowhouse demo                                 see it work, in a folder that is removed again
  rowhouse import ~/.myagent/sessions           index the transcripts of a folder
  rowhouse import codex                         the threads of Codex, where they are
  rowhouse export threads.rowhouse              all threads as one file; there: rowhouse import home FILE
  rowhouse backfill --follow                    index the home's own, or watch who does
  rowhouse threads list --cwd . --limit 20      what was worked on here
  rowhouse logs tail -f --level warn            what programs log, as they do
  rowhouse goals list --status active           what threads are to reach, and what they used
  rowhouse status --json | jq .databases        which databases there are, for scripts
  rowhouse stats --watch                        what the programs that use them do
  rowhouse who                                  which processes use them, and which one is in the way
  rowhouse doctor                               what is wrong, and what to do
  rowhouse backup                               copy everything, while programs go on writing
  rowhouse maintain                             give space that deleted rows left back to the disk
  rowhouse bench contention --quick             what this disk can do

The home is --home, else ROWHOUSE_HOME, else the one of your configuration, else the XDG state folder.

Exit codes: 0 it worked, 1 it did not, 2 the command line was not understood.";

/// The heading of what every command understands.
const EVERYWHERE: &str = "With every command";

/// What a command is, how it is used by example, and only then its options.
const TEMPLATE: &str = "\
{before-help}{about}{after-help}

{usage-heading} {usage}

{all-args}";

/// Look at, fill, measure and care for a home of SQLite databases
#[derive(Parser)]
#[command(name = "rowhouse", version, after_help = EXAMPLES, styles = styles())]
#[command(arg_required_else_help = true, disable_help_subcommand = false)]
pub(crate) struct Arguments {
    /// The folder of the databases
    #[arg(long, global = true, value_name = "DIR", help_heading = EVERYWHERE)]
    home: Option<PathBuf>,
    /// Print JSON and nothing else on standard output: one document, or one a line where rows come as they are found
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) json: bool,
    // Given as text: clippy would have the names in backticks.
    #[arg(help = "Colours: NO_COLOR, CLICOLOR and CLICOLOR_FORCE count where this is auto")]
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = Color::Auto, help_heading = EVERYWHERE)]
    color: Color,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// The databases of a home: what they are, who wrote them, how large they are
    Status(crate::status::StatusArguments),
    /// What every process did with the databases: jobs, times, waits, errors
    Stats(crate::stats::StatsArguments),
    /// What the processes do with the databases, as it happens
    #[cfg(feature = "tui")]
    Top(crate::top::TopArguments),
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
    /// Move the data to a PostgreSQL server, or back into files
    #[cfg(feature = "postgres")]
    MigrateBackend(crate::migrate_backend::MigrateBackendArguments),
    /// See it work: four processes write to one database of a throw-away home
    Demo(crate::demo::DemoArguments),
    /// Measure this disk, side by side with the usual ways to share a database
    Bench(crate::bench::BenchArguments),
    /// What is set, to which value, and what decided it
    Config(crate::config::ConfigArguments),
    /// A page to look at and to keep: findings, sizes, growth, write times
    Report(crate::report::ReportArguments),
    /// What helps others to help
    Support(crate::support::SupportArguments),
    /// What completes commands and options in a shell
    Completions(crate::completions::CompletionsArguments),
    /// The manual pages of this command and of each of its own
    Man(crate::man::ManArguments),
}

/// When there are colours.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

/// The whole command line, as it is understood and as its manual shows it.
pub(crate) fn command() -> clap::Command {
    examples_first(Arguments::command())
}

fn examples_first(command: clap::Command) -> clap::Command {
    command.help_template(TEMPLATE).mut_subcommands(examples_first)
}

/// Sets the colours of both outputs, before anything is told: also for what was not understood.
fn choose_colors(given: &[OsString]) {
    let words: Vec<_> = given.iter().map(|word| word.to_str().unwrap_or_default()).collect();
    let asked = words.iter().enumerate().rev().find_map(|(at, word)| match *word {
        "--color" => words.get(at + 1).copied(),
        word => word.strip_prefix("--color="),
    });
    let choice = match asked {
        Some("always") => ColorChoice::Always,
        Some("never") => ColorChoice::Never,
        _ => return,
    };
    choice.write_global();
}

/// What the command line itself says, where others could say it as well.
#[derive(Clone, Copy)]
pub(crate) struct Given<'a> {
    pub(crate) home: Option<&'a Path>,
    /// Nothing for `auto`, which leaves it to others.
    pub(crate) color: Option<&'static str>,
}

impl Arguments {
    pub(crate) fn given(&self) -> Given<'_> {
        let color = match self.color {
            Color::Auto => None,
            Color::Always => Some("always"),
            Color::Never => Some("never"),
        };
        Given { home: self.home.as_deref(), color }
    }

    /// Understands the command line of this process.
    ///
    /// # Errors
    /// What was not understood, or the help that was asked for.
    pub(crate) fn of_this_process() -> Result<Self, clap::Error> {
        let given: Vec<_> = std::env::args_os().collect();
        choose_colors(&given);
        Self::from_arg_matches(&help::fitted(command(), help::columns()).try_get_matches_from(given)?)
    }

    pub(crate) fn home(&self) -> rowhouse::Result<Home> {
        match &self.home {
            // What names it in an answer is of use in another folder, too.
            Some(folder) => Ok(Home::at(std::path::absolute(folder).unwrap_or_else(|_| folder.clone()))),
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
        command().debug_assert();
    }

    #[test]
    fn every_command_shows_examples() {
        fn check(command: &clap::Command, path: &str) {
            let said = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(said.starts_with("Examples:\n  rowhouse"), "{path}: {said:?}");
            for part in command.get_subcommands().filter(|part| !part.is_hide_set()) {
                check(part, &format!("{path} {}", part.get_name()));
            }
        }
        check(&command(), "rowhouse");
    }

    #[test]
    fn every_command_that_the_doctor_names_is_understood() {
        let all = rowhouse::doctor::commands();
        assert!(all.len() > 20, "{all:?}");
        for words in all {
            let understood = command().try_get_matches_from(&words);
            understood.unwrap_or_else(|error| panic!("{words:?}: {error}"));
        }
        let wrong = ["rowhouse", "backfill", "--status"];
        command().try_get_matches_from(wrong).expect_err("the control");
    }

    /// The words of a line of a shell, up to a comment, a pipe or another command.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
        for letter in line.chars() {
            match (letter, quote) {
                (letter, Some(open)) if letter == open => quote = None,
                ('\'' | '"', None) => {
                    quote = Some(letter);
                    word.get_or_insert_default();
                }
                (' ', None) => words.extend(word.take()),
                ('#' | '|' | '&' | '>', None) if word.is_none() => break,
                _ => word.get_or_insert_default().push(letter),
            }
        }
        words.extend(word);
        words
    }

    #[test]
    fn every_command_in_the_documentation_is_understood() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        #[expect(clippy::disallowed_methods, reason = "documentation is no database")]
        let text = |path: &Path| std::fs::read_to_string(path).expect("a page");
        let pages =
            std::fs::read_dir(root.join("docs")).expect("docs").map(|entry| entry.expect("a page").path());
        let pages = pages.filter(|page| page.extension().is_some_and(|ending| ending == "md"));
        let mut understood = 0;
        for page in pages.chain([root.join("README.md"), root.join("CONTRIBUTING.md")]) {
            let mut block = None;
            for line in text(&page).lines() {
                if let Some(info) = line.strip_prefix("```") {
                    block = if block.is_none() { Some(info.to_owned()) } else { None };
                    continue;
                }
                let words = words(line);
                if block.as_deref() != Some("sh") || words.is_empty() {
                    continue;
                }
                match words[0].as_str() {
                    "rowhouse" => {
                        let read = command().try_get_matches_from(&words);
                        read.unwrap_or_else(|error| panic!("{}: {line}: {error}", page.display()));
                        understood += 1;
                    }
                    // Other programs, and a variable before one.
                    "cargo" | "CHAT_CRASH=1" => {}
                    other => panic!("{}: {other}", page.display()),
                }
            }
        }
        assert!(understood > 40, "{understood}");
        let wrong = words("rowhouse threads list --limit 'x y'  # of a person");
        assert_eq!(wrong.len(), 5, "{wrong:?}");
        command().try_get_matches_from(wrong).expect_err("the control");
    }
}
