//! Signals whose default is to end the program without a word.

/// Lets a write beyond the limit of `ulimit -f` fail with an error, which SQLite reports, instead of killing the
/// program in the middle of a transaction.
pub(crate) fn survive_a_file_size_limit() {
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
