//! Long texts for people: through a pager where standard output is a terminal, straight out elsewhere.

use std::io::{self, IsTerminal, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

use anstream::ColorChoice;
use anstream::adapter::strip_str;
use anyhow::Result;
use rowhouse::{Error, ErrorKind};

use crate::output::{Output, ReaderGone};
use crate::signals;

/// Ends at once when all fits the screen, shows colours, leaves the text there.
pub(crate) const USUAL: &str = "less -FRX";
/// How a shell says that it found no such command.
const NO_SUCH_COMMAND: i32 = 127;

/// Where a long text goes. Dropping it waits until the person has left the pager.
pub(crate) struct Pages<'o> {
    output: &'o Output,
    pager: Option<Pager>,
}

struct Pager {
    process: Child,
    /// `None` once all was written.
    stdin: Option<ChildStdin>,
    colours: bool,
}

impl<'o> Pages<'o> {
    pub(crate) fn open(output: &'o Output) -> Self {
        Self { output, pager: Pager::start() }
    }

    pub(crate) fn text(&mut self, text: &str) -> Result<()> {
        match &mut self.pager {
            None => self.output.text(text),
            Some(pager) => pager.text(text),
        }
    }
}

impl Pager {
    /// `None` where nobody pages, also because there is no `less` and nobody asked for another one.
    fn start() -> Option<Self> {
        if !io::stdout().is_terminal() {
            return None;
        }
        let wanted = std::env::var("PAGER").ok();
        let mut command = match wanted.as_deref().map(str::trim) {
            Some("" | "cat") => return None,
            Some(wanted) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", wanted]);
                shell
            }
            None => {
                let mut words = USUAL.split(' ');
                let mut less = Command::new(words.next().unwrap_or_default());
                less.args(words);
                less
            }
        };
        if std::env::var_os("LESS").is_none() {
            command.env("LESS", "FRX");
        }
        let mut process = command.stdin(Stdio::piped()).spawn().ok()?;
        let stdin = process.stdin.take();
        signals::leave_interrupts_to_the_pager();
        let colours = anstream::AutoStream::choice(&io::stdout()) != ColorChoice::Never;
        Some(Self { process, stdin, colours })
    }

    fn text(&mut self, text: &str) -> Result<()> {
        let Some(stdin) = &mut self.stdin else { return Err(ReaderGone.into()) };
        let written = if self.colours {
            stdin.write_all(text.as_bytes())
        } else {
            stdin.write_all(strip_str(text).to_string().as_bytes())
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(self.why_it_ended()),
            other => Ok(other?),
        }
    }

    fn why_it_ended(&mut self) -> anyhow::Error {
        self.stdin = None;
        match self.process.wait() {
            Ok(status) if status.code() == Some(NO_SUCH_COMMAND) => {
                Error::new(ErrorKind::NotFound, "the pager that PAGER names is not there")
                    .advise("set PAGER to a program that is there, or to cat")
                    .into()
            }
            _ => ReaderGone.into(),
        }
    }
}

impl Drop for Pager {
    fn drop(&mut self) {
        self.stdin = None;
        // It has the terminal until it ends. How it ends is its own affair.
        let _ = self.process.wait();
    }
}
