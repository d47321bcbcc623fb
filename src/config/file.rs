//! The home's own `config.toml`.

use std::io::ErrorKind as Os;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};
use crate::home::read_file;

pub(crate) fn config_of(home: &Path) -> PathBuf {
    home.join("config.toml")
}

/// Its text; `None` when there is none.
///
/// # Errors
/// `Invalid` when it is not UTF-8; of the system.
pub(crate) fn text_of(file: &Path) -> Result<Option<String>> {
    let bytes = match read_file(file) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), Os::NotFound | Os::NotADirectory) => return Ok(None),
        Err(error) => return Err(Error::io("read the home's config file", file, error)),
    };
    String::from_utf8(bytes).map(Some).map_err(|_| {
        Error::new(ErrorKind::Invalid, "the home's config file is not UTF-8 text")
            .at_path(file)
            .advise("save it as UTF-8")
    })
}

/// What its text says.
///
/// # Errors
/// `Invalid`, naming the line.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        // The parser's own message quotes the line, which may hold a password: it stays behind `source()`.
        let before = error.span().map_or(0, |span| span.start);
        let line = 1 + text.bytes().take(before).filter(|byte| *byte == b'\n').count();
        Error::new(
            ErrorKind::Invalid,
            format!("the home's config file is not as it should be, at line {line}"),
        )
        .advise("correct that line")
        .caused_by(error)
    })
}
