//! The name of a user, for commands that a person is told to run.

use std::ffi::CStr;

/// Long enough for any honest entry of the user database.
const ENTRY_BYTES: usize = 4096;

/// The name of a user; the number where there is no name, which chown(1) takes as well.
pub(super) fn name(user: u32) -> String {
    known_name(user).unwrap_or_else(|| user.to_string())
}

/// The name of a user, if the user database has one.
pub(super) fn known_name(user: u32) -> Option<String> {
    let mut entry = std::mem::MaybeUninit::<libc::passwd>::uninit();
    let mut texts: [libc::c_char; ENTRY_BYTES] = [0; ENTRY_BYTES];
    let mut found = std::ptr::null_mut();
    // SAFETY: all three out pointers are ours and outlive the call; the length is that of `texts`.
    let code = unsafe {
        libc::getpwuid_r(user, entry.as_mut_ptr(), texts.as_mut_ptr(), texts.len(), &raw mut found)
    };
    if code != 0 || found.is_null() {
        return None;
    }
    // SAFETY: the call succeeded and found an entry, so `entry` is initialised and its name is a string that ends in
    // NUL inside `texts`, which is still alive.
    let name = unsafe { CStr::from_ptr(entry.assume_init_ref().pw_name) };
    Some(name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_a_name_or_a_number() {
        assert_eq!(name(0), "root");
        assert_eq!(name(4_123_456_789), "4123456789");
        assert_eq!(known_name(4_123_456_789), None);
    }
}
