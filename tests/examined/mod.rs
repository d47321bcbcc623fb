//! What the tests of the doctor share: a look with time enough, and what it says.

#![allow(dead_code, unreachable_pub)] // each test file uses the part it needs
#![allow(clippy::disallowed_methods, reason = "a test prepares files")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rowhouse::Home;
use rowhouse::doctor::{self, Check, Detail, Options, Report, Status};

/// Longer than any check takes; one that waits so long hangs.
const LONG: std::time::Duration = std::time::Duration::from_secs(20);

/// With time enough for a busy machine.
pub fn options() -> Options {
    let mut options = Options::default();
    options.deadline = Some(LONG);
    options
}

pub fn examine(home: &Path) -> Report {
    doctor::run(&Home::at(home), &options()).expect("a report")
}

/// The same of these rows alone.
pub fn examine_only(home: &Path, only: &[&str]) -> Report {
    let mut options = options();
    options.only = only.iter().map(|word| (*word).to_owned()).collect();
    doctor::run(&Home::at(home), &options).expect("a report")
}

pub fn row<'r>(report: &'r Report, id: &str) -> &'r Check {
    report.check(id).unwrap_or_else(|| panic!("no row {id}: {report:#?}"))
}

/// The ids of what somebody should look at.
pub fn notable(report: &Report) -> Vec<&str> {
    report.notable().iter().map(|check| check.id.as_str()).collect()
}

/// A detail by its name.
pub fn detail<'c>(check: &'c Check, name: &str) -> Option<&'c Detail> {
    check.details.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
}

pub fn text<'c>(check: &'c Check, name: &str) -> &'c str {
    match detail(check, name) {
        Some(Detail::Text(text)) => text,
        other => panic!("{name} is {other:?}: {check:#?}"),
    }
}

pub fn number(check: &Check, name: &str) -> u64 {
    match detail(check, name) {
        Some(Detail::Number(number)) => *number,
        other => panic!("{name} is {other:?}: {check:#?}"),
    }
}

/// Whether it offers to bring an older file back.
pub fn offers_repair(check: &Check) -> bool {
    check.fixes.iter().any(|fix| fix.command.contains("repair"))
}

/// Notable is this, and nothing else; it has a way out.
pub fn names_only(case: &str, report: &Report, id: &str, status: Status) {
    assert_eq!(notable(report), [id], "{case}: {:#?}", report.notable());
    let check = row(report, id);
    assert_eq!(check.status, status, "{case}: {check:#?}");
    assert!(check.remediation.is_some() || !check.fixes.is_empty(), "{case}: no way out: {check:#?}");
    // A repair is for damage, and for a repair that was broken off.
    let name = id.rsplit_once('.').map_or(id, |(_, name)| name);
    let is_damage = ["open", "integrity", "leftovers"].contains(&name);
    assert!(is_damage || !offers_repair(check), "{case}: {check:#?}");
}

/// A home that nobody has open, with all that is in it.
pub fn copy_home(from: &Path, to: &Path) {
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).expect("private");
    for entry in fs::read_dir(from).expect("a list").flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a kind").is_dir() {
            fs::create_dir(&target).expect("a folder");
            copy_home(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("copied");
        }
    }
}
