//! `rowhouse path`: where the home and its files are, what decided it, and which other homes there are.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use rowhouse::{Error, ErrorKind, Home, HomeOrigin, RuntimeDbRegistry, ServerPlace};
use serde::Serialize;

use crate::output::{self, Output};

#[derive(Args)]
#[command(after_help = "\
Examples:
  rowhouse path
  sqlite3 -readonly \"$(rowhouse path state)\" .tables
  rowhouse path --json | jq '.others'

--home counts before ROWHOUSE_HOME, that before `home` in the config file, that before the XDG state folder.
Another home of yours that holds databases too is told as a warning: a tool may look at the wrong one.")]
pub(crate) struct PathArguments {
    /// The file of this database instead of the home
    #[arg(value_name = "DB")]
    database: Option<String>,
}

#[derive(Serialize)]
struct Document<'d> {
    home: &'d Path,
    chosen_by: HomeOrigin,
    exists: bool,
    databases: Vec<File>,
    others: Vec<Other>,
}

#[derive(Serialize)]
struct File {
    name: String,
    /// Nothing for one that is on a server.
    path: Option<PathBuf>,
    present: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<ServerPlace>,
}

#[derive(Serialize)]
struct Other {
    home: PathBuf,
    chosen_by: HomeOrigin,
}

pub(crate) fn run(home: &Home, arguments: &PathArguments, output: &Output) -> Result<()> {
    let databases = RuntimeDbRegistry::new(home).list()?;
    let files = databases.into_iter().map(|found| File {
        name: found.name,
        path: found.server.is_none().then_some(found.path),
        present: found.present,
        server: found.server,
    });
    let mut files: Vec<_> = files.collect();
    if let Some(name) = &arguments.database {
        files.retain(|file| file.name == *name);
        if files.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no database named {name:.64}"))
                .at_path(home.path())
                .advise("`rowhouse status` lists those that are there")
                .into());
        }
    }
    if let (Some(name), Some(place)) =
        (&arguments.database, files.first().and_then(|file| file.server.as_ref()))
    {
        let message = format!(
            "{name} has no file: it is on the server {}, in the schema {}",
            place.server, place.schema
        );
        return Err(Error::new(ErrorKind::Unsupported, message)
            .advise("psql opens it, with the URL of the home's config.toml; `rowhouse status` says how large it is")
            .into());
    }
    let others = home.others()?;
    if output.is_json() {
        return output.document(&Document {
            home: home.path(),
            chosen_by: home.origin(),
            exists: home.path().is_dir(),
            databases: files,
            others: others
                .iter()
                .map(|other| Other { home: other.path().to_owned(), chosen_by: other.origin() })
                .collect(),
        });
    }
    for other in &others {
        output::warn(&format!("another home of yours holds databases too: {}", other.path().display()));
    }
    let path = match (&arguments.database, files.first()) {
        (Some(_), Some(File { path: Some(path), .. })) => path,
        _ => home.path(),
    };
    output.text(&format!("{}\n", path.display()))
}
