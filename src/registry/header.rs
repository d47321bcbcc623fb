//! The header of a database file, read through SQLite's own descriptor: another one must never be opened,
//! since closing it would drop this process's locks (<https://sqlite.org/howtocorrupt.html>, section 2.2).

use std::ffi::c_void;
use std::ptr;

use rusqlite::{Connection, ffi};

/// True when the header says that the database is in WAL mode (<https://sqlite.org/fileformat.html>, section
/// 1.3.3). `PRAGMA journal_mode` does not tell it of a file opened as immutable.
pub(super) fn is_wal(connection: &Connection) -> bool {
    const READ_VERSION_AT: ffi::sqlite3_int64 = 19;
    let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
    let mut read_version = 0_u8;
    // SAFETY: the handle is valid as long as `connection` is borrowed, and a connection is not Sync: nobody else
    // uses it now. FILE_POINTER stores a pointer to the main database's open file, which lives as long as the
    // connection; pMethods is null for a file that is not open, and then nothing is called. xRead writes at most
    // the one byte it is asked for, also when the file is too short.
    unsafe {
        let found = ffi::sqlite3_file_control(
            connection.handle(),
            c"main".as_ptr(),
            ffi::SQLITE_FCNTL_FILE_POINTER,
            (&raw mut file).cast::<c_void>(),
        );
        if found != ffi::SQLITE_OK || file.is_null() || (*file).pMethods.is_null() {
            return false;
        }
        let Some(read) = (*(*file).pMethods).xRead else { return false };
        read(file, (&raw mut read_version).cast(), 1, READ_VERSION_AT) == ffi::SQLITE_OK && read_version == 2
    }
}
