//! JSON without secrets: at any depth, by names and in texts.

use serde_json::Value;

use super::names::{is_harmless, is_secret_name};
use super::{REDACTED, Redactor};

/// How deep values are looked into; what is deeper is left out.
const DEEPEST: usize = 16;

/// Cleans texts and values, and counts what it hides.
#[derive(Debug)]
pub(crate) struct Cleaner {
    pub(crate) redactor: Redactor,
    /// How many secrets were found.
    pub(crate) found: u64,
}

impl Cleaner {
    pub(crate) fn new(redactor: Redactor) -> Self {
        Self { redactor, found: 0 }
    }

    /// The text without secrets, and without NUL: SQL functions take a text to end there.
    pub(crate) fn text(&mut self, text: String) -> String {
        let (cleaned, found) = self.redactor.text(&text);
        self.found += found as u64;
        let cleaned = match cleaned {
            std::borrow::Cow::Owned(cleaned) => cleaned,
            std::borrow::Cow::Borrowed(_) => text,
        };
        if cleaned.contains('\0') { cleaned.replace('\0', "\u{2400}") } else { cleaned }
    }

    /// Whether a text may be kept as it is.
    pub(crate) fn keeps(&self, text: &str) -> bool {
        self.redactor.text(text).1 == 0 && !text.contains('\0')
    }

    /// What a field of this name may keep of its value.
    pub(crate) fn value(&mut self, name: &str, value: Value) -> Value {
        self.deeper(name, value, 0)
    }

    fn deeper(&mut self, name: &str, value: Value, depth: usize) -> Value {
        if self.redactor.hides(name) && !may_stay(name, &value) {
            self.found += u64::from(value != REDACTED);
            return Value::from(REDACTED);
        }
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(_) | Value::Object(_) if depth == DEEPEST => Value::from("[too deep]"),
            // The values of a list go by its name, which is none of a secret's; but of two the first may be a name.
            Value::Array(values) => {
                let named = match &values[..] {
                    [Value::String(name), Value::String(_)] => name.clone(),
                    _ => String::new(),
                };
                let of_each = ["", &named].into_iter().chain(std::iter::repeat(""));
                values
                    .into_iter()
                    .zip(of_each)
                    .map(|(value, name)| self.deeper(name, value, depth + 1))
                    .collect()
            }
            Value::Object(values) => {
                // {"name": "authorization", "value": "…"}
                let named = ["name", "key"].iter().find_map(|name| values.get(*name)?.as_str());
                let named = named.unwrap_or_default().to_owned();
                values
                    .into_iter()
                    .map(|(name, value)| {
                        let of = if name == "value" { &named } else { &name };
                        let value = self.deeper(of, value, depth + 1);
                        (self.text(name), value)
                    })
                    .collect()
            }
            other => other,
        }
    }
}

fn may_stay(name: &str, value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) => true,
        // How many tokens; but a password may be a number.
        Value::Number(number) => !is_secret_name(name) || is_harmless(name, &number.to_string()),
        Value::String(text) => is_harmless(name, text),
        Value::Array(_) | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_hidden_by_name_at_any_depth_and_others_stay() {
        let mut cleaner = Cleaner::new(Redactor::default());
        let value = json!({"a": [{"password": "x"}, {"token": 12}], "http.request.body": "x", "secrets": {"a": "x"},
            "list": [["authorization", "x"], ["accept", "y"]], "header": {"name": "x-api-key", "value": "x"},
            "password=hunter2": 1, "key": {"name": "n", "value": "v"}});
        let hidden = REDACTED;
        let expected = json!({"a": [{"password": hidden}, {"token": 12}], "http.request.body": hidden,
            "secrets": hidden, "list": [["authorization", hidden], ["accept", "y"]],
            "header": {"name": "x-api-key", "value": hidden}, "password=[REDACTED]": hidden,
            "key": {"name": "n", "value": "v"}});
        let once = cleaner.value("", value);
        assert_eq!((&once, cleaner.found), (&expected, 7));
        assert_eq!(cleaner.value("", once), expected);
        assert_eq!(cleaner.found, 7);
    }
}
