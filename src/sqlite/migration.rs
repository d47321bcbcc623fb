//! One migration as the Migrator sees it: its number, its name, its text, and the checksum that tells a changed text.
//!
//! Names and checksums are refinery's, so that its tools can read the history and ours can read theirs. They are worked
//! out here because refinery compiles a regular expression for them, which takes a millisecond of each start.
//!
//! Invariants, and the tests that hold them (below):
//! - The checksum is the one that refinery computes: `names_and_checksums_are_refinerys`.
//! - Line endings do not count, and no other byte is left out: `line_endings_are_all_that_does_not_count`.

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};

use siphasher::sip::SipHasher13;

/// A migration with a well-formed name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Migration {
    /// As wide as refinery's: its width is part of the checksum.
    version: i32,
    name: &'static str,
    sql: Cow<'static, str>,
    checksum: u64,
}

impl Migration {
    /// Of `V<number>__<name>`, numbered from 1, and its text. `None` for any other name.
    pub(crate) fn parse(file: &'static str, sql: &'static str) -> Option<Self> {
        let (number, name) = file.strip_prefix('V')?.split_once("__")?;
        // `parse` would take a sign.
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let version = number.parse().ok().filter(|version| *version > 0)?;
        let letters = |c: char| c.is_alphabetic() || c.is_ascii_digit() || c == '_';
        if name.is_empty() || !name.chars().all(letters) {
            return None;
        }
        let sql = normalised(sql);
        let checksum = checksum(version, name, &sql);
        Some(Self { version, name, sql, checksum })
    }

    /// Its place in the order, from 1.
    pub(crate) fn version(&self) -> i64 {
        self.version.into()
    }

    /// Without the number.
    pub(crate) fn name(&self) -> &str {
        self.name
    }

    /// Its text, with the line endings of Unix.
    pub(crate) fn sql(&self) -> &str {
        &self.sql
    }

    /// Of its number, name and text.
    pub(crate) fn checksum(&self) -> u64 {
        self.checksum
    }
}

impl fmt::Display for Migration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "V{}__{}", self.version, self.name)
    }
}

/// The text as a checkout on Unix has it.
fn normalised(sql: &'static str) -> Cow<'static, str> {
    if sql.contains("\r\n") { Cow::Owned(sql.replace("\r\n", "\n")) } else { Cow::Borrowed(sql) }
}

/// As refinery hashes: the three, in this order and in these types.
fn checksum(version: i32, name: &str, sql: &str) -> u64 {
    let mut hasher = SipHasher13::new();
    name.hash(&mut hasher);
    version.hash(&mut hasher);
    sql.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Texts for as long as the test's process lives, which is what a program's own are.
    fn leaked(text: String) -> &'static str {
        text.leak()
    }

    proptest! {
        #[test]
        fn names_and_checksums_are_refinerys(
            version in 1..=i32::MAX, name in "[a-zA-Z0-9_é日]{1,40}", sql in any::<String>(),
        ) {
            let file = leaked(format!("V{version}__{name}"));
            let sql = leaked(sql.replace("\r\n", "\n"));
            let ours = Migration::parse(file, sql).expect("a good name");
            let theirs = refinery_core::Migration::unapplied(file, sql).expect("a good name");
            prop_assert_eq!(ours.checksum(), theirs.checksum());
            prop_assert_eq!(ours.version(), i64::from(theirs.version()));
            prop_assert_eq!(ours.name(), theirs.name());
            prop_assert_eq!(ours.to_string(), theirs.to_string());
        }

        #[test]
        fn line_endings_are_all_that_does_not_count(lines in prop::collection::vec("[^\r\n]{0,20}", 1..9)) {
            let with = |ending: &str| Migration::parse("V1__lines", leaked(lines.join(ending))).expect("a good name");
            prop_assert_eq!(with("\r\n"), with("\n"));
            if lines.len() > 1 {
                prop_assert_ne!(with("\r").checksum(), with("\n").checksum());
                prop_assert_ne!(with(" \n").checksum(), with("\n").checksum());
            }
        }
    }

    #[test]
    fn leading_zeros_are_no_part_of_the_number() {
        let one = Migration::parse("V001__page", "").expect("a good name");
        assert_eq!((one.version(), one.to_string()), (1, "V1__page".to_owned()));
    }
}
