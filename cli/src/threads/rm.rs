//! `rowhouse threads rm`: threads go for good, with all that belongs to them.

use std::collections::HashMap;
use std::fmt::Write;

use anyhow::Result;
use bytesize::ByteSize;
use clap::Args;
use rowhouse::stores::{ThreadRow, Threads};
use rowhouse::thread_store::{DeleteOptions, Deleted};
use rowhouse::{Domain, Error, ErrorKind, Home, Runtime};
use serde::Serialize;

use super::short;
use crate::agreement::{ADVICE, Agreement};
use crate::open::{self, Opened};
use crate::output::{self, Output};
use crate::waiting::until_free;
use crate::words::number;

/// Threads that are named before the question; all are counted.
const NAMED: usize = 50;

#[derive(Args)]
pub(super) struct RmArguments {
    /// The threads; the beginning or the end of an id is enough
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    /// Also the threads that they started, and theirs
    #[arg(long)]
    descendants: bool,
    /// Also threads whose transcript lies outside the home: they go from this home, and the file stays as it is
    #[arg(long)]
    forget: bool,
    #[command(flatten)]
    agreement: Agreement,
}

/// One document for all of them.
#[derive(Serialize)]
struct Removed {
    deleted: Vec<Deleted>,
}

pub(super) fn run(home: &Home, arguments: &RmArguments, output: &Output) -> Result<()> {
    // A home without threads is told so, and nothing is created in it.
    drop(open::state(home)?);
    let runtime = open(home)?;
    let agreement = &arguments.agreement;
    let (store, threads) = (runtime.thread_store()?, runtime.threads());
    let ids = arguments.ids.iter().map(|id| threads.find_id(id)).collect::<rowhouse::Result<Vec<_>>>()?;
    let dry = DeleteOptions { dry_run: true, forget: arguments.forget, ..DeleteOptions::default() };
    if agreement.dry_run || !agreement.yes {
        let counted = each(&ids, |id| store.delete(id, &dry))?;
        if agreement.dry_run {
            return tell(counted, &threads, &Titles::default(), output);
        }
        if let Some(tree) = counted.iter().find(|one| one.threads.len() > 1 && !arguments.descendants) {
            let below = tree.threads.len() - 1;
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("{} below thread {}", counted_threads(below), tree.threads[0]),
            )
            .advise("look at them with `rowhouse threads tree`; delete them too with --descendants")
            .into());
        }
        output.can_ask(ADVICE)?;
        output.text(&listed(&counted, &threads, &Titles::default())?)?;
        let threads = sum(&counted, |one| one.threads.len() as u64);
        let (files, bytes) = (sum(&counted, |one| one.files), ByteSize(sum(&counted, |one| one.file_bytes)));
        let held = match files {
            // Those outside the home stay.
            0 => String::new(),
            files => format!(" with {} of transcripts ({bytes})", number(files, "file", "files")),
        };
        let what = number(threads, "thread", "threads");
        agreement.given(&format!("delete {what}{held} for good?"), output)?;
    }
    let options = DeleteOptions { dry_run: false, descendants: arguments.descendants, ..dry };
    // Asked while they are there: afterwards nobody knows.
    let titles = Titles::of(&ids, &threads)?;
    // A deletion waits for nobody for long, since it has the right to write each of the threads.
    until_free(home, &runtime, "state")?;
    tell(each(&ids, |id| store.delete(id, &options))?, &threads, &titles, output)
}

/// What the user knows threads by.
#[derive(Default)]
struct Titles(HashMap<String, String>);

impl Titles {
    fn of(ids: &[String], threads: &Threads) -> Result<Self> {
        let ids: Vec<_> = ids.iter().map(String::as_str).collect();
        let rows = threads.get_all(&ids)?.into_iter().flatten();
        Ok(Self(rows.filter_map(|row| Some((row.id.clone(), title(row)?))).collect()))
    }
}

fn title(row: ThreadRow) -> Option<String> {
    row.name.or(row.title).or(row.preview)
}

/// What holds anything of a thread. Of a home whose threads are on a server no file is made that is not there.
fn open(home: &Home) -> rowhouse::Result<Opened> {
    if !Domain::state().is_on_server(home)? {
        return open::all(home);
    }
    let mut builder = Runtime::builder(home.clone()).domain(Domain::state());
    for domain in [Domain::goals(), Domain::logs()] {
        if domain.is_on_server(home)? || open::holds(home, domain.name())? {
            builder = builder.domain(domain);
        }
    }
    builder.open().map(Opened::new)
}

/// A thread that went with one before it is not asked for again.
fn each(ids: &[String], work: impl Fn(&str) -> rowhouse::Result<Deleted>) -> rowhouse::Result<Vec<Deleted>> {
    let mut done: Vec<Deleted> = Vec::new();
    for id in ids {
        if !done.iter().any(|one| one.threads.contains(id)) {
            done.push(work(id)?);
        }
    }
    Ok(done)
}

fn tell(deleted: Vec<Deleted>, threads: &Threads, titles: &Titles, output: &Output) -> Result<()> {
    for why in deleted.iter().flat_map(|one| &one.pending) {
        output::warn(&format!("not done yet, the next program that opens the home's threads does it: {why}"));
    }
    if output.is_json() {
        return output.document(&Removed { deleted });
    }
    let mut text = listed(&deleted, threads, titles)?;
    let sum = |of: fn(&Deleted) -> u64| sum(&deleted, of);
    let dry = deleted.iter().any(|one| one.dry_run);
    let _ = writeln!(
        text,
        "{}: {}, {} ({}), {}, {}, {}",
        if dry { "would be deleted" } else { "deleted" },
        number(sum(|one| one.threads.len() as u64), "thread", "threads"),
        number(sum(|one| one.files), "file", "files"),
        ByteSize(sum(|one| one.file_bytes)),
        number(sum(|one| one.goals), "goal", "goals"),
        number(sum(|one| one.log_rows), "log row", "log rows"),
        number(sum(|one| one.memories), "memory", "memories"),
    );
    output.text(&text)
}

/// A line per thread, those below one of them after it.
fn listed(deleted: &[Deleted], threads: &Threads, titles: &Titles) -> Result<String> {
    let mut text = String::new();
    for one in deleted {
        let ids: Vec<_> = one.threads.iter().take(NAMED).map(String::as_str).collect();
        for (at, (id, row)) in ids.iter().zip(threads.get_all(&ids)?).enumerate() {
            let title = titles.0.get(*id).cloned().or_else(|| row.and_then(title));
            let shown = if output::width().is_some() { short(id) } else { (*id).to_owned() };
            let stem = if at == 0 { "" } else { "  " };
            let _ = match title {
                Some(title) => writeln!(text, "{stem}{shown}  {}", crate::table::fit(&title, 60)),
                None => writeln!(text, "{stem}{shown}"),
            };
        }
        if one.threads.len() > NAMED {
            let _ = writeln!(text, "  and {} more", one.threads.len() - NAMED);
        }
    }
    Ok(text)
}

fn sum(deleted: &[Deleted], of: fn(&Deleted) -> u64) -> u64 {
    deleted.iter().map(of).sum()
}

fn counted_threads(many: usize) -> String {
    if many == 1 { "1 thread is".to_owned() } else { format!("{many} threads are") }
}
