//! A small FUSE server (`linux/fuse.h`), to have a shared folder that is refused, that dies, or that two "hosts" mount.
//!
//! Each mount has its own page cache and its own locks, as each host of a network file system has; the files are one
//! and the same, in the server's memory. A dead server answers the first request, INIT, and then nothing. It does not
//! even take the requests: a process that waits for one can still be killed.
//!
//! Mounts live in a mount namespace of the process that made them and are gone with it.

#![allow(clippy::disallowed_methods, reason = "a test prepares and looks at files from outside")]
#![allow(dead_code)] // each test file uses the part it needs

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rustix::event::{PollFd, PollFlags, Timespec};

/// What these tests need from the machine; tells the reason on the standard error when it is missing.
pub(crate) fn available(test: &str) -> bool {
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
    may_mount(test, device.err().map(|error| format!("/dev/fuse: {error}")))
}

/// True for root, when nothing else is missing.
pub(crate) fn may_mount(test: &str, missing: Option<String>) -> bool {
    let not_root = (!rustix::process::geteuid().is_root()).then(|| "mounting needs root".to_owned());
    let Some(why) = not_root.or(missing) else { return true };
    eprintln!(
        "{test}: no real mounts ({why}); src/home/file_system/tests.rs checks lists of mounts all the same"
    );
    false
}

/// Gives this thread, and those it starts, mounts of their own.
pub(crate) fn own_mounts() {
    // SAFETY: changes what this thread sees, and no memory.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0, "{}", std::io::Error::last_os_error());
    mount("none", Path::new("/"), "", libc::MS_REC | libc::MS_PRIVATE, "");
}

/// mount(2).
pub(crate) fn mount(source: &str, target: &Path, name: &str, flags: libc::c_ulong, data: &str) {
    let text = |text: &str| CString::new(text).expect("no zero byte");
    let (source, name, data) = (text(source), text(name), text(data));
    let place = text(target.to_str().expect("a plain path"));
    // SAFETY: four strings that end with zero and outlive the call.
    let answer =
        unsafe { libc::mount(source.as_ptr(), place.as_ptr(), name.as_ptr(), flags, data.as_ptr().cast()) };
    assert_eq!(answer, 0, "mount {}: {}", target.display(), std::io::Error::last_os_error());
}

/// Shows a folder or a file at a second place.
pub(crate) fn bind(from: &Path, to: &Path) {
    mount(from.to_str().expect("a plain path"), to, "", libc::MS_BIND, "");
}

/// umount2(2), also when it is in use.
pub(crate) fn unmount(target: &Path) {
    let place = CString::new(target.to_str().expect("a plain path")).expect("no zero byte");
    // SAFETY: a string that ends with zero and outlives the call.
    let answer = unsafe { libc::umount2(place.as_ptr(), libc::MNT_DETACH) };
    assert_eq!(answer, 0, "unmount {}: {}", target.display(), std::io::Error::last_os_error());
}

const ROOT: u64 = 1;

/// The files of a server.
#[derive(Default)]
struct Tree {
    names: BTreeMap<(u64, Vec<u8>), u64>,
    /// Files by number; folders are those without an entry.
    bytes: BTreeMap<u64, Vec<u8>>,
    last: u64,
}

/// A server; each of its mounts is a host.
#[derive(Clone, Default)]
pub(crate) struct Server {
    tree: Arc<Mutex<Tree>>,
    /// Requests of all mounts, but for INIT.
    requests: Arc<AtomicU64>,
    silent: Arc<AtomicBool>,
}

impl Server {
    pub(crate) fn new() -> Self {
        let server = Self::default();
        server.tree.lock().expect("nobody panicked").last = ROOT;
        server
    }

    /// How many requests came.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    /// From now on nothing is answered.
    pub(crate) fn fall_silent(&self) {
        self.silent.store(true, Ordering::SeqCst);
    }

    /// Every name in it.
    pub(crate) fn names(&self) -> Vec<String> {
        let tree = self.tree.lock().expect("nobody panicked");
        tree.names.keys().map(|(_, name)| String::from_utf8_lossy(name).into_owned()).collect()
    }

    /// Makes a folder in its root.
    pub(crate) fn add_folder(&self, name: &str) {
        self.tree.lock().expect("nobody panicked").create(ROOT, name.as_bytes(), false);
    }

    /// Makes an empty file in its root.
    pub(crate) fn add_file(&self, name: &str) {
        self.tree.lock().expect("nobody panicked").create(ROOT, name.as_bytes(), true);
    }

    /// True when a request is there and may be taken; a silent server stays here.
    fn waits_for(&self, channel: &File) -> bool {
        loop {
            let silent = self.silent.load(Ordering::SeqCst);
            let wanted = if silent { PollFlags::empty() } else { PollFlags::IN };
            let mut polled = [PollFd::new(channel, wanted)];
            let moment = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
            match rustix::event::poll(&mut polled, Some(&moment)) {
                // The mount is gone.
                Ok(_) if polled[0].revents().contains(PollFlags::ERR) => return false,
                Ok(found) if found > 0 && !self.silent.load(Ordering::SeqCst) => return true,
                _ => {}
            }
        }
    }

    /// Mounts it under the name of a kind of file system (`fuse.glusterfs`), and serves until the mount is gone.
    pub(crate) fn mount(&self, target: &Path, name: &str) {
        let server = self.clone();
        let mut channel = attach(target, name);
        std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 20];
            while server.waits_for(&channel) {
                let Ok(length) = channel.read(&mut buffer) else { return };
                let request = &buffer[..length];
                if number(request, 4, 4) != INIT {
                    server.requests.fetch_add(1, Ordering::SeqCst);
                }
                let Some(answer) = server.answer(request) else { continue };
                let (error, body) = match answer {
                    Ok(body) => (0, body),
                    Err(error) => (error, Vec::new()),
                };
                // Nobody may wait for it any more.
                let _ = channel.write_all(&reply(request, error, &body));
            }
        });
    }
}

/// A mount whose server has died, as far as anybody can see. It lasts as long as this process.
pub(crate) fn mount_dead(target: &Path, name: &str) {
    let mut channel = attach(target, name);
    let mut buffer = vec![0; 1 << 20];
    let length = channel.read(&mut buffer).expect("INIT comes first");
    channel.write_all(&reply(&buffer[..length], 0, &init())).expect("answered");
    std::mem::forget(channel);
}

fn attach(target: &Path, name: &str) -> File {
    let channel = OpenOptions::new().read(true).write(true).open("/dev/fuse").expect("/dev/fuse");
    let data = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", channel.as_raw_fd());
    mount("server:/export", target, name, libc::MS_NOSUID | libc::MS_NODEV, &data);
    channel
}

const FORGET: u64 = 2;
const INIT: u64 = 26;
const BATCH_FORGET: u64 = 42;

fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    let mut all = [0; 8];
    all[..length].copy_from_slice(&bytes[at..at + length]);
    u64::from_le_bytes(all)
}

fn reply(request: &[u8], error: i32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + body.len());
    out.extend((16 + body.len() as u32).to_le_bytes());
    out.extend((-error).to_le_bytes());
    out.extend(&request[8..16]);
    out.extend(body);
    out
}

/// `struct fuse_init_out`: version 7.31, writes of 128 KiB, and nothing special.
fn init() -> Vec<u8> {
    let mut out = vec![0; 64];
    out[0..4].copy_from_slice(&7u32.to_le_bytes());
    out[4..8].copy_from_slice(&31u32.to_le_bytes());
    out[8..12].copy_from_slice(&(1u32 << 17).to_le_bytes());
    out[16..18].copy_from_slice(&12u16.to_le_bytes());
    out[18..20].copy_from_slice(&9u16.to_le_bytes());
    out[20..24].copy_from_slice(&(1u32 << 17).to_le_bytes());
    out[24..28].copy_from_slice(&1u32.to_le_bytes());
    out
}

impl Tree {
    /// `struct fuse_attr`.
    fn attributes(&self, node: u64) -> Vec<u8> {
        let size = self.bytes.get(&node).map(|bytes| bytes.len() as u64);
        let mode: u32 = if size.is_some() { 0o100_600 } else { 0o040_700 };
        let size = size.unwrap_or(0);
        let long = [node, size, size.div_ceil(512), 0, 0, 0];
        let short = [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0];
        let long = long.iter().flat_map(|value| value.to_le_bytes());
        long.chain(short.iter().flat_map(|value| value.to_le_bytes())).collect()
    }

    /// `struct fuse_attr_out`: good for a second.
    fn attributes_out(&self, node: u64) -> Vec<u8> {
        let mut out = 1u64.to_le_bytes().to_vec();
        out.extend([0; 8]);
        out.extend(self.attributes(node));
        out
    }

    /// `struct fuse_entry_out`: the name is looked up each time, the rest is good for a second.
    fn entry_out(&self, node: u64) -> Vec<u8> {
        let head = [node, 0, 0, 1, 0u64];
        head.iter().flat_map(|value| value.to_le_bytes()).chain(self.attributes(node)).collect()
    }

    fn create(&mut self, parent: u64, name: &[u8], is_file: bool) -> u64 {
        self.last += 1;
        let number = self.last;
        self.names.insert((parent, name.to_vec()), number);
        if is_file {
            self.bytes.insert(number, Vec::new());
        }
        number
    }
}

/// The name at the end of a request, which ends with zero.
fn name(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

impl Server {
    /// `None` for a request that wants no answer.
    fn answer(&self, request: &[u8]) -> Option<Result<Vec<u8>, i32>> {
        let (operation, node, body) = (number(request, 4, 4), number(request, 16, 8), &request[40..]);
        let mut tree = self.tree.lock().expect("nobody panicked");
        Some(Ok(match operation {
            FORGET | BATCH_FORGET => return None,
            INIT => init(),
            1 => match tree.names.get(&(node, name(body).to_vec())) {
                Some(found) => tree.entry_out(*found),
                None => return Some(Err(libc::ENOENT)),
            },
            3 => tree.attributes_out(node),
            // SETATTR: only the size is kept.
            4 => {
                if number(body, 0, 4) & 8 != 0 {
                    let size = number(body, 16, 8) as usize;
                    tree.bytes.entry(node).or_default().resize(size, 0);
                }
                tree.attributes_out(node)
            }
            // MKNOD, MKDIR
            8 | 9 => {
                let at = if operation == 8 { 16 } else { 8 };
                let made = tree.create(node, name(&body[at..]), operation == 8);
                tree.entry_out(made)
            }
            // UNLINK, RMDIR; an open file keeps its bytes.
            10 | 11 => match tree.names.remove(&(node, name(body).to_vec())) {
                Some(_) => Vec::new(),
                None => return Some(Err(libc::ENOENT)),
            },
            // OPEN, OPENDIR
            14 | 27 => vec![0; 16],
            15 => {
                let (at, size) = (number(body, 8, 8) as usize, number(body, 16, 4) as usize);
                let bytes = tree.bytes.get(&node).map_or(&[][..], Vec::as_slice);
                bytes[at.min(bytes.len())..(at + size).min(bytes.len())].to_vec()
            }
            16 => {
                let (at, size) = (number(body, 8, 8) as usize, number(body, 16, 4) as usize);
                let bytes = tree.bytes.entry(node).or_default();
                bytes.resize(bytes.len().max(at + size), 0);
                bytes[at..at + size].copy_from_slice(&body[40..40 + size]);
                [(size as u32).to_le_bytes(), [0; 4]].concat()
            }
            // STATFS: room for anything, blocks of 4 KiB, long names.
            17 => {
                let mut out = vec![0; 80];
                for at in [0, 8, 16, 24, 32] {
                    out[at..at + 8].copy_from_slice(&(1u64 << 20).to_le_bytes());
                }
                out[40..44].copy_from_slice(&4096u32.to_le_bytes());
                out[44..48].copy_from_slice(&255u32.to_le_bytes());
                out[48..52].copy_from_slice(&4096u32.to_le_bytes());
                out
            }
            // RELEASE, FSYNC, FLUSH, READDIR (nothing), RELEASEDIR, FSYNCDIR, ACCESS
            18 | 20 | 25 | 28 | 29 | 30 | 34 => Vec::new(),
            // CREATE
            35 => {
                let made = tree.create(node, name(&body[16..]), true);
                [tree.entry_out(made), vec![0; 16]].concat()
            }
            _ => return Some(Err(libc::ENOSYS)),
        }))
    }
}
