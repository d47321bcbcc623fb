//! What SQLite calls: each function turns its arguments into a call of [`MemoryFile`].
//!
//! SQLite opens a file into memory that it owns, uses it from one thread at a time, and closes it once
//! (<https://sqlite.org/c3ref/vfs.html>, <https://sqlite.org/c3ref/io_methods.html>). That is what the safety of this
//! file stands on; none of its functions panics.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, OnceLock};

use rusqlite::ffi::{self, sqlite3_file, sqlite3_int64, sqlite3_vfs};

use super::file::{Level, MemoryFile, Slots, Span, Taken};
use super::{FILES, VFS};

/// The longest name; ours are far shorter.
const LONGEST_NAME: c_int = 512;

/// An open file, as SQLite holds it.
#[repr(C)]
struct Handle {
    /// First, because SQLite sees only this.
    base: sqlite3_file,
    open: *mut Open,
}

/// What belongs to one opening of a file.
struct Open {
    file: Arc<MemoryFile>,
    level: Level,
    slots: Slots,
    in_index: bool,
}

/// The registered VFS; SQLite keeps its address for as long as the process lives.
struct Registered(sqlite3_vfs);

// SAFETY: it is written before it is registered; afterwards only SQLite changes it (its list of VFSs), under a mutex of
// its own. The pointers in it are to `'static` data and functions.
unsafe impl Send for Registered {}
// SAFETY: as above.
unsafe impl Sync for Registered {}

/// Makes the VFS known to SQLite, once.
pub(super) fn register() -> Result<(), ffi::Error> {
    static REGISTERED: OnceLock<c_int> = OnceLock::new();
    let code = *REGISTERED.get_or_init(|| {
        // SAFETY: a null name asks for the default VFS, which stays registered for the life of the process.
        let default = unsafe { ffi::sqlite3_vfs_find(ptr::null()) };
        if default.is_null() {
            return ffi::SQLITE_ERROR;
        }
        let own = Box::leak(Box::new(Registered(vfs(default))));
        // SAFETY: leaked, so it is valid for ever; not made the default.
        unsafe { ffi::sqlite3_vfs_register(&raw mut own.0, 0) }
    });
    if code == ffi::SQLITE_OK { Ok(()) } else { Err(ffi::Error::new(code)) }
}

fn vfs(default: *mut sqlite3_vfs) -> sqlite3_vfs {
    sqlite3_vfs {
        iVersion: 2,
        szOsFile: size_of::<Handle>() as c_int,
        mxPathname: LONGEST_NAME,
        pNext: ptr::null_mut(),
        zName: VFS.as_ptr(),
        pAppData: default.cast(),
        xOpen: Some(open),
        xDelete: Some(delete),
        xAccess: Some(exists),
        xFullPathname: Some(full_name),
        xDlOpen: Some(load),
        xDlError: Some(load_error),
        xDlSym: Some(symbol),
        xDlClose: Some(unload),
        xRandomness: Some(random),
        xSleep: Some(sleep),
        xCurrentTime: Some(now_in_days),
        xGetLastError: Some(last_error),
        xCurrentTimeInt64: Some(now),
        xSetSystemCall: None,
        xGetSystemCall: None,
        xNextSystemCall: None,
    }
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(is_reserved),
    xFileControl: Some(control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: Some(map_index),
    xShmLock: Some(lock_index),
    xShmBarrier: Some(barrier),
    xShmUnmap: Some(unmap_index),
    xFetch: None,
    xUnfetch: None,
};

/// What belongs to an open file.
///
/// # Safety
/// `file` was opened by [`open`] and not closed, and nobody else uses it during the answer's life.
unsafe fn opened<'f>(file: *mut sqlite3_file) -> &'f mut Open {
    // SAFETY: by the caller's promise it is a `Handle`, whose box lives until `close`.
    unsafe { &mut *(*file.cast::<Handle>()).open }
}

/// A name that SQLite gives; `None` for a temporary file.
///
/// # Safety
/// `name` is null or ends in NUL, and stays for the answer's life.
unsafe fn text<'n>(name: *const c_char) -> Option<std::borrow::Cow<'n, str>> {
    // SAFETY: by the caller's promise.
    (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_string_lossy())
}

unsafe extern "C" fn open(
    _: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    let handle = file.cast::<Handle>();
    // SAFETY: SQLite gives room for `szOsFile` bytes; without methods it is not closed when opening fails. The name is
    // null or a C string.
    let name = unsafe {
        (*handle).base.pMethods = ptr::null();
        text(name)
    };
    let found = match name {
        None => Arc::default(),
        Some(name) => {
            let mut files = FILES.lock();
            match files.get(&*name) {
                Some(file) => Arc::clone(file),
                None if flags & ffi::SQLITE_OPEN_CREATE != 0 => {
                    Arc::clone(files.entry(name.into_owned()).or_default())
                }
                None => return ffi::SQLITE_CANTOPEN,
            }
        }
    };
    let open = Open { file: found, level: Level::None, slots: Slots::default(), in_index: false };
    // SAFETY: as above; `out_flags` is null or ours to write.
    unsafe {
        (*handle).open = Box::into_raw(Box::new(open));
        (*handle).base.pMethods = &raw const METHODS;
        if !out_flags.is_null() {
            *out_flags = flags;
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: closed once, so the box is taken back once.
    let mut open = unsafe { Box::from_raw((*file.cast::<Handle>()).open) };
    if open.in_index {
        open.file.leave_index(&mut open.slots);
    }
    open.file.unlock(open.level, Level::None);
    ffi::SQLITE_OK
}

unsafe extern "C" fn delete(_: *mut sqlite3_vfs, name: *const c_char, _: c_int) -> c_int {
    // SAFETY: the name is a C string.
    let gone = unsafe { text(name) }.and_then(|name| FILES.lock().remove(&*name));
    if gone.is_some() { ffi::SQLITE_OK } else { ffi::SQLITE_IOERR_DELETE_NOENT }
}

unsafe extern "C" fn exists(
    _: *mut sqlite3_vfs,
    name: *const c_char,
    flags: c_int,
    answer: *mut c_int,
) -> c_int {
    // SAFETY: the name is a C string.
    let file = unsafe { text(name) }.and_then(|name| FILES.lock().get(&*name).cloned());
    // As on a disk, an empty log or journal counts as none.
    let is = file.is_some_and(|file| flags != ffi::SQLITE_ACCESS_EXISTS || !file.bytes.read().is_empty());
    // SAFETY: the out pointer is valid.
    unsafe { *answer = is.into() };
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_name(
    _: *mut sqlite3_vfs,
    name: *const c_char,
    room: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: the name is a C string; `out` has `room` bytes, which is at least what is copied.
    unsafe {
        let name = CStr::from_ptr(name).to_bytes_with_nul();
        if usize::try_from(room).unwrap_or(0) < name.len() {
            return ffi::SQLITE_CANTOPEN;
        }
        ptr::copy_nonoverlapping(name.as_ptr().cast(), out, name.len());
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(
    file: *mut sqlite3_file,
    into: *mut c_void,
    length: c_int,
    at: sqlite3_int64,
) -> c_int {
    let (Ok(length), Ok(at)) = (usize::try_from(length), usize::try_from(at)) else {
        return ffi::SQLITE_IOERR_READ;
    };
    // SAFETY: an open file; `into` has room for `length` bytes, which SQLite may not have written yet, so they are
    // zeroed before they become a slice.
    let (open, into) = unsafe {
        ptr::write_bytes(into.cast::<u8>(), 0, length);
        (opened(file), std::slice::from_raw_parts_mut(into.cast::<u8>(), length))
    };
    let bytes = open.file.bytes.read();
    let there = bytes.get(at..).unwrap_or_default();
    let there = &there[..there.len().min(length)];
    into[..there.len()].copy_from_slice(there);
    if there.len() == length { ffi::SQLITE_OK } else { ffi::SQLITE_IOERR_SHORT_READ }
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    from: *const c_void,
    length: c_int,
    at: sqlite3_int64,
) -> c_int {
    let (Ok(length), Ok(at)) = (usize::try_from(length), usize::try_from(at)) else {
        return ffi::SQLITE_IOERR_WRITE;
    };
    // SAFETY: an open file; `from` holds `length` bytes.
    let (open, from) = unsafe { (opened(file), std::slice::from_raw_parts(from.cast::<u8>(), length)) };
    let Some(end) = at.checked_add(length) else { return ffi::SQLITE_FULL };
    let mut bytes = open.file.bytes.write();
    if bytes.len() < end {
        let more = end - bytes.len();
        if bytes.try_reserve(more).is_err() {
            return ffi::SQLITE_FULL;
        }
        bytes.resize(end, 0);
    }
    bytes[at..end].copy_from_slice(from);
    ffi::SQLITE_OK
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: sqlite3_int64) -> c_int {
    let Ok(size) = usize::try_from(size) else { return ffi::SQLITE_IOERR_TRUNCATE };
    // SAFETY: an open file.
    unsafe { opened(file) }.file.bytes.write().truncate(size);
    ffi::SQLITE_OK
}

unsafe extern "C" fn sync(_: *mut sqlite3_file, _: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn size(file: *mut sqlite3_file, answer: *mut sqlite3_int64) -> c_int {
    // SAFETY: an open file; the out pointer is valid.
    unsafe { *answer = opened(file).file.bytes.read().len() as sqlite3_int64 };
    ffi::SQLITE_OK
}

fn level(number: c_int) -> Level {
    match number {
        ffi::SQLITE_LOCK_NONE => Level::None,
        ffi::SQLITE_LOCK_SHARED => Level::Shared,
        ffi::SQLITE_LOCK_RESERVED => Level::Reserved,
        ffi::SQLITE_LOCK_PENDING => Level::Pending,
        _ => Level::Exclusive,
    }
}

fn code(answer: Result<(), Taken>) -> c_int {
    match answer {
        Ok(()) => ffi::SQLITE_OK,
        Err(Taken) => ffi::SQLITE_BUSY,
    }
}

unsafe extern "C" fn lock(file: *mut sqlite3_file, wanted: c_int) -> c_int {
    // SAFETY: an open file.
    let open = unsafe { opened(file) };
    let (reached, answer) = open.file.lock(open.level, level(wanted));
    open.level = reached;
    code(answer)
}

unsafe extern "C" fn unlock(file: *mut sqlite3_file, wanted: c_int) -> c_int {
    // SAFETY: an open file.
    let open = unsafe { opened(file) };
    open.level = open.file.unlock(open.level, level(wanted));
    ffi::SQLITE_OK
}

unsafe extern "C" fn is_reserved(file: *mut sqlite3_file, answer: *mut c_int) -> c_int {
    // SAFETY: an open file; the out pointer is valid.
    unsafe { *answer = opened(file).file.is_reserved().into() };
    ffi::SQLITE_OK
}

unsafe extern "C" fn control(_: *mut sqlite3_file, what: c_int, _: *mut c_void) -> c_int {
    match what {
        // The log may go with the last connection: its content is in the main file then.
        ffi::SQLITE_FCNTL_PERSIST_WAL => ffi::SQLITE_OK,
        _ => ffi::SQLITE_NOTFOUND,
    }
}

unsafe extern "C" fn sector_size(_: *mut sqlite3_file) -> c_int {
    512
}

unsafe extern "C" fn characteristics(_: *mut sqlite3_file) -> c_int {
    // No power cut leaves anything behind.
    ffi::SQLITE_IOCAP_ATOMIC
        | ffi::SQLITE_IOCAP_SAFE_APPEND
        | ffi::SQLITE_IOCAP_SEQUENTIAL
        | ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn map_index(
    file: *mut sqlite3_file,
    region: c_int,
    bytes: c_int,
    create: c_int,
    answer: *mut *mut c_void,
) -> c_int {
    let (Ok(region), Ok(bytes)) = (usize::try_from(region), usize::try_from(bytes)) else {
        return ffi::SQLITE_IOERR_SHMMAP;
    };
    // SAFETY: an open file.
    let open = unsafe { opened(file) };
    if !open.in_index {
        open.file.join_index();
        open.in_index = true;
    }
    let start = open.file.region(region, bytes, create != 0);
    // SAFETY: the out pointer is valid. The region stays until this connection has left the index.
    unsafe { *answer = start.map_or(ptr::null_mut(), <*mut u8>::cast) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn lock_index(file: *mut sqlite3_file, first: c_int, count: c_int, how: c_int) -> c_int {
    let span = usize::try_from(first).ok().zip(usize::try_from(count).ok());
    let Some(span) = span.and_then(|(first, count)| Span::new(first, count)) else {
        return ffi::SQLITE_IOERR_SHMLOCK;
    };
    // SAFETY: an open file.
    let Open { file, slots, .. } = unsafe { opened(file) };
    if how & ffi::SQLITE_SHM_UNLOCK != 0 {
        file.unlock_slots(slots, span);
        return ffi::SQLITE_OK;
    }
    code(file.lock_slots(slots, span, how & ffi::SQLITE_SHM_EXCLUSIVE != 0))
}

unsafe extern "C" fn barrier(_: *mut sqlite3_file) {
    fence(Ordering::SeqCst);
}

unsafe extern "C" fn unmap_index(file: *mut sqlite3_file, _: c_int) -> c_int {
    // SAFETY: an open file.
    let open = unsafe { opened(file) };
    if std::mem::take(&mut open.in_index) {
        open.file.leave_index(&mut open.slots);
    }
    ffi::SQLITE_OK
}

/// The default VFS, for what has nothing to do with files.
///
/// # Safety
/// `own` is the registered VFS.
unsafe fn default(own: *mut sqlite3_vfs) -> *mut sqlite3_vfs {
    // SAFETY: by the caller's promise; set in `vfs` to one that stays registered.
    unsafe { (*own).pAppData.cast() }
}

unsafe extern "C" fn random(own: *mut sqlite3_vfs, length: c_int, out: *mut c_char) -> c_int {
    // SAFETY: SQLite's own call, passed on to the default VFS.
    unsafe { (*default(own)).xRandomness.map_or(0, |random| random(default(own), length, out)) }
}

unsafe extern "C" fn sleep(own: *mut sqlite3_vfs, microseconds: c_int) -> c_int {
    // SAFETY: as in `random`.
    unsafe { (*default(own)).xSleep.map_or(0, |sleep| sleep(default(own), microseconds)) }
}

unsafe extern "C" fn now_in_days(own: *mut sqlite3_vfs, answer: *mut f64) -> c_int {
    // SAFETY: as in `random`.
    unsafe { (*default(own)).xCurrentTime.map_or(ffi::SQLITE_ERROR, |now| now(default(own), answer)) }
}

unsafe extern "C" fn now(own: *mut sqlite3_vfs, answer: *mut sqlite3_int64) -> c_int {
    // SAFETY: as in `random`; a VFS of version 1 does not have this field.
    unsafe {
        let default = default(own);
        let now = if (*default).iVersion >= 2 { (*default).xCurrentTimeInt64 } else { None };
        now.map_or(ffi::SQLITE_ERROR, |now| now(default, answer))
    }
}

unsafe extern "C" fn last_error(own: *mut sqlite3_vfs, length: c_int, out: *mut c_char) -> c_int {
    // SAFETY: as in `random`.
    unsafe { (*default(own)).xGetLastError.map_or(0, |error| error(default(own), length, out)) }
}

unsafe extern "C" fn load(own: *mut sqlite3_vfs, name: *const c_char) -> *mut c_void {
    // SAFETY: as in `random`.
    unsafe { (*default(own)).xDlOpen.map_or(ptr::null_mut(), |load| load(default(own), name)) }
}

unsafe extern "C" fn load_error(own: *mut sqlite3_vfs, length: c_int, out: *mut c_char) {
    // SAFETY: as in `random`.
    unsafe {
        if let Some(error) = (*default(own)).xDlError {
            error(default(own), length, out);
        }
    }
}

unsafe extern "C" fn symbol(
    own: *mut sqlite3_vfs,
    library: *mut c_void,
    name: *const c_char,
) -> Option<unsafe extern "C" fn(*mut sqlite3_vfs, *mut c_void, *const c_char)> {
    // SAFETY: as in `random`.
    unsafe { (*default(own)).xDlSym.and_then(|symbol| symbol(default(own), library, name)) }
}

unsafe extern "C" fn unload(own: *mut sqlite3_vfs, library: *mut c_void) {
    // SAFETY: as in `random`.
    unsafe {
        if let Some(unload) = (*default(own)).xDlClose {
            unload(default(own), library);
        }
    }
}
