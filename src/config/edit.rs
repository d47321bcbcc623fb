//! One text value of a TOML file, changed, and nothing else: comments, order and the other values stay as they are.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The text with another value of a key in a section, or without it. `None` when it is written in a way that is not
/// changed here, or is no TOML.
pub(crate) fn with_value(text: &str, section: &str, key: &str, new: Option<&str>) -> Option<String> {
    let tables = DeTable::parse(text).ok()?;
    let place = tables.get_ref().get(section).and_then(|found| table(found)?.get(key)).map(Spanned::span);
    let changed = match (place, new) {
        (None, None) => return Some(text.to_owned()),
        (Some(old), Some(new)) => format!("{}{}{}", &text[..old.start], quoted(new), &text[old.end..]),
        (Some(old), None) => {
            let start = text[..old.start].rfind('\n').map_or(0, |at| at + 1);
            let end = text[old.end..].find('\n').map_or(text.len(), |at| old.end + at + 1);
            format!("{}{}", &text[..start], &text[end..])
        }
        (None, Some(new)) => add(text, section, key, new),
    };
    let same =
        says(&changed, section, key, new)? && others(&changed, section, key)? == others(text, section, key)?;
    same.then_some(changed)
}

fn table<'t, 'i>(found: &'t Spanned<DeValue<'i>>) -> Option<&'t DeTable<'i>> {
    match found.get_ref() {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}

/// As a TOML text. What would have to be escaped does not come out the same, and is refused for that.
fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

fn add(text: &str, section: &str, key: &str, new: &str) -> String {
    let header = format!("[{section}]");
    let mut before = 0;
    let place = text.split_inclusive('\n').find_map(|line| {
        before += line.len();
        // A comment may follow.
        let rest = line.trim().strip_prefix(&header)?.trim_start();
        (rest.is_empty() || rest.starts_with('#')).then_some(before)
    });
    let gap = |before: &str| if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    let line = format!("{key} = {}\n", quoted(new));
    match place {
        Some(at) => format!("{}{}{line}{}", &text[..at], gap(&text[..at]), &text[at..]),
        None => format!("{text}{}{header}\n{line}", gap(text)),
    }
}

/// Whether that is the value. `None` when the text is no TOML.
fn says(text: &str, section: &str, key: &str, value: Option<&str>) -> Option<bool> {
    let all: toml::Table = toml::from_str(text).ok()?;
    Some(all.get(section).and_then(|found| found.get(key)?.as_str()) == value)
}

/// Everything but that value.
fn others(text: &str, section: &str, key: &str) -> Option<toml::Table> {
    let mut all: toml::Table = toml::from_str(text).ok()?;
    if let Some(found) = all.get_mut(section).and_then(toml::Value::as_table_mut) {
        found.remove(key);
        if found.is_empty() {
            all.remove(section);
        }
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_is_changed_and_nothing_else() {
        let set = |text: &str| with_value(text, "state", "backend", Some("postgres")).expect(text);
        assert_eq!(set(""), "[state]\nbackend = \"postgres\"\n");
        let text =
            "# mine\n[state] # here\n# which\nbackend = 'sqlite' # for now\n[state.postgres]\nurl = \"x\"\n";
        assert_eq!(set(text), text.replace("'sqlite'", "\"postgres\""));
        let text = "# mine\n[state] # here\nother = 1";
        assert_eq!(set(text), "# mine\n[state] # here\nbackend = \"postgres\"\nother = 1");
        let text = "[state.postgres]\nurl = \"x\"";
        assert_eq!(set(text), format!("{text}\n[state]\nbackend = \"postgres\"\n"));
        assert_eq!(
            set("state = { backend = \"sqlite\", other = 1 }\n"),
            "state = { backend = \"postgres\", other = 1 }\n"
        );
    }

    #[test]
    fn what_cannot_be_changed_safely_is_left_alone() {
        for text in ["state = { other = 1 }\n", "state.other = 1\n", "[state\n", "state = 3\n"] {
            assert_eq!(with_value(text, "state", "backend", Some("postgres")), None, "{text}");
        }
        // The line holds another value too.
        assert_eq!(with_value("logs = { level = \"info\", other = 1 }\n", "logs", "level", None), None);
    }
}
