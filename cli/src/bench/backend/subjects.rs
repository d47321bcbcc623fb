//! On what it is measured: each subject is a home, whose configuration says where its state is.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::Result;
use rowhouse::{Domain, Error, Home, Runtime};

use super::Setting;
use super::throw_away::{self, Programs, Server};
use super::work::Counted;

/// A home, and the server that it is on.
pub(super) struct Subject {
    // Dropped in this order: the runtime before its server.
    pub(super) runtime: Runtime,
    pub(super) name: &'static str,
    pub(super) counted: Counted,
    pub(super) note: Option<String>,
    _servers: Vec<Server>,
}

/// The file first, then the servers.
///
/// # Errors
/// When no server can be started or reached; the engine's.
pub(super) fn open(setting: &Setting) -> Result<Vec<Subject>> {
    let mut subjects = vec![subject(setting, "sqlite", None, Vec::new())?];
    if let Some(url) = &setting.url {
        let mut server = subject(setting, "server", Some(url), Vec::new())?;
        server.note = Some("what was written to the server is still there: drop its database".to_owned());
        subjects.push(server);
        return Ok(subjects);
    }
    let programs = Programs::find(setting.programs.as_deref())?;
    throw_away::let_enter(&setting.folder)?;
    let alone = Server::start(&programs, &setting.folder.join("alone"))?;
    let url = alone.url();
    subjects.push(subject(setting, "postgres", Some(&url), vec![alone])?);
    let primary = Server::start(&programs, &setting.folder.join("primary"))?;
    let standby = primary.standby(&setting.folder.join("standby"))?;
    primary.wait_for_standbys()?;
    let url = primary.url();
    let mut both = subject(setting, "postgres_standby", Some(&url), vec![primary, standby])?;
    both.note = Some(format!(
        "{}: primary and standby are on this machine, on one disk; on two machines a commit waits for the network too",
        both.name
    ));
    subjects.push(both);
    Ok(subjects)
}

fn subject(
    setting: &Setting,
    name: &'static str,
    url: Option<&str>,
    servers: Vec<Server>,
) -> Result<Subject> {
    let home = setting.folder.join(format!("home-{name}"));
    if let Some(url) = url {
        configure(&home, url, setting.pool)?;
    }
    let builder = Runtime::builder(Home::at(&home)).domain(Domain::state()).domain(Domain::goals());
    Ok(Subject { runtime: builder.open()?, name, counted: Counted::default(), note: None, _servers: servers })
}

/// A home whose state is on a server. It is the user's alone: there may be a password in it.
#[expect(clippy::disallowed_methods, reason = "the folder is private, and nobody else reads there yet")]
fn configure(home: &Path, url: &str, pool: u32) -> Result<()> {
    // A text of JSON is one of TOML too.
    let url = serde_json::Value::from(url);
    let config =
        format!("[state]\nbackend = \"postgres\"\n[state.postgres]\nurl = {url}\npool_size = {pool}\n");
    let file = home.join("config.toml");
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(home)
        .and_then(|()| std::fs::write(&file, config))
        .map_err(|error| Error::io("write the configuration of a home", &file, error).into())
}
