//! What this user's processes may do, and those that have a database open.

use std::collections::BTreeMap;

use rustix::process::{Resource, getrlimit};

use super::super::finding::Finding;
use super::super::scope::Scope;
use super::super::words::{bytes, number};
use crate::home;
use crate::sqlite::holders::Holder;

/// A program with the four built-in databases, its readers, and something of its own.
const FEWEST_FILES: u64 = 256;
/// A process that has all of its files open but so many is about to fail at the next one.
const FEWEST_LEFT: u64 = 16;
/// No database is expected to stay below this.
const SMALLEST_FILE: u64 = 64 << 20;
/// Processes that are asked for their limits.
const MOST_ASKED: usize = 100;

/// Soft limits; `None` where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    open_files: Option<u64>,
    file_bytes: Option<u64>,
}

impl Limits {
    fn own() -> Self {
        Self {
            open_files: getrlimit(Resource::Nofile).current,
            file_bytes: getrlimit(Resource::Fsize).current,
        }
    }

    /// Those of another process; `None` where they cannot be told.
    fn of(pid: u32) -> Option<Self> {
        told_by(&String::from_utf8_lossy(&home::read_file(format!("/proc/{pid}/limits")).ok()?))
    }

    /// The length of file at which it ends, when that is too small for a database of this length to grow.
    fn too_small(self, largest: u64) -> Option<u64> {
        self.file_bytes.filter(|most| *most < largest.saturating_mul(2).max(SMALLEST_FILE))
    }
}

/// `proc_pid_limits(5)`: name, soft and hard limit, unit, in columns.
fn told_by(table: &str) -> Option<Limits> {
    let soft = |name: &str| {
        let after = table.lines().find_map(|line| line.strip_prefix(name))?;
        match after.split_ascii_whitespace().next()? {
            "unlimited" => Some(None),
            limit => limit.parse().ok().map(Some),
        }
    };
    Some(Limits { open_files: soft("Max open files")?, file_bytes: soft("Max file size")? })
}

/// How many files a process has open; `None` where that may not be seen.
fn open_files(pid: u32) -> Option<u64> {
    Some(std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64)
}

/// What is too little in a process that has a database open.
enum Short {
    FileBytes(u64),
    Files(u64),
    /// All of them but a few are open.
    FilesLeft {
        open: u64,
        most: u64,
    },
}

impl Short {
    fn of(pid: u32, largest: u64) -> Option<Self> {
        let limits = Limits::of(pid)?;
        if let Some(most) = limits.too_small(largest) {
            return Some(Self::FileBytes(most));
        }
        let most = limits.open_files?;
        if most < FEWEST_FILES {
            return Some(Self::Files(most));
        }
        let open = open_files(pid)?;
        (open + FEWEST_LEFT > most).then_some(Self::FilesLeft { open, most })
    }

    fn told(&self, process: &Holder) -> String {
        match self {
            Self::FileBytes(most) => {
                format!("{process} may only write files of up to {} (ulimit -f)", bytes(*most))
            }
            Self::Files(most) => format!("{process} may only open {most} files (ulimit -n)"),
            Self::FilesLeft { open, most } => {
                format!("{process} has {open} of the {most} files open that it may open (ulimit -n)")
            }
        }
    }

    fn remedy(&self) -> &'static str {
        match self {
            Self::FileBytes(_) => {
                "start that program anew with a larger limit: at this one it is ended in the middle of a write (ulimit -f unlimited)"
            }
            Self::Files(_) => "start that program anew with a larger limit: ulimit -n 1024",
            Self::FilesLeft { .. } => {
                "start that program anew, with a larger limit (ulimit -n); when it comes back, the program does not close its files"
            }
        }
    }
}

pub(super) fn limits(scope: &Scope) -> Finding {
    let own = Limits::own();
    let largest = scope.context.subjects.iter().map(|subject| subject.bytes("")).max().unwrap_or(0);
    let shown = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
    let told = |finding: Finding| {
        finding
            .detail("open_files", shown(own.open_files))
            .detail("file_size_bytes", shown(own.file_bytes))
            .detail("largest_bytes", largest)
    };
    if let Some(size) = own.too_small(largest) {
        return told(Finding::warning(format!(
            "files of this user may only become {} large (ulimit -f)",
            bytes(size)
        )))
        .remedy("raise the limit where the program is started: ulimit -f unlimited");
    }
    if let Some(files) = own.open_files.filter(|files| *files < FEWEST_FILES) {
        return told(Finding::warning(format!(
            "a process of this user may only open {files} files (ulimit -n)"
        )))
        .remedy("raise the limit where the program is started: ulimit -n 1024");
    }
    let users = users(scope);
    let told = |finding: Finding| told(finding).detail("processes", users.len());
    let short: Vec<_> = users
        .values()
        .take(MOST_ASKED)
        .filter_map(|process| Some((Short::of(process.pid, largest)?, *process)))
        .collect();
    match short.split_first() {
        None => told(Finding::ok(match users.len() as u64 {
            0 => "enough files, as large as needed".to_owned(),
            users => format!("enough files, as large as needed, also for {}", number(users, "program")),
        })),
        Some(((first, process), more)) => more
            .iter()
            .fold(told(Finding::warning(first.told(process))), |finding, (short, process)| {
                finding.evidence(short.told(process))
            })
            .detail("pid", process.pid)
            .remedy(first.remedy()),
    }
}

/// Every other process that has one of the databases open, once.
fn users<'c>(scope: &Scope<'c>) -> BTreeMap<u32, &'c Holder> {
    let databases = scope.context.who().map(|who| &who.databases[..]).unwrap_or_default();
    let users = databases.iter().flat_map(|database| database.processes.iter().flatten());
    users
        .map(|user| (user.process.pid, &user.process))
        .filter(|(pid, _)| *pid != std::process::id())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max file size             8388608              unlimited            bytes     
Max open files            1024                 524288               files     
";

    #[test]
    fn the_soft_limits_are_read() {
        assert_eq!(told_by(TABLE), Some(Limits { open_files: Some(1024), file_bytes: Some(8 << 20) }));
        let unlimited = TABLE.replace("8388608  ", "unlimited");
        assert_eq!(told_by(&unlimited), Some(Limits { open_files: Some(1024), file_bytes: None }));
        for bad in ["", "Max open files 1 1 files", "Max file size x x bytes\nMax open files 1 1 files"] {
            assert_eq!(told_by(bad), None, "{bad}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_told_alike_from_inside_and_from_outside() {
        assert_eq!(Limits::of(std::process::id()), Some(Limits::own()));
    }
}
