//! `move.json` in a home: a move that is about to be committed on the server, or was.
//!
//! Invariants:
//! 1. It is written when nothing is missing but that COMMIT: the rows are compared, and on the way to files the new ones lie
//!    whole in the home.
//! 2. Whoever finds it asks the server for the move's id, with the lock that the mover had until its transaction ended; so
//!    the answer holds. Then the move is finished, or taken back.
//! 3. Where the server cannot be asked, nothing is opened: either side may be the one that counts.

use std::fs;
use std::io::ErrorKind as Os;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::marker::{KEPT, LAYOUT, damaged, intent_of, is_cutting_over};
use super::report::MoveReport;
use super::{Backend, OnProgress, switch};
use crate::config::backend::Backends;
use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};
use crate::home::{self, PreparedHome};
use crate::postgres::bulk::Bulk;
use crate::postgres::{Server, schema_of};
use crate::presence::{self, Alone};
use crate::rollout::layout::FOLDERS;
use crate::sqlite::connect::pause;
use crate::sqlite::holders::flock_holder;
use crate::telemetry;

/// How long the server is asked for a move that is being committed: a primary that failed has a successor by then.
const LONGEST_QUESTION: Duration = Duration::from_secs(30);

/// A move in its cut-over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Intent {
    version: u32,
    /// What it will have done; `manifest.json` when it has.
    pub(super) report: MoveReport,
    /// The folder in `moved/` for it.
    folder: String,
    /// On the way to files: the folder of the new ones, in the home.
    staging: Option<String>,
    /// Folders of transcripts that go along.
    #[serde(default)]
    pub(super) transcripts: Vec<String>,
}

impl Intent {
    /// Announces it. Makes the folder for it.
    pub(super) fn announce(
        home: &PreparedHome,
        mut report: MoveReport,
        staging: Option<&Path>,
        transcripts: Vec<String>,
    ) -> Result<Self> {
        let kept = home::private_folder(home.path(), KEPT)?;
        let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H-%M-%SZ").to_string();
        let folder = home::new_private_folder(&kept, &time)?;
        if report.to == Backend::Postgres {
            let file = |domain: &String| folder.join(format!("{domain}.sqlite")).display().to_string();
            report.kept = report.domains.iter().map(file).collect();
            report.kept.extend(transcripts.iter().map(|name| folder.join(name).display().to_string()));
        }
        report.folder = Some(folder.clone());
        let name = |path: &Path| {
            path.file_name().expect("a folder in another one has a name").to_string_lossy().into_owned()
        };
        let (folder, staging) = (name(&folder), staging.map(name));
        let intent = Self { version: LAYOUT, report, folder, staging, transcripts };
        let text = serde_json::to_vec_pretty(&intent).expect("texts and numbers are JSON");
        home::write_atomically(&intent_of(home), &text)?;
        Ok(intent)
    }

    fn read(home: &PreparedHome) -> Result<Option<Self>> {
        let path = intent_of(home);
        let text = match home::read_file(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == Os::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read the move under way", &path, error)),
        };
        let plain = |name: &str| Path::new(name).file_name() == Some(name.as_ref());
        serde_json::from_slice::<Self>(&text)
            .ok()
            .filter(|intent| {
                intent.version <= LAYOUT
                    && plain(&intent.folder)
                    && intent.staging.as_deref().is_none_or(plain)
                    && intent.transcripts.iter().all(|name| FOLDERS.contains(&&**name))
                    && uuid::Uuid::try_parse(&intent.report.id).is_ok()
                    && !intent.report.domains.is_empty()
                    && intent.report.domains.iter().all(|name| Domain::new(name).check().is_ok())
            })
            .map(Some)
            .ok_or_else(|| damaged(&path))
    }

    pub(super) fn folder(&self, home: &PreparedHome) -> PathBuf {
        home.path().join(KEPT).join(&self.folder)
    }

    pub(super) fn staging(&self, home: &PreparedHome) -> Option<PathBuf> {
        self.staging.as_ref().map(|name| home.path().join(name))
    }

    /// The end of it.
    pub(super) fn remove(home: &PreparedHome) -> Result<()> {
        let path = intent_of(home);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != Os::NotFound => Err(Error::io("end the move", &path, error)),
            _ => home::sync_folder(home.path()),
        }
    }

    /// Whether it was committed. If not, it never will be.
    ///
    /// # Errors
    /// `OutcomeUnknown` when the server cannot be asked.
    pub(super) fn was_committed(&self, server: &Server) -> Result<bool> {
        let ask = || {
            // All its schemas are one transaction: the first one tells of all.
            let schema = schema_of(&self.report.domains[0]);
            let mut bulk = Bulk::begin(server, std::slice::from_ref(&schema), LONGEST_QUESTION)?;
            bulk.is_marked(&schema, &self.report.id)
        };
        ask().map_err(|error| self.unknown(error))
    }

    fn unknown(&self, error: Error) -> Error {
        let message = format!(
            "a move to another backend was broken off while it was committed on {}, which cannot be asked now: {}",
            self.report.server,
            error.message()
        );
        error
            .as_kind(ErrorKind::OutcomeUnknown)
            .worded(message)
            .advise("see that the server can be reached as config.toml says, and try again; nothing is lost")
    }

    fn reach(&self, home: &PreparedHome) -> Result<std::sync::Arc<Server>> {
        let reach = || {
            let settings = Backends::named_server(home.path())?;
            let server = Server::open(&settings, Instant::now() + LONGEST_QUESTION)?;
            if server.name() != self.report.server {
                let message = format!("config.toml names {} now", server.name());
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            Ok(server)
        };
        reach().map_err(|error| self.unknown(error))
    }
}

/// Finishes a move that was broken off in its cut-over, or takes it back. The caller has no database of the home open, nor
/// waits to.
///
/// # Errors
/// `Busy` while somebody else is at it until `deadline`; `OutcomeUnknown` when the server cannot be asked; of the system.
pub(crate) fn settle(home: &PreparedHome, deadline: Instant) -> Result<()> {
    loop {
        if let Some(alone) = Alone::try_enter(home)? {
            return settle_alone(home, &alone, &mut |_| {}).map(drop);
        }
        if !is_cutting_over(home) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Error::new(ErrorKind::Busy, "the home is being moved to another backend")
                .at_path(home.path())
                .held_by(flock_holder(&presence::lock_file(home))));
        }
        pause();
    }
}

/// The same for whoever has the home alone; answers what was finished.
pub(super) fn settle_alone(
    home: &PreparedHome,
    _: &Alone,
    progress: &mut OnProgress<'_>,
) -> Result<Option<MoveReport>> {
    let Some(intent) = Intent::read(home)? else { return Ok(None) };
    let server = intent.reach(home)?;
    if !intent.was_committed(&server)? {
        switch::take_back(home, &intent)?;
        telemetry::warn(&format_args!("took back a move to another backend that was broken off"));
        return Ok(None);
    }
    switch::finish(home, &intent, progress)?;
    telemetry::warn(&format_args!("finished a move to another backend that was broken off"));
    Ok(Some(intent.report))
}
