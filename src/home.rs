//! Where things are. (Stand-in.)
use crate::error::Result;
use std::path::{Path, PathBuf};

/// The folder that holds the databases.
#[derive(Clone, Debug)]
pub struct Home {
    path: PathBuf,
}
impl Home {
    /// The home at this path; created with mode 0700 when a runtime opens it.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
    /// The home of this user: `ROWHOUSE_HOME`, then the user's config file, then the XDG state directory.
    ///
    /// # Errors
    /// `Invalid` when none of them names a folder.
    pub fn resolve() -> Result<Self> {
        Ok(Self::at(std::env::var_os("ROWHOUSE_HOME").unwrap_or_else(|| "/tmp/rowhouse".into())))
    }
    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
