//! Values that are known to be secret, and where they stand in a text.

use std::fmt;

use super::REDACTED;
use super::names::{is_harmless, is_secret_name};

/// A known value that is shorter hides too much of other texts.
const SHORTEST: usize = 8;

/// What settings with the name of a secret are set to that is none.
const SETTINGS: &[&str] = &[
    "anonymous",
    "automatic",
    "default",
    "development",
    "disabled",
    "enabled",
    "interactive",
    "keychain",
    "localhost",
    "optional",
    "osxkeychain",
    "plaintext",
    "production",
    "required",
    "undefined",
    "unlimited",
];

/// Values that are known to be secret.
#[derive(Clone, Default)]
pub(super) struct Known {
    /// The longest first: of two that begin at one place the longer one counts.
    values: Vec<String>,
    /// Which bytes values begin with, a bit for each.
    first: [u64; 4],
}

impl Known {
    /// Leaves alone what is too short, and what would hide the mark itself.
    pub(super) fn add(&mut self, value: String) {
        let is_of_the_mark = REDACTED.contains(value.as_str()) || value.contains(REDACTED);
        if value.len() < SHORTEST || is_of_the_mark || self.values.contains(&value) {
            return;
        }
        let first = usize::from(value.as_bytes()[0]);
        self.first[first / 64] |= 1 << (first % 64);
        self.values.push(value);
        self.values.sort_by_key(|value| std::cmp::Reverse(value.len()));
    }

    /// The values of this process's environment whose names are those of secrets.
    pub(super) fn add_environment(&mut self) {
        for (name, value) in std::env::vars_os() {
            if let (Some(name), Ok(value)) = (name.to_str(), value.into_string())
                && is_secret_setting(name, &value)
            {
                self.add(value);
            }
        }
    }

    /// Where values stand: ranges in order, which do not overlap, and none with a mark that stands there already.
    pub(super) fn search(&self, text: &str) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        if self.values.is_empty() {
            return found;
        }
        let bytes = text.as_bytes();
        let (mut at, mut mark) = (0, text.find(REDACTED).unwrap_or(text.len()));
        while at < bytes.len() {
            if at == mark {
                at += REDACTED.len();
                mark = text[at..].find(REDACTED).map_or(text.len(), |next| at + next);
                continue;
            }
            let byte = usize::from(bytes[at]);
            let value = (self.first[byte / 64] >> (byte % 64) & 1 == 1)
                .then(|| self.values.iter().find(|value| bytes[at..mark].starts_with(value.as_bytes())))
                .flatten();
            match value {
                Some(value) => {
                    found.push((at, at + value.len()));
                    at += value.len();
                }
                None => at += 1,
            }
        }
        found
    }
}

/// How many, and not which.
impl fmt::Debug for Known {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{} values", self.values.len())
    }
}

/// Where a shell says in which folder it is, and was. In other places `PWD` is a password.
const FOLDERS: &[&str] = &["PWD", "OLDPWD"];

fn is_secret_setting(name: &str, value: &str) -> bool {
    is_secret_name(name)
        && !FOLDERS.contains(&name)
        && !is_harmless(name, value)
        && !is_folder(value)
        && !SETTINGS.iter().any(|known| known.eq_ignore_ascii_case(value))
}

/// A name of a folder is no secret, whatever a variable with it is called, and hiding it would hide all paths below.
fn is_folder(value: &str) -> bool {
    let path = std::path::Path::new(value);
    path.is_absolute() && path.is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_shell_is_is_no_secret() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().to_str().expect("plain");
        for (name, value) in [
            ("PWD", "/nowhere/gone"),
            ("OLDPWD", "/nowhere/gone"),
            ("PWD", path),
            ("DB_COOKIE", path),
            ("TOKEN", path),
        ] {
            assert!(!is_secret_setting(name, value), "{name}");
        }
        let missing = format!("{path}/none");
        for (name, value) in [("TOKEN", &*missing), ("DB_PWD", "swordfish"), ("AUTH", "relative/x")] {
            assert!(is_secret_setting(name, value), "{name}");
        }
    }

    #[test]
    fn a_setting_is_no_secret() {
        for (name, value) in [
            ("API_KEY", "0123456789"),
            ("PGPASSWORD", "swordfish"),
            ("SESSION_ID", "abcdefgh12"),
            ("AUTH", "me:pa55word"),
        ] {
            assert!(is_secret_setting(name, value), "{name}");
        }
        for (name, value) in [
            ("COOKIE_DOMAIN", "example.com"),
            ("FOO_TOKEN", "disabled"),
            ("TOKEN_LIMIT", "100000000"),
            ("PASSWORD_FILE", "/run/secrets/a"),
            ("CREDENTIAL_HELPER", "osxkeychain"),
            ("HOME", "/home/somebody"),
        ] {
            assert!(!is_secret_setting(name, value), "{name}");
        }
    }

    #[test]
    fn what_is_known_is_not_shown() {
        let mut known = Known::default();
        known.add("swordfish".to_owned());
        assert_eq!(format!("{known:?}"), "1 values");
    }
}
