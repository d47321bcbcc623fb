//! What is asked for, by whom, and in which order.

use std::path::Path;

use rowhouse::Home;
use rowhouse::stores::logs::{LevelOrigin, LogLevels, log_levels as log_levels_of};

use super::file::ConfigFile;
use super::{Origin, Said, Setting};

type Variable<'v> = &'v dyn Fn(&str) -> Option<String>;

/// The folder of the databases.
pub(super) fn home(
    flag: Option<&Path>,
    file: Option<&ConfigFile>,
    variable: Variable<'_>,
    problems: &mut Vec<String>,
) -> Option<Setting> {
    let text = |path: &Path| path.display().to_string();
    let flag = flag.map(|path| Said::new(Origin::Flag, "--home".to_owned(), text(path)));
    let environment = variable("ROWHOUSE_HOME")
        .map(|path| Said::new(Origin::Environment, "ROWHOUSE_HOME".to_owned(), path));
    let set = file.and_then(|file| Some((file, file.get("home")?)));
    let set = set.map(|(file, path)| Said::new(Origin::File, text(&file.path), path));
    let mut sources: Vec<_> = flag.into_iter().chain(environment).chain(set).collect();
    // Only who is asked without a flag looks into the file, and can be refused by what stands there.
    if sources.first().is_none_or(|first| first.origin != Origin::Flag) {
        match Home::resolve() {
            // As it was understood: `~` is the user's folder, a relative path begins here.
            Ok(home) => match sources.first_mut() {
                Some(first) => first.value = text(home.path()).into(),
                None => sources.push(Said::new(Origin::Default, None, text(home.path()))),
            },
            Err(error) => problems.push(error.to_string()),
        }
    }
    Setting::of("home", sources)
}

/// Which events programs write. The home's own setting is first: it can be changed while programs run.
pub(super) fn log_levels(
    file: Option<&ConfigFile>,
    variable: Variable<'_>,
    problems: &mut Vec<String>,
) -> Option<Setting> {
    let mut sources = Vec::new();
    if let Some(file) = file.filter(|file| file.get("logs.level").is_some())
        && let Some(home) = file.path.parent()
    {
        match log_levels_of(&Home::at(home)) {
            Ok((levels, LevelOrigin::Config)) => {
                let path = file.path.display().to_string();
                sources.push(Said::new(Origin::File, path, levels.to_string()));
            }
            Ok(_) => {}
            Err(error) => problems.push(error.to_string()),
        }
    }
    if let Some(text) = variable("RUST_LOG") {
        sources.push(Said::new(Origin::Environment, "RUST_LOG".to_owned(), text));
    }
    sources.push(Said::new(Origin::Default, None, LogLevels::default().to_string()));
    Setting::of("logs.level", sources)
}

/// When this command's words have colours.
pub(super) fn color(flag: Option<&'static str>, variable: Variable<'_>) -> Option<Setting> {
    let mut sources = Vec::new();
    if let Some(asked) = flag {
        sources.push(Said::new(Origin::Flag, "--color".to_owned(), asked));
    }
    let mut decides = |name: &str, value: &str| {
        sources.push(Said::new(Origin::Environment, name.to_owned(), value));
    };
    let set = |name: &str| variable(name).filter(|text| text != "0");
    if variable("NO_COLOR").is_some() {
        decides("NO_COLOR", "never");
    }
    if set("CLICOLOR_FORCE").is_some() {
        decides("CLICOLOR_FORCE", "always");
    }
    if variable("CLICOLOR").is_some_and(|text| text == "0") {
        decides("CLICOLOR", "never");
    }
    if variable("TERM").is_some_and(|text| text == "dumb") {
        decides("TERM", "never");
    }
    sources.push(Said::new(Origin::Default, None, "auto"));
    Setting::of("color", sources)
}

/// What long texts go through on a terminal.
pub(super) fn pager(variable: Variable<'_>) -> Option<Setting> {
    let set = variable("PAGER").map(|text| Said::new(Origin::Environment, "PAGER".to_owned(), text));
    let default = Said::new(Origin::Default, None, crate::pager::USUAL);
    Setting::of("pager", set.into_iter().chain([default]).collect())
}
