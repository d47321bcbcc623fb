//! Signals: what a person's Ctrl-C, a service manager's TERM and a file size limit do to the program.
//!
//! Invariants:
//! 1. The first SIGINT, SIGTERM or SIGHUP lets what was registered with [`at_end`] run: runtimes are closed, folders of
//!    our own and private copies of databases are removed, the terminal is as it was. Then the program dies of that very signal, as its parent expects.
//! 2. A second one ends it at once, whatever the first is at.
//! 3. What the command itself says once its runtime was closed under it is not told: see [`end_if_asked`].
//! 4. Work that makes something whole or not at all ([`interruptible`]) ends where it next tells its progress, and takes back
//!    what it began; what has no way back (the end of a restore) goes on to its end, for a while.
//! 5. With no file size to write beyond (`ulimit -f`), a write fails with an error instead of killing the program.
//!
//! Tests: `cli/tests/signals.rs`.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rowhouse::Runtime;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::waiting;

/// How long a command may take to end when its runtime was closed under it. One that waits for something else does not.
const END_WITHIN: Duration = Duration::from_millis(500);

/// How long work that was interrupted may take to clear up. A second signal does not wait.
const CLEAR_UP_WITHIN: Duration = Duration::from_secs(10);

/// How long each database of a runtime may work off what is queued.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// How long closing takes where nobody is in its way. Beyond that it is looked for whom it waits.
const CLOSED_SOON: Duration = Duration::from_millis(250);

type Action = Box<dyn FnOnce() + Send>;

/// What is to be done before the program ends, in the order it was registered.
static ACTIONS: Mutex<Vec<(u64, Action)>> = Mutex::new(Vec::new());
static NEXT: AtomicU64 = AtomicU64::new(0);
static ENDING: AtomicBool = AtomicBool::new(false);
/// The command itself has ended since, and let go of all it had.
static LET_GO: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

/// Registered as long as it lives.
#[must_use = "what is to be done at the end is forgotten with it"]
pub(crate) struct AtEnd(u64);

impl Drop for AtEnd {
    fn drop(&mut self) {
        actions().retain(|(number, _)| *number != self.0);
    }
}

fn actions() -> std::sync::MutexGuard<'static, Vec<(u64, Action)>> {
    // A list of closures is whole whatever panicked beside it.
    ACTIONS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs this when a signal ends the program, before what was registered earlier.
pub(crate) fn at_end(action: impl FnOnce() + Send + 'static) -> AtEnd {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    actions().push((number, Box::new(action)));
    AtEnd(number)
}

/// Closes this runtime when a signal ends the program: acknowledged work is on the disk, claims and locks are given back.
///
/// What waits for another process's lock has not begun, and was acknowledged to nobody: it is left behind.
pub(crate) fn close_at_end(runtime: &Runtime) -> AtEnd {
    let runtime = runtime.clone();
    at_end(move || {
        let home = runtime.home().clone();
        let (closing, closed) = channel::<()>();
        std::thread::spawn(move || {
            let _closing = closing;
            drop(runtime.close(CLOSE_WITHIN));
        });
        let is_closed = closed.recv_timeout(CLOSED_SOON) != Err(RecvTimeoutError::Timeout);
        if !is_closed && !waiting::is_for_others(&home) {
            let _ = closed.recv_timeout(CLOSE_WITHIN);
        }
    })
}

/// What unwinds the work that a signal interrupted: nothing is told of it.
struct Interrupted;

/// Work that calls [`may_end`] often. When a signal asks for the end, it is unwound from there, so that everything it made
/// is taken back as after an error, and the program ends.
pub(crate) fn interruptible<T>(work: impl FnOnce() -> T) -> T {
    let _waited_for = clear_up_at_end();
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(done) => done,
        Err(why) if why.is::<Interrupted>() => loop {
            end_if_asked();
        },
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Whether a signal has asked for the end.
pub(crate) fn is_ending() -> bool {
    ENDING.load(Ordering::SeqCst)
}

/// Lets the command clear up itself when a signal ends the program, before what was registered earlier is done: for one
/// that looks at [`is_ending`] often.
pub(crate) fn clear_up_at_end() -> AtEnd {
    at_end(|| wait_until_let_go(CLEAR_UP_WITHIN))
}

/// Ends [`interruptible`] work here when a signal asked for it.
pub(crate) fn may_end() {
    if is_ending() {
        // Without the hook: nobody is told of a panic.
        std::panic::resume_unwind(Box::new(Interrupted));
    }
}

/// Removes this file when a signal ends the program.
pub(crate) fn remove_file_at_end(file: &Path) -> AtEnd {
    let file = file.to_owned();
    at_end(move || drop(std::fs::remove_file(file)))
}

/// Removes this folder of our own when a signal ends the program.
pub(crate) fn remove_at_end(folder: &Path) -> AtEnd {
    let folder = folder.to_owned();
    at_end(move || {
        // The command itself may be about to make something in it.
        wait_until_let_go(END_WITHIN);
        // Threads of ours may still write into it: some tries.
        for _ in 0..20 {
            if std::fs::remove_dir_all(&folder).is_ok() || !folder.exists() {
                return;
            }
            pause();
        }
    })
}

#[allow(clippy::disallowed_methods, reason = "nothing tells when another process has let go of a folder")]
fn pause() {
    std::thread::sleep(Duration::from_millis(50));
}

/// Takes the signals from here on. Where that cannot be had, they end the program at once, as everywhere.
pub(crate) fn handle() {
    survive_a_file_size_limit();
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // In this order: the first signal sets the flag, the second finds it set.
        let _ = signal_hook::flag::register_conditional_default(signal, Arc::clone(&asked));
        let _ = signal_hook::flag::register(signal, Arc::clone(&asked));
    }
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) else { return };
    let waiting = move || {
        let Some(signal) = signals.forever().next() else { return };
        ENDING.store(true, Ordering::SeqCst);
        let registered = std::mem::take(&mut *actions());
        for (_, action) in registered.into_iter().rev() {
            action();
        }
        // The page that tells others of this process goes with the last handle.
        wait_until_let_go(END_WITHIN);
        let _ = signal_hook::low_level::emulate_default_handler(signal);
    };
    let _ = std::thread::Builder::new().name("signals".to_owned()).spawn(waiting);
}

fn wait_until_let_go(most: Duration) {
    let let_go = LET_GO.0.lock().unwrap_or_else(PoisonError::into_inner);
    drop(LET_GO.1.wait_timeout_while(let_go, most, |let_go| !*let_go));
}

/// Waits for the end when a signal asked for it: what the command has to say then comes of that.
pub(crate) fn end_if_asked() {
    if is_ending() {
        *LET_GO.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        LET_GO.1.notify_all();
    }
    while is_ending() {
        std::thread::park();
    }
}

/// Lets a write beyond the limit of `ulimit -f` fail with an error, which SQLite reports, instead of killing the
/// program in the middle of a transaction.
fn survive_a_file_size_limit() {
    // SAFETY: no other thread runs yet, and SIG_IGN is no handler: nothing of this program runs in a signal.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

/// Lets Ctrl-C reach the pager alone, which has the terminal: it stops a search there, and leaves this program to wait.
pub(crate) fn leave_interrupts_to_the_pager() {
    // SAFETY: SIG_IGN is no handler: nothing of this program runs in a signal. Processes started before keep theirs.
    unsafe {
        libc::signal(libc::SIGINT, libc::SIG_IGN);
    }
}
