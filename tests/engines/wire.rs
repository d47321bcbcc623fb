//! Stands between a client and a server, and ends a connection where a test says so: at a COMMIT, or in an answer.
#![allow(clippy::disallowed_methods, reason = "sockets of the test's own")]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::server::Server;

/// How the next COMMIT ends, and its connection with it.
#[derive(Clone)]
pub enum Ending {
    /// It is done, and nothing is said.
    Cut,
    /// The same, and from then on nobody gets through until all is well again.
    CutAndDown,
    /// It is done, and this is said in the place of the answer. Nothing follows it until the client goes.
    Said(Vec<u8>),
    /// It never comes to the server, and this is said.
    Refused(Vec<u8>),
}

pub struct Wire {
    folder: tempfile::TempDir,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Default)]
struct Plan {
    next_commit: Option<Ending>,
    /// After so many bytes of what the server answers the connection is cut, once.
    cut_after: Option<usize>,
    down: bool,
}

impl Wire {
    pub fn to(server: &Server) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).expect("a socket");
        let (to, plan) = (server.folder().join(".s.PGSQL.5432"), Arc::new(Mutex::new(Plan::default())));
        let shared = plan.clone();
        std::thread::spawn(move || listen(&listener, &to, &shared));
        Self { folder, plan }
    }

    /// The URL of a database behind it.
    pub fn url(&self, database: &str) -> String {
        format!("host={} user=app dbname={database}", self.folder.path().display())
    }

    pub fn next_commit(&self, ending: Ending) {
        self.plan.lock().expect("no panic").next_commit = Some(ending);
    }

    pub fn cut_after(&self, bytes: usize) {
        self.plan.lock().expect("no panic").cut_after = Some(bytes);
    }

    /// Whether what was planned took place.
    pub fn is_done(&self) -> bool {
        let plan = self.plan.lock().expect("no panic");
        plan.next_commit.is_none() && plan.cut_after.is_none()
    }

    /// Everybody gets through again.
    pub fn heal(&self) {
        self.plan.lock().expect("no panic").down = false;
    }
}

/// What a server, or somebody before it, says of an error. Poolers leave out the word that is not translated.
pub fn error(severity: &str, code: &str, is_pooler: bool) -> Vec<u8> {
    let word = if is_pooler { String::new() } else { format!("V{severity}\0") };
    let fields = format!("S{severity}\0{word}C{code}\0Mit ended\0\0");
    let length = u32::try_from(4 + fields.len()).expect("short").to_be_bytes();
    // Behind an ERROR it goes on, and is in no transaction.
    let ready: &[u8] = if severity == "ERROR" { b"Z\0\0\0\x05I" } else { b"" };
    [b"E", &length[..], fields.as_bytes(), ready].concat()
}

fn listen(listener: &UnixListener, to: &PathBuf, plan: &Arc<Mutex<Plan>>) {
    for client in listener.incoming().flatten() {
        if plan.lock().expect("no panic").down {
            continue;
        }
        let Ok(server) = UnixStream::connect(to) else { continue };
        let (from_client, to_client) = (client.try_clone().expect("one more"), client);
        let (from_server, to_server) = (server.try_clone().expect("one more"), server);
        let ending = Arc::new(Mutex::new(None));
        let (its, plans) = (ending.clone(), plan.clone());
        let back_to = to_client.try_clone().expect("one more");
        std::thread::spawn(move || forth(from_client, to_server, back_to, &plans, &its));
        let plan = plan.clone();
        std::thread::spawn(move || back(from_server, to_client, &plan, &ending));
    }
}

/// What the client says. A simple query with a COMMIT in it is what is looked for.
fn forth(
    mut client: UnixStream,
    mut server: UnixStream,
    mut to_client: UnixStream,
    plan: &Mutex<Plan>,
    ending: &Mutex<Option<Ending>>,
) {
    let mut buffer = vec![0; 65536];
    while let Ok(read @ 1..) = client.read(&mut buffer) {
        let mut plan = plan.lock().expect("no panic");
        if plan.down {
            break;
        }
        if buffer[..read].windows(6).any(|bytes| bytes == b"COMMIT") {
            let next = plan.next_commit.take();
            plan.down |= matches!(next, Some(Ending::CutAndDown));
            if let Some(Ending::Refused(words)) = &next {
                let _ = to_client.write_all(words);
                let _ = server.shutdown(Shutdown::Both);
                let _ = to_client.shutdown(Shutdown::Both);
                return;
            }
            *ending.lock().expect("no panic") = next;
        }
        drop(plan);
        if server.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Write);
}

/// What the server says. When it has answered a COMMIT it has done it.
fn back(mut server: UnixStream, mut client: UnixStream, plan: &Mutex<Plan>, ending: &Mutex<Option<Ending>>) {
    let mut buffer = vec![0; 65536];
    while let Ok(read @ 1..) = server.read(&mut buffer) {
        let mut said = &buffer[..read];
        let mut is_last = false;
        if let Some(ending) = ending.lock().expect("no panic").take() {
            if let Ending::Said(words) = ending {
                let _ = client.write_all(&words);
                while let Ok(1..) = server.read(&mut buffer) {}
            }
            break;
        }
        let mut plan = plan.lock().expect("no panic");
        if let Some(left) = plan.cut_after {
            is_last = left <= read;
            said = &said[..read.min(left)];
            plan.cut_after = (!is_last).then(|| left - read);
        }
        drop(plan);
        if client.write_all(said).is_err() || is_last {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}
