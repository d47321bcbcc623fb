//! The names that a config file may hold, and the one that was probably meant by another.
//!
//! Tests: below; `tests/doctor.rs`.

/// What the user's own file may hold.
pub(crate) const OF_USER: [&str; 1] = ["home"];
/// What a home's file may hold, beside `backend` under the name of each domain.
const OF_HOME: [&str; 7] = [
    "logs.level",
    "state.postgres.url",
    "state.postgres.url_file",
    "state.postgres.direct_url",
    "state.postgres.pooler",
    "state.postgres.pool_size",
    "state.postgres.root_cert",
];
/// Names that differ in more letters are others.
const MOST_LETTERS: usize = 2;

/// What a home's file may hold where these domains may be.
pub(crate) fn of_home<'d>(domains: impl Iterator<Item = &'d str>) -> Vec<String> {
    OF_HOME.iter().map(|name| (*name).to_owned()).chain(domains.map(backend)).collect()
}

fn backend(domain: &str) -> String {
    format!("{domain}.backend")
}

/// What may be wrong with a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Judged<'k> {
    /// It is known, or that of a domain that only its own program knows.
    Known,
    /// Nobody asks for it; this one is, if any is, what was meant.
    Unknown(Option<&'k str>),
}

/// Holds a name against those that there are.
pub(crate) fn judge<'k, K: AsRef<str>>(name: &str, known: &'k [K]) -> Judged<'k> {
    let known = || known.iter().map(AsRef::as_ref);
    if known().any(|one| one == name) {
        return Judged::Known;
    }
    let near = known().map(|one| (differing(name, one), one)).min();
    let near = near.filter(|(letters, _)| *letters <= MOST_LETTERS).map(|(_, one)| one);
    if near.is_none() && name.ends_with(".backend") {
        return Judged::Known;
    }
    let last = |name: &'k str| name.rsplit('.').next();
    let elsewhere =
        || known().find(|one| last(one) == name.rsplit('.').next() && last(one) != Some("backend"));
    Judged::Unknown(near.or_else(elsewhere))
}

/// How many letters have to be put in, taken out or changed to make one of the other.
fn differing(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.chars().enumerate() {
        let mut before = std::mem::replace(&mut row[0], at + 1);
        for (to, wanted) in other.iter().enumerate() {
            let changed = before + usize::from(letter != *wanted);
            before = row[to + 1];
            row[to + 1] = changed.min(before + 1).min(row[to] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_is_told_with_what_was_meant() {
        let known = of_home(["state", "goals", "logs"].into_iter());
        for (name, expected) in [
            ("state.backend", Judged::Known),
            ("logs.level", Judged::Known),
            ("stat.backend", Judged::Unknown(Some("state.backend"))),
            ("logs.levle", Judged::Unknown(Some("logs.level"))),
            ("state.postgres.pol_size", Judged::Unknown(Some("state.postgres.pool_size"))),
            // Under the wrong section.
            ("state.url", Judged::Unknown(Some("state.postgres.url"))),
            ("level", Judged::Unknown(Some("logs.level"))),
            // A domain that only its own program knows.
            ("cache.backend", Judged::Known),
            ("backend", Judged::Unknown(None)),
            ("something.else", Judged::Unknown(None)),
            ("", Judged::Unknown(None)),
        ] {
            assert_eq!(judge(name, &known), expected, "{name}");
        }
        assert_eq!(judge("hme", &OF_USER), Judged::Unknown(Some("home")));
    }

    #[test]
    fn letters_that_differ_are_counted() {
        for (one, other, letters) in [("", "", 0), ("a", "", 1), ("stat", "state", 1), ("äb", "ba", 2)] {
            assert_eq!((differing(one, other), differing(other, one)), (letters, letters), "{one} {other}");
        }
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn every_setting_of_a_server_is_known() {
        let of_server: Vec<_> =
            OF_HOME.iter().filter_map(|name| name.strip_prefix("state.postgres.")).collect();
        assert_eq!(of_server, super::super::backend::SERVER_SETTINGS);
    }
}
