//! Where transcripts lie: a streaming walk over a folder of them.
//!
//! One folder's names are held at a time. Names carry their time, so that sorting each folder's names gives newest
//! first. Symbolic links are never followed: one where a transcript or a folder of them should be is an error in the
//! stream, and the walk goes on.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fs::{self, DirEntry, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::civil::Date;

use crate::error::{Error, ErrorKind, Result};
use crate::home::with_ending;
use crate::stores::threads::FileStamp;
use crate::stores::threads::row::canonical_id;

/// The folders of a home that are transcripts: those that go on, and those that were archived.
pub(crate) const FOLDERS: [&str; 2] = ["sessions", "archived_sessions"];
/// Folders below the given one, at most: `sessions`, year, month, day.
const DEEPEST: u8 = 4;

/// A transcript that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutFile {
    /// Where, as an absolute path without symbolic links.
    pub path: PathBuf,
    /// What it is like now.
    pub stamp: FileStamp,
    /// It lies in `archived_sessions`.
    pub archived: bool,
    /// It ends in `.jsonl.zst`.
    pub compressed: bool,
}

impl RolloutFile {
    /// The thread its name tells; the file's first line has the last word.
    pub fn id_in_name(&self) -> Option<String> {
        id_in_name(&self.path)
    }
}

pub(super) fn id_in_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let stem = name.strip_suffix(".zst").unwrap_or(name).strip_suffix(".jsonl")?;
    canonical_id(stem.get(stem.len().checked_sub(36)?..)?)
}

/// The name that an unfinished file, `.<name>.new`, is to have, where it is that of a transcript.
pub(super) fn name_to_be(path: &Path) -> Option<&Path> {
    let name = path.file_name()?.to_str()?.strip_prefix('.')?.strip_suffix(".new")?;
    is_rollout(OsStr::new(name)).then(|| Path::new(name))
}

/// The name of a transcript that begins at this time, in UTC: `rollout-2026-01-31T10-20-30-<id>.jsonl`.
pub(super) fn name(id: &str, started: Timestamp) -> String {
    format!("rollout-{}-{id}.jsonl", started.strftime("%Y-%m-%dT%H-%M-%S"))
}

/// Where the transcript of a thread that began then lies below its home.
#[cfg(feature = "postgres")]
pub(crate) fn place(id: &str, started_at: i64, archived: bool) -> PathBuf {
    let new = super::NewRollout { started_at: Some(started_at), ..super::NewRollout::default() };
    let name = PathBuf::from(name(id, new.started()));
    let live = folders(&name).filter(|_| !archived);
    live.map_or_else(|| PathBuf::from("archived_sessions"), |below| below.iter().collect()).join(name)
}

/// The folders of a live transcript below its home, by the day in its name: `sessions`, year, month, day. `None` for a name
/// without one.
pub(super) fn folders(path: &Path) -> Option<[&str; 4]> {
    let name = path.file_name()?.to_str()?.strip_prefix("rollout-")?;
    let day: Date = name.get(..10)?.parse().ok()?;
    let (year, month, of_month) = (name.get(..4)?, name.get(5..7)?, name.get(8..10)?);
    (day.year() >= 0).then_some(["sessions", year, month, of_month])
}

pub(crate) fn stamp(metadata: &Metadata) -> FileStamp {
    FileStamp {
        size: metadata.size() as i64,
        mtime_ns: metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec()),
        inode: metadata.ino() as i64,
    }
}

/// Whether its name is that of a compressed transcript.
pub(super) fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "zst")
}

/// Its path when it is not compressed.
pub(crate) fn plain(path: &Path) -> PathBuf {
    if is_compressed(path) { path.with_extension("") } else { path.to_owned() }
}

/// Of a compressed transcript the plain one beside it, which counts where it is there.
pub(super) fn plain_beside(path: &Path) -> Option<PathBuf> {
    let is_file = |plain: &PathBuf| plain.symlink_metadata().is_ok_and(|found| found.is_file());
    is_compressed(path).then(|| path.with_extension("")).filter(is_file)
}

/// Where else this transcript is after it was compressed, decompressed, archived or taken back.
pub(crate) fn other_places(path: &Path) -> Vec<PathBuf> {
    let plain = plain(path);
    let moved = if lies_archived(&plain) {
        archive_of(&plain)
            .zip(folders(&plain))
            .map(|(home, below)| home.join(below.iter().collect::<PathBuf>()))
    } else {
        home_of(&plain).map(|home| home.join("archived_sessions"))
    };
    let moved = moved.zip(plain.file_name()).map(|(folder, name)| folder.join(name));
    let places = [Some(plain), moved].into_iter().flatten();
    places.flat_map(|place| [with_ending(&place, ".zst"), place]).filter(|place| place != path).collect()
}

/// The home of an archived transcript.
fn archive_of(path: &Path) -> Option<&Path> {
    path.parent()?.parent()
}

/// The home of a live one, where it lies in the folders of its day.
fn home_of(path: &Path) -> Option<&Path> {
    let below: PathBuf = folders(path)?.iter().collect();
    let folder = path.parent()?;
    folder.ends_with(&below).then(|| folder.ancestors().nth(below.components().count()))?
}

/// Whether it lies directly in `archived_sessions`.
pub(crate) fn lies_archived(path: &Path) -> bool {
    path.parent().and_then(Path::file_name).is_some_and(|name| name == "archived_sessions")
}

/// The transcripts of a folder, newest first, live ones before archived ones.
///
/// The folder may be a home (its `sessions` and `archived_sessions` are walked), one of these two, a year, a month or
/// a day of `sessions`, or any folder with transcripts directly inside. The folder itself may be reached through a
/// symbolic link; nothing inside is followed.
///
/// # Errors
/// `NotFound` when there is no such folder, `Invalid` when it is a file; in the stream what cannot be read or followed.
pub fn walk(dir: &Path) -> Result<Walk> {
    let root = fs::canonicalize(dir).map_err(|error| {
        Error::io("find the folder of transcripts", dir, error)
            .advise("give a home, its sessions folder, or a folder with rollout-*.jsonl files")
    })?;
    if !root.is_dir() {
        return Err(Error::new(ErrorKind::Invalid, "transcripts are imported from a folder, this is a file")
            .at_path(&root)
            .advise("give the folder it lies in"));
    }
    Ok(Walk {
        folders: vec![Folder { path: root.clone(), depth: 0 }],
        entries: Vec::new(),
        root,
        part: Part::Whole,
        unfinished: false,
    })
}

/// Which of two paths below one folder a walk of that folder comes to first, whether they are there or not.
fn order(one: &Path, other: &Path) -> Ordering {
    let (mut ones, mut others) = (one.components().peekable(), other.components().peekable());
    loop {
        let (Some(left), Some(right)) = (ones.next(), others.next()) else {
            // A folder comes before what is in it.
            return one.components().count().cmp(&other.components().count());
        };
        if left == right {
            continue;
        }
        // Files of a folder come before the folders in it; of either kind the later name first.
        let (file, other_file) = (ones.peek().is_none(), others.peek().is_none());
        return other_file.cmp(&file).then_with(|| right.cmp(&left));
    }
}

/// An iterator over the transcripts of a folder; see [`walk`].
#[derive(Debug)]
pub struct Walk {
    /// The next one last.
    folders: Vec<Folder>,
    /// The files of the current folder, the next one last.
    entries: Vec<Entry>,
    root: PathBuf,
    part: Part,
    /// Unfinished files are found as well.
    unfinished: bool,
}

/// The part of a folder that is walked.
#[derive(Debug)]
enum Part {
    Whole,
    /// What comes behind this file.
    Behind(PathBuf),
    /// What comes up to this file.
    UpTo(PathBuf),
}

impl Part {
    fn has(&self, file: &Path) -> bool {
        match self {
            Self::Whole => true,
            Self::Behind(last) => order(file, last) == Ordering::Greater,
            Self::UpTo(last) => order(file, last) != Ordering::Greater,
        }
    }

    /// Whether anything in the folder can be part of it.
    fn has_some_of(&self, folder: &Path) -> bool {
        // One name longer, so that it is compared as a folder.
        let inside = folder.join("x");
        match self {
            Self::Whole => true,
            Self::Behind(last) | Self::UpTo(last) => last.starts_with(folder) || self.has(&inside),
        }
    }
}

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    depth: u8,
}

#[derive(Debug)]
enum Entry {
    File(PathBuf),
    Trouble(Error),
}

impl Iterator for Walk {
    type Item = Result<RolloutFile>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.entries.pop() {
                Some(Entry::Trouble(error)) => return Some(Err(error)),
                Some(Entry::File(path)) => {
                    if let Some(found) = look_at(path).transpose() {
                        return Some(found);
                    }
                }
                None => {
                    let folder = self.folders.pop()?;
                    if let Err(error) = self.enter(&folder) {
                        let error = Error::io("read the folder", &folder.path, error);
                        return Some(Err(
                            error.advise("make it a folder that you may read, and import again")
                        ));
                    }
                }
            }
        }
    }
}

impl Walk {
    /// The folder, as an absolute path without symbolic links.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Only what comes behind this file, which need not be there.
    pub(super) fn behind(self, file: &Path) -> Self {
        Self { part: Part::Behind(file.to_owned()), ..self }
    }

    /// Only what comes up to this file, which need not be there.
    pub(super) fn up_to(self, file: &Path) -> Self {
        Self { part: Part::UpTo(file.to_owned()), ..self }
    }

    /// With the unfinished files that lie where transcripts do: see [`name_to_be`].
    pub(super) fn with_unfinished(self) -> Self {
        Self { unfinished: true, ..self }
    }

    /// How many there are, by their names alone. What cannot be read counts nothing.
    pub(super) fn count_names(mut self) -> u64 {
        let mut count = 0;
        while let Some(folder) = self.folders.pop() {
            // Whoever walks it is told.
            let _ = self.enter(&folder);
            count += self.entries.drain(..).filter(|entry| matches!(entry, Entry::File(_))).count() as u64;
        }
        count
    }

    fn enter(&mut self, folder: &Folder) -> std::io::Result<()> {
        let mut files = Vec::new();
        let mut below = Vec::new();
        for entry in fs::read_dir(&folder.path)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            let name = entry.file_name();
            let wanted_file =
                is_rollout(&name) || (self.unfinished && name_to_be(Path::new(&name)).is_some());
            if kind.is_symlink() {
                if (wanted_file || leads_down(&name, folder.depth)) && self.part.has(&entry.path()) {
                    self.entries.push(Entry::Trouble(not_followed(&entry)));
                }
            } else if kind.is_dir() && leads_down(&name, folder.depth) {
                below.extend(Some(entry.path()).filter(|path| self.part.has_some_of(path)));
            } else if kind.is_file() && wanted_file {
                files.extend(Some(entry.path()).filter(|path| self.part.has(path)));
            }
        }
        files.sort_unstable();
        self.entries.extend(files.into_iter().map(Entry::File));
        // `archived_sessions` sorts below `sessions`, years below both: live ones are entered before archived ones.
        below.sort_unstable();
        self.folders.extend(below.into_iter().map(|path| Folder { path, depth: folder.depth + 1 }));
        Ok(())
    }
}

/// By its bytes: one that is no UTF-8 is found as well, so that whoever cannot use it can name it.
pub(super) fn is_rollout(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b"rollout-") && (name.ends_with(b".jsonl") || name.ends_with(b".jsonl.zst"))
}

fn leads_down(name: &OsStr, depth: u8) -> bool {
    let name = name.to_str().unwrap_or_default();
    let digits = matches!(name.len(), 2 | 4) && name.bytes().all(|byte| byte.is_ascii_digit());
    (depth == 0 && FOLDERS.contains(&name)) || (depth < DEEPEST && digits)
}

fn not_followed(entry: &DirEntry) -> Error {
    Error::new(ErrorKind::Unsupported, "a symbolic link is not followed")
        .at_path(&entry.path())
        .advise("give the folder it points to")
}

/// The file as it is now, or `None` when it has gone since its folder was read.
fn look_at(path: PathBuf) -> Result<Option<RolloutFile>> {
    match fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.is_file() => Ok(Some(RolloutFile {
            stamp: stamp(&metadata),
            archived: lies_archived(&path),
            compressed: is_compressed(&path),
            path,
        })),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("look at the transcript", &path, error)),
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test prepares files")]
mod tests {
    use super::*;

    const NAMES: [&str; 5] = [
        "archived_sessions/rollout-2026-01-02T10-00-00-019b7e00-0000-7000-8000-000000000001.jsonl",
        "sessions/2025/12/31/rollout-2025-12-31T10-00-00-019b7e00-0000-7000-8000-000000000002.jsonl",
        "sessions/2026/01/02/rollout-2026-01-02T10-00-00-019b7e00-0000-7000-8000-000000000003.jsonl",
        "sessions/2026/01/02/rollout-2026-01-02T11-00-00-019b7e00-0000-7000-8000-000000000004.jsonl.zst",
        "sessions/2026/02/01/rollout-2026-02-01T10-00-00-019b7e00-0000-7000-8000-000000000005.jsonl",
    ];

    fn home() -> tempfile::TempDir {
        let home = tempfile::tempdir().expect("a folder");
        for name in NAMES.iter().chain(&[
            "state.sqlite",
            "sessions/2026/notes.jsonl",
            "sessions/drafts/rollout-x.jsonl",
        ]) {
            let path = home.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            fs::write(path, "{}\n").expect("a file");
        }
        home
    }

    fn found(dir: &Path) -> Vec<RolloutFile> {
        walk(dir).expect("a walk").collect::<Result<_>>().expect("no trouble")
    }

    fn last_digits(files: &[RolloutFile]) -> String {
        files.iter().filter_map(|file| file.id_in_name()?.chars().last()).collect()
    }

    #[test]
    fn a_home_gives_live_ones_newest_first_and_then_archived_ones() {
        let home = home();
        let files = found(home.path());
        assert_eq!(last_digits(&files), "54321");
        assert_eq!(
            files.iter().map(|file| file.archived).collect::<Vec<_>>(),
            [false, false, false, false, true]
        );
        assert_eq!(files.iter().filter(|file| file.compressed).count(), 1);
    }

    #[test]
    fn any_part_of_a_home_can_be_given() {
        let home = home();
        for (part, ids) in [
            ("sessions", "5432"),
            ("sessions/2026", "543"),
            ("sessions/2026/01/02", "43"),
            ("archived_sessions", "1"),
        ] {
            assert_eq!(last_digits(&found(&home.path().join(part))), ids, "{part}");
        }
        assert!(found(&home.path().join("archived_sessions"))[0].archived);
    }

    #[test]
    fn a_walk_can_begin_and_end_anywhere() {
        let home = home();
        let root = home.path().canonicalize().expect("its path");
        let all: Vec<_> = walk(&root).expect("a walk").map(|file| file.expect("a file").path).collect();
        assert_eq!(walk(&root).expect("a walk").count_names(), all.len() as u64);
        assert!(all.is_sorted_by(|one, other| order(one, other) == Ordering::Less), "{all:?}");
        let paths = |walk: Walk| walk.map(|file| file.expect("a file").path).collect::<Vec<_>>();
        for (at, path) in all.iter().enumerate() {
            assert_eq!(paths(walk(&root).expect("a walk").behind(path)), all[at + 1..]);
            assert_eq!(paths(walk(&root).expect("a walk").up_to(path)), all[..=at]);
            // The same from a file that was there and is gone.
            let gone = PathBuf::from(format!("{}.gone", path.display()));
            assert_eq!(paths(walk(&root).expect("a walk").behind(&gone)), all[at..]);
            assert_eq!(paths(walk(&root).expect("a walk").up_to(&gone)), all[..at]);
        }
    }

    #[test]
    fn a_transcript_is_looked_for_where_it_may_have_moved() {
        let live = "/a/sessions/2026/01/02/rollout-2026-01-02T10-00-00-x.jsonl";
        let archived = "/a/archived_sessions/rollout-2026-01-02T10-00-00-x.jsonl";
        let mut all = [live, archived].map(|path| [path.to_owned(), format!("{path}.zst")]).concat();
        all.sort();
        for path in &all {
            let mut places = other_places(Path::new(path));
            places.push(path.into());
            places.sort();
            assert_eq!(places, all.iter().map(PathBuf::from).collect::<Vec<_>>());
        }
        for path in [
            "/rollout-x.jsonl",
            "/a/rollout-2026-01-02T10-00-00-x.jsonl",
            "/archived_sessions/rollout-x.jsonl",
        ] {
            assert_eq!(other_places(Path::new(path)), [PathBuf::from(format!("{path}.zst"))]);
        }
    }

    #[test]
    fn links_are_reported_and_never_followed() {
        let (outside, home) = (home(), tempfile::tempdir().expect("a folder"));
        std::os::unix::fs::symlink(outside.path().join("sessions"), home.path().join("sessions"))
            .expect("a link");
        std::os::unix::fs::symlink(outside.path().join(NAMES[2]), home.path().join("rollout-link.jsonl"))
            .expect("a link");
        let answers: Vec<_> = walk(home.path()).expect("a walk").collect();
        assert_eq!(answers.len(), 2);
        for answer in answers {
            let error = answer.expect_err("a link");
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.path().is_some());
        }
    }

    #[test]
    fn a_missing_folder_and_a_file_are_refused() {
        let home = home();
        assert_eq!(walk(&home.path().join("none")).expect_err("missing").kind(), ErrorKind::NotFound);
        assert_eq!(walk(&home.path().join("state.sqlite")).expect_err("a file").kind(), ErrorKind::Invalid);
    }
}
