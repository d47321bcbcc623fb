//! Where words go: documents and tables to standard output, everything else to standard error.

use std::fmt;
use std::io::{self, BufRead, IsTerminal, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use rowhouse::{Error, ErrorKind};
use serde::Serialize;

use crate::words::for_a_person;

pub(crate) const HEADING: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default().bold();

/// How this run was asked to answer.
pub(crate) struct Output {
    json: bool,
}

/// Whoever read our output has seen enough. Not a failure.
#[derive(Debug)]
pub(crate) struct ReaderGone;

impl fmt::Display for ReaderGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("standard output was closed")
    }
}

impl std::error::Error for ReaderGone {}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Bytes for a program or a file.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<()> {
        debug_assert!(!self.json, "standard output belongs to the document");
        let mut stdout = io::stdout().lock();
        written(stdout.write_all(bytes).and_then(|()| stdout.flush()))
    }

    /// The one document of `--json`.
    pub(crate) fn document(&self, document: &impl Serialize) -> Result<()> {
        debug_assert!(self.json, "documents are for --json");
        let mut text = serde_json::to_string_pretty(document)?;
        text.push('\n');
        written(io::stdout().lock().write_all(text.as_bytes()))
    }

    /// One of many documents, each on a line of its own; seen at once.
    pub(crate) fn json_line(&self, document: &impl Serialize) -> Result<()> {
        debug_assert!(self.json, "documents are for --json");
        let mut text = serde_json::to_string(document)?;
        text.push('\n');
        let mut stdout = io::stdout().lock();
        written(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
    }

    /// Text in place of what the terminal shows; one after the other where nobody watches.
    pub(crate) fn screen(&self, text: &str) -> Result<()> {
        let clear = if io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
        self.text(&format!("{clear}{text}"))
    }

    /// Text for people; colours are taken out where nobody would see them.
    pub(crate) fn text(&self, text: &str) -> Result<()> {
        debug_assert!(!self.json, "standard output belongs to the document");
        let mut stdout = anstream::stdout().lock();
        written(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
    }

    /// Whether somebody is there to be asked.
    ///
    /// # Errors
    /// `Invalid` with `advice` when not.
    pub(crate) fn can_ask(&self, advice: &'static str) -> Result<()> {
        if !self.json && io::stdin().is_terminal() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Invalid, "nobody is there to be asked").advise(advice).into())
    }

    /// Asks a person on the terminal, and answers whether they want it.
    ///
    /// # Errors
    /// As [`can_ask`](Self::can_ask); of reading the answer.
    pub(crate) fn agreed(&self, question: &str, advice: &'static str) -> Result<bool> {
        self.can_ask(advice)?;
        line(question);
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }
}

/// A word of caution, on standard error.
pub(crate) fn warn(text: &str) {
    // Nobody is left to tell when standard error is closed; the work goes on.
    let _ = writeln!(anstream::stderr(), "{WARNING}warning:{WARNING:#} {}", for_a_person(text));
}

/// What is going on, on standard error, only where someone watches.
pub(crate) fn note(text: &str) {
    if io::stderr().is_terminal() {
        let _ = writeln!(anstream::stderr(), "{DIM}{text}{DIM:#}");
    }
}

/// That a list was cut, and what shows the rest of it: on standard error, also where nobody watches, since a list in a pipe
/// looks whole.
pub(crate) fn more(cursor: &str) {
    line(&format!("more: the same command with --cursor {cursor}"));
}

/// The columns of the terminal that reads standard output; `None` when it is a pipe or a file.
pub(crate) fn width() -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0))
}

/// A bar on standard error; shows nothing when that is no terminal.
pub(crate) fn progress(length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    if !bar.is_hidden() {
        let style = ProgressStyle::with_template("{bar:24} {pos}/{len}  {elapsed}  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(250));
    }
    bar
}

/// The same for what tells no progress: that it goes on, and for how long.
pub(crate) fn busy(doing: &'static str) -> ProgressBar {
    let bar = progress(0);
    if !bar.is_hidden() {
        let style = ProgressStyle::with_template("{spinner} {msg}  {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_message(doing);
    }
    bar
}

/// The same, counting bytes.
pub(crate) fn progress_in_bytes() -> ProgressBar {
    let bar = progress(0);
    if !bar.is_hidden() {
        let style = ProgressStyle::with_template("{bar:24} {bytes}/{total_bytes}  {elapsed}  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    }
    bar
}

/// One line on standard error, for logs.
pub(crate) fn line(text: &str) {
    // Nobody is left to tell when standard error is closed; the work goes on.
    let _ = writeln!(anstream::stderr(), "{text}");
}

fn written(result: io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(ReaderGone.into()),
        other => Ok(other?),
    }
}

/// An error that says that standard output was closed, as what it is.
pub(crate) fn reader_gone(error: impl Into<anyhow::Error>) -> anyhow::Error {
    let error = error.into();
    let broken = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(broken) { ReaderGone.into() } else { error }
}

/// Colours every occurrence of a word.
pub(crate) fn paint(text: &str, word: &str, style: Style) -> String {
    text.replace(word, &format!("{style}{word}{style:#}"))
}
