//! The built command in a pseudo-terminal, as a person has it.

#![allow(dead_code)] // each test file uses the part it needs

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// A pseudo-terminal of 24 lines, with the command on it.
pub(crate) struct Terminal {
    ours: File,
    pub(crate) theirs: OwnedFd,
    pub(crate) child: Child,
    seen: String,
}

impl Terminal {
    /// Starts `rowhouse --home HOME ARGUMENTS` in so many columns.
    pub(crate) fn start(home: &Path, columns: u16, arguments: &[&str]) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
        grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("its other end");
        let name = ptsname(&ours, Vec::new()).expect("its name");
        let theirs =
            rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("its other end");
        let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&ours, size).expect("a size");
        let end = || Stdio::from(theirs.try_clone().expect("a descriptor"));
        let child = Command::new(assert_cmd::cargo::cargo_bin("rowhouse"))
            .arg("--home")
            .arg(home)
            .args(arguments)
            .env("TERM", "xterm-256color")
            .env_remove("ROWHOUSE_HOME")
            .env_remove("NO_COLOR")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("the command starts");
        Self { ours: File::from(ours), theirs, child, seen: String::new() }
    }

    /// Reads until this stands there. What is drawn comes in pieces, between sequences that move the cursor.
    pub(crate) fn wait_for(&mut self, text: &str) {
        let mut bytes = [0; 4096];
        while !self.seen.contains(text) {
            let length = self.ours.read(&mut bytes).expect("the terminal");
            self.seen += &String::from_utf8_lossy(&bytes[..length]);
        }
    }

    pub(crate) fn type_in(&mut self, keys: &str) {
        self.ours.write_all(keys.as_bytes()).expect("the terminal");
    }

    /// Waits for the end; answers how it ended, and all that was to be seen.
    pub(crate) fn end(self) -> (ExitStatus, String) {
        let Self { mut ours, theirs, mut child, mut seen } = self;
        drop(theirs);
        let mut bytes = [0; 4096];
        // On Linux a terminal that nobody has open any more answers an error, once all was read.
        while let Ok(length @ 1..) = ours.read(&mut bytes) {
            seen += &String::from_utf8_lossy(&bytes[..length]);
        }
        (child.wait().expect("it ends"), seen)
    }
}
