//! `rowhouse threads export`: a thread as a file, for people or for programs.

use std::fmt::Write as _;
use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;

use anyhow::Result;
use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use rowhouse::rollout::{Reader, Rollouts};
use rowhouse::stores::ThreadRow;
use rowhouse::thread_store::{ThreadStore, Turn, TurnStatus};
use rowhouse::{Error, ErrorKind, Home};
use serde::Serialize;

use super::entries::{Entry, Role, Told};
use super::history::{each_turn, find, title};
use super::show::{one_line, readable};
use crate::named_file::Overwrite;
use crate::output::{self, Output};
use crate::table::time;

#[derive(Args)]
pub(super) struct ExportArguments {
    /// The thread; the beginning or the end of its id is enough
    #[arg(value_name = "ID")]
    id: String,
    /// What was said and done, to read (the default); or the transcript, byte for byte (that of --json to standard output)
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Into this file, which only you can read, instead of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    overwrite: Overwrite,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Markdown,
    Jsonl,
}

/// What a file got.
#[derive(Serialize)]
struct Exported<'a> {
    id: &'a str,
    format: &'static str,
    path: &'a PathBuf,
    bytes: u64,
}

pub(super) fn run(home: &Home, arguments: &ExportArguments, output: &Output) -> Result<()> {
    let to_a_program = output.is_json() && arguments.output.is_none();
    let format = arguments.format.unwrap_or(if to_a_program { Format::Jsonl } else { Format::Markdown });
    if to_a_program && format == Format::Markdown {
        return Err(Error::new(ErrorKind::Invalid, "--json is JSON lines, --format markdown is not")
            .advise("leave --format out, or name a file with --output")
            .into());
    }
    let (store, id) = find(home, &arguments.id)?;
    let Some(path) = &arguments.output else {
        let stdout = io::stdout().lock();
        return write(home, &*store, &id, format, &mut BufWriter::new(stdout))
            .map(drop)
            .map_err(output::reader_gone);
    };
    let bytes = arguments.overwrite.write(path, |file| write(home, &*store, &id, format, file))?;
    if output.is_json() {
        let format = if format == Format::Jsonl { "jsonl" } else { "markdown" };
        return output.document(&Exported { id: &id, format, path, bytes });
    }
    output.text(&format!("{} in {}\n", ByteSize(bytes), path.display()))
}

/// Writes it, and tells how many bytes that were.
fn write(home: &Home, store: &dyn ThreadStore, id: &str, format: Format, to: &mut dyn Write) -> Result<u64> {
    let bytes = match format {
        Format::Markdown => markdown(store, id, to)?,
        Format::Jsonl if store.capabilities().files => {
            let hint = store.read(id)?.rollout_path.map(PathBuf::from);
            let found = Rollouts::open(home)?.locate(id, hint.as_deref())?;
            copy(&mut Reader::bytes(&found.path)?, to)?
        }
        Format::Jsonl => lines(store, id, to)?,
    };
    to.flush()?;
    Ok(bytes)
}

fn copy(from: &mut impl Read, to: &mut dyn Write) -> io::Result<u64> {
    io::copy(from, to)
}

/// The lines that a transcript would have.
fn lines(store: &dyn ThreadStore, id: &str, to: &mut dyn Write) -> Result<u64> {
    let mut bytes = 0;
    for item in store.load_history(id)? {
        let item = item?;
        writeln!(to, "{}", item.text())?;
        bytes += item.text().len() as u64 + 1;
    }
    Ok(bytes)
}

fn markdown(store: &dyn ThreadStore, id: &str, to: &mut dyn Write) -> Result<u64> {
    let mut bytes = 0;
    let mut put = |text: &str| {
        bytes += text.len() as u64;
        to.write_all(text.as_bytes())
    };
    put(&head(&store.read(id)?))?;
    each_turn(store, id, None, |turn, told| Ok(put(&section(turn, &told))?))?;
    Ok(bytes)
}

fn head(thread: &ThreadRow) -> String {
    let mut text = format!("# {}\n\n- Thread: {}\n", one_line(title(thread)), thread.id);
    let facts = [
        ("Folder", thread.cwd.as_ref()),
        ("Branch", thread.git.branch.as_ref()),
        ("Commit", thread.git.sha.as_ref()),
        ("Model", thread.model.as_ref()),
        ("Forked from", thread.forked_from_id.as_ref()),
    ];
    for (name, fact) in facts {
        if let Some(fact) = fact {
            let _ = writeln!(text, "- {name}: {}", one_line(fact));
        }
    }
    let _ = writeln!(text, "- Begun: {}", moment(thread.created_at));
    let _ = writeln!(text, "- Last used: {}", moment(thread.recency_at));
    if thread.tokens_used > 0 {
        let _ = writeln!(text, "- Tokens: {}", thread.tokens_used);
    }
    text
}

fn section(turn: Option<&Turn>, told: &Told) -> String {
    let mut text = String::new();
    if let Some(turn) = turn {
        let _ = write!(text, "\n## Turn {}", turn.ordinal + 1);
        if let Some(at) = turn.started_at {
            let _ = write!(text, ", {}", moment(at));
        }
        if turn.status != TurnStatus::Completed {
            let _ = write!(text, ", {}", turn.status.as_str().replace('_', " "));
        }
        text.push('\n');
    }
    for entry in &told.entries {
        said(&mut text, entry);
    }
    text
}

fn said(text: &mut String, entry: &Entry) {
    let words = readable(&entry.text);
    match entry.role {
        Role::User => _ = write!(text, "\n### User\n\n{words}\n"),
        Role::Assistant => _ = write!(text, "\n### Assistant\n\n{words}\n"),
        Role::Error => _ = write!(text, "\n### Error\n\n{words}\n"),
        Role::Note => _ = write!(text, "\n*{words}*\n"),
        Role::Reasoning => {
            let quoted: String =
                words.lines().map(|line| format!("> {line}\n").replace("> \n", ">\n")).collect();
            let _ = write!(text, "\n### Reasoning\n\n{quoted}");
        }
        Role::Tool => {
            let name = entry.tool.as_deref().map_or_else(|| "without a name".to_owned(), one_line);
            let _ = writeln!(text, "\n### Tool: {name}");
            block(text, &words);
            block(text, &entry.output.as_deref().map(readable).unwrap_or_default());
        }
    }
}

/// A block of code, in a fence that nothing in it can end.
fn block(text: &mut String, code: &str) {
    if code.is_empty() {
        return;
    }
    let longest = code.split(|letter| letter != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat((longest + 1).max(3));
    let _ = write!(text, "\n{fence}\n{code}\n{fence}\n");
}

/// RFC 3339 in UTC, to the second: a file goes to other places.
fn moment(unix_ms: i64) -> String {
    Timestamp::from_second(time(unix_ms).as_second()).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_block_ends_its_fence() {
        let mut text = String::new();
        block(&mut text, "a ```` b\n```");
        assert_eq!(text, "\n`````\na ```` b\n```\n`````\n");
        block(&mut text, "");
        assert_eq!(text.lines().count(), 5, "nothing is no block");
    }
}
