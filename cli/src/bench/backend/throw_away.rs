//! PostgreSQL servers from the installed programs, for as long as they are measured: their data on the disk that is
//! measured, their sockets in the folder for temporary files, nothing on the network.
//!
//! Invariants:
//! - A server ends with this program, however that ends: a shell whose input is this program's stops it and removes its
//!   files when that input ends. A signal stops it before the folder of the bench is removed.
//! - It keeps what it acknowledges: `fsync` and `synchronous_commit` are on, as they are by default.
//!
//! Test: `cli/tests/bench_backend.rs`.

#![allow(clippy::disallowed_methods, reason = "settings of a server of our own, no database")]

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use rowhouse::{Error, ErrorKind};
use tempfile::TempDir;

use crate::signals::{self, AtEnd};

const INSTALL: &str = "install PostgreSQL (apt-get install postgresql), name the folder of its programs with --programs, \
                       or measure a server of your own with --url";

/// Where the server's programs are.
#[derive(Clone)]
pub(super) struct Programs(PathBuf);

impl Programs {
    /// The folder that is given, the newest that Debian's packages have, or one on the path.
    ///
    /// # Errors
    /// `NotFound`, and what to install.
    pub(super) fn find(given: Option<&Path>) -> Result<Self> {
        let packaged = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let mut packaged: Vec<_> = packaged
            .filter_map(|found| Some((found.file_name().to_str()?.parse::<u32>().ok()?, found.path())))
            .collect();
        packaged.sort();
        let packaged = packaged.into_iter().rev().map(|(_, folder)| folder.join("bin"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let usual = packaged.chain(std::env::split_paths(&path));
        let mut folders: Box<dyn Iterator<Item = PathBuf>> = match given {
            Some(given) => Box::new(std::iter::once(given.to_owned())),
            None => Box::new(usual),
        };
        let needed = ["initdb", "pg_ctl", "pg_basebackup"];
        let complete = |folder: &PathBuf| needed.iter().all(|program| folder.join(program).is_file());
        folders.find(complete).map(Self).ok_or_else(|| {
            let message = format!("PostgreSQL's programs {} were not found", needed.join(", "));
            Error::new(ErrorKind::NotFound, message).advise(INSTALL).into()
        })
    }

    /// One of them, as a user who may run it: a server refuses root.
    fn command(&self, program: &str) -> Command {
        let program = self.0.join(program);
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
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A server that runs.
pub(super) struct Server {
    programs: Programs,
    data: PathBuf,
    sockets: TempDir,
    /// Stops the server when its input ends.
    keeper: Option<Child>,
    _stopped: AtEnd,
}

impl Server {
    /// A new one with its data in this folder.
    ///
    /// # Errors
    /// What its programs said.
    pub(super) fn start(programs: &Programs, data: &Path) -> Result<Self> {
        make_for_server(data)?;
        run(programs.command("initdb").arg("-D").arg(data).args([
            "-U",
            "app",
            "-A",
            "trust",
            "-k",
            "--no-instructions",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
        ]))?;
        Self::run(programs, data)
    }

    /// A copy that follows this one.
    ///
    /// # Errors
    /// What its programs said.
    pub(super) fn standby(&self, data: &Path) -> Result<Self> {
        make_for_server(data)?;
        run(self
            .programs
            .command("pg_basebackup")
            .args(["-U", "app", "-R", "-X", "stream", "-c", "fast", "-h"])
            .arg(self.sockets.path())
            .arg("-D")
            .arg(data))?;
        Self::run(&self.programs, data)
    }

    /// From now on nothing is acknowledged that no standby has written. The first write waits until one is there.
    ///
    /// # Errors
    /// What its programs said.
    pub(super) fn wait_for_standbys(&self) -> Result<()> {
        let file = self.data.join("postgresql.conf");
        std::fs::OpenOptions::new()
            .append(true)
            .open(&file)
            .and_then(|mut settings| writeln!(settings, "synchronous_standby_names = '*'"))
            .map_err(|error| Error::io("change the settings of a server", &file, error))?;
        self.control(&["restart"])
    }

    fn run(programs: &Programs, data: &Path) -> Result<Self> {
        let sockets = tempfile::Builder::new().prefix("rowhouse-pg-").tempdir();
        let sockets = sockets.context("making a folder for the sockets of a server")?;
        give_to_server(sockets.path())?;
        let stop = {
            let (programs, data) = (programs.clone(), data.to_owned());
            move || drop(run(control(&programs, &data).args(["-m", "immediate", "stop"])))
        };
        // Before the server is started: whatever fails from here on, it is stopped.
        let keeper = keeper(programs, data, sockets.path())?;
        let server = Self {
            programs: programs.clone(),
            data: data.to_owned(),
            sockets,
            keeper: Some(keeper),
            _stopped: signals::at_end(stop),
        };
        let options = format!(
            "-c unix_socket_directories={} -c listen_addresses='' -c max_connections=300 -c wal_retrieve_retry_interval=100ms",
            server.sockets.path().display()
        );
        let log = data.join("server.log");
        server.control(&[
            "-l".as_ref(),
            log.as_os_str(),
            "-o".as_ref(),
            options.as_ref(),
            "start".as_ref(),
        ])?;
        Ok(server)
    }

    fn control<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Result<()> {
        run(control(&self.programs, &self.data).args(arguments))
    }

    /// Where its only database is.
    pub(super) fn url(&self) -> String {
        format!("host={} user=app dbname=postgres", self.sockets.path().display())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            // Its input ends, and so it stops the server.
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
    }
}

fn control(programs: &Programs, data: &Path) -> Command {
    let mut command = programs.command("pg_ctl");
    command.arg("-D").arg(data).args(["-w", "-t", "120"]);
    command
}

fn keeper(programs: &Programs, data: &Path, sockets: &Path) -> Result<Child> {
    let script = "trap '' INT TERM HUP; read -r _; \
                  if [ \"$4\" ]; then runuser -u postgres -- \"$1\" -D \"$2\" -m immediate stop; \
                  else \"$1\" -D \"$2\" -m immediate stop; fi; rm -rf \"$2\" \"$3\"";
    Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(programs.0.join("pg_ctl"))
        .args([data, sockets])
        .arg(if is_root() { "root" } else { "" })
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("starting sh")
}

/// Runs it, and tells what it said when it fails.
fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    // What it starts stays, and would keep an open pipe to us: so its output goes to a file.
    let said = tempfile::tempfile().context("a file for what a program says")?;
    let both = [said.try_clone(), said.try_clone()];
    let [out, err] = both.map(|file| file.context("a file for what a program says"));
    let status = command.stdout(out?).stderr(err?).status();
    let status = status.with_context(|| format!("starting {program}"))?;
    if status.success() {
        return Ok(());
    }
    let message = format!("{program} failed: {}", last_line(said));
    let advice = if is_root() {
        "servers of root run as the user postgres, who must be able to enter the folder of --dir"
    } else {
        "look at what it said, or measure a server of your own with --url"
    };
    Err(Error::new(ErrorKind::Io, message).advise(advice).into())
}

fn last_line(mut said: std::fs::File) -> String {
    use std::io::{Read, Seek};
    let mut text = String::new();
    let read = said.rewind().and_then(|()| said.read_to_string(&mut text));
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    read.ok().and(line).unwrap_or("it did not say why").to_owned()
}

/// Lets servers reach their folders in this one, when they run as another user.
///
/// # Errors
/// When its permissions cannot be changed.
pub(super) fn let_enter(folder: &Path) -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let mode = std::fs::Permissions::from_mode(0o711);
    std::fs::set_permissions(folder, mode)
        .map_err(|error| Error::io("let a server enter a folder", folder, error).into())
}

/// A folder that the server has for itself.
fn make_for_server(folder: &Path) -> Result<()> {
    std::fs::create_dir(folder).map_err(|error| Error::io("create a folder for a server", folder, error))?;
    give_to_server(folder)
}

fn give_to_server(folder: &Path) -> Result<()> {
    let mode = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(folder, mode)
        .map_err(|error| Error::io("make a server's folder private", folder, error))?;
    if is_root() { run(Command::new("chown").arg("postgres").arg(folder)) } else { Ok(()) }
}
