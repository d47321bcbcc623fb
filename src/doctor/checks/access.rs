//! Who may look into the home's folders, and whether this user may write there.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::super::command::Command;
use super::super::finding::Finding;
use super::super::scope::Scope;
use crate::home::access;

pub(super) fn folders(scope: &Scope) -> Finding {
    let home = match scope.context.folder() {
        Ok(home) => home,
        Err(why) => return Finding::skipped(why),
    };
    for folder in [home.path().to_owned(), home.path().join("locks"), home.run_dir()] {
        if fs::symlink_metadata(&folder).is_err() && folder != home.path() {
            continue;
        }
        if let Err(error) = access::writable_folder(&folder) {
            if access::is_of_the_mount(&error) {
                return Finding::skipped("not checked: it is mounted read-only, see disk.file_system");
            }
            return Finding::of_error(&error);
        }
    }
    let found = match fs::metadata(home.path()) {
        Ok(found) => found,
        Err(error) => return Finding::fail(format!("the home cannot be looked at: {error}")),
    };
    let mode = found.mode() & 0o7777;
    let told = |finding: Finding| {
        finding.detail("mode", format!("{mode:04o}")).detail("owner", crate::home::user_name(found.uid()))
    };
    let us = rustix::process::geteuid().as_raw();
    if found.uid() != us && us != 0 {
        let owner = crate::home::user_name(found.uid());
        return told(Finding::warning(format!("the home belongs to {owner}")))
            .remedy(format!("{}, or choose a home of your own", access::as_owner(&owner, home.path())));
    }
    if mode & 0o077 != 0 {
        return told(Finding::warning("other users may look into the home"))
            .remedy("take their access away; a program of this library does so for a home that holds nothing else")
            .fix(Command::System("chmod 700", home.path().to_owned()));
    }
    // Who may write in the folder above can put another home in this one's place.
    let above = home.path().parent().and_then(|above| fs::metadata(above).ok());
    if let Some(above) =
        above.filter(|above| above.mode() & 0o022 != 0 && above.mode() & 0o1000 == 0 && above.uid() == us)
    {
        return told(Finding::warning(
            "other users may write in the folder above the home, and put another one in its place",
        ))
        .detail("mode_above", format!("{:04o}", above.mode() & 0o7777))
        .remedy("take their write permission on that folder away (chmod go-w)");
    }
    told(Finding::ok("private, and may be written"))
}
