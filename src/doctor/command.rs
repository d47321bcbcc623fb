//! Commands that a report names, as a shell takes them, for the place that was looked at.
//!
//! Invariants, tested below and in `cli/tests/doctor.rs`:
//! 1. A command of ours acts on the home that was looked at, also one that no setting chooses, and also where a sentence
//!    names it.
//! 2. Names go into it as one word each, whatever letters they have; the user's folder is a `~` that a shell expands.
//! 3. Every command of ours is one of [`Own`], so that all of them can be held against the command line.

use std::path::{Path, PathBuf};

use super::clean::Cleaner;
use super::scope::{Context, Place};
use crate::home::{Home, HomeOrigin, access};

/// The commands of ours that help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own {
    Backfill,
    BackfillStatus,
    Backup,
    Compact,
    Maintain,
    MoveToFiles,
    MoveToServer,
    Path,
    Reindex,
    RepairApply,
    RepairPlan,
    Restore,
    Stats,
    Status,
    Who,
}

/// What is named after a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    Something,
    Either,
}

impl Own {
    const ALL: [Self; 15] = [
        Self::Backfill,
        Self::BackfillStatus,
        Self::Backup,
        Self::Compact,
        Self::Maintain,
        Self::MoveToFiles,
        Self::MoveToServer,
        Self::Path,
        Self::Reindex,
        Self::RepairApply,
        Self::RepairPlan,
        Self::Restore,
        Self::Stats,
        Self::Status,
        Self::Who,
    ];

    fn words(self) -> (&'static str, Takes) {
        match self {
            Self::Backfill => ("backfill", Takes::Nothing),
            Self::BackfillStatus => ("backfill status", Takes::Nothing),
            Self::Backup => ("backup", Takes::Nothing),
            Self::Compact => ("compact", Takes::Something),
            Self::Maintain => ("maintain", Takes::Something),
            Self::MoveToFiles => ("migrate-backend --to sqlite", Takes::Nothing),
            Self::MoveToServer => ("migrate-backend --to postgres", Takes::Nothing),
            Self::Path => ("path", Takes::Nothing),
            Self::Reindex => ("reindex", Takes::Nothing),
            Self::RepairApply => ("repair apply", Takes::Either),
            Self::RepairPlan => ("repair plan", Takes::Something),
            Self::Restore => ("restore", Takes::Something),
            Self::Stats => ("stats", Takes::Something),
            Self::Status => ("status", Takes::Nothing),
            Self::Who => ("who", Takes::Either),
        }
    }

    /// The one that knows any folder.
    fn takes_folders(self) -> bool {
        self == Self::Who
    }
}

/// A command, not yet as a line.
#[derive(Clone, Debug)]
pub(super) enum Command {
    /// One of ours, and the database or the backup that it is about.
    Own(Own, Option<String>),
    /// One of the system, and what it is about.
    System(&'static str, PathBuf),
}

impl From<Own> for Command {
    fn from(own: Own) -> Self {
        Self::Own(own, None)
    }
}

impl Own {
    /// About a database, by its name.
    pub(super) fn of(self, name: &str) -> Command {
        Command::Own(self, Some(name.to_owned()))
    }
}

/// Makes lines of them.
pub(super) struct Shell {
    pub(super) cleaner: Cleaner,
    place: Named,
}

/// How a command is told where to look.
enum Named {
    /// Its settings choose the place.
    Itself,
    Home(PathBuf),
    /// A folder of another program.
    Folder(PathBuf),
}

impl Named {
    fn always(context: &Context) -> Self {
        let path = std::path::absolute(context.path()).unwrap_or_else(|_| context.path().to_owned());
        match &context.place {
            Place::Home { .. } => Self::Home(path),
            Place::Other(_) | Place::Silent(_) => Self::Folder(path),
        }
    }
}

fn is_given(context: &Context) -> bool {
    matches!(&context.place, Place::Home { home, .. } if home.origin() == HomeOrigin::Given)
}

impl Shell {
    pub(super) fn of(context: &Context) -> Self {
        let place = match Named::always(context) {
            // Settings that cannot be read choose nothing.
            Named::Home(path) if is_given(context) || Home::resolve().is_err() => Named::Home(path),
            Named::Home(_) => Named::Itself,
            folder => folder,
        };
        Self { cleaner: Cleaner::new(), place }
    }

    /// The same without a look at a disk: for settings, or a user's folder, that do not answer.
    pub(super) fn without_looking(context: &Context) -> Self {
        Self { cleaner: Cleaner::without_looking(), place: Named::always(context) }
    }

    /// For a test: commands that find the place by themselves.
    #[cfg(test)]
    pub(super) fn plain() -> Self {
        Self { cleaner: Cleaner::new(), place: Named::Itself }
    }

    /// As it is typed; `None` for one that cannot look there.
    pub(super) fn line(&self, command: &Command) -> Option<String> {
        let line = match command {
            Command::System(words, path) => format!("{words} {}", self.word(path)),
            Command::Own(own, about) => {
                let mut words = vec!["rowhouse".to_owned(), own.words().0.to_owned()];
                match &self.place {
                    Named::Itself => {}
                    Named::Home(path) => words.extend(["--home".to_owned(), self.word(path)]),
                    Named::Folder(path) if own.takes_folders() => {
                        words.extend(["--dir".to_owned(), self.word(path)]);
                    }
                    Named::Folder(_) => return None,
                }
                if let Some(name) = about {
                    // Such a name would be taken for an option.
                    words.extend(name.starts_with('-').then(|| "--".to_owned()));
                    words.push(access::quoted(Path::new(name)));
                }
                words.join(" ")
            }
        };
        Some(self.cleaner.text(&line))
    }

    /// A sentence whose commands of ours, in backticks, act on the home that was looked at.
    pub(super) fn sentence(&self, text: &str) -> String {
        const COMMAND: &str = "`rowhouse ";
        match &self.place {
            Named::Home(path) => text.replace(COMMAND, &format!("{COMMAND}--home {} ", self.word(path))),
            Named::Itself | Named::Folder(_) => text.to_owned(),
        }
    }

    fn word(&self, path: &Path) -> String {
        let below = self.cleaner.own().find_map(|own| path.strip_prefix(own).ok());
        match below {
            Some(rest) if rest.as_os_str().is_empty() => "~".to_owned(),
            Some(rest) => format!("~/{}", access::quoted(rest)),
            None => access::quoted(path),
        }
    }
}

/// Every command of ours that a report can name, with `NAME` for a database, by words: for a test of the command line.
pub(super) fn all() -> Vec<Vec<&'static str>> {
    let of = |own: &Own| {
        let (words, takes) = own.words();
        let mut forms = Vec::new();
        for place in [&[][..], &["--home", "DIR"], &["--dir", "DIR"]] {
            if place.first() == Some(&"--dir") && !own.takes_folders() {
                continue;
            }
            let begin: Vec<_> =
                ["rowhouse"].into_iter().chain(words.split(' ')).chain(place.iter().copied()).collect();
            if takes != Takes::Something {
                forms.push(begin.clone());
            }
            if takes != Takes::Nothing {
                forms.push([&begin[..], &["NAME"]].concat());
            }
        }
        forms
    };
    Own::ALL.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(place: Named, command: impl Into<Command>) -> Option<String> {
        Shell { cleaner: Cleaner::for_user("/home/ann"), place }.line(&command.into())
    }

    #[test]
    fn a_command_names_the_place_that_was_looked_at() {
        for (place, expected) in [
            (Named::Itself, "rowhouse who state"),
            (Named::Home("/data/x".into()), "rowhouse who --home /data/x state"),
            (Named::Home("/data/my files".into()), "rowhouse who --home '/data/my files' state"),
            (Named::Home("/home/ann/my files/x".into()), "rowhouse who --home ~/'my files/x' state"),
            (Named::Home("/home/ann".into()), "rowhouse who --home ~ state"),
            (Named::Home("/home/anna/x".into()), "rowhouse who --home /home/anna/x state"),
            (Named::Folder("/home/ann/.codex".into()), "rowhouse who --dir ~/.codex state"),
        ] {
            assert_eq!(line(place, Own::Who.of("state")).as_deref(), Some(expected));
        }
        assert_eq!(line(Named::Folder("/x".into()), Own::Maintain.of("a.db")), None);
    }

    #[test]
    fn a_command_in_a_sentence_does_so_too() {
        let said = |place| {
            Shell { cleaner: Cleaner::for_user("/home/ann"), place }
                .sentence("try `rowhouse who`, or a rowhouse")
        };
        assert_eq!(said(Named::Itself), "try `rowhouse who`, or a rowhouse");
        assert_eq!(
            said(Named::Home("/home/ann/my x".into())),
            "try `rowhouse --home ~/'my x' who`, or a rowhouse"
        );
    }

    #[test]
    fn a_name_is_one_word() {
        for (name, expected) in [
            ("a b.db", "rowhouse who 'a b.db'"),
            ("$(id);'x", r"rowhouse who '$(id);'\''x'"),
            ("-x.db", "rowhouse who -- -x.db"),
            ("sub/x.db", "rowhouse who sub/x.db"),
        ] {
            assert_eq!(line(Named::Itself, Own::Who.of(name)).as_deref(), Some(expected));
        }
        let command = Command::System("chmod 600", "/home/ann/it's/x".into());
        assert_eq!(line(Named::Itself, command).as_deref(), Some(r"chmod 600 ~/'it'\''s/x'"));
    }
}
