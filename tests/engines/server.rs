//! A real PostgreSQL server for this test program, from the installed binaries: in a temporary folder, on a Unix socket,
//! gone with the program, however that ends.
#![allow(clippy::disallowed_methods, reason = "files of the test's own, none of them a database")]

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use postgres::{Client, NoTls};

/// A server and its files.
pub struct Server {
    folder: PathBuf,
    /// Stops the server when its input ends, which is when this process does.
    _keeper: Child,
}

/// Where the newest installed server's programs are.
fn programs() -> PathBuf {
    let given = std::env::var_os("ROWHOUSE_TEST_PGBIN").map(PathBuf::from);
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> = debian.map(|version| version.path().join("bin")).collect();
    found.sort_by_key(|bin| {
        let version =
            bin.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
        version.parse::<u32>().unwrap_or(0)
    });
    given
        .into_iter()
        .chain(found.into_iter().rev())
        .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()))
        .find(|bin| bin.join("initdb").is_file() && bin.join("pg_ctl").is_file())
        .expect(
            "PostgreSQL's initdb: `apt-get install postgresql-15`, or name its folder in ROWHOUSE_TEST_PGBIN",
        )
}

/// The machine does not crash in a test; only the doctor's look at how a server is set up.
fn fsync() -> &'static str {
    if env!("CARGO_CRATE_NAME").contains("doctor") { "on" } else { "off" }
}

fn is_root() -> bool {
    // SAFETY: geteuid(2) takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// A command of the server's, as a user who may run it: a server refuses root.
pub(super) fn command(program: &Path) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir("/").stdin(Stdio::null());
    command
}

pub(super) fn run(command: &mut Command) {
    let done = command.stdout(Stdio::null()).output().expect("it runs");
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A folder that the server may have.
pub(super) fn new_folder() -> PathBuf {
    let folder = tempfile::Builder::new().prefix("rowhouse-pg-").tempdir().expect("a folder").keep();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).expect("to be entered");
    give_away(&folder);
    folder
}

pub(super) fn give_away(path: &Path) {
    if is_root() {
        run(Command::new("chown").arg("-R").arg("postgres").arg(path));
    }
}

impl Server {
    /// A new one.
    pub fn start() -> Self {
        Self::start_with(|_| String::new())
    }

    /// A new one with these settings, given its folder.
    pub fn start_with(settings: impl FnOnce(&Path) -> String) -> Self {
        let folder = new_folder();
        let data = folder.join("data");
        run(command(&programs().join("initdb"))
            .arg("-D")
            .arg(&data)
            .args(["-U", "app", "-A", "trust", "-k", "--no-sync", "--no-instructions", "-E", "UTF8"])
            .arg("--locale=C.UTF-8"));
        // One user needs a password, to see what becomes of a wrong one.
        let hba = data.join("pg_hba.conf");
        let rules = std::fs::read_to_string(&hba).expect("the rules");
        std::fs::write(&hba, format!("local all guarded scram-sha-256\n{rules}")).expect("written");
        let settings = settings(&folder);
        give_away(&folder);
        Self::run(folder, &settings)
    }

    /// A copy that follows this one, and may take its place.
    pub fn standby(&self) -> Self {
        let copier = programs().join("pg_basebackup");
        assert!(copier.is_file(), "there is no {}: `apt-get install postgresql-15`", copier.display());
        let folder = new_folder();
        run(command(&copier)
            .args(["-U", "app", "-R", "-X", "stream", "-c", "fast", "--no-sync", "-h"])
            .arg(&self.folder)
            .arg("-D")
            .arg(folder.join("data")));
        // Else one that has just lost its primary may look for it for five seconds before it takes over.
        Self::run(folder, "-c wal_retrieve_retry_interval=100ms")
    }

    fn run(folder: PathBuf, settings: &str) -> Self {
        let (bin, data) = (programs(), folder.join("data"));
        // Before it is started: whatever fails from here on, it is stopped and removed.
        let stop = if is_root() { "runuser -u postgres -- " } else { "" };
        let keeper = Command::new("sh")
            .arg("-c")
            .arg(format!(
                "trap '' INT TERM HUP; read -r _; {stop}{}/pg_ctl -D {} -m immediate stop >/dev/null 2>&1; rm -rf {}",
                bin.display(),
                data.display(),
                folder.display()
            ))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let server = Self { folder, _keeper: keeper };
        let options = format!(
            "-c unix_socket_directories={} -c fsync={} -c shared_buffers=32MB -c max_connections=300 \
             -c listen_addresses='' {settings}",
            server.folder.display(),
            fsync()
        );
        let log = server.folder.join("log");
        server.control(&[
            OsStr::new("-l"),
            log.as_os_str(),
            OsStr::new("-o"),
            OsStr::new(&options),
            OsStr::new("start"),
        ]);
        server
    }

    /// A program of the server's release that asks it, as who runs the test.
    pub fn psql() -> Command {
        Command::new(programs().join("psql"))
    }

    fn control(&self, arguments: &[&OsStr]) {
        run(command(&programs().join("pg_ctl"))
            .arg("-D")
            .arg(self.folder.join("data"))
            .args(["-w", "-t", "120"])
            .args(arguments));
    }

    /// Where its socket is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Ends its first process; the others end when they see it.
    pub fn kill(&self) {
        signal(self.processes()[0], libc::SIGKILL);
    }

    /// Stops all its processes where they are, until what this answers is dropped.
    pub fn freeze(&self) -> Frozen {
        let frozen = Frozen(self.processes());
        for pid in &frozen.0 {
            signal(*pid, libc::SIGSTOP);
        }
        frozen
    }

    /// Its first process, and those that it started.
    fn processes(&self) -> Vec<i32> {
        let pid = std::fs::read_to_string(self.folder.join("data/postmaster.pid")).expect("it runs");
        let first: i32 = pid.lines().next().and_then(|line| line.parse().ok()).expect("a process");
        let all = std::fs::read_dir("/proc").expect("Linux").flatten();
        let ids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let is_its = |pid: &i32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // Behind the name, which is in brackets: the state, then the parent.
            let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
            parent == Some(&first.to_string())
        };
        std::iter::once(first).chain(ids.filter(is_its)).collect()
    }

    /// Makes a standby the server that takes writes.
    pub fn promote(&self) {
        self.control(&[OsStr::new("promote")]);
    }

    /// The URL of a database of this user.
    pub fn url(&self, user: &str, database: &str) -> String {
        format!("host={} user={user} dbname={database}", self.folder.display())
    }

    /// A connection of the test's own.
    pub fn client(&self, database: &str) -> Client {
        Client::connect(&self.url("app", database), NoTls).expect("a connection")
    }

    /// A new, empty database.
    pub fn new_database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.client("postgres").batch_execute(&format!("CREATE DATABASE {name}")).expect("a database");
        name
    }

    /// Stops it at once, as a crash would, and starts it again.
    pub fn crash(&self) {
        let log = self.folder.join("log");
        self.control(
            &["-m", "immediate", "-l"]
                .map(OsStr::new)
                .into_iter()
                .chain([log.as_os_str(), OsStr::new("restart")])
                .collect::<Vec<_>>(),
        );
    }
}

/// Processes of a server that stand still.
pub struct Frozen(Vec<i32>);

impl Drop for Frozen {
    fn drop(&mut self) {
        for pid in &self.0 {
            signal(*pid, libc::SIGCONT);
        }
    }
}

fn signal(pid: i32, signal: i32) {
    // SAFETY: kill(2) with the id of a process of this test's own server. One that ended meanwhile is answered, no more.
    unsafe { libc::kill(pid, signal) };
}

/// The server that the tests of this program share.
pub fn shared() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(Server::start)
}

/// The URL of a new database on it.
pub fn new_database() -> String {
    shared().url("app", &shared().new_database())
}

/// Says in a home that its state is on a server, and the notes that some tests have of their own.
pub fn configure(home: &Path, url: &str) {
    configure_with(home, &format!("url = \"{url}\""));
}

/// The same with all that is said of the server.
pub fn configure_with(home: &Path, settings: &str) {
    let text = format!(
        "[state]\nbackend = \"postgres\"\n[notes]\nbackend = \"postgres\"\n[state.postgres]\n{settings}\n"
    );
    std::fs::write(home.join("config.toml"), text).expect("written");
}
