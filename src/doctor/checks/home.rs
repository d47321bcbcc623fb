//! The home itself: is it there, what is in it, is it the only one.

use super::super::command::Own;
use super::super::finding::Finding;
use super::super::scope::{Place, Scope};
use crate::error::ErrorKind;
use crate::home::{Home, HomeOrigin};
use crate::registry::RuntimeDbRegistry;
use crate::registry::server::{NOT_READ, UNKNOWN};

pub(super) fn folder(scope: &Scope) -> Finding {
    let Place::Home { home, folder } = &scope.context.place else {
        return Finding::skipped("this is no home of this library");
    };
    let told = |finding: Finding| {
        finding.detail("path", home.path().display().to_string()).detail("chosen_by", origin(home.origin()))
    };
    match folder {
        Ok(_) if let Err(why) = scope.context.home() => told(Finding::skipped(why)),
        Ok(folder) => {
            let databases = scope.context.subjects.len();
            let finding = told(Finding::ok(format!("{databases} databases in {}", folder.path().display())));
            finding.detail("databases", databases)
        }
        // Which home it would be cannot be told.
        Err(error)
            if error.kind() == ErrorKind::NotFound
                && home.origin() == HomeOrigin::Default
                && Home::resolve().is_err() =>
        {
            Finding::skipped("no home could be chosen: see environment.settings")
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let finding = told(Finding::warning("there is no home here"));
            finding.remedy("name the right one with --home or ROWHOUSE_HOME; a program creates it when it first runs").look(Own::Path)
        }
        Err(error) => Finding::of_error(error).detail("chosen_by", origin(home.origin())),
    }
}

/// What decided where the home is, in words.
pub(super) fn origin(origin: HomeOrigin) -> &'static str {
    match origin {
        HomeOrigin::Given => "the program, or --home",
        HomeOrigin::Environment => "the variable ROWHOUSE_HOME",
        HomeOrigin::ConfigFile => "the config file",
        HomeOrigin::Default => "no setting: it is the default",
    }
}

/// When another home would be the one, in words.
fn would_be(origin: HomeOrigin) -> &'static str {
    match origin {
        HomeOrigin::Given => "which a program names itself",
        HomeOrigin::Environment => "which ROWHOUSE_HOME names",
        HomeOrigin::ConfigFile => "which the config file names",
        HomeOrigin::Default => "which is used where nothing is set",
    }
}

pub(super) fn registry(scope: &Scope) -> Finding {
    let home = match scope.context.home() {
        Ok(home) => home,
        Err(why) => return Finding::skipped(why),
    };
    let survey = match &scope.context.survey {
        Ok(survey) => survey,
        Err(error) => return Finding::of_error(error),
    };
    if let Err(error) = RuntimeDbRegistry::check_file(home) {
        return Finding::of_error(&error).into_warning();
    }
    // What is said of single databases, and of a restore, has checks of its own.
    let told_elsewhere = |warning: &&String| {
        ["the database file", "database file's place", "a restore of this home", UNKNOWN, NOT_READ]
            .iter()
            .any(|words| warning.contains(words))
    };
    let warnings: Vec<_> = survey.warnings.iter().filter(|warning| !told_elsewhere(warning)).collect();
    let known = survey.databases.iter().filter(|database| database.role.is_some()).count();
    match warnings.split_first() {
        None => Finding::ok(format!("{known} databases are declared")).detail("declared", known),
        Some((first, more)) => more
            .iter()
            .fold(Finding::warning(first.as_str()), |finding, more| finding.evidence(more.as_str()))
            .remedy("move such a file out of the home, or give it the name that its program knows"),
    }
}

pub(super) fn others(scope: &Scope) -> Finding {
    let Place::Home { home, .. } = &scope.context.place else {
        return Finding::skipped("this is no home of this library");
    };
    let Ok(others) = Home::others(home) else {
        return Finding::skipped("the settings cannot be read: see environment.settings");
    };
    if others.is_empty() {
        return Finding::ok("no other home of this user holds databases");
    }
    let named = others.iter().fold(
        if home.origin() == HomeOrigin::Given {
            Finding::ok("another home was chosen than programs without a setting use")
        } else {
            Finding::warning(
                "another home of this user holds databases too: programs may look at different ones",
            )
        },
        |finding, other| {
            finding.evidence(format!("{}, {}", other.path().display(), would_be(other.origin())))
        },
    );
    named
        .detail("others", others.len())
        .remedy("set ROWHOUSE_HOME or the config file so that all programs use one, and move the other away")
        .look(Own::Path)
}
