//! Which settings decide what programs do here, and where each comes from: a flag, a variable, a line of a file, or nothing.
//!
//! What is secret by its name is not even read into the row; everything else is cleaned like the rest of it.

use std::path::Path;

use super::super::finding::Finding;
use super::super::scope::{Place, Scope};
use super::home::origin;
use crate::config::file::{config_of, text_of};
use crate::config::known::{self, Judged};
use crate::config::lines::lines;
use crate::error::{ErrorKind, Result};
use crate::home::Home;
use crate::redact::{REDACTED, Redactor};
use crate::stores::logs::{LevelOrigin, log_levels};

/// Variables that change what programs of this library do; what they hold is cleaned like everything else.
const VARIABLES: [&str; 6] =
    ["ROWHOUSE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "TMPDIR", "RUST_LOG"];
/// A file that says more is not one of ours.
const MOST_LINES: usize = 100;

pub(super) fn settings(scope: &Scope) -> Finding {
    let Place::Home { home, .. } = &scope.context.place else {
        return Finding::skipped("this is no home of this library");
    };
    let finding = judged(scope, home);
    let set = VARIABLES.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
    let finding = set
        .fold(finding, |finding, (name, value)| finding.detail(name, value.to_string_lossy().into_owned()));
    let files = [Home::user_config().ok(), Some(config_of(home.path()))];
    let finding = files.iter().flatten().fold(finding, |finding, file| {
        // What cannot be understood is what the row says.
        told_by(file).unwrap_or_default().into_iter().fold(finding, Finding::evidence)
    });
    finding.evidence("anything else is as the program says, or the default: `rowhouse config show` lists it")
}

/// Whether the home's config file, if there is one, is a list of settings, whatever they say.
pub(in crate::doctor) fn settings_can_be_read(home: &Home) -> bool {
    told_by(&config_of(home.path())).is_ok()
}

fn judged(scope: &Scope, home: &Home) -> Finding {
    let resolved = match Home::resolve() {
        Ok(resolved) => resolved,
        Err(error) => return Finding::of_error(&error),
    };
    if let Err(error) = told_by(&config_of(home.path())) {
        return match (scope.context.folder(), scope.context.home()) {
            (Ok(_), Err(why)) => Finding::skipped(why),
            _ => Finding::of_error(&error),
        };
    }
    let levels = match log_levels(home) {
        // Where there is no home that could be looked at, another check says so.
        Ok((levels, origin)) => Some((levels.to_string(), decided(origin))),
        Err(error) if error.kind() == ErrorKind::Invalid && error.path() == Some(&config_of(home.path())) => {
            return Finding::of_error(&error).into_warning();
        }
        Err(_) => None,
    };
    let temporary = std::env::temp_dir();
    if crate::home::access::writable_folder(&temporary).is_err() {
        return Finding::warning("the folder for temporary files may not be written")
            .detail("path", temporary.display().to_string())
            .remedy(
                "name another one with TMPDIR: large sorts, and databases that may not be written, need it",
            );
    }
    let by = origin(home.origin());
    let finding =
        misnamed(scope, home).unwrap_or_else(|| Finding::ok(format!("the home was chosen by {by}")));
    let finding =
        finding.detail("chosen_by", by).detail("without_a_flag", resolved.path().display().to_string());
    match levels {
        Some((levels, decided)) => finding.detail("logs_level", levels).detail("logs_level_by", decided),
        None => finding,
    }
}

/// Settings that nobody asks for: what was meant by them does not happen.
fn misnamed(scope: &Scope, home: &Home) -> Option<Finding> {
    let here = scope.context.survey.iter().flat_map(|survey| &survey.databases).map(|info| &*info.name);
    let built_in = ["device_keys", "goals", "logs", "state"];
    let (of_home, of_user) = (known::of_home(here.chain(built_in)), known::OF_USER.map(str::to_owned));
    let files = [(Home::user_config().ok(), &of_user[..]), (Some(config_of(home.path())), &of_home)];
    let mut told = Vec::new();
    for (file, known) in files.iter().filter_map(|(file, known)| Some((file.as_ref()?, known))) {
        // What cannot be understood is told before.
        let Some(found) = text_of(file).ok().flatten().and_then(|text| lines(&text).ok()) else { continue };
        told.extend(found.into_iter().filter_map(|line| match known::judge(&line.name, known) {
            Judged::Known => None,
            Judged::Unknown(meant) => {
                let meant = meant.map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
                Some((format!("nobody asks for {} (line {}){meant}", line.name, line.number), file))
            }
        }));
    }
    let ((first, file), more) = told.split_first()?;
    let finding = Finding::warning(first.as_str()).detail("path", file.display().to_string());
    let finding = more
        .iter()
        .take(MOST_LINES)
        .fold(finding, |finding, (more, file)| finding.evidence(format!("{more} ({})", file.display())));
    Some(finding.remedy("correct the name, or take the line out: `rowhouse config show` lists the settings"))
}

/// What decided the levels of the log, in words.
fn decided(origin: LevelOrigin) -> &'static str {
    match origin {
        LevelOrigin::Config => "config.toml of the home",
        LevelOrigin::Environment => "the variable RUST_LOG",
        LevelOrigin::Program => "the program, or the default",
    }
}

/// An address without its user, who may stand there without a password.
fn without_user(value: &str) -> String {
    let parts = value.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.split_once('@')?.1)));
    parts.map_or_else(|| value.to_owned(), |(scheme, place)| format!("{scheme}://{REDACTED}@{place}"))
}

/// A sentence for each setting of a file, which need not be there.
fn told_by(file: &Path) -> Result<Vec<String>> {
    let Some(text) = text_of(file)? else { return Ok(Vec::new()) };
    let redactor = Redactor::default();
    let said = |line: crate::config::lines::Line| {
        let is_secret = line.name.split('.').any(|word| redactor.hides(word));
        let value = if is_secret { REDACTED.to_owned() } else { without_user(&line.value) };
        format!("{} = {value} ({}, line {})", line.name, file.display(), line.number)
    };
    let found = lines(&text).map_err(|error| error.at_path(file))?;
    Ok(found.into_iter().take(MOST_LINES).map(said).collect())
}
