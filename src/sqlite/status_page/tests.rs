#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::atomic::AtomicBool;

use super::*;

/// A `run/` of its own, removed with its pages.
struct Run(tempfile::TempDir);

impl Run {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(folder(self));
    }
}

/// Where the pages of this `run/` lie.
fn folder(run: &Run) -> PathBuf {
    place::prepare(run.path()).expect("a place")
}

fn only(run_dir: &Path) -> ProcessStatus {
    let mut all = read_all(run_dir);
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn count(slot: &Slot, commits: u64, jobs: u64) {
    let counters = slot.counters().expect("a slot that is read");
    stats::add(&counters.commits, commits);
    stats::add(&counters.jobs, jobs);
    stats::set(&counters.queued, 7);
}

fn empty_slot() -> Vec<AtomicU64> {
    (0..SLOT_WORDS).map(|_| AtomicU64::new(0)).collect()
}

#[test]
fn what_is_published_is_read() {
    let run = Run::new();
    let page = StatusPage::create(run.path(), "example", "1.2.3").expect("a page");
    let found = only(run.path());
    assert_eq!((found.pid, found.alive), (std::process::id(), true));
    assert_eq!((&*found.program, &*found.version), ("example", "1.2.3"));
    assert!(found.databases.is_empty());

    let (state, logs) = (page.slot("state"), page.slot("logs"));
    state.job_started("größer".as_bytes(), 1_700_000_000_123);
    count(&state, 1, 3);
    count(&page.slot("state"), 1, 2);
    logs.set_latched(true);
    logs.job_started(b"", 5);
    let found = only(run.path()).databases;
    let names: Vec<_> = found.iter().map(|database| &*database.name).collect();
    assert_eq!(names, ["state", "logs"]);
    assert_eq!(found[0].label.as_deref(), Some("größer"));
    assert_eq!(found[0].since_unix_ms, Some(1_700_000_000_123));
    assert_eq!((found[0].queue, found[0].commits, found[0].jobs, found[0].latched), (7, 2, 5, false));
    assert_eq!((found[1].label.as_deref(), found[1].since_unix_ms, found[1].latched), (None, Some(5), true));

    state.job_ended();
    let ended = &only(run.path()).databases[0];
    assert_eq!((ended.label.as_deref(), ended.since_unix_ms), (None, None));
    let json = serde_json::to_value(only(run.path())).expect("JSON");
    assert_eq!(json["databases"][0]["since_unix_ms"], serde_json::Value::Null);
}

#[test]
fn a_page_is_private_and_goes_with_its_owner() {
    let run = Run::new();
    let page = StatusPage::create(run.path(), "example", "1").expect("a page");
    let path = page.path.clone();
    assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
    let slot = page.slot("state");
    drop(page);
    assert!(!path.exists());
    slot.job_started(b"late", 1);

    let earlier = StatusPage::create(run.path(), "example", "1").expect("a page");
    let later = StatusPage::create(run.path(), "example", "2").expect("a page");
    drop(earlier);
    assert_eq!(only(run.path()).version, "2");
    drop(later);
    assert_eq!(fs::read_dir(folder(&run)).expect("a list").count(), 0);
}

#[test]
fn a_forked_child_does_not_remove_its_parents_page() {
    let run = Run::new();
    let mut page = StatusPage::create(run.path(), "example", "1").expect("a page");
    let path = page.path.clone();
    page.pid += 1;
    drop(page);
    assert!(path.exists());
}

#[test]
fn long_texts_are_cut_between_characters() {
    for (label, kept) in [
        ("a".repeat(32), 32),
        ("a".repeat(40), 32),
        (format!("{}ä", "a".repeat(31)), 31),
        (format!("{}ä", "a".repeat(30)), 32),
        (format!("{}🦀🦀", "a".repeat(26)), 30),
    ] {
        let words = empty_slot();
        store_text(&words[LABEL..], label.as_bytes(), LABEL_BYTES);
        assert_eq!(text(load_bytes::<LABEL_BYTES>(&words[LABEL..], Relaxed)), label[..kept]);
    }
    assert_eq!(cut(&[0b1000_0000; 40], 32), b"");
}

#[test]
fn a_seventeenth_database_does_no_harm() {
    let run = Run::new();
    let page = StatusPage::create(run.path(), &"p".repeat(100), "1").expect("a page");
    for number in 0..20 {
        let slot = page.slot(&format!("database_{number}_of_a_program_with_a_long_name"));
        slot.job_started(b"x", 1);
        assert_eq!(slot.counters().is_some(), number < SLOTS, "a database counts for itself, or is not seen");
    }
    let found = only(run.path());
    assert_eq!(found.databases.len(), SLOTS);
    assert_eq!(found.program, "p".repeat(64));
    assert!(found.databases.iter().all(|database| database.label.as_deref() == Some("x")));
}

#[test]
fn other_files_are_no_pages() {
    let run = Run::new();
    let pid = std::process::id();
    let mut old = vec![0; PAGE_BYTES];
    old[..8].copy_from_slice(b"rowhouse");
    old[8] = 99;
    for (number, bytes) in
        [vec![], vec![1; 100], vec![0xFF; PAGE_BYTES], vec![0; PAGE_BYTES], old].iter().enumerate()
    {
        fs::write(folder(&run).join(format!("{pid}-{number}.page")), bytes).expect("written");
    }
    fs::write(folder(&run).join("notes.txt"), "x").expect("written");
    fs::create_dir(folder(&run).join(format!("{pid}-9.page"))).expect("a folder");
    assert_eq!(read_all(run.path()), []);
    assert_eq!(read_all(&run.path().join("missing")), []);

    // A page whose content was overwritten with noise is read without a panic.
    let page = StatusPage::create(run.path(), "example", "1").expect("a page");
    page.slot("state");
    for word in &page.map.words()[5..] {
        word.store(u64::MAX, Relaxed);
    }
    assert!(only(run.path()).databases.iter().all(|database| database.since_unix_ms.is_none()));
}

#[test]
fn sweeping_removes_what_the_dead_left_behind() {
    let run = Run::new();
    let page = StatusPage::create(run.path(), "example", "1").expect("a page");
    let pid = std::process::id();
    let dead = folder(&run).join(format!("{pid}-1.page"));
    fs::copy(&page.path, &dead).expect("copied");
    page.map.words()[4].fetch_add(1, Relaxed);
    let foreign = folder(&run).join(format!("{pid}-2.page"));
    fs::copy(&page.path, &foreign).expect("copied");
    page.map.words()[4].fetch_sub(1, Relaxed);
    fs::write(folder(&run).join("4000000000-5.new"), "unfinished").expect("written");
    fs::write(folder(&run).join("notes.txt"), "x").expect("written");
    assert_eq!(sweep(run.path()), 2);
    assert!(
        !dead.exists() && foreign.exists() && page.path.exists() && folder(&run).join("notes.txt").exists()
    );
}

#[test]
fn a_dead_process_is_told_by_its_start_time() {
    let run = Run::new();
    let page = StatusPage::create(run.path(), "example", "1").expect("a page");
    assert!(only(run.path()).alive);
    page.map.words()[3].fetch_add(1, Relaxed);
    assert!(!only(run.path()).alive);
}

#[test]
fn a_torn_label_is_never_read() {
    let words = empty_slot();
    let done = AtomicBool::new(false);
    let label = |n: u64| [b'a' + (n % 26) as u8; LABEL_BYTES];
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut n = 0;
                while !done.load(Relaxed) {
                    n += 1;
                    // A job takes its time, and leaves the reader some.
                    (0..n % 64).for_each(|_| std::hint::spin_loop());
                    let length = 1 + (n % 32) as usize;
                    publish(&words, |words| {
                        words[SINCE].store(n * 100 + length as u64, Relaxed);
                        store_text(&words[LABEL..], &label(n)[..length], LABEL_BYTES);
                    });
                }
            });
        }
        let mut seen = 0;
        let torn = loop {
            let Some((since, text)) = running_job(&words) else { continue };
            let whole =
                text.len() as u64 == since % 100 && text.bytes().all(|byte| byte == label(since / 100)[0]);
            seen += 1;
            if !whole {
                break Some((since, text));
            }
            if seen == if cfg!(miri) { 20 } else { 10_000 } {
                break None;
            }
        };
        done.store(true, Relaxed);
        assert_eq!(torn, None);
    });
}

#[test]
fn a_writer_that_died_in_the_middle_leaves_no_label() {
    let words = empty_slot();
    publish(&words, |words| words[SINCE].store(5, Relaxed));
    assert!(running_job(&words).is_some());
    words[SEQUENCE].fetch_add(1, Relaxed);
    assert_eq!(running_job(&words), None);
    publish(&words, |words| words[SINCE].store(6, Relaxed));
    assert_eq!(words[SINCE].load(Relaxed), 5);
}

#[test]
fn the_file_has_the_documented_layout() {
    let run = Run::new();
    let page = StatusPage::create(run.path(), "example", "1.2").expect("a page");
    page.slot("spare");
    page.slot("state").job_started(b"label", 258);
    stats::add(&page.slot("state").counters().expect("a slot that is read").jobs, 77);
    let bytes = fs::read(&page.path).expect("bytes");
    let word = |at: usize| u64::from_le_bytes(bytes[at * 8..][..8].try_into().expect("8 bytes"));
    assert_eq!(bytes.len(), PAGE_BYTES);
    assert_eq!(&bytes[..8], b"rowhouse");
    assert_eq!((word(1), word(2)), (2, u64::from(std::process::id())));
    assert_eq!((word(5), &bytes[48..55]), (7, &b"example"[..]));
    assert_eq!((word(14), &bytes[120..123]), (3, &b"1.2"[..]));
    let slot = 32 + 16;
    assert_eq!((word(slot), &bytes[(slot + 1) * 8..][..5]), (5, &b"state"[..]));
    assert_eq!((word(slot + 5), word(slot + 6), word(slot + 7)), (2, 258, 5));
    assert_eq!(&bytes[(slot + 8) * 8..][..5], b"label");
    assert!(stats::TEXT.starts_with("jobs ") && stats::TEXT.len() < TEXT_BYTES, "{}", *stats::TEXT);
    assert_eq!((word(512), &bytes[513 * 8..][..5]), (stats::TEXT.len() as u64, &b"jobs "[..]));
    assert_eq!(word(1024 + 512), 77);
    assert_eq!(fs::metadata(&page.path).expect("a file").nlink(), 1);
}
