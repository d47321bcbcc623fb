//! A real PgBouncer in front of a server, in transaction mode, with so few connections to it that a transaction seldom
//! meets the one of the transaction before.
#![allow(clippy::disallowed_methods, reason = "files of the test's own, none of them a database")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};

use super::certificates;
use super::server::{self, Server};

/// Connections to the server that the clients of one database share.
const SERVED_BY: usize = 3;

pub struct Bouncer {
    folder: PathBuf,
    pub port: u16,
    /// Stops it when its input ends, which is when this process does.
    _keeper: Child,
}

impl Bouncer {
    /// In front of this server, on a socket.
    pub fn before(server: &Server) -> Self {
        Self::start(server, 5432, |_| String::new())
    }

    /// In front of this server, on a port of this machine, too, where only TLS is spoken, with the certificates that
    /// [`certificates::make`] leaves in its folder.
    pub fn with_tls(server: &Server) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        Self::start(server, free.expect("a port").port(), |folder| {
            certificates::make(folder);
            let at = folder.display();
            format!(
                "listen_addr = 127.0.0.1\nclient_tls_sslmode = require\nclient_tls_key_file = {at}/server.key\n\
                 client_tls_cert_file = {at}/server.pem\n"
            )
        })
    }

    fn start(server: &Server, port: u16, settings: impl FnOnce(&Path) -> String) -> Self {
        let program = program();
        let folder = server::new_folder();
        let more = settings(&folder);
        let at = folder.display();
        let settings = format!(
            "[databases]\n* = host={} user=app\n[pgbouncer]\nlisten_addr =\nlisten_port = {port}\n\
             unix_socket_dir = {at}\nauth_type = any\npool_mode = transaction\ndefault_pool_size = {SERVED_BY}\n\
             max_client_conn = 1000\nserver_idle_timeout = 2\npidfile = {at}/pid\nlogfile = {at}/log\n{more}",
            server.folder().display()
        );
        std::fs::write(folder.join("settings"), settings).expect("written");
        server::give_away(&folder);
        // Before it is started: whatever fails from here on, it is stopped and removed.
        let keeper = Command::new("sh")
            .arg("-c")
            .arg(format!("trap '' INT TERM HUP; read -r _; kill -TERM \"$(cat {at}/pid)\"; rm -rf {at}"))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        server::run(server::command(&program).args(["-d", "-q"]).arg(folder.join("settings")));
        let bouncer = Self { folder, port, _keeper: keeper };
        let until = Instant::now() + Duration::from_secs(30);
        while Client::connect(&bouncer.url("postgres"), NoTls).is_err() {
            assert!(Instant::now() < until, "PgBouncer does not begin");
            std::thread::yield_now();
        }
        bouncer
    }

    /// Where its socket is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The URL of a database behind it.
    pub fn url(&self, database: &str) -> String {
        format!("host={} port={} user=app dbname={database}", self.folder.display(), self.port)
    }
}

fn program() -> PathBuf {
    let folders = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect::<Vec<_>>();
    folders
        .into_iter()
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join("pgbouncer"))
        .find(|program| program.is_file())
        .expect("PgBouncer: `apt-get install pgbouncer`")
}

/// The one that the tests of this program share, in front of the server that they share.
pub fn shared() -> &'static Bouncer {
    static BOUNCER: OnceLock<Bouncer> = OnceLock::new();
    BOUNCER.get_or_init(|| Bouncer::before(server::shared()))
}
