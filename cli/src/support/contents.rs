//! What goes into the archive.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use rowhouse::doctor;
use rowhouse::stores::LogFormat;
use rowhouse::{Home, RuntimeDbRegistry};
use serde::{Serialize, Serializer};

use crate::arguments::Given;
use crate::clean::Cleaner;
use crate::config::Configuration;

/// How long a server is waited for.
const SERVER: Duration = Duration::from_secs(2);

/// A file of the archive.
#[derive(Serialize)]
pub(super) struct Entry {
    pub(super) name: &'static str,
    about: &'static str,
    #[serde(rename = "bytes", serialize_with = "length")]
    pub(super) content: Vec<u8>,
    /// Why there is no more in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<String>,
}

#[expect(clippy::ptr_arg, reason = "serde passes the field as it is")]
fn length<S: Serializer>(content: &Vec<u8>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(content.len() as u64)
}

impl Entry {
    pub(super) fn bytes(&self) -> u64 {
        self.content.len() as u64
    }

    /// What is in it, for people.
    pub(super) fn says(&self) -> String {
        match &self.missing {
            Some(why) => format!("{}: not there, {why}", self.about),
            None => self.about.to_owned(),
        }
    }
}

/// What stands in a file that could not be filled.
#[derive(Serialize)]
struct Missing<'w> {
    error: &'w str,
}

/// The versions of everything that takes part.
#[derive(Serialize)]
struct About {
    rowhouse: &'static str,
    sqlite: &'static str,
    system: String,
    generated_at: String,
    /// Which folder is meant; nothing where that could not be told.
    home: Option<std::path::PathBuf>,
}

/// Looks at everything. What cannot be had leaves a file that says why.
pub(super) fn gather(home: &rowhouse::Result<Home>, given: Given<'_>, log_rows: u32) -> Vec<Entry> {
    let cleaner = Cleaner::new();
    let entry = |name, about, found: Result<Vec<u8>>| {
        let (content, missing) = match found {
            Ok(content) => (content, None),
            Err(error) => {
                let why = cleaner.text(&error.to_string());
                (cleaner.document(&Missing { error: &why }).unwrap_or_default(), Some(why))
            }
        };
        Entry { name, about, content, missing }
    };
    let at = home.as_ref().map(|home| (home, RuntimeDbRegistry::new(home))).map_err(Clone::clone);
    let about = About {
        rowhouse: env!("CARGO_PKG_VERSION"),
        sqlite: rowhouse::rusqlite::version(),
        system: system(),
        generated_at: jiff::Timestamp::now().to_string(),
        home: home.as_ref().ok().map(|home| home.path().to_owned()),
    };
    let document = |found: Result<serde_json::Value>| found.and_then(|found| Ok(cleaner.document(&found)?));
    let of = |look: &dyn Fn(&RuntimeDbRegistry) -> Result<serde_json::Value>| {
        document(at.clone().map_err(Into::into).and_then(|(_, registry)| look(&registry)))
    };
    let mut entries = vec![
        entry(
            "about.json",
            "versions of the program, SQLite and the system",
            Ok(cleaner.document(&about).unwrap_or_default()),
        ),
        entry("config.json", "settings, and what decided each", document(value(&Configuration::read(given)))),
        entry(
            "status.json",
            "the databases, their files and sizes",
            of(&|registry| value(&registry.survey()?)),
        ),
        entry(
            "databases.json",
            "schemas and pages of each database, steps under way",
            of(&|registry| databases(registry)),
        ),
        entry("stats.json", "what each process counted", of(&|registry| value(&registry.stats()?))),
        entry("who.json", "which processes use the databases", of(&|registry| value(&registry.who()?))),
    ];
    let server = at.clone().and_then(|(_, registry)| registry.server(SERVER));
    if let Some(server) = server.transpose() {
        let about = "the PostgreSQL server that has some of them: sizes, who is connected";
        let found = server.map_err(Into::into).and_then(|server| value(&server));
        entries.push(entry("server.json", about, document(found)));
    }
    let examined = at
        .clone()
        .map_err(Into::into)
        .and_then(|(home, _)| value(&doctor::run(home, &doctor::Options::default())?));
    entries.insert(
        1,
        entry("doctor.json", "what is wrong, what it comes from, and what to do", document(examined)),
    );
    if log_rows > 0 {
        let rows =
            at.map_err(Into::into).and_then(|(_, registry)| newest_rows(&registry, log_rows, &cleaner));
        entries.push(entry("logs.jsonl", "the newest log rows", rows));
    }
    entries
}

fn value(document: &impl Serialize) -> Result<serde_json::Value> {
    Ok(serde_json::to_value(document)?)
}

/// What is really in each file, and how far steps are; of one that cannot be read, why.
fn databases(registry: &RuntimeDbRegistry) -> Result<serde_json::Value> {
    let mut found = BTreeMap::new();
    for database in registry.list()?.into_iter().filter(|database| database.present) {
        let told = match registry.inspect(&database.name) {
            Ok(inspection) => serde_json::json!({
                "inspection": inspection,
                "steps": registry.steps(&database.name).unwrap_or_default(),
            }),
            Err(error) => serde_json::json!({ "kind": error.kind().as_str(), "error": error.to_string() }),
        };
        found.insert(database.name, told);
    }
    value(&found)
}

/// A look alone: a runtime would finish, migrate and set aside what is to be reported.
fn newest_rows(registry: &RuntimeDbRegistry, rows: u32, cleaner: &Cleaner) -> Result<Vec<u8>> {
    let mut lines = Vec::new();
    registry.newest_logs(rows as usize, LogFormat::JsonLines, &mut lines)?;
    Ok(cleaner.text(&String::from_utf8(lines)?).into_bytes())
}

fn system() -> String {
    let name = rustix::system::uname();
    let part = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    [name.sysname(), name.release(), name.machine()].map(part).join(" ")
}
