//! The checks: what each looks at, and when it is content.
//!
//! A check judges one thing. What it cannot judge because of something that another check tells is skipped, with the name
//! of that check: one cause is one row.

mod access;
mod backups;
mod budget;
mod clock;
mod counts;
mod deleted;
mod disk;
mod engine;
mod file;
mod holders;
mod home;
mod integrity;
mod leftovers;
mod limits;
mod loaded;
mod log;
mod moved;
mod open;
mod pages;
mod schema;
mod server;
mod settings;
mod sidecars;
mod threads;
mod transcripts;
mod write;

pub(super) use moved::elsewhere;
pub(super) use settings::settings_can_be_read;

use super::finding::Finding;
use super::scope::Scope;
use super::subject::Subject;

pub(super) struct Definition {
    /// The last part of its ids.
    pub(super) name: &'static str,
    pub(super) category: &'static str,
    /// One sentence.
    pub(super) about: &'static str,
    /// It makes sense for any SQLite file, or any folder with such.
    pub(super) generic: bool,
    pub(super) run: Of,
}

#[derive(Clone, Copy)]
pub(super) enum Of {
    Home(fn(&Scope) -> Finding),
    Database(fn(&Scope, &Subject) -> Finding),
    /// Only where the home's configuration names a server.
    Server(fn(&Scope) -> Finding),
}

const fn of_home(
    category: &'static str,
    name: &'static str,
    about: &'static str,
    run: fn(&Scope) -> Finding,
) -> Definition {
    Definition { name, category, about, generic: false, run: Of::Home(run) }
}

const fn of_database(
    name: &'static str,
    about: &'static str,
    run: fn(&Scope, &Subject) -> Finding,
) -> Definition {
    Definition { name, category: "database", about, generic: false, run: Of::Database(run) }
}

impl Definition {
    /// Also for other programs' files.
    const fn generic(self) -> Self {
        Self { generic: true, ..self }
    }
}

/// In the order of a report.
pub(super) fn all() -> impl Iterator<Item = &'static Definition> {
    ALL.iter().chain(server::ALL)
}

const ALL: &[Definition] = &[
    of_home("engine", "version", "SQLite in this program is free of known corruption bugs", engine::version)
        .generic(),
    of_home(
        "home",
        "folder",
        "the home is there, a folder, on a file system that can hold databases",
        home::folder,
    ),
    of_home("home", "access", "its folders are private and may be written", access::folders),
    of_home(
        "home",
        "registry",
        "registry.json can be read, and no other files are in the databases' place",
        home::registry,
    ),
    of_home("home", "others", "no other home of this user holds databases", home::others),
    of_home(
        "home",
        "leftovers",
        "nothing is half done, and no damaged files wait for somebody",
        leftovers::leftovers,
    ),
    of_home(
        "home",
        "moved",
        "where data is that was moved to a server or back, and what was put aside",
        moved::moved,
    ),
    of_home(
        "disk",
        "file_system",
        "which file system it is, and whether it is mounted for writing",
        disk::file_system,
    )
    .generic(),
    of_home("disk", "space", "there is room for what the databases need", disk::space).generic(),
    of_home("disk", "inodes", "there is room for more files", disk::inodes).generic(),
    of_home(
        "environment",
        "limits",
        "this user, and who has a database open, may open enough files, and write them as large as they are",
        limits::limits,
    )
    .generic(),
    of_home("environment", "clock", "the clock is not behind the files", clock::clock).generic(),
    of_home(
        "environment",
        "settings",
        "which variables and files decide where things are",
        settings::settings,
    ),
    of_database("file", "the file is there, plain, private, and has one name", file::file).generic(),
    of_database("open", "it opens and reads", open::open).generic(),
    of_database(
        "write",
        "its write lock is free or in use, not stuck, and nobody's write failed",
        write::write,
    )
    .generic(),
    of_database("holders", "nobody who uses it is stopped", holders::holders).generic(),
    of_database("deleted", "no deleted files of it are kept open", deleted::deleted).generic(),
    of_database("stamp", "it is this library's file, with its number and its way of writing", schema::stamp),
    of_database("schema", "its schema fits this program, and nobody edited it", schema::schema),
    of_database(
        "integrity",
        "its pages make sense; with --deep all of them, indexes and foreign keys too",
        integrity::integrity,
    )
    .generic(),
    of_database("log", "its write-ahead log is worked off, or who keeps it", log::log).generic(),
    of_database("sidecars", "nothing lies beside it that does not belong to it", sidecars::sidecars)
        .generic(),
    of_database("pages", "free space inside it goes back to the disk", pages::pages).generic(),
    of_database("sqlite", "which SQLite changed it last, and which ones have it open", engine::users)
        .generic(),
    of_database("budget", "it is within its bounds", budget::budget),
    of_database("counts", "what the programs that use it dropped, refused and failed at", counts::counts),
    of_home("threads", "backfill", "transcripts are being indexed, or are", threads::backfill),
    of_home("threads", "index", "the index of threads fits the transcripts", transcripts::index),
    of_home("backup", "age", "the newest backup is not old", backups::age),
];
