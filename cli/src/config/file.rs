//! One config file, as far as it can be understood.

use std::path::PathBuf;

use serde::Serialize;
use toml::{Table, Value};

/// A file that may hold settings.
#[derive(Debug, Serialize)]
pub(super) struct ConfigFile {
    /// Whose: `user` or `home`.
    pub(super) of: &'static str,
    pub(super) path: PathBuf,
    pub(super) present: bool,
    #[serde(skip)]
    settings: Table,
}

impl ConfigFile {
    /// Reads it. One that cannot be understood is as an empty one, and a problem that names no more than its line.
    pub(super) fn read(of: &'static str, path: PathBuf, problems: &mut Vec<String>) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a config file is no database")]
        let read = std::fs::read_to_string(&path);
        let (present, text) = match read {
            Ok(text) => (true, text),
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
            {
                (false, String::new())
            }
            Err(error) => {
                problems.push(format!("{} could not be read: {}", path.display(), error.kind()));
                (true, String::new())
            }
        };
        let settings = text.parse().unwrap_or_else(|error: toml::de::Error| {
            // Its own message quotes the line, which may hold a password.
            let before = error.span().map_or("", |span| text.get(..span.start).unwrap_or_default());
            let line = 1 + before.matches('\n').count();
            problems.push(format!("{} is not valid TOML, at line {line}", path.display()));
            Table::new()
        });
        Self { of, path, present, settings }
    }

    /// The value of a setting, by its name with dots; of what is no text, how it would be written.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        let (tables, key) = name.rsplit_once('.').map_or((None, name), |(tables, key)| (Some(tables), key));
        let mut table = &self.settings;
        for inner in tables.into_iter().flat_map(|tables| tables.split('.')) {
            table = table.get(inner)?.as_table()?;
        }
        let value = table.get(key)?;
        Some(match value {
            Value::String(text) => text.clone(),
            other => serde_json::to_string(other).unwrap_or_default(),
        })
    }

    /// The names of the settings that it holds besides these.
    pub(super) fn unknown(&self, known: &[&'static str]) -> impl Iterator<Item = String> {
        let mut names = Vec::new();
        collect("", &self.settings, &mut names);
        names.into_iter().filter(|name| !known.contains(&name.as_str()))
    }
}

fn collect(prefix: &str, table: &Table, names: &mut Vec<String>) {
    for (key, value) in table {
        let name = format!("{prefix}{key}");
        match value {
            Value::Table(inner) => collect(&format!("{name}."), inner, names),
            _ => names.push(name),
        }
    }
}
