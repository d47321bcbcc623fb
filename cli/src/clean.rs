//! Takes out of what goes to others what they need not see: secrets, and the name of the user's folder.

use rowhouse::redact::Redactor;
use serde::Serialize;
use serde_json::Value;

pub(crate) struct Cleaner {
    redactor: Redactor,
    /// The user's folder, in which most paths begin.
    own: Option<String>,
}

impl Cleaner {
    /// Knows the secrets of this process's environment by their values.
    pub(crate) fn new() -> Self {
        let own = std::env::var("HOME").ok().filter(|own| own.len() > 1);
        Self {
            redactor: Redactor::default().environment(),
            own: own.map(|own| own.trim_end_matches('/').to_owned()),
        }
    }

    pub(crate) fn text(&self, text: &str) -> String {
        let (cleaned, _) = self.redactor.text(text);
        match &self.own {
            Some(own) => cleaned.replace(own, "~"),
            None => cleaned.into_owned(),
        }
    }

    /// A document, every text in it cleaned, keys too.
    ///
    /// # Errors
    /// What has no JSON.
    pub(crate) fn document(&self, document: &impl Serialize) -> serde_json::Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(&self.value(serde_json::to_value(document)?))?;
        text.push(b'\n');
        Ok(text)
    }

    fn value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => self.text(&text).into(),
            Value::Array(values) => values.into_iter().map(|value| self.value(value)).collect(),
            Value::Object(values) => {
                values.into_iter().map(|(name, value)| (self.text(&name), self.value(value))).collect()
            }
            other => other,
        }
    }
}
