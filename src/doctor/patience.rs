//! What is looked at before there are checks: which databases there are, and what the settings say. Any of it may lie on a
//! mount that never answers.
//!
//! Invariant: nobody waits for a look past its deadline. Its thread is left behind, and ends when the mount answers or with
//! the process.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// What `look` answers; `None` when it does not within this time. It panics when `look` does.
///
/// # Errors
/// `Io` when no thread can be started.
pub(super) fn within<T: Send + 'static>(
    deadline: Duration,
    look: impl FnOnce() -> T + Send + 'static,
) -> Result<Option<T>> {
    let (sender, answer) = channel();
    let work = move || {
        // Who gave up does not listen.
        let _ = sender.send(catch_unwind(AssertUnwindSafe(look)));
    };
    std::thread::Builder::new().name("rowhouse-doctor".to_owned()).spawn(work).map_err(|error| {
        Error::new(ErrorKind::Io, "no thread could be started to look")
            .advise("raise the limit of processes (ulimit -u), or end some")
            .caused_by(error)
    })?;
    match answer.recv_timeout(deadline) {
        Ok(Ok(found)) => Ok(Some(found)),
        Ok(Err(panic)) => resume_unwind(panic),
        // The thread sends whatever becomes of the look, so nothing but the time can have ended.
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_look_that_does_not_come_back_is_left_behind() {
        let (keep, never) = mpsc::channel::<()>();
        let began = Instant::now();
        let found = within(Duration::from_millis(50), move || never.recv().is_ok());
        assert_eq!(found.expect("a thread"), None);
        assert!(began.elapsed() >= Duration::from_millis(50));
        drop(keep);
        assert_eq!(within(Duration::from_secs(20), || 7).expect("a thread"), Some(7));
    }

    #[test]
    fn a_look_that_panics_is_no_mount_that_does_not_answer() {
        let told = catch_unwind(|| within(Duration::from_secs(20), || panic!("on purpose")));
        assert!(told.is_err());
    }
}
