//! Where data is that was moved to a server or back, and what was put aside for it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use serde::Deserialize;

use super::super::command::{Command, Own};
use super::super::finding::Finding;
use super::super::scope::Scope;
use super::super::words::{bytes, number};
use crate::error::{Error, ErrorKind};
use crate::home::{self, PreparedHome, quarantine};
use crate::move_backend::marker::{self, CutOver, KEPT, Marker};
use crate::presence::lock_file;
use crate::sqlite::holders::flock_holder;

/// After so long it is known whether a move was right, and a whole copy is only forgotten.
const OLD_DAYS: u64 = 30;
/// The most that are named.
const MOST: usize = 20;

/// The domains whose files are no databases of this home now: a move of them is not finished, or they went.
pub(in super::super) fn elsewhere(home: &PreparedHome) -> BTreeSet<String> {
    let moving = match marker::cut_over(home) {
        Ok(None) => Vec::new(),
        Ok(Some(moving)) => moving.domains,
        // Which ones cannot be told: none is opened.
        Err(_) => ["goals", "state"].map(str::to_owned).to_vec(),
    };
    let went = marker::marked(home).into_iter().map(|(name, _)| name);
    let went = went.filter(|name| home.database_path(name).symlink_metadata().is_err());
    moving.into_iter().chain(went).collect()
}

pub(super) fn moved(scope: &Scope) -> Finding {
    let home = match scope.context.home() {
        Ok(home) => home,
        Err(why) => return Finding::skipped(why),
    };
    match marker::cut_over(home) {
        Err(error) => return Finding::of_error(&error),
        Ok(Some(moving)) => return cutting_over(home, &moving),
        Ok(None) => {}
    }
    let marked = marker::marked(home);
    let is_on_server = |name: &str| match &scope.context.survey {
        Ok(survey) => survey.databases.iter().any(|info| info.name == name && info.is_on_server()),
        Err(_) => false,
    };
    // A configuration that cannot be followed is told by its own row.
    let knows = !matches!(scope.context.server, Some(Err(_)));
    if let Some((name, found)) = marked.iter().find(|(name, _)| knows && !is_on_server(name)) {
        return match marker::refuse_moved(home, name) {
            Err(error) => Finding::of_error(&error),
            Ok(()) => back_by_hand(home, name, found.as_ref()),
        };
    }
    let there = marked.iter().map(|(name, found)| match found {
        Some(Marker { moved_to, at, .. }) => format!("{name} is on {moved_to} since {at}"),
        None => format!("{name} is on a server; its mark cannot be read"),
    });
    let aside = set_aside(home.path());
    let summary = match (marked.len(), aside.len()) {
        (0, 0) => return Finding::ok("nothing was moved"),
        (0, _) => "what was moved is back in files".to_owned(),
        _ => there.collect::<Vec<_>>().join(", "),
    };
    let all: u64 = aside.iter().map(|one| one.bytes).sum();
    let old: Vec<_> = aside.iter().filter(|one| one.bytes > 0 && one.days > OLD_DAYS).collect();
    let finding = match old.first() {
        None => Finding::ok(summary),
        Some(_) => Finding::warning(format!(
            "what was moved is kept here, too: {} in {}, {} old",
            bytes(old.iter().map(|one| one.bytes).sum()),
            number(old.len() as u64, "folder"),
            number(old.iter().map(|one| one.days).max().unwrap_or(0), "day")
        )),
    };
    let finding = finding.detail("moves", aside.len()).detail("kept_bytes", all);
    let finding = aside.iter().take(MOST).fold(finding, |finding, one| finding.evidence(one.told()));
    if old.is_empty() {
        return finding;
    }
    old.iter().fold(
        finding.remedy("remove these folders when what you have now has proved right: nothing else does"),
        |finding, one| finding.fix(Command::System("rm -r", home.path().join(KEPT).join(&one.name))),
    )
}

/// One is under way, or was broken off where only its end is missing.
fn cutting_over(home: &PreparedHome, CutOver { to, server, domains }: &CutOver) -> Finding {
    let (place, finish) = match to.as_str() {
        "postgres" => (format!("to {server}"), Own::MoveToServer),
        _ => (format!("from {server} to files"), Own::MoveToFiles),
    };
    let what = format!("the move of {} {place}", domains.join(" and "));
    let told =
        |finding: Finding| finding.detail("server", server.as_str()).detail("domains", domains.join(", "));
    if let Some(mover) = flock_holder(&lock_file(home)) {
        return told(Finding::ok(format!("{what} is being finished"))).holder(&mover);
    }
    told(Finding::fail(format!("{what} was broken off; nothing is opened before it is finished")))
        .evidence("move.json in the home: the server knows whether it was committed, and no row is lost")
        .remedy("run the same command again, or open the home once with its program: either finishes it, or takes it back")
        .fix(finish)
}

/// A file lies where the mark says that there is none.
fn back_by_hand(home: &PreparedHome, name: &str, marker: Option<&Marker>) -> Finding {
    let to = marker.map_or("a server", |marker| marker.moved_to.as_str());
    let file = home.database_path(name);
    let error = Error::new(
        ErrorKind::Conflict,
        format!("{name} was moved to {to}, and a file of that name is used here"),
    );
    Finding::of_error(&error.at_path(&file))
        .into_warning()
        .evidence("what was written since the move is on one of both sides: no program looks at both")
        .remedy(format!(
            "if the file counts, remove {name}.moved.json; if the server does, move the file out of the home and write \
             backend = \"postgres\" into its config.toml"
        ))
}

/// What a move left in the home.
struct Aside {
    name: String,
    bytes: u64,
    days: u64,
    /// What the manifest says, where there is one.
    manifest: Option<Manifest>,
}

#[derive(Deserialize)]
struct Manifest {
    at: String,
    to: String,
    server: String,
    kept: Vec<String>,
}

impl Aside {
    fn told(&self) -> String {
        let Self { name, bytes: size, days, manifest } = self;
        let age = format!("{KEPT}/{name}/: {}, {} old", bytes(*size), number(*days, "day"));
        match manifest {
            Some(Manifest { to, server, .. }) if to == "postgres" => {
                format!("{age}, the files before the move to {server}")
            }
            Some(Manifest { server, kept, .. }) => {
                format!("{age}, {} has the source as {}", server, kept.join(", "))
            }
            None => format!("{age}, without a manifest"),
        }
    }
}

/// What moves put aside, the oldest first.
fn set_aside(home: &Path) -> Vec<Aside> {
    let entries = fs::read_dir(home.join(KEPT)).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| {
            let text = home::read_file(entry.path().join("manifest.json"));
            let manifest: Option<Manifest> = text.ok().and_then(|text| serde_json::from_slice(&text).ok());
            let made = entry.metadata().and_then(|found| found.modified()).ok();
            let said = manifest.as_ref().and_then(|manifest| manifest.at.parse::<jiff::Timestamp>().ok());
            let at = said.map(SystemTime::from).or(made);
            // From the future: today.
            let age = at.and_then(|at| SystemTime::now().duration_since(at).ok()).unwrap_or_default();
            Aside {
                name: entry.file_name().to_string_lossy().into_owned(),
                bytes: quarantine::bytes_in(&entry.path()),
                days: age.as_secs() / 86_400,
                manifest,
            }
        })
        .collect();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}
