//! Which threads a list or a search answers, whatever its order.
//!
//! Invariant: two filters that answer the same threads in different ways of saying so (order, repetition) are equal, and
//! so are their hashes; a cursor carries the hash.

use std::path::Path;

use super::row::{directory_text, thread_id};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::Value;

/// The most values that one filter of a [`ThreadQuery`](super::ThreadQuery) or
/// [`ThreadSearch`](super::ThreadSearch) may list.
pub const LONGEST_FILTER: usize = 10_000;

/// What all of must hold. `None` matches every thread, an empty list none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) archived: bool,
    cwds: Option<Vec<String>>,
    sources: Option<Vec<String>>,
    model_providers: Option<Vec<String>>,
    pub(super) parent: Option<String>,
    pub(super) ancestor: Option<String>,
}

/// The methods by which a query is given its filters.
macro_rules! filter_methods {
    () => {
        /// Archived threads instead of live ones, or live ones again; never both. Default live.
        #[must_use]
        pub fn archived(mut self, archived: bool) -> Self {
            self.filter.archived = archived;
            self
        }

        /// Only threads of this working directory.
        #[must_use]
        pub fn cwd(self, directory: impl AsRef<std::path::Path>) -> Self {
            self.cwds([directory])
        }

        /// Only threads of these working directories, at most [`LONGEST_FILTER`](super::LONGEST_FILTER); an empty list
        /// matches nothing.
        #[must_use]
        pub fn cwds<D: AsRef<std::path::Path>>(mut self, directories: impl IntoIterator<Item = D>) -> Self {
            self.filter.set_cwds(directories);
            self
        }

        /// Only threads that were started from one of these (`cli`, `vscode`, …), at most
        /// [`LONGEST_FILTER`](super::LONGEST_FILTER); an empty list matches nothing.
        #[must_use]
        pub fn sources<S: Into<String>>(mut self, sources: impl IntoIterator<Item = S>) -> Self {
            self.filter.set_sources(sources);
            self
        }

        /// Only threads whose model is served by one of these, at most [`LONGEST_FILTER`](super::LONGEST_FILTER); an
        /// empty list matches nothing.
        #[must_use]
        pub fn model_providers<S: Into<String>>(mut self, providers: impl IntoIterator<Item = S>) -> Self {
            self.filter.set_model_providers(providers);
            self
        }

        /// Only threads that this one started.
        #[must_use]
        pub fn children_of(mut self, id: &str) -> Self {
            self.filter.parent = Some(id.to_ascii_lowercase());
            self
        }

        /// Only threads below this one: those that it started, those that they started, and so on.
        #[must_use]
        pub fn descendants_of(mut self, id: &str) -> Self {
            self.filter.ancestor = Some(id.to_ascii_lowercase());
            self
        }
    };
}
pub(super) use filter_methods;

impl Filter {
    pub(super) fn set_cwds<D: AsRef<Path>>(&mut self, directories: impl IntoIterator<Item = D>) {
        self.cwds = Some(once_each(directories.into_iter().map(|one| directory_text(one.as_ref()))));
    }

    pub(super) fn set_sources<S: Into<String>>(&mut self, sources: impl IntoIterator<Item = S>) {
        self.sources = Some(once_each(sources.into_iter().map(Into::into)));
    }

    pub(super) fn set_model_providers<S: Into<String>>(&mut self, providers: impl IntoIterator<Item = S>) {
        self.model_providers = Some(once_each(providers.into_iter().map(Into::into)));
    }

    /// # Errors
    /// `Invalid`.
    pub(super) fn check(&self) -> Result<()> {
        if self.lists().any(|list| list.len() > LONGEST_FILTER) {
            let message = format!("a filter lists at most {LONGEST_FILTER} values");
            return Err(Error::new(ErrorKind::Invalid, message).advise("ask for them in several lists"));
        }
        for id in self.parent.iter().chain(&self.ancestor) {
            thread_id(id)?;
        }
        Ok(())
    }

    /// True when an empty list is among them.
    pub(super) fn matches_nothing(&self) -> bool {
        self.lists().any(Vec::is_empty)
    }

    pub(super) fn folders(&self) -> Option<&[String]> {
        self.cwds.as_deref()
    }

    /// Whether it asks for more than folders, for what no index has.
    pub(super) fn looks_into_rows(&self) -> bool {
        self.sources.is_some() || self.model_providers.is_some()
    }

    /// Sources and model providers, as [`sql`](super::sql) takes them: JSON, or null.
    pub(super) fn row_params(&self) -> [Value; 2] {
        [json(self.sources.as_deref()), json(self.model_providers.as_deref())]
    }

    /// Folders, as [`sql`](super::sql) takes them.
    pub(super) fn folder_param(&self) -> Value {
        json(self.cwds.as_deref())
    }

    pub(super) fn hash_into(&self, hash: &mut Fnv) {
        hash.add(&[u8::from(self.archived)]);
        for list in [&self.cwds, &self.sources, &self.model_providers] {
            hash.add(&[u8::from(list.is_some())]);
            hash.add_all(list.iter().flatten());
        }
        for id in [&self.parent, &self.ancestor] {
            hash.add_all(id.iter());
        }
    }

    fn lists(&self) -> impl Iterator<Item = &Vec<String>> {
        [&self.cwds, &self.sources, &self.model_providers].into_iter().flatten()
    }
}

/// A list as one parameter of any length.
pub(super) fn json(list: Option<&[String]>) -> Value {
    list.map(|list| serde_json::Value::from(list).to_string()).into()
}

/// No row has a text with a NUL in it, and not every engine can be asked for one.
fn once_each(values: impl Iterator<Item = String>) -> Vec<String> {
    let mut values: Vec<_> = values.filter(|value| !value.contains('\0')).collect();
    values.sort_unstable();
    values.dedup();
    values
}

/// FNV-1a, 64 bits: the same in every process and version.
pub(super) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Each text with its length, so that the end of one is not taken for the beginning of the next.
    pub(super) fn add_all<'a>(&mut self, texts: impl Iterator<Item = &'a String>) {
        let mut count = 0_u64;
        for text in texts {
            self.add(&(text.len() as u64).to_le_bytes());
            self.add(text.as_bytes());
            count += 1;
        }
        self.add(&count.to_le_bytes());
    }

    pub(super) fn finish(self) -> u64 {
        self.0
    }
}
