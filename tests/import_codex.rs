//! A Codex home comes in as it is: transcripts stay where they are, names come along, nothing there is changed.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]
#![cfg(feature = "agent")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rowhouse::rollout::{CodexReport, Reader, walk};
use rowhouse::stores::threads::{Change, ThreadPatch};
use rowhouse::thread_store::{LocalThreadStore, ThreadStore};
use rowhouse::{Domain, ErrorKind, Home, Runtime, ThreadQuery};

struct Codex {
    folder: tempfile::TempDir,
}

impl Codex {
    /// The examples, those of the folder that `ROWHOUSE_TRANSCRIPTS` names, and a compressed one.
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let codex = Self { folder };
        let mut samples = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/transcripts")];
        samples.extend(std::env::var_os("ROWHOUSE_TRANSCRIPTS").map(PathBuf::from));
        for sample in samples {
            for found in walk(&sample).expect("a walk") {
                let found = found.expect("a file");
                let below = if found.archived { "archived_sessions" } else { "sessions/2026/03/02" };
                let to = codex.path().join(below);
                fs::create_dir_all(&to).expect("a folder");
                fs::copy(&found.path, to.join(found.path.file_name().expect("a name"))).expect("copied");
            }
        }
        #[cfg(feature = "zstd")]
        {
            // As if Codex had done it: it leaves no lock behind.
            let archived =
                codex.transcripts().into_iter().find(|path| path.to_string_lossy().contains("archived"));
            let rollouts = rowhouse::rollout::Rollouts::open(&Home::at(codex.path())).expect("a home");
            rollouts.compress(&archived.expect("an archived one")).expect("compressed");
            for own in ["locks", "run"] {
                fs::remove_dir_all(codex.path().join(own)).expect("removed");
            }
        }
        for other in ["auth.json", "history.jsonl", "config.toml", "state_5.sqlite"] {
            fs::write(codex.path().join(other), "{}").expect("written");
        }
        codex
    }

    fn path(&self) -> PathBuf {
        self.folder.path().canonicalize().expect("the folder")
    }

    fn transcripts(&self) -> Vec<PathBuf> {
        walk(&self.path()).expect("a walk").map(|file| file.expect("a file").path).collect()
    }

    fn names(&self, lines: &[&str]) {
        fs::write(self.path().join("session_index.jsonl"), lines.concat()).expect("written");
    }

    /// Of every file and folder: its inode, its mode, when it and what it says of itself changed, and its bytes.
    fn inventory(&self) -> BTreeMap<PathBuf, (u64, u32, [i64; 4], Vec<u8>)> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.path()];
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path())
            {
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.insert(path.clone(), state(&path, fs::read(&path).expect("it reads")));
                }
            }
            found.insert(folder.clone(), state(&folder, Vec::new()));
        }
        found
    }
}

fn state(path: &Path, bytes: Vec<u8>) -> (u64, u32, [i64; 4], Vec<u8>) {
    let found = fs::symlink_metadata(path).expect("it is there");
    let times = [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()];
    (found.ino(), found.mode(), times, bytes)
}

fn store(home: &Path) -> LocalThreadStore {
    let runtime = Runtime::builder(Home::at(home)).domain(Domain::state()).open().expect("a runtime");
    LocalThreadStore::new(&runtime).expect("a store")
}

fn import(store: &LocalThreadStore, codex: &Path) -> CodexReport {
    store.runtime().backfill().import_codex(codex, &mut |_| {}).expect("imported")
}

const ONE: &str = "019cadf1-7a5e-7b04-8f21-5d0c9a41e001";
const TWO: &str = "019caf52-d0c4-7310-a6be-2f7718c3e002";

fn entry(id: &str, name: &str) -> String {
    format!("{{\"id\":\"{id}\",\"thread_name\":\"{name}\",\"updated_at\":\"2026-03-02T10:00:00Z\"}}\n")
}

#[test]
fn a_codex_home_comes_in_as_it_is_and_stays_as_it_is() {
    let codex = Codex::new();
    let gone = "019caf52-0000-7310-a6be-000000000000";
    codex.names(&[
        &entry(ONE, "An old name"),
        "not JSON\n",
        &entry(TWO, "Codex's name"),
        &entry(gone, "Gone"),
        &entry(ONE, "Ledger \u{1F4D2}"),
        "{\"id\":\"019cadf1-7a5e-7b04-8f21-5d0c9a41e001\",\"thread_name\":\"half a li",
    ]);
    let before = codex.inventory();
    // Whoever may only read it can do all of this; a test as root shows it by what is changed.
    for (path, _) in before.iter().rev() {
        let mode = if path.is_dir() { 0o500 } else { 0o400 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("read-only");
    }
    let before = codex.inventory();
    let home = tempfile::tempdir().expect("a home");
    let store = store(home.path());
    let report = import(&store, &codex.path());
    let transcripts = codex.transcripts();
    assert_eq!(report.transcripts.counts.imported, transcripts.len() as u64, "{report:?}");
    let names = &report.names;
    assert_eq!((names.found, names.given, names.without_thread, names.bad_lines), (3, 2, 1, 1));
    assert_eq!(store.read(ONE).expect("a row").name.as_deref(), Some("Ledger \u{1F4D2}"));

    // Every line of every transcript is read there, live, archived or compressed.
    let query = ThreadQuery::recent().limit(500);
    let mut rows = store.list(&query).expect("a list").threads;
    let archived = store.list(&query.archived(true)).expect("a list").threads;
    assert!(!archived.is_empty());
    rows.extend(archived);
    assert_eq!(rows.len(), transcripts.len());
    for row in &rows {
        let path = PathBuf::from(row.rollout_path.clone().expect("a path"));
        assert!(path.starts_with(codex.path()), "nothing was copied: {}", path.display());
        let read = store.load_history(&row.id).expect("a history").flatten().count();
        let mut reader = Reader::open(&path).expect("opens");
        let mut lines = 0;
        while reader.next().expect("reads").is_some() {
            lines += 1;
        }
        assert!(read == lines && lines > 0, "{}", path.display());
    }
    // Again: nothing is read, nothing is given.
    let again = import(&store, &codex.path());
    assert_eq!((again.transcripts.counts.unchanged, again.names.given), (rows.len() as u64, 0), "{again:?}");
    assert_eq!(codex.inventory(), before, "not a byte, a time or an inode there is another one");
    assert!(!home.path().join("sessions").exists(), "nothing was copied");
    for path in before.keys() {
        let mode = if path.is_dir() { 0o700 } else { 0o600 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("as it was");
    }
}

#[test]
fn a_name_that_was_given_here_stays_and_one_from_there_follows() {
    let codex = Codex::new();
    codex.names(&[&entry(ONE, "Theirs"), &entry(TWO, "Theirs")]);
    let home = tempfile::tempdir().expect("a home");
    let store = store(home.path());
    import(&store, &codex.path());
    let name = |id| store.read(id).expect("a row").name;
    let ours = ThreadPatch { name: Change::Set("Ours".to_owned()), ..ThreadPatch::default() };
    store.runtime().threads().patch(ONE, &ours).expect("named");
    codex.names(&[&entry(ONE, "Renamed"), &entry(TWO, "Renamed")]);
    assert_eq!(import(&store, &codex.path()).names.given, 1);
    assert_eq!((name(ONE).as_deref(), name(TWO).as_deref()), (Some("Ours"), Some("Renamed")));
    // Reading a transcript again does not take it away.
    store.rebuild(TWO).expect("read again");
    assert_eq!(name(TWO).as_deref(), Some("Renamed"));
    assert!(
        store
            .search(&rowhouse::stores::threads::ThreadSearch::text("Renamed"))
            .is_ok_and(|page| page.threads.len() == 1)
    );
}

#[test]
fn a_folder_that_is_no_codex_home_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = tempfile::tempdir().expect("a home");
    let store = store(home.path());
    let refused =
        store.runtime().backfill().import_codex(folder.path(), &mut |_| {}).expect_err("nothing there");
    assert_eq!(refused.kind(), ErrorKind::NotFound, "{refused}");
}
