//! Takes out of what goes to others what they need not see: with the doctor's own cleaner, so that there is one rule.

use rowhouse::doctor;
use serde::Serialize;
use serde_json::Value;

pub(crate) struct Cleaner(doctor::Cleaner);

impl Cleaner {
    /// Knows the secrets of this process's environment by their values, and the user's folder by each of its names.
    pub(crate) fn new() -> Self {
        Self(doctor::Cleaner::new())
    }

    pub(crate) fn text(&self, text: &str) -> String {
        self.0.content(text)
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
