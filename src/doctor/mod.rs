//! What is wrong with a home, and what to do: one look that changes nothing.
//!
//! [`run`] makes a [`Report`] with a row for each check of [`list`]: whether the home and its disk are fit, whether each
//! database can be opened, read and written and is whole, who is in the way, what takes space, what was left behind,
//! whether the index of threads fits the transcripts. A check that cannot be done is a row too, with its reason.
//!
//! ```
//! # fn main() -> rowhouse::Result<()> {
//! # let folder = tempfile::tempdir().expect("a folder");
//! use rowhouse::doctor::{self, Options, Status};
//! use rowhouse::{Home, Runtime};
//! let home = Home::at(folder.path());
//! drop(Runtime::open(home.clone())?);
//! let report = doctor::run(&home, &Options::default())?;
//! for check in report.notable() {
//!     println!("{}: {}", check.id, check.summary);
//! }
//! assert_eq!(report.check("state.open").expect("a row").status, Status::Ok);
//! # Ok(())
//! # }
//! ```
//!
//! | file | what |
//! |---|---|
//! | `report` | what is answered |
//! | `finding`, `clean` | what a check found, and how it becomes a row without secrets |
//! | `command` | the commands that a row names, as a shell takes them |
//! | `runner` | threads, deadlines, panics |
//! | `patience` | the first look at a place that may not answer |
//! | `scope`, `subject`, `server` | what the checks look at: a home or a folder, each database, a server where one is configured |
//! | `checks` | one file for each group of checks |
//!
//! Invariants, and where they are tested:
//! 1. Nothing is written into the home, and no file is left behind (`tests/doctor_beside_others.rs`). The one thing that
//!    is tried is the write lock: taken and given back at once (`sqlite::look`).
//! 2. No lock is held for longer than about 10 ms while somebody else has the database open, but in a deep look (the same).
//! 3. Every row is cleaned when it is made (`finding`, `clean`; `cli/tests/doctor.rs`).
//! 4. A check that panics or does not end becomes a row (`runner`); so does a folder that does not answer (`patience`,
//!    `tests/doctor_beside_others.rs`).
//! 5. One cause is told by one row: what cannot be judged because of it is skipped and names that row
//!    (`tests/doctor.rs`).
//!
//! A process that has the home open itself should not run it: its own locks and reads would be left out of the answer. The
//! command is a process of its own.

mod checks;
mod clean;
mod command;
mod finding;
mod patience;
mod report;
mod runner;
mod scope;
mod server;
mod subject;
mod words;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};
use crate::folder::Folder;
use crate::home::Home;
use checks::{Definition, Of};
#[doc(hidden)]
pub use clean::Cleaner;
use command::Shell;
use finding::Finding;
use patience::within;
pub use report::{Check, Detail, Fix, Report, SCHEMA_VERSION, Status};
use runner::Task;
use scope::{Context, Scope};

/// How a doctor looks.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Reads everything: whole files, all transcripts. Default false: what is too large for a quick look says so.
    pub deep: bool,
    /// How long each check may take. Default 2 s, or 10 minutes for a deep look.
    pub deadline: Option<Duration>,
    /// Only these: a check's id (`state.log`), its name (`log`), its category, or a database. Empty for all.
    pub only: Vec<String>,
    /// Not these.
    pub skip: Vec<String>,
    /// The domains whose schemas and bounds this program knows. Default: the built-in ones.
    pub domains: Vec<Domain>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            deep: false,
            deadline: None,
            only: Vec::new(),
            skip: Vec::new(),
            domains: vec![Domain::device_keys(), Domain::goals(), Domain::logs(), Domain::state()],
        }
    }
}

impl Options {
    fn deadline(&self) -> Duration {
        let usual = if self.deep { Duration::from_mins(10) } else { Duration::from_secs(2) };
        self.deadline.unwrap_or(usual)
    }
}

/// A check that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct CheckInfo {
    /// Its name, the last part of its id.
    pub name: &'static str,
    /// Its group.
    pub category: &'static str,
    /// What it looks at, in a sentence.
    pub about: &'static str,
    /// True when it is done for each database.
    pub per_database: bool,
}

/// All checks, in the order of a report.
pub fn list() -> Vec<CheckInfo> {
    let info = |check: &Definition| CheckInfo {
        name: check.name,
        category: check.category,
        about: check.about,
        per_database: matches!(check.run, Of::Database(_)),
    };
    checks::all().map(info).collect()
}

/// Every command of `rowhouse` that a report can name, by words: for a test of the command line.
#[doc(hidden)]
pub fn commands() -> Vec<Vec<&'static str>> {
    command::all()
}

/// A row that was made just now.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Made<'r> {
    /// The row.
    pub check: &'r Check,
    /// How many are made.
    pub done: usize,
    /// How many there will be.
    pub total: usize,
}

/// Looks at a home.
///
/// # Errors
/// `Invalid` when [`Options::only`] or [`Options::skip`] names nothing that there is. What is wrong with the home is in the
/// report.
pub fn run(home: &Home, options: &Options) -> Result<Report> {
    run_watched(home, options, &mut |_| {})
}

/// The same; `on_row` hears of each row when it is made.
///
/// # Errors
/// As for [`run`].
pub fn run_watched(home: &Home, options: &Options, on_row: &mut dyn FnMut(Made<'_>)) -> Result<Report> {
    let (place, domains, deep) = (home.clone(), options.domains.clone(), options.deep);
    let found = within(options.deadline(), move || Context::of_home(&place, &domains, deep))?;
    look(found.unwrap_or_else(|| Context::of_silent_home(home.clone(), deep)), options, on_row)
}

/// Looks for SQLite files in any folder, such as another program's home, and at them: with the checks that make sense for
/// any program, and leaving nothing behind. A folder that does not answer in time, on a dead mount, is what the report says.
///
/// # Errors
/// As for [`run`] and [`Folder::find`].
pub fn run_dir(path: &Path, options: &Options, on_row: &mut dyn FnMut(Made<'_>)) -> Result<Report> {
    match find_dir(path, options.deadline()) {
        Ok(found) => run_folder(found, options, on_row),
        Err(error) if error.kind() == ErrorKind::Timeout => {
            look(Context::of_silent_folder(path, options.deep), options, on_row)
        }
        Err(error) => Err(error),
    }
}

/// The SQLite files of any folder, as [`Folder::find`] has them, by a look that ends.
///
/// # Errors
/// `Timeout` when the folder does not answer in this time, on a dead mount; those of [`Folder::find`]; `Io` when no thread
/// can be started to look.
pub fn find_dir(path: &Path, deadline: Duration) -> Result<Folder> {
    let place = path.to_owned();
    within(deadline, move || Folder::find(&place))?.unwrap_or_else(|| Err(scope::silent(path)))
}

/// The same of a folder that was looked through already.
///
/// # Errors
/// As for [`run`].
pub fn run_folder(folder: Folder, options: &Options, on_row: &mut dyn FnMut(Made<'_>)) -> Result<Report> {
    look(Context::of_folder(folder, options.deep), options, on_row)
}

fn look(context: Context, options: &Options, on_row: &mut dyn FnMut(Made<'_>)) -> Result<Report> {
    let (began, generated_at) = (Instant::now(), jiff::Timestamp::now().to_string());
    let context = Arc::new(context);
    let looked_at = context.clone();
    let shell = within(options.deadline(), move || Shell::of(&looked_at))?;
    let shell = shell.unwrap_or_else(|| Shell::without_looking(&context));
    let mut chosen = tasks(&context);
    refuse_unknown(&chosen, options)?;
    chosen.retain(|task| {
        let named = |words: &[String]| words.iter().any(|word| is_meant(task, word));
        (options.only.is_empty() || named(&options.only)) && !named(&options.skip)
    });
    let checks = runner::run(chosen, options.deadline(), &shell, on_row);
    // A check that was left behind keeps the context.
    context.subjects.iter().for_each(subject::Subject::forget);
    Ok(Report {
        schema_version: SCHEMA_VERSION,
        generated_at,
        rowhouse: env!("CARGO_PKG_VERSION"),
        sqlite: rusqlite::version(),
        home: shell.cleaner.text(&context.path().display().to_string()),
        deep: options.deep,
        overall_status: report::overall(&checks),
        counts: report::counts(&checks),
        duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        checks,
    })
}

/// Those of the home first, then database by database.
fn tasks(context: &Arc<Context>) -> Vec<Task> {
    let is_home = matches!(context.place, scope::Place::Home { .. });
    let mut tasks = Vec::new();
    let meant = |check: &&Definition| match check.run {
        Of::Server(_) => context.server.is_some(),
        _ => is_home || check.generic,
    };
    for check in checks::all().filter(meant) {
        if let Of::Home(run) | Of::Server(run) = check.run {
            let context = context.clone();
            let id = format!("{}.{}", check.category, check.name);
            let left_alone =
                context.left_alone().filter(|teller| *teller != id && check.category != "engine");
            tasks.push(Task {
                id,
                category: check.category,
                database: None,
                run: Box::new(move |until| match left_alone {
                    Some(teller) => Finding::skipped(format!("the folder is not looked at: see {teller}")),
                    None => run(&Scope { context: &context, until }),
                }),
            });
        }
    }
    for (at, subject) in context.subjects.iter().enumerate() {
        for check in checks::all().filter(meant) {
            if let Of::Database(run) = check.run {
                let context = context.clone();
                tasks.push(Task {
                    id: format!("{}.{}", subject.name, check.name),
                    category: check.category,
                    database: Some(subject.name.clone()),
                    run: Box::new(move |until| {
                        let subject = &context.subjects[at];
                        run(&Scope { context: &context, until }, subject).about(&subject.path)
                    }),
                });
            }
        }
    }
    tasks
}

fn is_meant(task: &Task, word: &str) -> bool {
    task.id == word
        || task.category == word
        || task.database.as_deref() == Some(word)
        || task.id.rsplit_once('.').is_some_and(|(_, name)| name == word)
}

/// A word that means nothing would silently leave a check out, or all of them.
fn refuse_unknown(tasks: &[Task], options: &Options) -> Result<()> {
    let is_known = |word: &str| {
        tasks.iter().any(|task| is_meant(task, word))
            || checks::all().any(|check| check.name == word || check.category == word)
    };
    match options.only.iter().chain(&options.skip).find(|word| !is_known(word)) {
        Some(word) => Err(Error::new(ErrorKind::Invalid, format!("there is no check {word:.64}"))
            .advise("`rowhouse doctor --list` names them; a database or a category stands for its checks")),
        None => Ok(()),
    }
}
