//! `rowhouse who`: which processes use the databases of a home, and what for. Opens no database and takes no lock; a server
//! that has some of them is asked who is connected.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use bytesize::ByteSize;
use clap::Args;
use rowhouse::{
    DatabaseInfo, DatabaseLock, DatabaseProcess, DeletedFile, Error, ErrorKind, Folder, Holder, HomeHolders,
    ProcessState, RuntimeDbRegistry, ServerStatus, doctor,
};
use serde::Serialize;

use crate::arguments::Arguments;
use crate::on_server;
use crate::output::{self, BAD, DIM, Output, paint};
use crate::table::{Table, age};

const STOPPED: &str = "stopped!";
/// How long a folder that was named may take to be looked through, as for the doctor.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

#[derive(Args)]
#[command(after_help = "\
Examples:
  rowhouse who
  rowhouse who --dir ~/.codex                   SQLite files of any program
  rowhouse who logs --json | jq '.databases[].processes[] | select(.holds | index(\"write\"))'

A process that is stopped keeps its locks: continue it (fg, kill -CONT PID) or end it.
The space of a deleted file becomes free when the process that still has it open ends.")]
pub(crate) struct WhoArguments {
    /// Only this database
    #[arg(value_name = "DB")]
    database: Option<String>,
    /// The SQLite files of any folder, such as another program's home
    #[arg(long, value_name = "PATH")]
    dir: Option<PathBuf>,
}

#[derive(Serialize)]
struct Document<'d> {
    home: &'d Path,
    #[serde(flatten)]
    holders: &'d HomeHolders,
    /// Who is connected to the server that has some of its databases.
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<ServerStatus>,
}

pub(crate) fn run(all: &Arguments, arguments: &WhoArguments, output: &Output) -> Result<()> {
    let name = arguments.database.as_deref();
    let (mut server, mut here) = (None, true);
    let (place, holders) = if let Some(dir) = &arguments.dir {
        of_folder(&doctor::find_dir(dir, ANSWERS_WITHIN)?, name)?
    } else {
        let home = all.home()?;
        let registry = RuntimeDbRegistry::new(&home);
        let mut listed = registry.list()?;
        listed.retain(|database| name.is_none_or(|name| name == database.name));
        // Of one that is on a server nobody has a file.
        here = listed.is_empty() || !listed.iter().all(DatabaseInfo::is_on_server);
        let mut warnings = Vec::new();
        server = on_server::ask(&home, &listed, &mut warnings);
        for warning in &warnings {
            output::warn(warning);
        }
        let holders = match name {
            Some(name) if here => registry.who_has(name)?,
            _ => registry.who()?,
        };
        (home.path().to_owned(), holders)
    };
    let mut holders = holders;
    if !here {
        holders.databases.clear();
    }
    if output.is_json() {
        return output.document(&Document { home: &place, holders: &holders, server });
    }
    let files = if here { text(&holders, name, &place, jiff::Timestamp::now()) } else { String::new() };
    let sessions = server.as_ref().map_or_else(String::new, on_server::sessions);
    let between = if files.is_empty() || sessions.is_empty() { "" } else { "\n" };
    output.text(&format!("{files}{between}{sessions}"))
}

fn of_folder(folder: &Folder, name: Option<&str>) -> rowhouse::Result<(PathBuf, HomeHolders)> {
    let mut holders = folder.who();
    if let Some(name) = name {
        holders.databases.retain(|database| database.name == name);
        if holders.databases.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no SQLite file {name:.64}"))
                .at_path(folder.path())
                .advise("`rowhouse who --dir` without a name lists those that are open"));
        }
    }
    Ok((folder.path().to_owned(), holders))
}

fn text(holders: &HomeHolders, database: Option<&str>, place: &Path, now: jiff::Timestamp) -> String {
    let place = place.display();
    if holders.databases.is_empty() && holders.deleted.as_ref().is_none_or(Vec::is_empty) {
        return format!("no databases in {place} yet\n");
    }
    let mut users = Table::new(&["database", "pid", "process", "what it does", "started"]).right(&[1]).fit(
        output::width(),
        3,
        &[4, 2],
    );
    let (mut used, mut known) = (false, false);
    for database in &holders.databases {
        known |= database.processes.is_some();
        for user in database.processes.iter().flatten() {
            used = true;
            users.row(&[
                database.name.clone(),
                user.process.pid.to_string(),
                process(&user.process),
                doing(user, now),
                started(&user.process, now),
            ]);
        }
    }
    let what = database.map_or_else(|| format!("a database of {place}"), |name| format!("{name} in {place}"));
    let mut text = match (used, known, holders.complete) {
        (true, ..) => paint(&users.render(), STOPPED, BAD),
        (false, true, true) => format!("nobody has {what} open\n"),
        (false, true, false) => format!("nobody that can be seen has {what} open\n"),
        (false, false, _) => format!("who has {what} open cannot be told here\n"),
    };
    let files = holders.databases.iter().map(|database| &database.deleted).chain([&holders.deleted]);
    let files: Vec<_> = files.flatten().flatten().collect();
    if !files.is_empty() {
        text += "\n";
        text += &deleted(&files);
    }
    let unseen = holders.unseen.iter().map(|unseen| format!("{DIM}not seen: {unseen}{DIM:#}\n"));
    text.extend(unseen);
    text
}

/// What takes space and has no name any more.
fn deleted(files: &[&DeletedFile]) -> String {
    let mut table = Table::new(&["deleted, still open", "size", "kept by"]).right(&[1]).fit_wrapped(
        output::width(),
        &[0, 2],
        &[],
    );
    for file in files {
        let keepers = file.processes.iter().map(|keeper| {
            let stopped = if keeper.stopped { format!(", {STOPPED}") } else { String::new() };
            format!("{} (pid {}{stopped})", process(keeper), keeper.pid)
        });
        table.row(&[
            file.path.display().to_string(),
            ByteSize::b(file.bytes).to_string(),
            keepers.collect::<Vec<_>>().join(", "),
        ]);
    }
    paint(&table.render(), STOPPED, BAD)
}

/// The command, and the program where it calls itself something else.
fn process(holder: &Holder) -> String {
    let Some(program) = &holder.program else { return holder.command.clone() };
    let version = holder.version.as_deref().filter(|version| *version != "unknown").unwrap_or_default();
    let named = format!("{program} {version}");
    if *program == holder.command {
        named.trim_end().to_owned()
    } else {
        format!("{} ({})", holder.command, named.trim_end())
    }
}

/// What a process does with a database, the most important first: `stopped! writing for 3 s, job fetch`.
fn doing(user: &DatabaseProcess, now: jiff::Timestamp) -> String {
    use DatabaseLock::{Checkpoint, Init, Recovery, Snapshot, Turn, Write};
    let Some(holds) = &user.holds else { return "open, its locks cannot be told here".to_owned() };
    let waits = user.waits_for.as_ref();
    let mut said = Vec::new();
    if holds.contains(&Init) {
        said.push("creating or migrating it".to_owned());
    }
    if holds.contains(&Write) {
        said.push(writing(&user.process, now));
    } else if holds.contains(&Turn) {
        said.push("has the turn to write".to_owned());
    }
    if holds.contains(&Recovery) {
        said.push("recovering the log".to_owned());
    }
    if holds.contains(&Checkpoint) {
        said.push("working off the log".to_owned());
    }
    if holds.contains(&Snapshot) && !holds.contains(&Write) {
        said.push("reading, keeps the log".to_owned());
    }
    if waits.is_some_and(|waits| waits.contains(&Turn)) {
        said.push("waiting for its turn".to_owned());
    }
    if waits.is_some_and(|waits| waits.contains(&Init)) {
        said.push("waiting to create or migrate it".to_owned());
    }
    if said.is_empty() {
        said.push("open".to_owned());
    }
    let said = said.join(", ");
    match user.process.state {
        ProcessState::Stopped => format!("{STOPPED} {said}"),
        ProcessState::Ended => format!("ended, {said}"),
        _ => said,
    }
}

fn writing(holder: &Holder, now: jiff::Timestamp) -> String {
    let since = holder.since.map(|since| i64::try_from(since).unwrap_or(i64::MAX));
    let lasting = since.map(|since| duration(now.as_millisecond().saturating_sub(since).max(0) / 1000));
    match (lasting, &holder.label) {
        (Some(lasting), Some(label)) => format!("writing for {lasting}, job {label}"),
        (Some(lasting), None) => format!("writing for {lasting}"),
        (None, Some(label)) => format!("writing, job {label}"),
        (None, None) => "writing".to_owned(),
    }
}

pub(crate) fn duration(seconds: i64) -> String {
    match seconds {
        ..1 => "less than 1 s".to_owned(),
        1..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3_600),
    }
}

fn started(holder: &Holder, now: jiff::Timestamp) -> String {
    let at = holder.started_at.as_deref().and_then(|at| at.parse().ok());
    at.map_or_else(|| "-".to_owned(), |at| age(at, now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_one_unit() {
        for (seconds, text) in [
            (0, "less than 1 s"),
            (3, "3 s"),
            (119, "119 s"),
            (120, "2 min"),
            (7_199, "119 min"),
            (7_200, "2 h"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }
}
