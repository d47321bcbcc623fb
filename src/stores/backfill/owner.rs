//! Who may run a backfill: one at a time per home, by a lock that ends with the process, however it ends.
//!
//! The lock alone decides. A process that is stopped or slow keeps it, so it is never pre-empted; of one that was killed
//! the kernel takes it at once. Names, numbers and times in the table are for people, and for a server that has no locks.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::model::BackfillOwner;
use crate::error::{Error, ErrorKind, Result};
use crate::home;
use crate::presence::Held;
use crate::processes;
use crate::sqlite::holders;

/// Databases in memory, which no lock file stands for, whose backfill runs.
static IN_MEMORY: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// While this lives, nobody else runs a backfill of the home.
pub(super) enum Right {
    #[allow(dead_code, reason = "held, not read")]
    File(Held),
    Memory(PathBuf),
}

impl Right {
    /// `None` when somebody has it. Without a lock file the database, which is in memory, stands for itself.
    ///
    /// # Errors
    /// Of the system.
    pub(super) fn try_take(lock: Option<&Path>, database: &Path) -> Result<Option<Self>> {
        if let Some(lock) = lock {
            return Ok(Held::try_alone(lock)?.map(Self::File));
        }
        let mut taken = IN_MEMORY.lock();
        if taken.iter().any(|path| path == database) {
            return Ok(None);
        }
        taken.push(database.to_owned());
        Ok(Some(Self::Memory(database.to_owned())))
    }
}

impl Drop for Right {
    fn drop(&mut self) {
        if let Self::Memory(path) = self {
            IN_MEMORY.lock().retain(|taken| taken != path);
        }
    }
}

/// Somebody else runs one.
pub(super) fn busy(lock: Option<&Path>) -> Error {
    let holder = lock.and_then(holders::flock_holder);
    let advice = match &holder {
        Some(holder) if holder.stopped => {
            format!("let process {0} go on (kill -CONT {0}), or end it", holder.pid)
        }
        _ => "wait for it; to see how far it is: rowhouse backfill status".to_owned(),
    };
    Error::new(ErrorKind::Busy, "a backfill of this home is running")
        .held_by(holder)
        .retry_in(std::time::Duration::from_secs(1))
        .advise(advice)
}

/// This process.
pub(crate) fn this_process() -> BackfillOwner {
    let pid = std::process::id();
    let boot = home::read_file("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    BackfillOwner {
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        boot_id: String::from_utf8_lossy(boot.trim_ascii()).into_owned(),
        pid: pid.into(),
        start_time: processes::stat(pid)
            .and_then(|found| i64::try_from(found.start_time).ok())
            .unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_has_the_right_on_a_disk_and_in_memory() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("lock");
        for lock in [Some(file.as_path()), None] {
            let take = |database: &str| Right::try_take(lock, Path::new(database)).expect("a look");
            let held = take("memory:a").expect("nobody has it");
            assert!(take("memory:a").is_none());
            assert_eq!(take("memory:b").is_some(), lock.is_none(), "another one in memory");
            drop(held);
            assert!(take("memory:a").is_some());
        }
    }

    #[test]
    fn a_process_is_known_by_machine_start_and_id() {
        let own = this_process();
        assert_eq!(own.pid, i64::from(std::process::id()));
        assert!(!own.host.is_empty());
        assert!(cfg!(not(target_os = "linux")) || (own.boot_id.len() == 36 && own.start_time > 0));
        assert_eq!(own, this_process());
    }
}
