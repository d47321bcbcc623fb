//! Which settings decide where things are, and where each comes from.

use super::super::finding::Finding;
use super::super::scope::{Place, Scope};
use super::home::origin;
use crate::home::Home;

/// Variables that change what programs of this library do; what they hold is cleaned like everything else.
const VARIABLES: [&str; 6] =
    ["ROWHOUSE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "TMPDIR", "RUST_LOG"];

pub(super) fn settings(scope: &Scope) -> Finding {
    let Place::Home { home, .. } = &scope.context.place else {
        return Finding::skipped("this is no home of this library");
    };
    let finding = match Home::resolve() {
        Err(error) => Finding::of_error(&error),
        Ok(resolved) => Finding::ok(format!("the home was chosen by {}", origin(home.origin())))
            .detail("chosen_by", origin(home.origin()))
            .detail("without_a_flag", resolved.path().display().to_string()),
    };
    let temporary = std::env::temp_dir();
    let finding = if crate::home::access::writable_folder(&temporary).is_err() {
        Finding::warning("the folder for temporary files may not be written")
            .detail("path", temporary.display().to_string())
            .remedy(
                "name another one with TMPDIR: large sorts, and databases that may not be written, need it",
            )
    } else {
        finding
    };
    let set = VARIABLES.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
    set.fold(finding, |finding, (name, value)| finding.detail(name, value.to_string_lossy().into_owned()))
}
