//! Free pages inside the file, and whether they go back to the disk.

use super::super::command::Own;
use super::super::finding::Finding;
use super::super::scope::Scope;
use super::super::subject::Subject;
use super::super::words::bytes;

/// Free space of less is not worth a word.
const WORTH_IT: u64 = 16 << 20;
/// `PRAGMA auto_vacuum` (<https://sqlite.org/pragma.html#pragma_auto_vacuum>).
const INCREMENTAL: i64 = 2;

pub(super) fn pages(scope: &Scope, subject: &Subject) -> Finding {
    subject.opened(scope, |look| {
        let (size, all, free) =
            (look.pragma("page_size")?, look.pragma("page_count")?, look.pragma("freelist_count")?);
        let (free_bytes, all_bytes) = ((free * size) as u64, (all * size) as u64);
        let incremental = look.pragma("auto_vacuum")? == INCREMENTAL;
        let percent = (free_bytes * 100).checked_div(all_bytes).unwrap_or(0);
        let given_back = given_back(scope, subject).map(|pages| pages * size as u64);
        let told = |finding: Finding| {
            let finding = finding
                .detail("free_bytes", free_bytes)
                .detail("free_percent", percent)
                .detail("incremental", incremental);
            match given_back {
                Some(bytes) => finding.detail("given_back_bytes", bytes),
                None => finding,
            }
        };
        if free_bytes >= WORTH_IT && percent >= 50 {
            let finding = told(Finding::warning(format!(
                "{percent} % of it, {}, is free space that does not go back to the disk",
                bytes(free_bytes)
            )));
            return Ok(match (subject.info.is_some(), incremental) {
                (true, true) => finding
                    .evidence(match given_back {
                        None => "no program has it open that could give it back".to_owned(),
                        Some(0) => "the programs that have it open have given nothing back yet".to_owned(),
                        Some(given_back) => {
                            format!("it works: {} went back since its programs started", bytes(given_back))
                        }
                    })
                    .remedy("a program of this library gives it back while it runs; this does it now")
                    .fix(Own::Maintain.of(&subject.name)),
                (true, false) => finding
                    .evidence("it was made without auto_vacuum, by a dump or another tool")
                    .remedy("write it anew while nobody has it open")
                    .fix(Own::Compact.of(&subject.name)),
                (false, _) => {
                    finding.remedy("its program can give it back with VACUUM, while nobody else uses it")
                }
            });
        }
        if subject.info.is_some() && subject.domain.is_some() && !incremental {
            return Ok(told(Finding::warning(
                "it was made without auto_vacuum: free space will not go back to the disk",
            ))
            .remedy("write it anew while nobody has it open")
            .fix(Own::Compact.of(&subject.name)));
        }
        Ok(told(Finding::ok(format!("{} free inside ({percent} %)", bytes(free_bytes)))))
    })
}

/// The pages that its programs gave back to the disk since they opened it; `None` without a program.
fn given_back(scope: &Scope, subject: &Subject) -> Option<u64> {
    let databases = scope.context.processes().iter().flat_map(|process| &process.databases);
    let own = databases.filter(|database| database.name == subject.name);
    own.map(|database| database.stats.reclaimed_pages).reduce(u64::saturating_add)
}
