//! Transcripts that tests make up: small, each of a thread of its own.
#![allow(dead_code)] // each test file uses the part it needs
#![allow(clippy::disallowed_methods, reason = "a test prepares files")]

use std::fs::{self, File, FileTimes};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The thread of this number.
pub(crate) fn id(number: usize) -> String {
    format!("019cadf1-7a5e-7b04-8f21-{number:012x}")
}

/// Where its transcript lies: 100 to a day, higher numbers later.
pub(crate) fn path(root: &Path, number: usize) -> PathBuf {
    let (month, day) = (number / 2800 % 12 + 1, number / 100 % 28 + 1);
    let date = format!("2026-{month:02}-{day:02}");
    root.join("sessions").join(format!("2026/{month:02}/{day:02}")).join(format!(
        "rollout-{date}T00-00-{:02}-{}.jsonl",
        number % 60,
        id(number)
    ))
}

/// The title of its thread.
pub(crate) fn title(number: usize) -> String {
    format!("Task {number}")
}

/// What stands in it, and at least `bytes` of it.
pub(crate) fn text(number: usize, bytes: usize) -> String {
    let (id, title) = (id(number), title(number));
    let line = |kind: &str, payload: &str| {
        format!("{{\"timestamp\":\"2026-01-01T00:00:00.000Z\",\"type\":\"{kind}\",\"payload\":{payload}}}\n")
    };
    let mut text = line("session_meta", &format!(r#"{{"id":"{id}","cwd":"/home/ada/work"}}"#))
        + &line("event_msg", &format!(r#"{{"type":"user_message","message":"{title}"}}"#));
    let filler = line("response_item", &format!(r#"{{"type":"reasoning","text":"{}"}}"#, "x".repeat(900)));
    while text.len() < bytes {
        text.push_str(&filler);
    }
    text
}

/// Writes it; answers where.
pub(crate) fn write(root: &Path, number: usize, bytes: usize) -> PathBuf {
    let path = path(root, number);
    fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
    fs::write(&path, text(number, bytes)).expect("a transcript");
    path
}

/// Writes those of these numbers.
pub(crate) fn write_all(root: &Path, numbers: std::ops::Range<usize>, bytes: usize) -> u64 {
    numbers.map(|number| fs::metadata(write(root, number, bytes)).expect("it").len()).sum()
}

/// Gives a file a time of modification, in seconds since 1970.
pub(crate) fn set_time(path: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let file = File::options().write(true).open(path).expect("the file");
    file.set_times(FileTimes::new().set_modified(time)).expect("its time");
}

/// Makes a file one that nobody can read, so that its size, time and inode stay: whoever reads it again is found out.
pub(crate) fn poison(path: &Path) {
    let found = fs::metadata(path).expect("the file");
    let file = File::options().write(true).open(path).expect("the file");
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![b'#'; found.len() as usize], 0).expect("poisoned");
    file.set_times(FileTimes::new().set_modified(found.modified().expect("a time"))).expect("its time");
}
