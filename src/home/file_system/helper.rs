//! Looks at what may never answer, on a thread of its own.
//!
//! A system call on a dead network or FUSE mount does not come back, and nothing can end it. So it is made by a thread
//! that is left behind when it takes too long; it ends when the mount answers, or with the process.
//!
//! Invariant: a mount that did not answer is not asked again while that thread is stuck: attempts to open a home on it
//! do not pile up threads.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The mounts in which a thread is stuck.
static STUCK: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

type Look = Box<dyn FnOnce() + Send>;

/// A thread that looks, started when it is first needed.
#[derive(Default)]
pub(super) struct Helper {
    looks: Option<Sender<Look>>,
    spent: Duration,
}

impl Helper {
    /// What `look` answers; `None` when that, with all that was waited for before, takes longer than `limit`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn ask<T: Send + 'static>(
        &mut self,
        mount: &Path,
        limit: Duration,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<Option<T>> {
        if STUCK.lock().contains(mount) {
            return Ok(None);
        }
        let (sender, receiver) = channel();
        let place = mount.to_owned();
        let job: Look = Box::new(move || {
            let answer = look();
            let mut stuck = STUCK.lock();
            stuck.remove(&place);
            // Sent while the list is locked: who gives up, below, either finds the answer or is found in the list.
            let _ = sender.send(answer);
        });
        let started = Instant::now();
        // The thread waits for looks as long as this helper lives, so that the send cannot fail; if it did, the
        // answer would be missing, which is told as such.
        let _ = self.thread()?.send(job);
        let answer = receiver.recv_timeout(limit.saturating_sub(self.spent)).ok();
        self.spent += started.elapsed();
        if answer.is_some() {
            return Ok(answer);
        }
        let mut stuck = STUCK.lock();
        if let Ok(late) = receiver.try_recv() {
            return Ok(Some(late));
        }
        stuck.insert(mount.to_owned());
        // This one may never look again.
        self.looks = None;
        Ok(None)
    }

    fn thread(&mut self) -> io::Result<&Sender<Look>> {
        if self.looks.is_none() {
            let (sender, looks) = channel::<Look>();
            std::thread::Builder::new()
                .name("rowhouse-look".to_owned())
                .spawn(move || looks.into_iter().for_each(|look| look()))?;
            self.looks = Some(sender);
        }
        Ok(self.looks.as_ref().expect("it was just set"))
    }
}
