//! The bytes of an exported home.
//!
//! ```text
//! {"format":"rowhouse-home","version":1,"program":"rowhouse 0.1.0","created_at":"2026-03-01T08:00:00Z"}
//! {"thread":{"id":"…","row":{…},"edge":{…},"goal":{…},"memory":{…},"transcript":{"name":"rollout-….jsonl","archived":false,"bytes":123}}}
//! 123 bytes, and a newline
//! {"check":"…"}
//! {"end":{"sections":1}}
//! {"check":"…"}
//! ```
//!
//! Each line is JSON. A section is a thread, or a part of one: what is not there is left out, and what two sections say of one
//! thread belongs together. A `check` is the SHA-256 of all bytes since the one before it, so that a section is known to be
//! whole before anything of it counts, and any place can be named. What a later version adds has another `version`.

use std::io::{BufRead, ErrorKind as Os, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind, Result};
use crate::stores::goals::Goal;
use crate::stores::memories::MemoryOutput;
use crate::stores::spawn_edges::SpawnStatus;
use crate::stores::threads::ThreadRow;

const FORMAT: &str = "rowhouse-home";
const VERSION: u32 = 1;
/// The longest line: what a row and a memory can hold, with each letter escaped.
const LONGEST_LINE: u64 = 64 << 20;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    format: String,
    version: u32,
    pub(super) program: String,
    /// RFC 3339.
    pub(super) created_at: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Record {
    Thread(Box<Section>),
    End { sections: u64 },
    Check(String),
}

/// A thread, or a part of one.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Section {
    pub(super) id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) row: Option<ThreadRow>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) edge: Option<Edge>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) goal: Option<Goal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) memory: Option<MemoryOutput>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) transcript: Option<Transcript>,
}

/// Who started the thread.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Edge {
    pub(super) parent_id: String,
    pub(super) status: SpawnStatus,
    pub(super) created_at: i64,
}

/// The transcript that follows, as it lies on the disk.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Transcript {
    /// `rollout-….jsonl` or `rollout-….jsonl.zst`.
    pub(super) name: String,
    pub(super) archived: bool,
    pub(super) bytes: u64,
}

/// Writes an exported home.
pub(super) struct Writer<W> {
    out: W,
    path: PathBuf,
    hash: Sha256,
    pub(super) sections: u64,
    pub(super) bytes: u64,
}

impl<W: Write> Writer<W> {
    pub(super) fn begin(out: W, path: &Path) -> Result<Self> {
        let mut writer = Self { out, path: path.to_owned(), hash: Sha256::new(), sections: 0, bytes: 0 };
        writer.line(&Header {
            format: FORMAT.to_owned(),
            version: VERSION,
            program: concat!("rowhouse ", env!("CARGO_PKG_VERSION")).to_owned(),
            created_at: jiff::Timestamp::now().to_string(),
        })?;
        Ok(writer)
    }

    /// A section without its transcript, whose bytes follow, and then [`check`](Self::check).
    pub(super) fn section(&mut self, section: Section) -> Result<()> {
        self.sections += 1;
        self.line(&Record::Thread(Box::new(section)))
    }

    /// Bytes of a transcript.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes).map_err(|error| Error::io("write the export", &self.path, error))
    }

    pub(super) fn check(&mut self) -> Result<()> {
        let check = hex(std::mem::take(&mut self.hash));
        self.line(&Record::Check(check))?;
        self.hash = Sha256::new();
        Ok(())
    }

    pub(super) fn end(mut self) -> Result<W> {
        self.line(&Record::End { sections: self.sections })?;
        self.check()?;
        Ok(self.out)
    }

    fn line(&mut self, record: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(record).map_err(|error| {
            Error::new(ErrorKind::Invalid, "a thread cannot be written as JSON").caused_by(error)
        })?;
        line.push(b'\n');
        self.bytes(&line)
    }
}

/// Reads an exported home: header first, then section by section, each with its transcript and its check.
pub(super) struct Reader<R> {
    from: R,
    path: PathBuf,
    hash: Sha256,
    /// Bytes read, decompressed; up to `checked` they are what was exported.
    pub(super) at: u64,
    checked: u64,
    sections: u64,
}

impl<R: BufRead> Reader<R> {
    /// # Errors
    /// `Invalid` for what is no export of a home, `Unsupported` for one of a later version.
    pub(super) fn begin(from: R, path: &Path) -> Result<(Self, Header)> {
        let mut reader =
            Self { from, path: path.to_owned(), hash: Sha256::new(), at: 0, checked: 0, sections: 0 };
        let is_none = || {
            Error::new(ErrorKind::Invalid, "the file is no export of a home")
                .at_path(path)
                .advise("give a file that rowhouse export made; a folder of transcripts needs no word `home`")
        };
        // A file of something else may have no line at all.
        let line = reader.read_line(4 << 10)?.ok_or_else(is_none)?;
        let header: Header = serde_json::from_slice(&line).map_err(|_| is_none())?;
        if header.format != FORMAT {
            return Err(is_none());
        }
        if header.version != VERSION {
            let message = format!("the export has version {}, this program reads {VERSION}", header.version);
            return Err(Error::new(ErrorKind::Unsupported, message)
                .at_path(path)
                .advise("import it with a newer rowhouse"));
        }
        Ok((reader, header))
    }

    /// The next section; `None` at the end, which was checked.
    ///
    /// # Errors
    /// `Corrupt` naming the place.
    pub(super) fn next(&mut self) -> Result<Option<Section>> {
        match self.record()? {
            Record::Thread(section) => {
                self.sections += 1;
                Ok(Some(*section))
            }
            Record::End { sections } => {
                if sections != self.sections {
                    return Err(self.damaged("sections are missing before its end"));
                }
                self.check()?;
                match self.from.fill_buf() {
                    Ok([]) => Ok(None),
                    Ok(_) => Err(self.damaged("there is more behind its end")),
                    Err(error) => Err(self.failed(error)),
                }
            }
            Record::Check(_) => Err(self.damaged("a section is missing")),
        }
    }

    /// Bytes of the transcript that follows a section; some, as long as there are any.
    ///
    /// # Errors
    /// `Corrupt` when the file ends; of the system.
    pub(super) fn bytes(&mut self, to: &mut [u8]) -> Result<usize> {
        loop {
            match self.from.read(to) {
                Ok(0) => return Err(self.ends()),
                Ok(read) => {
                    self.hash.update(&to[..read]);
                    self.at += read as u64;
                    return Ok(read);
                }
                Err(error) if error.kind() == Os::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    /// Passes over so many bytes.
    pub(super) fn skip(&mut self, mut left: u64) -> Result<()> {
        let mut block = vec![0; 64 << 10];
        while left > 0 {
            let wanted = block.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            left -= self.bytes(&mut block[..wanted])? as u64;
        }
        Ok(())
    }

    /// The newline behind a transcript.
    pub(super) fn end_of_transcript(&mut self) -> Result<()> {
        let mut newline = [0];
        self.bytes(&mut newline)?;
        if newline == *b"\n" { Ok(()) } else { Err(self.damaged("a transcript is longer than it should be")) }
    }

    /// Compares what was read since the last check.
    ///
    /// # Errors
    /// `Corrupt` naming the place.
    pub(super) fn check(&mut self) -> Result<()> {
        let found = hex(std::mem::take(&mut self.hash));
        match self.record()? {
            Record::Check(check) if check == found => {
                self.hash = Sha256::new();
                self.checked = self.at;
                Ok(())
            }
            _ => Err(self.damaged("what comes before it is not what was exported")),
        }
    }

    fn record(&mut self) -> Result<Record> {
        let line = self.read_line(LONGEST_LINE)?.ok_or_else(|| self.ends())?;
        // A parser's own message would repeat what it found.
        serde_json::from_slice(&line).map_err(|_| self.damaged("a line is no record"))
    }

    /// A line with its newline. `None` where there is none, or it is longer.
    fn read_line(&mut self, longest: u64) -> Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let read = self.from.by_ref().take(longest).read_until(b'\n', &mut line);
        read.map_err(|error| self.failed(error))?;
        self.hash.update(&line);
        self.at += line.len() as u64;
        Ok(line.ends_with(b"\n").then_some(line))
    }

    /// Errors that the system did not name are the decoder's.
    fn failed(&self, error: std::io::Error) -> Error {
        if error.raw_os_error().is_some() {
            return Error::io("read the export", &self.path, error);
        }
        self.damaged("it cannot be decompressed").caused_by(error)
    }

    fn ends(&self) -> Error {
        self.damaged("it ends there, in the middle")
    }

    fn damaged(&self, what: &str) -> Error {
        let (from, to) = (self.checked, self.at);
        Error::new(ErrorKind::Corrupt, format!("the export is damaged between bytes {from} and {to}: {what}"))
            .at_path(&self.path)
            .advise("copy it again from where it came from, or export the home again")
    }
}

fn hex(hash: Sha256) -> String {
    use std::fmt::Write;
    hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
