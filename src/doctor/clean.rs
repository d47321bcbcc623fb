//! Takes out of a text what nobody else may see: secrets of every form, and where the user's own folder is.
//!
//! A path keeps its meaning: what is below the user's folder is written with `~`. Nothing else of it is hidden, for a
//! report that names no files helps nobody.

use std::path::Path;

use crate::home;
use crate::redact::Redactor;

/// Longer texts end in an ellipsis. No sentence of a report comes near.
const LONGEST: usize = 2_000;

/// Takes out what nobody else may see.
pub struct Cleaner {
    redactor: Redactor,
    /// The user's folder, as the environment names it and without links.
    own: Vec<String>,
}

impl Cleaner {
    /// Knows the secrets of this process's environment by their values, and this user's folder.
    #[expect(clippy::new_without_default, reason = "it looks at the environment")]
    pub fn new() -> Self {
        Self { redactor: Redactor::default().environment(), own: own_folders() }
    }

    /// The same, with the one name of the user's folder that the environment has: for a disk that does not answer.
    pub(super) fn without_looking() -> Self {
        let named = home::users_folder();
        Self {
            redactor: Redactor::default().environment(),
            own: named.iter().filter_map(|own| text(own)).collect(),
        }
    }

    /// The user's folder, by each of its names.
    pub(super) fn own(&self) -> impl Iterator<Item = &str> {
        self.own.iter().map(String::as_str)
    }

    /// For a test: one that knows no environment.
    #[cfg(test)]
    pub(super) fn for_user(own: &str) -> Self {
        Self { redactor: Redactor::default(), own: vec![own.to_owned()] }
    }

    /// As long as it is, with its lines.
    pub fn content(&self, text: &str) -> String {
        let mut cleaned = self.redactor.text(text).0.into_owned();
        for own in &self.own {
            cleaned = without_folder(&cleaned, own);
        }
        cleaned
    }

    /// On one line, without sequences that steer a terminal.
    pub fn text(&self, text: &str) -> String {
        // As it was written first: the end of a line ends what belongs to a name.
        let cleaned = self.redactor.text(text).0;
        let plain: String =
            cleaned.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
        let mut cleaned = self.content(&plain);
        if let Some((end, _)) = cleaned.char_indices().nth(LONGEST) {
            cleaned.truncate(end);
            cleaned.push('…');
        }
        cleaned
    }
}

fn own_folders() -> Vec<String> {
    let Some(named) = home::users_folder() else { return Vec::new() };
    let real = std::fs::canonicalize(&named).unwrap_or_else(|_| named.clone());
    let mut own: Vec<_> = [named, real].iter().filter_map(|folder| text(folder)).collect();
    own.dedup();
    own
}

/// As it stands in texts; `None` for the root of everything.
fn text(folder: &Path) -> Option<String> {
    let is_one = folder.components().count() > 1;
    Some(folder.to_str()?.trim_end_matches('/').to_owned()).filter(|_| is_one)
}

/// `~` in the place of a folder, where its whole name stands.
fn without_folder(text: &str, folder: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(folder) {
        let (before, after) = (&rest[..at], &rest[at + folder.len()..]);
        let is_word = |letter: char| letter.is_alphanumeric() || "_-./".contains(letter);
        // `file:///home/ann` is one, too.
        let begins = before.ends_with("//") || !before.chars().next_back().is_some_and(is_word);
        // A full stop ends a sentence where no more of a name follows.
        let name = after.trim_start_matches('.');
        let ends = after.starts_with('/')
            || !name.chars().next().is_some_and(|letter| letter != '/' && is_word(letter));
        kept.push_str(before);
        kept.push_str(if begins && ends { "~" } else { folder });
        rest = after;
    }
    kept.push_str(rest);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_folder_is_a_tilde_where_it_is_a_folder() {
        let cleaned = |text| without_folder(text, "/home/ann");
        for (text, expected) in [
            ("/home/ann/.local/state", "~/.local/state"),
            ("in /home/ann.", "in ~."),
            ("file:///home/ann/x", "file://~/x"),
            ("/home/ann.old", "/home/ann.old"),
            ("in /home/ann, too", "in ~, too"),
            ("'/home/ann/my files'", "'~/my files'"),
            ("/home/anna/x and /mnt/home/ann/x", "/home/anna/x and /mnt/home/ann/x"),
            ("/home/ann/a /home/ann/b", "~/a ~/b"),
            ("/home/ann", "~"),
        ] {
            assert_eq!(cleaned(text), expected);
        }
    }

    #[test]
    fn secrets_and_control_signs_go_and_paths_stay() {
        let cleaner = Cleaner::for_user("/home/ann");
        for (text, expected) in [
            ("see postgres://me:hunter2@host/db", "see postgres://[REDACTED]@host/db"),
            ("job token=hunter2\u{1b}[31m", "job token=[REDACTED]"),
            ("token=hunter2\nand more", "token=[REDACTED] and more"),
            ("/home/ann/x/device_keys.sqlite-wal", "~/x/device_keys.sqlite-wal"),
            ("rowhouse 0.1.0 (pid 12, job import)", "rowhouse 0.1.0 (pid 12, job import)"),
        ] {
            assert_eq!(cleaner.text(text), expected, "{text}");
        }
        assert!(cleaner.text(&"ü".repeat(3_000)).chars().count() == LONGEST + 1);
    }
}
