//! Where the levels come from: `level` under `[logs]` in the home's `config.toml`, else `RUST_LOG`, else the program.
//!
//! The home's own setting is first because it can be changed while programs run, and because it is about these rows
//! only.
//!
//! Invariants:
//! 1. A setting that cannot be understood never keeps a program from running: it is told once, and the next source
//!    counts.
//! 2. Setting the level changes nothing else in the file, and is refused where that cannot be done.
//!
//! Tests: below; `tests/log_levels.rs`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use super::LogLevels;
use crate::config::file::{config_of, text_of};
use crate::error::{ErrorKind, Result};
use crate::home::{Home, write_atomically};
use crate::telemetry;

/// What decided which events are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LevelOrigin {
    /// `level` under `[logs]` in the home's `config.toml`.
    Config,
    /// The environment variable `RUST_LOG`.
    Environment,
    /// The program, or `info` where it says nothing.
    Program,
}

/// The levels that a program started now with this home would have, and what decided them.
///
/// # Errors
/// `Invalid` when the home's `config.toml` cannot be understood; `ReadOnly` when it may not be read.
pub fn log_levels(home: &Home) -> Result<(LogLevels, LevelOrigin)> {
    let set = match home.locate() {
        Ok(folder) => of_file(&config_of(folder.path()))?,
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    Ok(match set {
        Some(levels) => (levels, LevelOrigin::Config),
        None => of_environment().map_or_else(
            || (LogLevels::default(), LevelOrigin::Program),
            |levels| (levels, LevelOrigin::Environment),
        ),
    })
}

/// Writes the levels into the home's `config.toml`; running programs follow within seconds. `None` takes them out again.
/// A home that is not there yet is created.
///
/// # Errors
/// `Invalid` when the file cannot be understood, or is written in a way that this
/// cannot change: then it is as it was. `ReadOnly`, `Full`, `Io`: of the system.
pub fn set_log_levels(home: &Home, levels: Option<&LogLevels>) -> Result<()> {
    let file = config_of(home.prepare()?.path());
    let text = text_of(&file)?.unwrap_or_default();
    let changed = edit::with_level(&text, levels.map(ToString::to_string).as_deref())
        .map_err(|error| error.at_path(&file))?;
    if changed == text {
        return Ok(());
    }
    write_atomically(&file, changed.as_bytes())
}

fn of_file(file: &Path) -> Result<Option<LogLevels>> {
    let Some(text) = text_of(file)? else { return Ok(None) };
    edit::level(&text)
        .and_then(|level| level.map(|level| level.parse()).transpose())
        .map_err(|error| error.at_path(file))
}

fn of_environment() -> Option<LogLevels> {
    // Each home asks, and the environment is the same.
    static TOLD: AtomicBool = AtomicBool::new(false);

    let text = std::env::var("RUST_LOG").ok()?;
    let (levels, bad) = LogLevels::parse_lossy(&text);
    if bad > 0 && !TOLD.swap(true, Ordering::Relaxed) {
        telemetry::warn(&format_args!(
            "{bad} directives of RUST_LOG were not understood for the logs, and left out"
        ));
    }
    levels
}

/// Follows the levels of a home.
pub(crate) struct LevelSource {
    /// `None` where nothing is kept on the disk.
    config: Option<PathBuf>,
    /// As the config file was when it was last read: its time, number and length.
    seen: Option<(SystemTime, u64, u64)>,
    /// It could not be read, and that was told.
    failed: bool,
    set: Option<LogLevels>,
    /// The environment's, else the program's.
    otherwise: LogLevels,
}

impl LevelSource {
    /// Reads them for the first time.
    pub(crate) fn new(home: Option<&Path>, program: LogLevels) -> Self {
        let otherwise = of_environment().unwrap_or(program);
        let mut source =
            Self { config: home.map(config_of), seen: None, failed: false, set: None, otherwise };
        source.look();
        source
    }

    /// The levels now.
    pub(crate) fn levels(&self) -> &LogLevels {
        self.set.as_ref().unwrap_or(&self.otherwise)
    }

    /// True when there is nothing that could change.
    pub(crate) fn is_fixed(&self) -> bool {
        self.config.is_none()
    }

    /// Looks whether the file is another one, and reads it if so; true when the levels are others. Without a change that
    /// is one system call.
    pub(crate) fn look(&mut self) -> bool {
        let Some(config) = &self.config else { return false };
        let now = stamp(config);
        if now == self.seen {
            return false;
        }
        let before = self.levels().clone();
        let answer = of_file(config);
        // What could not be read now is looked at again: it stays as it is when that passes.
        let is_read = answer.as_ref().map_or_else(|error| error.kind() == ErrorKind::Invalid, |_| true);
        if is_read {
            self.seen = now;
        }
        let is_told = std::mem::replace(&mut self.failed, !is_read) && !is_read;
        match answer {
            Ok(set) => self.set = set,
            // What counted goes on to count.
            Err(error) if !is_told => {
                telemetry::warn(&format_args!("the level of the logs stays {before}: {error}"));
            }
            Err(_) => {}
        }
        *self.levels() != before
    }
}

fn stamp(file: &Path) -> Option<(SystemTime, u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(file).ok()?;
    Some((found.modified().ok()?, found.ino(), found.len()))
}

/// Reading and changing one value of a TOML text.
mod edit {
    use serde::Deserialize;

    use crate::config::edit::with_value;
    use crate::config::file::parse;
    use crate::error::{Error, ErrorKind, Result};

    #[derive(Deserialize)]
    struct Settings {
        logs: Option<Logs>,
    }

    #[derive(Deserialize)]
    struct Logs {
        level: Option<String>,
    }

    fn settings(text: &str) -> Result<Settings> {
        parse(text).map_err(|error| {
            error.advise("correct that line; levels are written [logs] level = \"info,my_app=debug\"")
        })
    }

    /// `level` under `[logs]`.
    pub(super) fn level(text: &str) -> Result<Option<String>> {
        Ok(settings(text)?.logs.and_then(|logs| logs.level))
    }

    /// The text with this level instead, and nothing else changed.
    pub(super) fn with_level(text: &str, new: Option<&str>) -> Result<String> {
        settings(text)?;
        with_value(text, "logs", "level", new).ok_or_else(|| {
            Error::new(
                ErrorKind::Invalid,
                "the level of the logs is written in a way that is not changed here",
            )
            .advise("set it by hand: under [logs], level = \"info,my_app=debug\"")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_is_changed_and_nothing_else() {
        let set = |text: &str, level| edit::with_level(text, level).expect(text);
        assert_eq!(set("", Some("warn")), "[logs]\nlevel = \"warn\"\n");
        let text = "# mine\nhome = \"/x\"\n\n[logs] \n# how much\nlevel = 'info' # enough\nother = 1\n[more]\na = 2\n";
        let warn = set(text, Some("warn,a=off"));
        assert_eq!(warn, text.replace("'info'", "\"warn,a=off\""));
        assert_eq!(set(&warn, None), text.replace("level = 'info' # enough\n", ""));
        assert_eq!(set("[logs]\nother = 1", Some("off")), "[logs]\nlevel = \"off\"\nother = 1");
        assert_eq!(set("a = 1", Some("off")), "a = 1\n[logs]\nlevel = \"off\"\n");
        assert_eq!(set("a = 1", None), "a = 1");
    }

    #[test]
    fn what_cannot_be_changed_safely_is_refused() {
        for text in ["logs.other = 1\n", "logs = { other = 1 }\n", "[logs\n", "[logs]\nlevel = 3\n"] {
            let error = edit::with_level(text, Some("warn")).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            assert!(error.advice().is_some());
        }
        let inline =
            edit::with_level("logs = { level = \"info\", other = 1 }\n", Some("warn")).expect("a span");
        assert_eq!(inline, "logs = { level = \"warn\", other = 1 }\n");
        assert!(edit::with_level("logs = { level = \"info\", other = 1 }\n", None).is_err());
    }

    #[test]
    fn a_file_that_cannot_be_read_now_is_read_when_it_can() {
        let home = tempfile::tempdir().expect("a folder");
        let config = config_of(home.path());
        let mut source = LevelSource::new(Some(home.path()), LogLevels::default());
        // A folder has a stamp, and cannot be read.
        std::fs::create_dir(&config).expect("a folder");
        assert!(!source.look());
        assert!(source.seen.is_none() && source.failed);
        std::fs::remove_dir(&config).expect("removed");
        write_atomically(&config, b"[logs]\nlevel = \"off\"\n").expect("a file");
        assert!(source.look() && source.levels().is_off() && !source.failed);
        assert!(source.seen.is_some() && !source.look());
    }
}
