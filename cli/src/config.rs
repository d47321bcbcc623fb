//! `rowhouse config show`: every setting, its value, and what decided it.
//!
//! Invariants: nothing is created, changed or opened but the two config files; a file that cannot be understood is told,
//! and keeps nothing else from being shown; no secret is shown, whatever its name or its place.
//!
//! Tests: below and in its parts; `cli/tests/config.rs`.

mod file;
mod limits;
mod server;
mod settings;

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use rowhouse::redact::{REDACTED, Redactor};
use serde::Serialize;
use serde_json::Value;

use crate::arguments::Given;
use crate::output::{self, DIM, Output};
use crate::table::Table;
use file::ConfigFile;

/// Of the document. It changes when a field changes its meaning or goes; new ones may come at any time.
const SCHEMA_VERSION: u32 = 1;

#[derive(Args)]
#[command(after_help = "\
Examples:
  rowhouse config show --origin
  rowhouse config show --json | jq '.settings[] | select(.origin != \"default\")'")]
pub(crate) struct ConfigArguments {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Every setting with its value
    #[command(after_help = "\
Examples:
  rowhouse config show
  rowhouse config show --origin                 also what decided it, and what else would have
  rowhouse config show --json | jq '.settings[] | select(.origin != \"default\")'

A flag comes before the environment, that before a file, that before the default; only the levels of the log are taken
from the home's config.toml before RUST_LOG, so that they can be changed while programs run. Limits are those of the
library: a program may set others for itself. Secrets are not shown: of a server's URL the host and the database.

In the home's config.toml `backend = \"postgres\"` under [state] puts threads and goals on a server ([goals] may say
otherwise). Under [state.postgres]: url, or url_file, a file that holds it; direct_url, past a pooler, for migrations;
pool_size (default 10), connections of each process; pooler, for one that is not recognised; root_cert, the certificates to trust, as PEM. The variable
ROWHOUSE_POSTGRES_URL counts before url and url_file.")]
    Show {
        /// Also say what decided each value, and what that took precedence over
        #[arg(long)]
        origin: bool,
    },
}

/// What decided a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Origin {
    Flag,
    Environment,
    File,
    Default,
}

/// A value, and where it stands.
#[derive(Clone, Debug, Serialize)]
struct Said {
    origin: Origin,
    /// The flag, the variable or the file; nothing for a default.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    value: Value,
}

impl Said {
    fn new(origin: Origin, source: impl Into<Option<String>>, value: impl Into<Value>) -> Self {
        Self { origin, source: source.into(), value: value.into() }
    }
}

/// A setting.
#[derive(Debug, Serialize)]
struct Setting {
    /// Its unit is at the end of its name: `_ms`, `_bytes`.
    name: &'static str,
    #[serde(flatten)]
    decided: Said,
    /// What would have decided without that, the next one first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shadowed: Vec<Said>,
}

impl Setting {
    /// Of all that say something, the first one decides.
    fn of(name: &'static str, mut sources: Vec<Said>) -> Option<Self> {
        if sources.is_empty() {
            return None;
        }
        let decided = sources.remove(0);
        sources.retain(|source| source.origin != Origin::Default);
        Some(Self { name, decided, shadowed: sources })
    }
}

/// A setting that a file holds and nobody asks for.
#[derive(Debug, Serialize)]
struct Unknown {
    name: String,
    file: PathBuf,
}

/// All that is set.
#[derive(Debug, Serialize)]
pub(crate) struct Configuration {
    schema_version: u32,
    files: Vec<ConfigFile>,
    settings: Vec<Setting>,
    unknown: Vec<Unknown>,
    /// What could not be understood.
    problems: Vec<String>,
}

pub(crate) fn run(given: Given<'_>, arguments: &ConfigArguments, output: &Output) -> Result<()> {
    let ConfigCommand::Show { origin } = arguments.command;
    let configuration = Configuration::read(given);
    if output.is_json() {
        return output.document(&configuration);
    }
    for problem in &configuration.problems {
        output::warn(problem);
    }
    for unknown in &configuration.unknown {
        output::warn(&format!("nobody asks for `{}` ({})", unknown.name, unknown.file.display()));
    }
    output.text(&if origin { configuration.with_origins() } else { configuration.values() })
}

impl Configuration {
    /// As it is for this command line, in this environment. An empty variable says nothing; but an empty `PAGER` means none.
    pub(crate) fn read(given: Given<'_>) -> Self {
        let mut found = Self::everything(given, &|name| {
            std::env::var(name).ok().filter(|text| !text.is_empty() || name == "PAGER")
        });
        found.redact(&Redactor::default().environment());
        found
    }

    fn everything(given: Given<'_>, variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let mut problems = Vec::new();
        let user = match rowhouse::Home::user_config() {
            Ok(path) => Some(ConfigFile::read("user", path, &mut problems)),
            Err(error) => {
                problems.push(error.to_string());
                None
            }
        };
        let home_settings = settings::home(given.home, user.as_ref(), variable, &mut problems);
        let home = home_settings.as_ref().and_then(|home| home.decided.value.as_str()).map(PathBuf::from);
        let own = home.map(|home| home.join("config.toml"));
        let own = own.map(|path| ConfigFile::read("home", path, &mut problems));
        let mut all = vec![
            home_settings,
            settings::log_levels(own.as_ref(), variable, &mut problems),
            settings::color(given.color, variable),
            settings::pager(variable),
        ];
        all.extend(server::settings(own.as_ref(), variable, &mut problems).map(Some));
        all.extend(limits::defaults().map(Some));
        let mut unknown = Vec::new();
        let of_home: Vec<_> = std::iter::once("logs.level").chain(server::NAMES).collect();
        for (file, known) in [(&user, &["home"][..]), (&own, &of_home)] {
            let Some(file) = file else { continue };
            unknown.extend(
                file.unknown(known)
                    .filter(|name| file.of != "home" || !server::is_backend(name))
                    .map(|name| Unknown { name, file: file.path.clone() }),
            );
        }
        Self {
            schema_version: SCHEMA_VERSION,
            files: user.into_iter().chain(own).collect(),
            settings: all.into_iter().flatten().collect(),
            unknown,
            problems,
        }
    }

    fn redact(&mut self, redactor: &Redactor) {
        let clean = |text: &mut String| *text = redactor.text(text).0.into_owned();
        for setting in &mut self.settings {
            for source in std::iter::once(&mut setting.decided).chain(&mut setting.shadowed) {
                if let Value::String(text) = &mut source.value {
                    if redactor.hides(setting.name) { REDACTED.clone_into(text) } else { clean(text) }
                }
                source.source.iter_mut().for_each(clean);
            }
        }
        self.problems.iter_mut().for_each(clean);
        let clean_path = |path: &mut PathBuf| {
            if let (cleaned, 1..) = redactor.text(&path.to_string_lossy()) {
                *path = PathBuf::from(cleaned.into_owned());
            }
        };
        self.files.iter_mut().for_each(|file| clean_path(&mut file.path));
        for unknown in &mut self.unknown {
            clean(&mut unknown.name);
            clean_path(&mut unknown.file);
        }
    }

    fn values(&self) -> String {
        let mut table = Table::new(&["setting", "value"]).fit_wrapped(output::width(), &[1], &[]);
        for setting in &self.settings {
            table.row(&[setting.name.to_owned(), shown(setting.name, &setting.decided.value)]);
        }
        table.render()
    }

    fn with_origins(&self) -> String {
        let mut table =
            Table::new(&["setting", "value", "origin", "from"]).fit_wrapped(output::width(), &[1, 3], &[2]);
        for setting in &self.settings {
            let row = |name: &str, source: &Said| {
                [
                    name.to_owned(),
                    shown(setting.name, &source.value),
                    word(source.origin).to_owned(),
                    source.source.clone().unwrap_or_default(),
                ]
            };
            table.row(&row(setting.name, &setting.decided));
            for source in &setting.shadowed {
                table.row(&row("  instead of", source));
            }
        }
        let mut text = table.render();
        for file in &self.files {
            let state = if file.present { "" } else { "  (not there)" };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{DIM}{} file: {}{state}{DIM:#}", file.of, file.path.display());
        }
        text
    }
}

fn word(origin: Origin) -> &'static str {
    match origin {
        Origin::Flag => "flag",
        Origin::Environment => "environment",
        Origin::File => "file",
        Origin::Default => "default",
    }
}

/// A value for people: sizes and times in the unit that fits.
fn shown(name: &str, value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_u64() {
            Some(bytes) if name.ends_with("_bytes") => bytesize::ByteSize::b(bytes).to_string(),
            Some(ms) if name.ends_with("_ms") && ms % 1000 == 0 => format!("{} s", ms / 1000),
            Some(ms) if name.ends_with("_ms") => format!("{ms} ms"),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}
