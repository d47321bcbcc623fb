//! Who is in the way: the process that holds a lock, named without touching the lock.

/// A process that holds a database.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// Its command line's first word, without the folder; `unknown` where it cannot be read.
    pub command: String,
    /// The label of the job it runs, where it publishes one.
    pub label: Option<String>,
    /// True when it is stopped (Ctrl-Z, SIGSTOP).
    pub stopped: bool,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (pid {}", self.command, self.pid)?;
        if let Some(label) = &self.label {
            write!(f, ", job {label}")?;
        }
        f.write_str(if self.stopped { ", stopped)" } else { ")" })
    }
}
