//! Looks on a thread of their own, so that a disk that does not answer keeps nobody from ending.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Result;

/// One look at a time, each when it is asked for.
pub(super) struct Looks<T> {
    ask: Sender<()>,
    found: Receiver<Result<T>>,
    asked: Option<Instant>,
}

impl<T: Send + 'static> Looks<T> {
    /// Makes none yet. The thread ends with this, or stays behind in a look that does not come back.
    pub(super) fn begin(mut look: impl FnMut() -> Result<T> + Send + 'static) -> Result<Self> {
        let (ask, asked) = channel::<()>();
        let (tell, found) = channel();
        let work = move || {
            for () in asked {
                if tell.send(look()).is_err() {
                    break;
                }
            }
        };
        std::thread::Builder::new().name("rowhouse-top".to_owned()).spawn(work)?;
        Ok(Self { ask, found, asked: None })
    }

    /// Asks for one, unless one is under way.
    pub(super) fn ask(&mut self) {
        if self.asked.is_none() && self.ask.send(()).is_ok() {
            self.asked = Some(Instant::now());
        }
    }

    /// How long the look that is under way lasts.
    pub(super) fn waited(&self) -> Option<Duration> {
        self.asked.map(|asked| asked.elapsed())
    }

    /// What the look found, once, when it is done. Never waits.
    pub(super) fn found(&mut self) -> Option<Result<T>> {
        let found = self.found.try_recv().ok()?;
        self.asked = None;
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Control: the same look by itself would not come back before somebody lets it.
    #[test]
    fn a_look_that_does_not_come_back_keeps_nobody() {
        let (let_go, held) = channel::<()>();
        let mut looks = Looks::begin(move || Ok(held.recv().is_ok())).expect("a thread");
        assert!(looks.found().is_none() && looks.waited().is_none(), "none is asked for");
        looks.ask();
        assert!(looks.found().is_none() && looks.waited().is_some());
        looks.ask();
        let_go.send(()).expect("it waits");
        let found = std::iter::from_fn(|| Some(looks.found())).flatten().next().expect("a look");
        assert!(found.expect("an answer") && looks.waited().is_none());
        drop(let_go);
        assert!(looks.found().is_none(), "only one was asked for");
    }
}
