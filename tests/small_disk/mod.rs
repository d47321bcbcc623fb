//! A file system of a few kibibytes or mebibytes, in memory. An ordinary user gets one in a namespace of mounts.

#![allow(dead_code, unreachable_pub)] // each test file uses the part it needs
#![allow(clippy::disallowed_methods, reason = "a test prepares files")]

use std::io::Write;
use std::path::Path;
use std::process::Command;

/// Set for a test that runs in a namespace.
const INSIDE: &str = "ROWHOUSE_TEST_MAY_MOUNT";

/// It is gone when this is dropped.
pub struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// `None` when this user may not mount: then the whole test of this name has run in a namespace where it may, or says
    /// why there is none.
    pub fn mount(test: &str, bytes: usize) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(folder.path())
            .output();
        let why = match mounted {
            Ok(output) if output.status.success() => return Some(Self { folder }),
            Ok(output) => text(&output.stderr),
            Err(error) => error.to_string(),
        };
        let why = if std::env::var_os(INSIDE).is_some() { Some(why) } else { run_in_namespace(test) };
        if let Some(why) = why {
            println!("not run: no small file system here: {why}");
        }
        None
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves this much room.
    pub fn fill(&self, leave: u64) {
        let mut ballast = std::fs::File::create(self.path().join("ballast")).expect("a name");
        while ballast.write_all(&[1; 4096]).is_ok() {}
        let size = ballast.metadata().expect("a file").len();
        ballast.set_len(size.saturating_sub(leave)).expect("less than before");
    }

    /// Changes an option of the mount.
    pub fn remount(&self, option: &str) {
        let options = format!("remount,{option}");
        let done = Command::new("mount").args(["-o", &options]).arg(self.path()).output().expect("mount");
        assert!(done.status.success(), "{options}: {}", text(&done.stderr));
    }

    /// Takes away what [`fill`](Self::fill) put there.
    pub fn empty(&self) {
        std::fs::remove_file(self.path().join("ballast")).expect("the ballast");
    }
}

/// Runs one test of this binary where its user may mount; answers why there is no such place.
fn run_in_namespace(test: &str) -> Option<String> {
    let ran = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "--"])
        .arg(std::env::current_exe().expect("this test's binary"))
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .output();
    match ran {
        Err(error) => Some(error.to_string()),
        Ok(output) if output.status.success() => {
            let said = text(&output.stdout);
            said.lines().find_map(|line| Some(line.split_once("not run: ")?.1.to_owned()))
        }
        // What the harness answers when a test fails.
        Ok(output) if output.status.code() == Some(101) => {
            panic!("{}\n{}", text(&output.stdout), text(&output.stderr))
        }
        Ok(output) => Some(text(&output.stderr)),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}
