//! What `/proc` tells about a process: whether it still is the same one, whether it is stopped, its name, its age.
//!
//! Invariants: a process is identified by its id and its start time, never by the id alone; a command line's
//! arguments are never kept, for they may hold secrets.

/// Whether a process goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProcessState {
    /// It runs, or waits for something.
    Running,
    /// It was stopped by Ctrl-Z, SIGSTOP or a debugger. It keeps every lock until it is continued or ended.
    Stopped,
    /// It has ended, and its parent has not asked for its exit code yet. It holds nothing.
    Ended,
    /// The system does not tell.
    Unknown,
}

/// State and start time of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessStat {
    /// `R`, `S`, `T`, ... as in `proc_pid_stat(5)`.
    state: char,
    flags: u64,
    /// In clock ticks since the system started.
    pub(crate) start_time: u64,
}

impl ProcessStat {
    pub(crate) fn state(self) -> ProcessState {
        match self.state {
            'T' | 't' => ProcessState::Stopped,
            'Z' | 'X' | 'x' => ProcessState::Ended,
            '?' => ProcessState::Unknown,
            _ => ProcessState::Running,
        }
    }

    /// True for a thread of the kernel, which has no files open.
    pub(crate) fn is_kernel(self) -> bool {
        const PF_KTHREAD: u64 = 0x0020_0000;
        self.flags & PF_KTHREAD != 0
    }

    /// When it started, to the second. The clock that the start time counts on has the age of the system, also in a
    /// time namespace.
    #[cfg(target_os = "linux")]
    pub(crate) fn started_at(self) -> Option<jiff::Timestamp> {
        let since_boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let ticks = rustix::param::clock_ticks_per_second();
        let age = since_boot.tv_sec.checked_sub(i64::try_from(self.start_time / ticks).ok()?)?;
        jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() - age).ok()
    }

    /// When it started: not known here.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn started_at(self) -> Option<jiff::Timestamp> {
        None
    }
}

/// State and start time of a process; `None` when there is none of this id.
#[cfg(target_os = "linux")]
pub(crate) fn stat(pid: u32) -> Option<ProcessStat> {
    parse_stat(&String::from_utf8_lossy(&crate::home::read_file(format!("/proc/{pid}/stat")).ok()?))
}

/// State and start time of a process. Without `/proc` the start time is not known and 0.
#[cfg(not(target_os = "linux"))]
pub(crate) fn stat(pid: u32) -> Option<ProcessStat> {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).ok()?)?;
    match rustix::process::test_kill_process(pid) {
        Ok(()) | Err(rustix::io::Errno::PERM) => Some(ProcessStat { state: '?', flags: 0, start_time: 0 }),
        Err(_) => None,
    }
}

/// The name of a process's command, without folder and arguments; `unknown` when it cannot be read.
pub(crate) fn command(pid: u32) -> String {
    let cmdline = crate::home::read_file(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let comm = crate::home::read_file(format!("/proc/{pid}/comm")).unwrap_or_default();
    command_name(&cmdline, &comm)
}

/// The namespace of process ids that holds all others, by the kernel's number (`PROC_PID_INIT_INO`).
const ALL_PROCESSES: u64 = 0xEFFF_FFFC;

/// True when this process has ids for all processes of the machine, false in a container.
pub(crate) fn sees_all() -> bool {
    namespace() == ALL_PROCESSES
}

/// The kernel's number of this process's namespace of process ids; 0 where there are none.
pub(crate) fn namespace() -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self/ns/pid").map_or(0, |found| found.ino())
}

/// Reads `/proc/PID/stat`: `pid (comm) state ppid ...`, where comm may hold spaces and parentheses.
fn parse_stat(text: &str) -> Option<ProcessStat> {
    let (_, after) = text.rsplit_once(')')?;
    let mut fields = after.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    // The state is field 3, the flags field 9, the start time field 22.
    let flags = fields.nth(5)?.parse().ok()?;
    let start_time = fields.nth(12)?.parse().ok()?;
    Some(ProcessStat { state, flags, start_time })
}

/// The last part of `argv[0]`. A program that wrote a title of several words over its arguments is named by
/// the kernel's own short name instead.
fn command_name(cmdline: &[u8], comm: &[u8]) -> String {
    let first = cmdline.split(|byte| *byte == 0).next().unwrap_or_default();
    let name = first.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let usable = !name.is_empty() && !first.iter().any(u8::is_ascii_whitespace);
    let text = String::from_utf8_lossy(if usable { name } else { comm.trim_ascii() });
    let plain: String = text.chars().filter(|c| !c.is_control()).take(64).collect();
    if plain.is_empty() { "unknown".to_owned() } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_may_be_named_like_the_fields_around_it() {
        let line = "42 (a) R (x) 1) T 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 8812345 0 0";
        let found = parse_stat(line).expect("parsed");
        assert_eq!(found, ProcessStat { state: 'T', flags: 4_194_560, start_time: 8_812_345 });
        assert_eq!((found.state(), found.is_kernel()), (ProcessState::Stopped, false));
        for bad in ["", "42 (a", "42 (a) R 1 2", "42 (a) R 1 42 42 0 -1 4 1 0 0 0 0 0 0 0 20 0 1 0 x"] {
            assert_eq!(parse_stat(bad), None, "{bad}");
        }
    }

    #[test]
    fn threads_of_the_kernel_and_ended_processes_are_told_apart() {
        let kernel = "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 6 0 0 20 0 1 0 14 0 0";
        let found = parse_stat(kernel).expect("parsed");
        assert_eq!((found.state(), found.is_kernel()), (ProcessState::Running, true));
        let ended = "7 (x) Z 1 7 7 0 -1 4227084 0 0 0 0 0 0 0 0 20 0 1 0 99 0 0";
        assert_eq!(parse_stat(ended).expect("parsed").state(), ProcessState::Ended);
    }

    #[test]
    fn arguments_are_never_part_of_a_name() {
        for (cmdline, comm, name) in [
            (&b"/usr/bin/tool\0--token=secret\0"[..], &b"tool\n"[..], "tool"),
            (b"tool", b"x\n", "tool"),
            (b"server: --token /path/secret", b"server\n", "server"),
            (b"/opt/my tool/bin --token", b"bin\n", "bin"),
            (b"", b"kworker/0:1\n", "kworker/0:1"),
            (b"/usr/bin/\0", b"", "unknown"),
            (b"bad\x1b[1mname", b"", "bad[1mname"),
        ] {
            assert_eq!(command_name(cmdline, comm), name);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_alive_and_keeps_its_start_time() {
        let once = stat(std::process::id()).expect("this process");
        assert!(once.start_time > 0 && once.state() == ProcessState::Running && !once.is_kernel());
        let age = jiff::Timestamp::now() - once.started_at().expect("known here");
        assert!((-1..86_400).contains(&age.get_seconds()), "this process is {age} old");
        assert_eq!(stat(std::process::id()).map(|found| found.start_time), Some(once.start_time));
        assert_eq!(stat(u32::MAX), None);
        assert_ne!(command(std::process::id()), "unknown");
        assert_ne!(namespace(), 0);
    }
}
