//! In the place of `compressed`, where the feature `zstd` is off: compressed transcripts are refused.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::windows::Windows;
use crate::error::{Error, ErrorKind, Result};

/// There is none.
#[derive(Debug)]
pub(super) enum Plain {}

impl Plain {
    pub(super) fn of(_: File, path: &Path) -> Result<Self> {
        Err(unsupported(path))
    }
}

impl Read for Plain {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }
}

pub(super) fn explain(error: io::Error, path: &Path) -> Error {
    Error::io("read the transcript", path, error)
}

pub(super) fn first_line(_: File, path: &Path) -> Result<Option<Vec<u8>>> {
    Err(unsupported(path))
}

pub(super) fn plain_copy(_: File, path: &Path) -> Result<File> {
    Err(unsupported(path))
}

pub(super) fn windows(_: &File, path: &Path) -> Result<Option<Windows>> {
    Err(unsupported(path))
}

pub(super) fn compress(_: &File, _: &File, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn decompress(_: File, path: &Path, _: &File, _: &Path) -> Result<u64> {
    Err(unsupported(path))
}

pub(super) fn length_in(_: &File, _: &File) -> io::Result<Option<u64>> {
    Err(io::ErrorKind::Unsupported.into())
}

fn unsupported(path: &Path) -> Error {
    Error::new(ErrorKind::Unsupported, "this program was built without compressed transcripts")
        .at_path(path)
        .advise("decompress it with zstd -d, or build with the feature `zstd`")
}
