//! What was said by way of `log` in this process.

use std::sync::{Mutex, MutexGuard, PoisonError};

use log::{Level, LevelFilter, Log, Metadata, Record};

struct Said(Mutex<Vec<(Level, String)>>);

static SAID: Said = Said(Mutex::new(Vec::new()));

impl Said {
    fn lines(&self) -> MutexGuard<'_, Vec<(Level, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for Said {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        self.lines().push((record.level(), record.args().to_string()));
    }

    fn flush(&self) {}
}

/// From now on it is kept.
pub(crate) fn listen() {
    // A second test finds it there.
    let _ = log::set_logger(&SAID).map(|()| log::set_max_level(LevelFilter::Trace));
}

/// Every line with all of these words.
pub(crate) fn with(words: &[&str]) -> Vec<String> {
    let lines = SAID.lines();
    let fits = |line: &&String| words.iter().all(|word| line.contains(word));
    lines.iter().map(|(_, line)| line).filter(fits).cloned().collect()
}

/// The warnings and errors among them.
pub(crate) fn warnings_with(words: &[&str]) -> Vec<String> {
    let lines = SAID.lines();
    let fits = |(level, line): &&(Level, String)| {
        *level <= Level::Warn && words.iter().all(|word| line.contains(word))
    };
    lines.iter().filter(fits).map(|(_, line)| line.clone()).collect()
}
