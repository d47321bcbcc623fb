//! The archive: a compressed tar, with one folder in it.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use rowhouse::{Error, Result};
use tar::{Builder, EntryType, Header};

use super::contents::Entry;

/// Writes all entries; answers how many bytes that took.
///
/// # Errors
/// `Full`, `ReadOnly`, `Io` of the system.
pub(super) fn write(entries: &[Entry], to: &mut dyn Write) -> Result<u64> {
    let now = jiff::Timestamp::now();
    let folder = format!("rowhouse-support-{}", now.strftime("%Y-%m-%dT%H-%M-%SZ"));
    let mtime = u64::try_from(now.as_second()).unwrap_or(0);
    let mut counted = Counted { to, bytes: 0 };
    pack(entries, &folder, mtime, &mut counted)
        .map_err(|error| Error::io("write the archive", std::path::Path::new(&folder), error))?;
    Ok(counted.bytes)
}

fn pack(entries: &[Entry], folder: &str, mtime: u64, to: &mut Counted<'_>) -> std::io::Result<()> {
    let mut archive = Builder::new(GzEncoder::new(to, Compression::default()));
    for entry in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o600);
        header.set_mtime(mtime);
        header.set_size(entry.bytes());
        archive.append_data(&mut header, format!("{folder}/{}", entry.name), entry.content.as_slice())?;
    }
    archive.into_inner()?.finish()?.flush()
}

struct Counted<'t> {
    to: &'t mut dyn Write,
    bytes: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}
