//! `rowhouse top`: what every process does with the databases, as it happens. Reads what they publish, opens no database
//! and takes no lock: it costs them nothing.
//!
//! Invariants: the terminal is as it was when this ends, however it ends; where there is no terminal, nothing is drawn. Keys
//! count also while a look does not come back: looks are made by a thread of their own.
//!
//! Tests: in its parts; `cli/tests/top.rs`, in a pseudo-terminal.

mod look;
mod looks;
mod screen;
mod view;

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use rowhouse::{Error, ErrorKind, Home};

use crate::output::Output;
use crate::signals::{self, AtEnd};
use look::Watch;
use looks::Looks;
use view::View;

#[derive(Args)]
#[command(after_help = "\
Examples:
  rowhouse top
  rowhouse top logs --every 0.5

Keys: q or Ctrl-C ends it, the arrows choose a database, space holds the picture.
Programs need not know of it: it reads what they publish about themselves. A script asks `rowhouse stats --json`.")]
pub(crate) struct TopArguments {
    /// Only this database
    #[arg(value_name = "DB")]
    database: Option<String>,
    /// How often to look
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds)]
    every: f64,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds is wanted".to_owned())?;
    if (0.1..=3600.0).contains(&seconds) { Ok(seconds) } else { Err("0.1 to 3600 seconds".to_owned()) }
}

pub(crate) fn run(home: &Home, arguments: &TopArguments, output: &Output) -> Result<()> {
    if output.is_json() || !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(Error::new(ErrorKind::Invalid, "this draws on a terminal, and there is none")
            .advise("a script asks `rowhouse stats --json`")
            .into());
    }
    let mut watch = Watch::new(home, arguments.database.as_deref())?;
    let mut view = View::default();
    view.update(watch.look()?);
    let mut looks = Looks::begin(move || watch.look())?;
    let mut screen = Screen::begin()?;
    let every = Duration::from_secs_f64(arguments.every);
    let mut next = Instant::now() + every;
    loop {
        view.silent = looks.waited().filter(|waited| *waited >= SILENT.max(every));
        screen.terminal.draw(|frame| screen::draw(frame, &view))?;
        let wait =
            if looks.waited().is_some() { GLANCE } else { next.saturating_duration_since(Instant::now()) };
        if event::poll(wait)? {
            match event::read()? {
                Event::Key(key) if key.kind != KeyEventKind::Release => match meaning(key) {
                    Some(Wish::End) => return Ok(()),
                    Some(Wish::Move(by)) => view.choose(by),
                    Some(Wish::Hold) => view.held = !view.held,
                    None => {}
                },
                _ => {}
            }
        }
        if Instant::now() >= next && looks.waited().is_none() {
            looks.ask();
            next = Instant::now() + every;
        }
        if let Some(found) = looks.found() {
            // A picture that is held is looked behind all the same: rates are of one interval, not of the pause.
            let found = found?;
            if !view.held {
                view.update(found);
            }
        }
    }
}

/// How long keys are waited for while a look is under way.
const GLANCE: Duration = Duration::from_millis(20);
/// A look that takes so long is told.
const SILENT: Duration = Duration::from_secs(2);

/// What a key asks for.
enum Wish {
    End,
    Move(isize),
    Hold,
}

fn meaning(key: KeyEvent) -> Option<Wish> {
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Wish::End),
        KeyCode::Char('q') | KeyCode::Esc => Some(Wish::End),
        KeyCode::Down | KeyCode::Char('j') => Some(Wish::Move(1)),
        KeyCode::Up | KeyCode::Char('k') => Some(Wish::Move(-1)),
        KeyCode::Char(' ' | 'p') => Some(Wish::Hold),
        _ => None,
    }
}

/// The terminal while it is ours.
struct Screen {
    terminal: DefaultTerminal,
    _at_end: AtEnd,
}

impl Screen {
    fn begin() -> Result<Self> {
        // Before it changes anything: a signal may come at any moment.
        let at_end = signals::at_end(restore);
        let terminal = ratatui::try_init().map_err(|error| {
            // It may have come half of the way.
            restore();
            Error::new(ErrorKind::Unsupported, format!("this terminal cannot be drawn on: {error}"))
                .advise("`rowhouse stats` prints the same numbers once, `rowhouse stats --json` for a script")
        })?;
        Ok(Self { terminal, _at_end: at_end })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Leaves the other screen, and shows the cursor again: a signal ends the program before the terminal's own drop does.
fn restore() {
    ratatui::restore();
    // Nobody is left to tell when the terminal is gone.
    let _ = execute!(io::stdout(), Show);
}
