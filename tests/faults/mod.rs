//! Disks that are slow or fail, for tests: a VFS in front of SQLite's own (<https://sqlite.org/vfs.html>) that does what
//! it is told before it passes an operation on.
//!
//! [`inject`] says what happens to which operations on which files, until its answer is dropped; that also ends a delay
//! that is under way. Files that no rule names are not affected, so tests that run beside each other name their files by
//! their whole path. The -shm file is no file of its own here: SQLite maps it through the database it belongs to
//! ([`Operation::MapShm`] on the database's name creates it and makes it longer).
//!
//! The VFS becomes the default of the process with the first rule: inject one, or call [`install`], before the first
//! connection that is to be affected is opened.

#![allow(dead_code, unreachable_pub)] // each test file uses the part it needs

pub mod power;

use std::collections::BTreeSet;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};
use std::{mem, ptr};

use rowhouse::rusqlite::ffi;

/// What SQLite asks of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Open,
    Read,
    Write,
    Truncate,
    Sync,
    Delete,
    /// Creates, lengthens and maps the -shm file.
    MapShm,
}

/// What becomes of an operation.
#[derive(Clone, Copy, Debug)]
pub enum Effect {
    /// It is done after this time.
    Delay(Duration),
    /// It is not done, and answers this code (`ffi::SQLITE_FULL`, `SQLITE_IOERR_WRITE`, `SQLITE_CORRUPT`).
    Fail(c_int),
}

/// A rule that holds until this is dropped.
pub struct Injected(Arc<Rule>);

struct Rule {
    operations: Vec<Operation>,
    ending: String,
    effect: Effect,
    hits: AtomicUsize,
    most: usize,
    /// The names of the threads that began one.
    threads: Mutex<BTreeSet<String>>,
}

static RULES: Mutex<Vec<Arc<Rule>>> = Mutex::new(Vec::new());
static CHANGED: Condvar = Condvar::new();
/// The number of rules: without one, an operation costs nothing.
static COUNT: AtomicUsize = AtomicUsize::new(0);

fn rules() -> MutexGuard<'static, Vec<Arc<Rule>>> {
    RULES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on `operations` on files whose path ends like this have this effect.
pub fn inject(operations: &[Operation], ending: impl AsRef<Path>, effect: Effect) -> Injected {
    inject_times(usize::MAX, operations, ending, effect)
}

/// The same for the first `most` of them.
pub fn inject_times(
    most: usize,
    operations: &[Operation],
    ending: impl AsRef<Path>,
    effect: Effect,
) -> Injected {
    install();
    let ending = ending.as_ref().to_str().expect("a plain path").to_owned();
    let operations = operations.to_vec();
    let (hits, threads) = (AtomicUsize::new(0), Mutex::default());
    let rule = Arc::new(Rule { operations, ending, effect, hits, most, threads });
    rules().push(rule.clone());
    COUNT.fetch_add(1, Ordering::SeqCst);
    Injected(rule)
}

/// Only looks who begins `operations` on files whose path ends like this.
pub fn observe(operations: &[Operation], ending: impl AsRef<Path>) -> Injected {
    inject(operations, ending, Effect::Delay(Duration::ZERO))
}

impl Injected {
    /// The threads that began operations that it affects, by name.
    pub fn threads(&self) -> BTreeSet<String> {
        self.0.threads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many operations began that it affects.
    pub fn hits(&self) -> usize {
        self.0.hits.load(Ordering::SeqCst)
    }
}

impl Drop for Injected {
    fn drop(&mut self) {
        rules().retain(|rule| !Arc::ptr_eq(rule, &self.0));
        COUNT.fetch_sub(1, Ordering::SeqCst);
        CHANGED.notify_all();
    }
}

/// Does what the rules say; answers the code of an operation that is not to be done.
fn meet(operation: Operation, name: &str) -> Option<c_int> {
    if COUNT.load(Ordering::SeqCst) == 0 {
        return None;
    }
    let mut rules = rules();
    let rule = rules
        .iter()
        .find(|rule| rule.operations.contains(&operation) && name.ends_with(&rule.ending))?
        .clone();
    let thread = std::thread::current().name().unwrap_or("?").to_owned();
    rule.threads.lock().unwrap_or_else(PoisonError::into_inner).insert(thread);
    if rule.hits.fetch_add(1, Ordering::SeqCst) >= rule.most {
        return None;
    }
    let time = match rule.effect {
        Effect::Fail(code) => return Some(code),
        Effect::Delay(time) => time,
    };
    let until = Instant::now() + time;
    while rules.iter().any(|other| Arc::ptr_eq(other, &rule)) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        rules = CHANGED.wait_timeout(rules, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    None
}

/// Makes the VFS the default of this process.
pub fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: sqlite3_initialize may be called at any time; a null name asks for the default VFS, which is never
        // unregistered here and so lives as long as the process.
        let base = unsafe {
            assert_eq!(ffi::sqlite3_initialize(), ffi::SQLITE_OK);
            ffi::sqlite3_vfs_find(ptr::null())
        };
        assert!(!base.is_null(), "SQLite has a default VFS");
        // SAFETY: it is a valid VFS; its methods, copied here, do not use the pointer to the VFS that they are given,
        // but for xOpen, which is replaced and passes the base on.
        let mut own = unsafe { ptr::read(base) };
        own.zName = c"rowhouse-faults".as_ptr();
        own.pNext = ptr::null_mut();
        own.pAppData = base.cast();
        own.szOsFile += c_int::try_from(mem::size_of::<File>()).expect("a small number");
        own.xOpen = Some(open);
        own.xDelete = Some(delete);
        // SAFETY: leaked, so it lives as long as the process.
        let done = unsafe { ffi::sqlite3_vfs_register(Box::leak(Box::new(own)), 1) };
        assert_eq!(done, ffi::SQLITE_OK);
    });
}

/// Ours, at the beginning of what SQLite allocates for a file; the base VFS's own follows it.
#[repr(C)]
struct File {
    base: ffi::sqlite3_file,
    /// From `Box::into_raw`, freed when the file is closed.
    name: *mut String,
}

/// The base VFS's file behind ours.
///
/// # Safety
/// `file` is one that [`open`] was given.
unsafe fn real(file: *mut ffi::sqlite3_file) -> *mut ffi::sqlite3_file {
    // SAFETY: SQLite allocated szOsFile bytes, ours and the base's; `File` is as aligned as a pointer, which is all
    // that SQLite gives.
    unsafe { file.cast::<File>().add(1).cast() }
}

/// The methods of the base VFS's file, the file, and its name.
///
/// # Safety
/// `file` was opened by [`open`] and is not closed.
unsafe fn parts<'f>(
    file: *mut ffi::sqlite3_file,
) -> (&'f ffi::sqlite3_io_methods, *mut ffi::sqlite3_file, &'f str) {
    // SAFETY: while it is open, its methods and its name are valid.
    unsafe {
        let real = real(file);
        (&*(*real).pMethods, real, (*(*file.cast::<File>()).name).as_str())
    }
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite gives a name that ends in NUL, or none for a temporary file, and room for both files.
    unsafe {
        let base: *mut ffi::sqlite3_vfs = (*vfs).pAppData.cast();
        (*file).pMethods = ptr::null();
        let text =
            if name.is_null() { String::new() } else { CStr::from_ptr(name).to_string_lossy().into_owned() };
        if let Some(code) = meet(Operation::Open, &text) {
            return code;
        }
        let real = real(file);
        (*real).pMethods = ptr::null();
        let done = (*base).xOpen.expect("every VFS opens")(base, name, real, flags, out_flags);
        if done == ffi::SQLITE_OK {
            (*file.cast::<File>()).name = Box::into_raw(Box::new(text));
            (*file).pMethods = &raw const METHODS;
        } else if let Some(methods) = (*real).pMethods.as_ref() {
            // Its contract: whoever sets the methods is closed, also after a failure.
            methods.xClose.expect("every file closes")(real);
        }
        done
    }
}

unsafe extern "C" fn delete(vfs: *mut ffi::sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    // SAFETY: as in `open`.
    unsafe {
        let base: *mut ffi::sqlite3_vfs = (*vfs).pAppData.cast();
        let text = CStr::from_ptr(name).to_string_lossy();
        match meet(Operation::Delete, &text) {
            Some(code) => code,
            None => (*base).xDelete.expect("every VFS deletes")(base, name, sync),
        }
    }
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: SQLite closes an open file once; nothing uses its name after that.
    unsafe {
        let (methods, real, _) = parts(file);
        let done = methods.xClose.expect("every file closes")(real);
        drop(Box::from_raw((*file.cast::<File>()).name));
        done
    }
}

/// Methods that pass everything on, after the rules for the operation named, if one is.
macro_rules! methods {
    ($($name:ident = $method:ident($($argument:ident: $type:ty),*) -> $answer:ty $(, $operation:ident)?;)*) => {
        $(
            unsafe extern "C" fn $name(file: *mut ffi::sqlite3_file $(, $argument: $type)*) -> $answer {
                // SAFETY: SQLite calls the methods of an open file only, with arguments that the base VFS's own method
                // takes as they are.
                unsafe {
                    let (methods, real, _name) = parts(file);
                    $(
                        if let Some(code) = meet(Operation::$operation, _name) {
                            return code;
                        }
                    )?
                    methods.$method.expect("a file of version 2 has it")(real $(, $argument)*)
                }
            }
        )*
    };
}

methods! {
    read = xRead(to: *mut c_void, bytes: c_int, at: i64) -> c_int, Read;
    file_size = xFileSize(size: *mut i64) -> c_int;
    lock = xLock(level: c_int) -> c_int;
    unlock = xUnlock(level: c_int) -> c_int;
    check_reserved = xCheckReservedLock(held: *mut c_int) -> c_int;
    control = xFileControl(what: c_int, argument: *mut c_void) -> c_int;
    sector_size = xSectorSize() -> c_int;
    characteristics = xDeviceCharacteristics() -> c_int;
    shm_map = xShmMap(page: c_int, size: c_int, extend: c_int, to: *mut *mut c_void) -> c_int, MapShm;
    shm_lock = xShmLock(offset: c_int, count: c_int, flags: c_int) -> c_int;
    shm_barrier = xShmBarrier() -> ();
    shm_unmap = xShmUnmap(delete: c_int) -> c_int;
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    bytes: c_int,
    at: i64,
) -> c_int {
    // SAFETY: as in `methods!`; SQLite gives so many bytes.
    unsafe {
        let (methods, real, name) = parts(file);
        if let Some(code) = meet(Operation::Write, name) {
            return code;
        }
        let done = methods.xWrite.expect("every file is written")(real, from, bytes, at);
        if done == ffi::SQLITE_OK {
            let length = usize::try_from(bytes).expect("a length");
            power::written(name, at, std::slice::from_raw_parts(from.cast(), length));
        }
        done
    }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: i64) -> c_int {
    // SAFETY: as in `methods!`.
    unsafe {
        let (methods, real, name) = parts(file);
        if let Some(code) = meet(Operation::Truncate, name) {
            return code;
        }
        let done = methods.xTruncate.expect("every file is cut")(real, size);
        if done == ffi::SQLITE_OK {
            power::truncated(name, size);
        }
        done
    }
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: as in `methods!`.
    unsafe {
        let (methods, real, name) = parts(file);
        let met = meet(Operation::Sync, name);
        let done = met.unwrap_or_else(|| methods.xSync.expect("every file is synced")(real, flags));
        power::synced(name, done == ffi::SQLITE_OK);
        done
    }
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    // Without memory-mapped reads (version 3): every read passes here.
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved),
    xFileControl: Some(control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};
