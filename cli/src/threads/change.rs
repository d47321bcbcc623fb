//! `rowhouse threads rename`, `pin`, `unpin`, `archive`, `unarchive`: what a user says about threads. It goes into the
//! transcript first, so that it is there without the state database.

use anyhow::{Context, Result};
use clap::Args;
use rowhouse::Home;
use rowhouse::stores::ThreadRow;
use rowhouse::stores::threads::{Change, ThreadPatch};
use rowhouse::thread_store::ThreadStore;
use serde::Serialize;

use super::history::{find, store, title};
use super::show::one_line;
use super::{Row, short};
use crate::output::{self, Output};
use crate::table::fit;
use crate::waiting::telling_who;

#[derive(Args)]
pub(super) struct RenameArguments {
    /// The thread; the beginning or the end of its id is enough
    #[arg(value_name = "ID")]
    id: String,
    /// Its name; '' takes the name away, and the list shows the title again
    #[arg(value_name = "NAME")]
    name: String,
}

#[derive(Args)]
pub(super) struct EachArguments {
    /// The threads; the beginning or the end of an id is enough
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

/// What is said about a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Pin,
    Unpin,
    Archive,
    Unarchive,
}

impl Word {
    fn done(self) -> &'static str {
        match self {
            Self::Pin => "pinned",
            Self::Unpin => "unpinned",
            Self::Archive => "archived",
            Self::Unarchive => "unarchived",
        }
    }

    fn say(self, store: &dyn ThreadStore, thread: &str) -> rowhouse::Result<ThreadRow> {
        let pinned = |is_pinned| ThreadPatch { is_pinned: Some(is_pinned), ..ThreadPatch::default() };
        match self {
            Self::Pin => store.update_metadata(thread, &pinned(true)),
            Self::Unpin => store.update_metadata(thread, &pinned(false)),
            Self::Archive => store.archive(thread),
            Self::Unarchive => store.unarchive(thread),
        }
    }
}

#[derive(Serialize)]
struct Changed {
    threads: Vec<Row>,
}

pub(super) fn rename(home: &Home, arguments: &RenameArguments, output: &Output) -> Result<()> {
    let (store, id) = find(home, &arguments.id)?;
    let name = match arguments.name.trim() {
        "" => Change::Clear,
        name => Change::Set(name.to_owned()),
    };
    let done = if name == Change::Clear { "without a name of its own" } else { "renamed" };
    let patch = ThreadPatch { name, ..ThreadPatch::default() };
    let row = telling_who(home, "state", || store.update_metadata(&id, &patch))?;
    tell(output, done, vec![row])
}

/// All of them, one after the other. An id that is none stops it before anything was changed.
pub(super) fn each(home: &Home, arguments: &EachArguments, word: Word, output: &Output) -> Result<()> {
    let (store, threads) = store(home)?;
    let ids = arguments.ids.iter().map(|id| threads.find_id(id)).collect::<rowhouse::Result<Vec<_>>>()?;
    let mut changed = Vec::new();
    for id in &ids {
        let row = telling_who(home, "state", || word.say(&*store, id));
        changed.push(match row {
            Err(error) if ids.len() > 1 => {
                let (done, all, word) = (changed.len(), ids.len(), word.done());
                return Err(error)
                    .context(format!("{done} of {all} threads are {word}, but not {}", short(id)));
            }
            row => row?,
        });
    }
    tell(output, word.done(), changed)
}

fn tell(output: &Output, done: &str, rows: Vec<ThreadRow>) -> Result<()> {
    if output.is_json() {
        return output.document(&Changed { threads: rows.into_iter().map(Row::from).collect() });
    }
    let width = output::width();
    let line = |row: &ThreadRow| {
        let id = if width.is_some() { short(&row.id) } else { row.id.clone() };
        let line = format!("{done}  {id}  {}", one_line(title(row)));
        width.map_or_else(|| line.clone(), |width| fit(&line, width)) + "\n"
    };
    output.text(&rows.iter().map(line).collect::<String>())
}
