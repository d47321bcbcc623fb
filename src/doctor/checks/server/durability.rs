//! What an acknowledged write survives, as the server is set up for this user and this database.

use super::super::super::finding::Finding;
use super::super::super::scope::Scope;
use super::asked::{asked, facts, judged};
use crate::postgres::look::Row;

pub(super) fn durability(scope: &Scope) -> Finding {
    judged(|| Ok(of_settings(&Settings::of(asked(&facts(scope)?.waits)?))))
}

/// What a commit waits for.
#[derive(Clone, Copy, Default)]
struct Settings<'a> {
    fsync: bool,
    whole_pages: bool,
    /// `synchronous_commit`, and where that was set.
    commits: &'a str,
    set: &'a str,
    /// There are standbys that a commit is to wait for.
    has_standbys: bool,
    user: &'a str,
    database: &'a str,
}

impl<'a> Settings<'a> {
    fn of(row: &'a Row) -> Self {
        let text = |name| row.text(name).unwrap_or_default();
        Self {
            fsync: row.is("fsync"),
            whole_pages: row.is("pages"),
            commits: text("commits"),
            set: text("set"),
            has_standbys: !text("standbys").is_empty(),
            user: text("user"),
            database: text("database"),
        }
    }

    /// What makes commits wait again, there where somebody said that they do not.
    fn waits_again(&self) -> String {
        let Self { set, user, database, .. } = self;
        let reset = "RESET synchronous_commit";
        match *set {
            "user" => format!("run ALTER ROLE {user} {reset}, and start the programs again"),
            "database" => format!("run ALTER DATABASE {database} {reset}, and start the programs again"),
            "database user" => {
                format!("run ALTER ROLE {user} IN DATABASE {database} {reset}, and start the programs again")
            }
            "client" => "take synchronous_commit out of options in the URL of the server".to_owned(),
            _ => on_the_server("synchronous_commit"),
        }
    }
}

fn on_the_server(setting: &str) -> String {
    format!("run ALTER SYSTEM SET {setting} = on and SELECT pg_reload_conf() on the server, as a superuser")
}

fn of_settings(settings: &Settings<'_>) -> Finding {
    let Settings { fsync, whole_pages, commits, has_standbys, .. } = *settings;
    let mut said = Vec::new();
    if !fsync {
        let what = "fsync is off: when the server's machine crashes, the whole database can be damaged";
        said.push((what, on_the_server("fsync")));
    }
    if !whole_pages {
        let what = "full_page_writes is off: when the server's machine crashes, pages can stay half written";
        said.push((what, on_the_server("full_page_writes")));
    }
    match commits {
        "off" => said.push((
            "synchronous_commit is off: writes of the last second that were acknowledged are lost when the server crashes",
            settings.waits_again(),
        )),
        "local" if has_standbys => said.push((
            "synchronous_commit is local: writes that were acknowledged are lost when a standby takes over that has not got them",
            settings.waits_again(),
        )),
        _ => {}
    }
    let told = |finding: Finding| {
        finding
            .detail("synchronous_commit", commits)
            .detail("fsync", fsync)
            .detail("full_page_writes", whole_pages)
    };
    let Some(((first, remedy), rest)) = said.split_first() else {
        return told(Finding::ok("a write that was acknowledged survives a crash"));
    };
    let finding = told(Finding::warning(*first)).remedy(remedy.as_str());
    rest.iter().fold(finding, |finding, (what, remedy)| finding.evidence(format!("{what}; {remedy}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::command::Shell;
    use crate::doctor::report::Status;

    #[test]
    fn each_setting_that_loses_something_is_told_with_what_changes_it_where_it_was_set() {
        let sound = Settings {
            fsync: true,
            whole_pages: true,
            commits: "on",
            user: "ada",
            database: "x",
            ..Settings::default()
        };
        let standbys = Settings { has_standbys: true, ..sound };
        for (settings, says) in [
            (sound, None),
            (standbys, None),
            (Settings { commits: "remote_apply", ..standbys }, None),
            // Nobody else has it anyway.
            (Settings { commits: "local", ..sound }, None),
            (Settings { commits: "local", ..standbys }, Some("SET synchronous_commit = on")),
            (Settings { commits: "off", set: "user", ..sound }, Some("ALTER ROLE ada RESET")),
            (Settings { commits: "off", set: "database", ..sound }, Some("ALTER DATABASE x RESET")),
            (
                Settings { commits: "off", set: "database user", ..sound },
                Some("ALTER ROLE ada IN DATABASE x"),
            ),
            (Settings { commits: "off", set: "client", ..sound }, Some("options in the URL")),
            (Settings { whole_pages: false, ..sound }, Some("SET full_page_writes = on")),
            (Settings { fsync: false, whole_pages: false, commits: "off", ..sound }, Some("SET fsync = on")),
        ] {
            let check = of_settings(&settings).into_check("server.durability", "server", &Shell::plain());
            assert_eq!(check.status == Status::Warning, says.is_some(), "{check:#?}");
            let remedy = check.remediation.as_deref().unwrap_or_default();
            assert!(remedy.contains(says.unwrap_or_default()), "{check:#?}");
        }
    }
}
