//! Signals whose default is to end the program without a word.

/// Lets a write beyond the limit of `ulimit -f` fail with an error, which SQLite reports, instead of killing the
/// program in the middle of a transaction.
pub(crate) fn survive_a_file_size_limit() {
    // SAFETY: no other thread runs yet, and SIG_IGN is no handler: nothing of this program runs in a signal.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}
