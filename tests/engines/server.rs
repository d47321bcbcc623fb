//! A real PostgreSQL server for this test program, from the installed binaries: in a temporary folder, on a Unix socket,
//! gone with the program, however that ends.
#![allow(clippy::disallowed_methods, reason = "files of the test's own, none of them a database")]

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

fn is_root() -> bool {
    // SAFETY: geteuid(2) takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// A command of the server's, as a user who may run it: a server refuses root.
fn command(program: &Path) -> Command {
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

fn run(command: &mut Command) {
    let done = command.stdout(Stdio::null()).output().expect("it runs");
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

impl Server {
    /// A new one, with these settings besides.
    pub fn start(settings: &str) -> Self {
        let bin = programs();
        let folder = tempfile::Builder::new().prefix("rowhouse-pg-").tempdir().expect("a folder").keep();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).expect("to be entered");
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&folder));
        }
        let data = folder.join("data");
        run(command(&bin.join("initdb"))
            .arg("-D")
            .arg(&data)
            .args(["-U", "app", "-A", "trust", "-k", "--no-sync", "--no-instructions", "-E", "UTF8"])
            .arg("--locale=C.UTF-8"));
        // One user needs a password, to see what becomes of a wrong one.
        let hba = data.join("pg_hba.conf");
        let rules = std::fs::read_to_string(&hba).expect("the rules");
        std::fs::write(&hba, format!("local all guarded scram-sha-256\n{rules}")).expect("written");
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
            "-c listen_addresses='' -c unix_socket_directories={} -c fsync=off -c shared_buffers=32MB \
             -c max_connections=300 {settings}",
            server.folder.display()
        );
        run(command(&bin.join("pg_ctl"))
            .arg("-D")
            .arg(&data)
            .args(["-w", "-t", "120", "-l"])
            .arg(server.folder.join("log"))
            .args(["-o", &options, "start"]));
        server
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
        let bin = programs();
        let data = self.folder.join("data");
        run(command(&bin.join("pg_ctl"))
            .arg("-D")
            .arg(&data)
            .args(["-m", "immediate", "-w", "-t", "120", "restart", "-l"])
            .arg(self.folder.join("log")));
    }
}

/// The server that the tests of this program share.
pub fn shared() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(""))
}

/// The URL of a new database on it.
pub fn new_database() -> String {
    shared().url("app", &shared().new_database())
}

/// Says in a home that its state is on a server.
pub fn configure(home: &Path, url: &str) {
    let text = format!("[state]\nbackend = \"postgres\"\n[state.postgres]\nurl = \"{url}\"\n");
    std::fs::write(home.join("config.toml"), text).expect("written");
}
