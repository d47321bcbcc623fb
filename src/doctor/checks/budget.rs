//! How much of its bounds a database uses.

use super::super::command::Own;
use super::super::finding::Finding;
use super::super::scope::Scope;
use super::super::subject::Subject;
use super::super::words::bytes;

pub(super) fn budget(_: &Scope, subject: &Subject) -> Finding {
    let Some(domain) = &subject.domain else {
        return Finding::skipped("another program declared it, and knows its bounds");
    };
    let used = subject.bytes("") + subject.bytes("-wal") + subject.bytes("-shm");
    let Some(most) = domain.max_bytes else {
        return Finding::ok(format!("it has no bound, and takes {}", bytes(used))).detail("used_bytes", used);
    };
    let told = |finding: Finding| finding.detail("used_bytes", used).detail("most_bytes", most);
    if used > most {
        return told(Finding::warning(format!(
            "it takes {}, more than its bound of {}",
            bytes(used),
            bytes(most)
        )))
        .evidence("a program without this library wrote it, or it was made with a larger bound")
        .remedy("its program deletes the oldest rows when it runs next; to do it now:")
        .fix(Own::Maintain.of(&subject.name));
    }
    told(Finding::ok(format!("{} of {}", bytes(used), bytes(most))))
}
