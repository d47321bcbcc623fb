//! The file of an exported home, plain or compressed (zstd, RFC 8878).

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::home;

/// How a compressed one begins.
const MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();
const BLOCK: usize = 256 << 10;

/// Where an export is written.
pub(super) enum Sink<'f> {
    Plain(BufWriter<&'f File>),
    #[cfg(feature = "zstd")]
    Compressed(zstd::Encoder<'static, BufWriter<&'f File>>),
}

impl<'f> Sink<'f> {
    /// By the name that the file is to have.
    pub(super) fn of(file: &'f File, name: &Path) -> Result<Self> {
        let plain = BufWriter::with_capacity(BLOCK, file);
        if name.extension().is_none_or(|ending| ending != "zst") {
            return Ok(Self::Plain(plain));
        }
        compressed(plain, name)
    }

    /// Writes what is left in memory.
    pub(super) fn finish(self) -> io::Result<()> {
        match self {
            Self::Plain(mut out) => out.flush(),
            #[cfg(feature = "zstd")]
            Self::Compressed(out) => out.finish()?.flush(),
        }
    }
}

#[cfg(feature = "zstd")]
fn compressed<'f>(plain: BufWriter<&'f File>, name: &Path) -> Result<Sink<'f>> {
    let encoder = zstd::Encoder::new(plain, zstd::DEFAULT_COMPRESSION_LEVEL).and_then(|mut encoder| {
        encoder.include_checksum(true)?;
        Ok(encoder)
    });
    encoder.map(Sink::Compressed).map_err(|error| Error::io("compress the export", name, error))
}

#[cfg(not(feature = "zstd"))]
fn compressed<'f>(_: BufWriter<&'f File>, name: &Path) -> Result<Sink<'f>> {
    Err(unsupported(name))
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            #[cfg(feature = "zstd")]
            Self::Compressed(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.flush(),
            #[cfg(feature = "zstd")]
            Self::Compressed(out) => out.flush(),
        }
    }
}

/// What an exported home is read from, by how it begins.
///
/// # Errors
/// `Invalid` for what is no file; `Unsupported` for a compressed one without the feature `zstd`; of the system.
pub(super) fn source(path: &Path) -> Result<Box<dyn BufRead>> {
    let failed = |error| Error::io("read the export", path, error);
    // Looked at before it is opened: a pipe would keep us.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(Error::new(ErrorKind::Invalid, "an exported home is a file; it is read twice")
            .at_path(path)
            .advise("write what comes through a pipe into a file first"));
    }
    let file = home::open_to_read(path).map_err(failed)?;
    let mut plain = BufReader::with_capacity(BLOCK, file);
    let is_compressed = plain.fill_buf().map_err(failed)?.starts_with(&MAGIC);
    if !is_compressed {
        return Ok(Box::new(plain));
    }
    plain.rewind().map_err(failed)?;
    decompressed(plain, path)
}

#[cfg(feature = "zstd")]
fn decompressed(plain: BufReader<File>, path: &Path) -> Result<Box<dyn BufRead>> {
    let decoder = zstd::Decoder::with_buffer(plain);
    let decoder = decoder.map_err(|error| Error::io("read the export", path, error))?;
    Ok(Box::new(BufReader::with_capacity(BLOCK, decoder)))
}

#[cfg(not(feature = "zstd"))]
fn decompressed(_: BufReader<File>, path: &Path) -> Result<Box<dyn BufRead>> {
    Err(unsupported(path))
}

#[cfg(not(feature = "zstd"))]
fn unsupported(path: &Path) -> Error {
    Error::new(ErrorKind::Unsupported, "this program was built without compression").at_path(path).advise(
        "leave out the ending .zst, decompress the file with zstd -d, or build with the feature `zstd`",
    )
}
