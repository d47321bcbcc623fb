//! Every setting that a config file holds, with the line it stands on: for whoever asks where a value comes from.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{Error, ErrorKind, Result};

/// A setting, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// With the names of its tables: `logs.level`.
    pub(crate) name: String,
    /// A text without its quotes; anything else as it stands in the file.
    pub(crate) value: String,
    /// The first one is 1.
    pub(crate) number: usize,
}

/// All of a file's settings, in its order.
///
/// # Errors
/// `Invalid`, naming the line.
pub(crate) fn lines(text: &str) -> Result<Vec<Line>> {
    let number = |at: usize| 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
    let table = DeTable::parse(text).map_err(|error| {
        // The parser's own message quotes the line, which may hold a password: it stays behind `source()`.
        let line = number(error.span().map_or(0, |span| span.start));
        Error::new(ErrorKind::Invalid, format!("the config file is not valid TOML, at line {line}"))
            .advise("correct that line")
            .caused_by(error)
    })?;
    let mut found = Vec::new();
    collect(text, "", table.get_ref(), &mut found);
    found.sort_by_key(|(at, _)| *at);
    Ok(found.into_iter().map(|(at, line)| Line { number: number(at), ..line }).collect())
}

fn collect(text: &str, prefix: &str, table: &DeTable, found: &mut Vec<(usize, Line)>) {
    for (key, value) in table {
        let name = format!("{prefix}{}", key.get_ref());
        match value.get_ref() {
            DeValue::Table(inner) => collect(text, &format!("{name}."), inner, found),
            DeValue::String(plain) => found.push(line(name, plain.to_string(), key.span())),
            _ => found.push(line(name, written(text, value).to_owned(), key.span())),
        }
    }
}

fn line(name: String, value: String, key: Range<usize>) -> (usize, Line) {
    (key.start, Line { name, value, number: 0 })
}

fn written<'t>(text: &'t str, value: &Spanned<DeValue>) -> &'t str {
    text.get(value.span()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_has_its_line() {
        let text = "home = \"~/x\"\n\n[state]\nbackend = 'postgres'\n[state.postgres]\npool_size = 7 # few\n";
        let found = lines(text).expect("it is TOML");
        let told: Vec<_> = found.iter().map(|line| (line.number, &line.name[..], &line.value[..])).collect();
        assert_eq!(
            told,
            [(1, "home", "~/x"), (4, "state.backend", "postgres"), (6, "state.postgres.pool_size", "7")]
        );
        assert_eq!(lines("").expect("empty"), []);
        let error = lines("a = 1\nsecret = hunter2 x\n").expect_err("no TOML");
        assert!(error.to_string().contains("line 2") && !error.to_string().contains("hunter2"), "{error}");
    }
}
