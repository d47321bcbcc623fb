//! A transcript that comes from another home.
//!
//! Invariants, and where they are tested (`tests/b3_portable_home.rs`, `tests/thread_store_crashes.rs`):
//! 1. What is here is compared byte by byte. A transcript that went on here stays; one that went on there takes the place of
//!    its beginning here; where both went on, nothing is changed, and the caller is told.
//! 2. Nothing is seen before it is whole, was found to be what was sent, and is durable: until then it is called
//!    `.<name>.new`. After a crash at any step the next arrival does what is left.
//! 3. What is here already is not written again.
//! 4. Everything here happens under the thread's lease.
//! 5. A transcript outside this home, which a row names, is compared as well, and never changed.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::archive::{create_anew, rename_durably, unfinished};
use super::leaving::of_lines;
use super::{Rollouts, compressed, disk, layout, metadata, torn};
use crate::error::{Error, ErrorKind, Result};
use crate::home::refuse_too_full;

const BLOCK: usize = 256 << 10;

/// What is said of a transcript before its bytes come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arriving<'a> {
    pub(crate) thread: &'a str,
    pub(crate) name: &'a str,
    pub(crate) archived: bool,
    pub(crate) bytes: u64,
    /// Where the thread's row says that a transcript is.
    pub(crate) hint: Option<&'a Path>,
    /// Nothing in the home is changed.
    pub(crate) dry_run: bool,
}

/// What became of a transcript that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrived {
    /// The thread had none here.
    New,
    /// It holds more than the one that was here, and took its place.
    Longer,
    /// The one here holds all of it.
    Known,
}

/// A transcript all of whose bytes came.
pub(crate) struct Received {
    target: PathBuf,
    content: Content,
}

enum Content {
    /// This one, which is here, begins with exactly these bytes.
    Here(PathBuf),
    New(Unfinished),
    /// Nobody asked for its bytes: there is none here to compare it with, and nothing is to be changed.
    Unread,
}

/// A file that goes when it is not given its name.
struct Unfinished {
    file: File,
    /// `None` when it has no name at all.
    path: Option<PathBuf>,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // What stays is begun anew by the next arrival.
            let _ = disk::remove(path);
        }
    }
}

/// How a transcript that is here stands to the one that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    /// It holds all of it.
    HasAll,
    /// It is its beginning.
    Beginning,
    /// It holds something else.
    Another,
}

impl Rollouts {
    /// Takes the bytes of a transcript, which `from` gives piece by piece. Nothing is seen of it before
    /// [`settle`](Self::settle).
    ///
    /// # Errors
    /// `Invalid` for a name that is none of a transcript; those of `from`; `Full`; of the system.
    pub(crate) fn receive(
        &self,
        arriving: &Arriving<'_>,
        from: &mut dyn FnMut(&mut [u8]) -> Result<usize>,
    ) -> Result<Received> {
        arriving.check_name()?;
        let name = Path::new(arriving.name);
        let target = if arriving.archived { self.archived_path(name) } else { self.live_path(name) };
        let here = std::iter::once(target.clone())
            .chain(layout::other_places(&target))
            .filter(|path| layout::is_compressed(path) == layout::is_compressed(&target))
            .find_map(|path| Some((disk::open_to_read(&path).ok()?, path)));
        if arriving.dry_run && here.is_none() {
            let is_first = self.copies(&target, arriving)?.is_empty() && self.outside(arriving).is_none();
            if is_first {
                return Ok(Received { target, content: Content::Unread });
            }
        }
        let mut block = vec![0; BLOCK];
        let mut other = vec![0; BLOCK];
        let mut new: Option<Unfinished> = None;
        let mut at = 0;
        let writing = |error| Error::io("write the transcript", &target, error);
        while at < arriving.bytes {
            let wanted = BLOCK.min(usize::try_from(arriving.bytes - at).unwrap_or(BLOCK));
            let read = from(&mut block[..wanted])?;
            let piece = &block[..read];
            if new.is_none() {
                let same = match &here {
                    Some((file, _)) => fill_at(file, &mut other[..read], at).map_err(writing)? == piece,
                    None => false,
                };
                if !same {
                    let begun = self.begin_arrival(&target, arriving)?;
                    if let Some((file, _)) = &here {
                        begun.take_beginning(file, at, &mut other).map_err(writing)?;
                    }
                    new = Some(begun);
                }
            }
            if let Some(new) = &new {
                new.write_at(piece, at).map_err(writing)?;
            }
            at += read as u64;
        }
        let content = match (new, here) {
            (Some(new), _) => Content::New(new),
            (None, Some((_, path))) => Content::Here(path),
            // Not one byte came.
            (None, None) => Content::New(self.begin_arrival(&target, arriving)?),
        };
        Ok(Received { target, content })
    }

    fn begin_arrival(&self, target: &Path, arriving: &Arriving<'_>) -> Result<Unfinished> {
        if arriving.dry_run {
            let failed = |error| Error::io("write a temporary file", &std::env::temp_dir(), error);
            return Ok(Unfinished { file: tempfile::tempfile().map_err(failed)?, path: None });
        }
        self.create_folders_of(target)?;
        refuse_too_full(arriving.bytes, target.parent().unwrap_or(target), "the transcript")?;
        let path = unfinished(target);
        Ok(Unfinished { file: create_anew(&path)?, path: Some(path) })
    }

    /// Puts what was received into its place, durably; answers what became of it, and where the thread's transcript is then.
    /// The caller has the lease, unless nothing is to be changed.
    ///
    /// # Errors
    /// `Conflict` when the thread went on here as well, or another thread's transcript has the place; `Invalid` when it is
    /// another thread's; of the system.
    pub(crate) fn settle(&self, received: Received, arriving: &Arriving<'_>) -> Result<(Arrived, PathBuf)> {
        let Received { target, content } = received;
        let new = match content {
            Content::Here(path) => {
                if !arriving.dry_run && path == target {
                    self.remove_beginnings(&target, arriving)?;
                }
                return Ok((Arrived::Known, path));
            }
            Content::Unread => return Ok((Arrived::New, target)),
            Content::New(new) => new,
        };
        new.refuse_another_thread(&target, arriving)?;
        let mut older = Vec::new();
        for copy in self.copies(&target, arriving)? {
            match new.relation_of(&copy, &target, arriving.dry_run)? {
                Relation::HasAll => return Ok((Arrived::Known, copy)),
                Relation::Beginning => older.push(copy),
                Relation::Another => return Err(went_on_in_both(&copy)),
            }
        }
        let outside = self.outside(arriving);
        if let Some(outside) = outside {
            match new.relation_of(outside, &target, true)? {
                Relation::HasAll => return Ok((Arrived::Known, outside.to_owned())),
                // It stays where it is, and counts no more.
                Relation::Beginning => {}
                Relation::Another => return Err(went_on_in_both(outside)),
            }
        }
        let is_new = older.is_empty() && outside.is_none();
        let arrived = if is_new { Arrived::New } else { Arrived::Longer };
        if !arriving.dry_run {
            self.put(new, &target, &older)?;
        }
        Ok((arrived, target))
    }

    fn put(&self, mut new: Unfinished, target: &Path, older: &[PathBuf]) -> Result<()> {
        let Some(path) = new.path.clone() else { return Ok(()) };
        let failed = |error| Error::io("put the transcript into its place", target, error);
        disk::sync(&new.file, &path).map_err(failed)?;
        let folder = target.parent().unwrap_or(target);
        disk::sync_folders(self.home.path(), folder)?;
        if older.iter().any(|copy| copy == target) {
            disk::replace(&path, target).map_err(failed)?;
            disk::sync_folder(folder)?;
        } else {
            rename_durably(&path, target)?;
        }
        new.path = None;
        older.iter().filter(|copy| *copy != target).try_for_each(|copy| remove_durably(copy))
    }

    /// What a crash left of [`put`](Self::put): the shorter ones.
    fn remove_beginnings(&self, target: &Path, arriving: &Arriving<'_>) -> Result<()> {
        let failed = |error| Error::io("read the transcript", target, error);
        let all = Unfinished { file: disk::open_to_read(target).map_err(failed)?, path: None };
        for copy in self.copies(target, arriving)? {
            if copy != target && all.relation_of(&copy, target, false)? == Relation::Beginning {
                remove_durably(&copy)?;
            }
        }
        Ok(())
    }

    /// The transcript outside this home that the row names.
    fn outside<'a>(&self, arriving: &Arriving<'a>) -> Option<&'a Path> {
        let hint = arriving.hint.filter(|hint| self.own(hint).is_err())?;
        metadata::id_of(hint).is_ok_and(|id| id == arriving.thread).then_some(hint)
    }

    /// The transcripts of the thread that are in this home, by the names it can have and by what its row says.
    fn copies(&self, target: &Path, arriving: &Arriving<'_>) -> Result<Vec<PathBuf>> {
        let hint = arriving.hint.and_then(|hint| self.own(hint).ok());
        let mut copies = Vec::new();
        for path in std::iter::once(target.to_owned()).chain(layout::other_places(target)).chain(hint) {
            if path.symlink_metadata().is_err() || copies.contains(&path) {
                continue;
            }
            match metadata::id_of(&path) {
                Ok(id) if id != arriving.thread => {
                    if path == target {
                        return Err(Error::new(ErrorKind::Conflict, "another thread's transcript is there")
                            .at_path(&path)
                            .advise("move it away, and import again"));
                    }
                }
                _ => copies.push(path),
            }
        }
        Ok(copies)
    }
}

impl Arriving<'_> {
    /// Refuses a name that no transcript of this thread has.
    ///
    /// # Errors
    /// `Invalid`.
    pub(crate) fn check_name(&self) -> Result<()> {
        let name = Path::new(self.name);
        let invalid = |message: &'static str| Error::new(ErrorKind::Invalid, message).at_path(name);
        if name.components().count() != 1 || !layout::is_rollout(name.as_os_str()) {
            return Err(invalid("a transcript's name is rollout-….jsonl or ….jsonl.zst"));
        }
        // It would come to where that one's transcript is, under the wrong lease.
        if layout::id_in_name(name).is_some_and(|id| id != self.thread) {
            return Err(invalid("the transcript that was exported with the thread has another one's name"));
        }
        Ok(())
    }
}

impl Unfinished {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        match &self.path {
            Some(path) => disk::write_at(&self.file, path, bytes, at),
            None => self.file.write_all_at(bytes, at),
        }
    }

    /// Begins with so many bytes of another file.
    fn take_beginning(&self, of: &File, length: u64, block: &mut [u8]) -> io::Result<()> {
        let mut at = 0;
        while at < length {
            let wanted = block.len().min(usize::try_from(length - at).unwrap_or(usize::MAX));
            let piece = fill_at(of, &mut block[..wanted], at)?;
            if piece.len() < wanted {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.write_at(piece, at)?;
            at += wanted as u64;
        }
        Ok(())
    }

    /// A name tells the thread where the first line cannot be read.
    fn refuse_another_thread(&self, target: &Path, arriving: &Arriving<'_>) -> Result<()> {
        let failed = |error| Error::io("read the transcript", target, error);
        let file = self.rewound().map_err(failed)?;
        let id = metadata::id_in(file, target).ok().or_else(|| layout::id_in_name(target));
        if id.as_deref() == Some(arriving.thread) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Invalid, "the transcript that was exported with the thread is not its own")
            .at_path(Path::new(arriving.name)))
    }

    /// How a copy that is here stands to this one, which is to have that name.
    fn relation_of(&self, copy: &Path, name: &Path, read_only: bool) -> Result<Relation> {
        let failed = |error| compressed::explain(error, copy);
        let opened = |file: io::Result<File>| file.map_err(|error| not_opened(error, copy));
        let mut here: Box<dyn Read> = if layout::is_compressed(copy) {
            Box::new(compressed::Plain::of(opened(disk::open_to_read(copy))?, copy)?)
        } else if read_only {
            let file = opened(disk::open_to_read(copy))?;
            let length = file.metadata().map_err(failed)?.len();
            let lines = of_lines(&file, length).map_err(failed)?;
            Box::new(file.take(lines))
        } else {
            let file = opened(disk::open_to_write(copy))?;
            torn::mend(&file, copy)?;
            Box::new(file)
        };
        let new = self.rewound().map_err(failed)?;
        let mut arrived: Box<dyn Read> = if layout::is_compressed(name) {
            Box::new(compressed::Plain::of(new, name)?)
        } else {
            // Half a line at its end is what a crash left there.
            let lines = of_lines(&new, new.metadata().map_err(failed)?.len()).map_err(failed)?;
            Box::new(new.take(lines))
        };
        relation(&mut here, &mut arrived).map_err(failed)
    }

    /// The same file; its place is moved to the beginning.
    fn rewound(&self) -> io::Result<File> {
        let mut file = self.file.try_clone()?;
        file.rewind()?;
        Ok(file)
    }
}

fn went_on_in_both(copy: &Path) -> Error {
    Error::new(
        ErrorKind::Conflict,
        "the thread went on here and where it was exported; nothing of it was changed",
    )
    .at_path(copy)
    .advise("delete or fork one of the two, and import again")
}

/// What is no file, or none for us, is in the way of one thread; anything else in that of all.
fn not_opened(error: io::Error, copy: &Path) -> Error {
    let is_odd = error.kind() == io::ErrorKind::InvalidInput
        || matches!(
            error.raw_os_error(),
            Some(libc::EACCES | libc::EPERM | libc::ELOOP | libc::EISDIR | libc::ENXIO)
        );
    if is_odd {
        return Error::new(ErrorKind::Conflict, "what is in the transcript's place here cannot be opened")
            .at_path(copy)
            .caused_by(error)
            .advise("make it a file that you may read and write, or move it away, and import again");
    }
    compressed::explain(error, copy)
}

fn relation(here: &mut dyn Read, arrived: &mut dyn Read) -> io::Result<Relation> {
    let (mut one, mut other) = (vec![0; BLOCK], vec![0; BLOCK]);
    loop {
        let (of_here, of_arrived) = (fill(here, &mut one)?, fill(arrived, &mut other)?);
        let both = of_here.min(of_arrived);
        if one[..both] != other[..both] {
            return Ok(Relation::Another);
        }
        if of_arrived < BLOCK && of_arrived <= of_here {
            return Ok(Relation::HasAll);
        }
        if of_here < of_arrived {
            return Ok(Relation::Beginning);
        }
    }
}

/// Reads until the block is full or there is no more.
fn fill(from: &mut dyn Read, block: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < block.len() {
        match from.read(&mut block[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn fill_at<'b>(file: &File, block: &'b mut [u8], at: u64) -> io::Result<&'b [u8]> {
    let mut filled = 0;
    while filled < block.len() {
        match file.read_at(&mut block[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(&block[..filled])
}

fn remove_durably(copy: &Path) -> Result<()> {
    disk::remove(copy).map_err(|error| Error::io("remove the shorter transcript", copy, error))?;
    disk::sync_folder(copy.parent().unwrap_or(copy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Home;

    const ID: &str = "019b76da-5a3e-7c41-9d52-0c1f9a6be001";
    const OTHER: &str = "019b76da-5a3e-7c41-9d52-0c1f9a6be002";

    fn of(thread: &'static str, name: &'static str) -> Arriving<'static> {
        Arriving { thread, name, archived: false, bytes: 1 << 40, hint: None, dry_run: true }
    }

    #[test]
    fn a_name_that_is_another_threads_is_refused() {
        let name = "rollout-2026-01-02T03-04-05-019b76da-5a3e-7c41-9d52-0c1f9a6be001.jsonl";
        assert!(of(ID, name).check_name().is_ok());
        assert!(of(OTHER, "rollout-by-hand.jsonl").check_name().is_ok());
        for name in [name, "../rollout-x.jsonl", "state.sqlite", ""] {
            let refused = of(OTHER, name).check_name().expect_err(name);
            assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
        }
    }

    #[test]
    fn a_dry_run_reads_nothing_that_it_cannot_compare() {
        let folder = tempfile::tempdir().expect("a folder");
        let rollouts = Rollouts::open(&Home::at(folder.path())).expect("a home");
        let arriving = of(ID, "rollout-2026-01-02T03-04-05-019b76da-5a3e-7c41-9d52-0c1f9a6be001.jsonl");
        let received = rollouts.receive(&arriving, &mut |_| panic!("a terabyte is asked for"));
        let (arrived, path) = rollouts.settle(received.expect("looked at"), &arriving).expect("settled");
        assert_eq!((arrived, path.exists()), (Arrived::New, false));
    }
}
