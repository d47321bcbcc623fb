//! `rowhouse threads`: what was worked on, newest first; what is found in it; who started whom; reading and changing one.
//!
//! | file | commands |
//! |---|---|
//! | here | `list` |
//! | `search`, `tree` | `search`, `tree` |
//! | `show`, `turns`, `export` | the same; of lines that a person reads (`entries`), turn by turn (`history`) |
//! | `change`, `fork` | `rename`, `pin`, `unpin`, `archive`, `unarchive`; `fork` |
//! | `rm` | the same |

mod change;
mod entries;
mod export;
mod fork;
mod history;
mod rm;
mod search;
mod show;
mod tree;
mod turns;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use rowhouse::stores::threads::TranscriptState;
use rowhouse::stores::{self, Direction, ThreadRow, Threads};
use rowhouse::{Error, Home, ThreadQuery};
use serde::Serialize;

use self::change::Word;
use crate::open;
use crate::output::{self, Output};
use crate::table::{Table, age, rfc3339, rfc3339_option, time};

/// Letters of an id that tell two threads of one home apart: the last ones, since the first are the time.
const SHORT_ID: usize = 8;
/// Titles are not cut shorter than this, however narrow the terminal.
const NARROWEST_TITLE: usize = 16;
/// Other columns of a list go before a title has less room than this.
const LISTED_TITLE: usize = 24;

#[derive(Args)]
#[command(after_help = "\
Examples:
  rowhouse threads list --cwd . --limit 10
  rowhouse threads search flaky test
  rowhouse threads tree 0badcafe")]
pub(crate) struct ThreadsArguments {
    #[command(subcommand)]
    command: ThreadsCommand,
}

#[derive(Subcommand)]
enum ThreadsCommand {
    /// List threads
    #[command(
        after_help = "Examples:\n  rowhouse threads list --cwd . --limit 10\n  rowhouse threads list --sort created --asc --json | jq -r '.threads[].title'\n  rowhouse threads list --cursor CURSOR        (the next page: its cursor ends each page)"
    )]
    List(ListArguments),
    /// Find threads by words of their name, title and first message
    #[command(
        after_help = "Examples:\n  rowhouse threads search flaky test\n  rowhouse threads search parser --by recency --cwd . --limit 10\n  rowhouse threads search 解析 --json | jq -r '.threads[].id'\n\nEvery word has to be found; the last one may be the beginning of a word. Quotes and signs are no more than spaces."
    )]
    Search(search::SearchArguments),
    /// Show which threads a thread started, and those in turn
    #[command(
        after_help = "Examples:\n  rowhouse threads tree 0badcafe\n  rowhouse threads tree 0193a1b2-0000-7000-8000-00000badcafe --json | jq -r '.descendants[] | select(.status == \"open\").id'"
    )]
    Tree(tree::TreeArguments),
    /// Read a thread: what was asked, done and answered
    #[command(
        after_help = "Examples:\n  rowhouse threads show 0badcafe\n  rowhouse threads show 0badcafe --turns 3 | less\n  rowhouse threads show 0badcafe --json | jq -r 'select(.event == \"turn\").entries[] | select(.role == \"assistant\").text'\n\nOn a terminal it goes through $PAGER (else `less -FRX`); PAGER=cat turns that off. Long answers of tools are cut: `threads export` has all.\nWith --json: a line for the thread, then one for each turn."
    )]
    Show(show::ShowArguments),
    /// List the turns of a thread
    #[command(
        after_help = "Examples:\n  rowhouse threads turns 0badcafe --desc --limit 5\n  rowhouse threads turns 0badcafe --items summary --json | jq '.turns[].items'\n  rowhouse threads turns 0badcafe --cursor CURSOR        (the next page: its cursor ends each page)"
    )]
    Turns(turns::TurnsArguments),
    /// Write a thread to a file or to standard output
    #[command(
        after_help = "Examples:\n  rowhouse threads export 0badcafe --output thread.md\n  rowhouse threads export 0badcafe --format jsonl > rollout.jsonl\n\njsonl is the transcript byte for byte, decompressed."
    )]
    Export(export::ExportArguments),
    /// Give a thread a name
    #[command(
        after_help = "Examples:\n  rowhouse threads rename 0badcafe 'Cent rounding'\n  rowhouse threads rename 0badcafe ''                    (the title again)"
    )]
    Rename(change::RenameArguments),
    /// Pin threads
    #[command(after_help = "Examples:\n  rowhouse threads pin 0badcafe 1badcafe")]
    Pin(change::EachArguments),
    /// Take the pin of threads away
    #[command(after_help = "Examples:\n  rowhouse threads unpin 0badcafe")]
    Unpin(change::EachArguments),
    /// Move threads to the archive
    #[command(
        after_help = "Examples:\n  rowhouse threads archive 0badcafe\n  rowhouse threads list --archived                       (what is there)"
    )]
    Archive(change::EachArguments),
    /// Take threads out of the archive
    #[command(after_help = "Examples:\n  rowhouse threads unarchive 0badcafe")]
    Unarchive(change::EachArguments),
    /// Begin a new thread with the past of another one
    #[command(
        after_help = "Examples:\n  rowhouse threads fork 0badcafe\n  rowhouse threads fork 0badcafe --before-turn TURN      (to ask that again in another way)\n\nPrints the id of the new thread. The other one stays as it is; it may be in use, or lie outside the home."
    )]
    Fork(fork::ForkArguments),
    /// Delete threads for good: transcript, row, goal, logs, memory
    #[command(
        after_help = "Examples:\n  rowhouse threads rm 0badcafe\n  rowhouse threads rm 0badcafe --descendants --dry-run\n  rowhouse threads rm 0badcafe --forget                 (was imported; its file stays)\n  rowhouse threads rm 0193a1b2-0000-7000-8000-00000badcafe --yes --json | jq '.deleted[].log_rows'\n\nA thread that somebody writes is not deleted. What a crash cuts short, the next program that opens the threads finishes.\nBackups, and what was moved to quarantine/, are not touched."
    )]
    Rm(rm::RmArguments),
}

/// Which threads, for lists and searches.
#[derive(Args)]
struct FilterArguments {
    /// Only threads of this folder; may be repeated
    #[arg(long, value_name = "DIR")]
    cwd: Vec<PathBuf>,
    /// Only threads started from here (cli, vscode, exec, …); may be repeated
    #[arg(long, value_name = "SOURCE")]
    source: Vec<String>,
    /// Only threads of this model provider; may be repeated
    #[arg(long, value_name = "PROVIDER")]
    provider: Vec<String>,
    /// Only threads that this one started; the beginning or the end of its id is enough
    #[arg(long, value_name = "ID")]
    children_of: Option<String>,
    /// Only threads below this one; the beginning or the end of its id is enough
    #[arg(long, value_name = "ID")]
    descendants_of: Option<String>,
    /// Archived threads instead of live ones
    #[arg(long)]
    archived: bool,
}

#[derive(Args)]
struct ListArguments {
    /// What to sort by
    #[arg(long, value_enum, default_value_t = Sort::Recency)]
    sort: Sort,
    /// Oldest first
    #[arg(long)]
    asc: bool,
    #[command(flatten)]
    filter: FilterArguments,
    /// Threads on a page
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    /// Where the page before this one ended
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

/// The time that decides the order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    Created,
    Updated,
    #[default]
    Recency,
}

/// One page of threads.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Page {
    pub(crate) threads: Vec<Row>,
    pub(crate) next_cursor: Option<String>,
    pub(crate) backwards_cursor: Option<String>,
    /// Transcripts are still being indexed.
    pub(crate) partial: bool,
}

/// One thread. Times are Unix milliseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Row {
    pub(crate) id: String,
    /// The user's name for it, else its title.
    pub(crate) title: Option<String>,
    pub(crate) cwd: Option<PathBuf>,
    pub(crate) model: Option<String>,
    pub(crate) tokens_used: i64,
    pub(crate) is_pinned: bool,
    /// The thread whose past it began with.
    pub(crate) forked_from_id: Option<String>,
    pub(crate) rollout_path: Option<PathBuf>,
    /// Whether the transcript is there; `None` when nobody can tell.
    pub(crate) transcript: Option<TranscriptState>,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) created_at: i64,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) updated_at: i64,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) recency_at: i64,
    #[serde(serialize_with = "rfc3339_option")]
    pub(crate) archived_at: Option<i64>,
}

pub(crate) fn run(home: &Home, arguments: &ThreadsArguments, output: &Output) -> Result<()> {
    match &arguments.command {
        ThreadsCommand::List(arguments) => arguments.run(home, output),
        ThreadsCommand::Search(arguments) => search::run(home, arguments, output),
        ThreadsCommand::Tree(arguments) => tree::run(home, arguments, output),
        ThreadsCommand::Show(arguments) => show::run(home, arguments, output),
        ThreadsCommand::Turns(arguments) => turns::run(home, arguments, output),
        ThreadsCommand::Export(arguments) => export::run(home, arguments, output),
        ThreadsCommand::Rename(arguments) => change::rename(home, arguments, output),
        ThreadsCommand::Pin(arguments) => change::each(home, arguments, Word::Pin, output),
        ThreadsCommand::Unpin(arguments) => change::each(home, arguments, Word::Unpin, output),
        ThreadsCommand::Archive(arguments) => change::each(home, arguments, Word::Archive, output),
        ThreadsCommand::Unarchive(arguments) => change::each(home, arguments, Word::Unarchive, output),
        ThreadsCommand::Fork(arguments) => fork::run(home, arguments, output),
        ThreadsCommand::Rm(arguments) => rm::run(home, arguments, output),
    }
}

/// Applies the filters to a query of either kind.
macro_rules! filtered {
    ($query:expr, $filter:expr, $threads:expr) => {{
        let (mut query, filter, threads): (_, &FilterArguments, &rowhouse::stores::Threads) =
            ($query, $filter, $threads);
        query = query.archived(filter.archived);
        if !filter.cwd.is_empty() {
            let spelled = filter.cwd.iter().map(|folder| spellings(folder)).collect::<Result<Vec<_>>>()?;
            query = query.cwds(spelled.into_iter().flatten());
        }
        if !filter.source.is_empty() {
            query = query.sources(filter.source.iter().map(String::as_str));
        }
        if !filter.provider.is_empty() {
            query = query.model_providers(filter.provider.iter().map(String::as_str));
        }
        if let Some(id) = &filter.children_of {
            query = query.children_of(&threads.find_id(id)?);
        }
        if let Some(id) = &filter.descendants_of {
            query = query.descendants_of(&threads.find_id(id)?);
        }
        query
    }};
}
use filtered;

impl ListArguments {
    fn run(&self, home: &Home, output: &Output) -> Result<()> {
        let runtime = open::state(home)?;
        let threads = runtime.threads();
        let direction = if self.asc { Direction::Ascending } else { Direction::Descending };
        let query = ThreadQuery::recent().sort(self.sort.into()).direction(direction).limit(self.limit);
        let mut query = filtered!(query, &self.filter, &threads);
        if let Some(cursor) = &self.cursor {
            query = query.cursor(cursor);
        }
        let page = Page::of(&threads, &query)?;
        if output.is_json() {
            return output.document(&page);
        }
        if page.partial {
            output::warn(
                "transcripts are still being indexed, so threads may be missing: rowhouse backfill --follow",
            );
        }
        if page.threads.is_empty() && page.next_cursor.is_none() {
            return output.text("no threads\n");
        }
        output.text(&table(&page.threads, self.sort, output::width()))?;
        tell_missing(&page.threads);
        if let Some(cursor) = &page.next_cursor {
            output::more(cursor);
        }
        Ok(())
    }
}

/// Says which transcripts are gone.
fn tell_missing(threads: &[Row]) {
    let missing: Vec<_> = threads
        .iter()
        .filter(|thread| thread.transcript == Some(TranscriptState::Missing))
        .map(|thread| short(&thread.id))
        .collect();
    if !missing.is_empty() {
        output::warn(&format!("no transcript is where the thread says: {}", missing.join(", ")));
    }
}

impl From<Sort> for stores::Sort {
    fn from(sort: Sort) -> Self {
        match sort {
            Sort::Created => Self::Created,
            Sort::Updated => Self::Updated,
            Sort::Recency => Self::Recency,
        }
    }
}

/// `--cwd .` means this folder. A program may have been started in it through a link, so it is looked for as it was written and
/// as it is without links; one that is gone by now only as it was written.
fn spellings(folder: &Path) -> Result<Vec<PathBuf>> {
    let written = std::path::absolute(folder).map_err(|error| Error::io("find the folder", folder, error))?;
    Ok(std::iter::once(written).chain(folder.canonicalize()).collect())
}

/// The list, also shown by the demo. Cut to `width` columns; nothing is cut without one.
pub(crate) fn table(threads: &[Row], sort: Sort, width: Option<usize>) -> String {
    let now = Timestamp::now();
    let user = std::env::var_os("HOME").map(PathBuf::from);
    let header = [sort.heading(), "title", "folder", "model", "tokens", "id"];
    let mut table = Table::new(&header).right(&[4]).fit(width, 1, &[3, 4, 2, 0]).at_least(LISTED_TITLE);
    for thread in threads {
        let at = match sort {
            Sort::Created => thread.created_at,
            Sort::Updated => thread.updated_at,
            Sort::Recency => thread.recency_at,
        };
        table.row(&[
            age(time(at), now),
            thread.marked_title(),
            thread.cwd.as_deref().map_or_else(String::new, |cwd| tilde(cwd, user.as_deref())),
            thread.model.clone().unwrap_or_default(),
            tokens(thread.tokens_used),
            if width.is_some() { short(&thread.id) } else { thread.id.clone() },
        ]);
    }
    table.render()
}

impl Sort {
    fn heading(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Recency => "active",
        }
    }
}

fn tilde(folder: &Path, home: Option<&Path>) -> String {
    match home.and_then(|home| folder.strip_prefix(home).ok()) {
        Some(rest) if rest.as_os_str().is_empty() => "~".to_owned(),
        Some(rest) => format!("~/{}", rest.display()),
        None => folder.display().to_string(),
    }
}

pub(crate) fn tokens(used: i64) -> String {
    match used {
        ..=0 => String::new(),
        1..10_000 => used.to_string(),
        10_000..10_000_000 => format!("{}k", used / 1_000),
        _ => format!("{}M", used / 1_000_000),
    }
}

pub(crate) fn short(id: &str) -> String {
    let letters = id.chars().count();
    id.chars().skip(letters.saturating_sub(SHORT_ID)).collect()
}

impl Row {
    /// The title with what the user should see before it: a star for a pin, a fork for a fork.
    fn marked_title(&self) -> String {
        let pin = if self.is_pinned { "★ " } else { "" };
        let fork = if self.forked_from_id.is_some() { "⑂ " } else { "" };
        format!("{pin}{fork}{}", self.title.as_deref().unwrap_or_default())
    }
}

/// One page, as it is shown.
pub(crate) fn list(home: &Home, query: &ThreadQuery) -> rowhouse::Result<Page> {
    Page::of(&open::state(home)?.threads(), query)
}

impl Page {
    fn of(threads: &Threads, query: &ThreadQuery) -> rowhouse::Result<Self> {
        let page = threads.list(query)?;
        Ok(Self {
            threads: page.threads.into_iter().map(Row::from).collect(),
            next_cursor: page.next_cursor,
            backwards_cursor: page.backwards_cursor,
            partial: page.partial,
        })
    }
}

impl From<ThreadRow> for Row {
    fn from(thread: ThreadRow) -> Self {
        Self {
            transcript: thread.transcript_state().ok(),
            title: thread.name.or(thread.title).or(thread.preview),
            cwd: thread.cwd.map(PathBuf::from),
            model: thread.model,
            tokens_used: thread.tokens_used,
            is_pinned: thread.is_pinned,
            forked_from_id: thread.forked_from_id,
            rollout_path: thread.rollout_path.map(PathBuf::from),
            created_at: thread.created_at,
            updated_at: thread.updated_at,
            recency_at: thread.recency_at,
            archived_at: thread.archived_at,
            id: thread.id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread() -> Row {
        Row {
            id: "0193a1b2-0000-7000-8000-00000badcafe".to_owned(),
            title: Some("Find out why the integration tests hang on the second run of the day".to_owned()),
            cwd: Some("/srv/work".into()),
            model: Some("large".to_owned()),
            tokens_used: 123_456,
            ..Row::default()
        }
    }

    #[test]
    fn a_terminal_gets_lines_that_fit() {
        let text = anstream::adapter::strip_str(&table(&[thread()], Sort::Recency, Some(80))).to_string();
        assert!(text.lines().all(|line| unicode_width::UnicodeWidthStr::width(line) <= 80), "{text}");
        assert!(text.contains('…') && text.contains("0badcafe") && text.contains("123k"), "{text}");
        let text = anstream::adapter::strip_str(&table(&[thread()], Sort::Recency, Some(40))).to_string();
        assert!(text.lines().all(|line| unicode_width::UnicodeWidthStr::width(line) <= 40), "{text}");
        assert!(text.contains("0badcafe") && !text.contains("model"), "{text}");
    }

    #[test]
    fn a_pin_and_a_fork_are_marked() {
        let marked = Row { is_pinned: true, forked_from_id: Some(thread().id), ..thread() };
        assert!(table(&[marked], Sort::Recency, Some(80)).contains("★ ⑂ Find out"));
        assert!(table(&[thread()], Sort::Recency, Some(80)).contains("  Find out"), "the control");
    }

    #[test]
    fn a_pipe_gets_everything() {
        let text = table(&[thread()], Sort::Recency, None);
        assert!(text.contains("second run of the day") && text.contains(&thread().id), "{text}");
    }

    #[test]
    fn a_folder_behind_a_link_is_looked_for_under_both_names() {
        let place = tempfile::tempdir().expect("a folder");
        let place = place.path().canonicalize().expect("without links");
        let (folder, link) = (place.join("folder"), place.join("link"));
        std::fs::create_dir(&folder).expect("made");
        std::os::unix::fs::symlink(&folder, &link).expect("linked");
        assert_eq!(spellings(&link).expect("both"), [link, folder]);
        assert_eq!(spellings(&place.join("gone")).expect("as written"), [place.join("gone")]);
    }

    #[test]
    fn the_home_of_the_user_is_a_tilde() {
        let home = Some(Path::new("/home/ada"));
        assert_eq!(tilde(Path::new("/home/ada"), home), "~");
        assert_eq!(tilde(Path::new("/home/ada/src/x"), home), "~/src/x");
        assert_eq!(tilde(Path::new("/home/adam"), home), "/home/adam");
    }
}
