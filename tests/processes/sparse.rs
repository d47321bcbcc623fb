//! Databases that are large and take no room: what is in them is free pages, and holes.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

const PAGE: u64 = 4096;
/// Pages that one page of the pointer map tells about, itself not counted
/// (<https://sqlite.org/fileformat.html>, section 1.8).
const PER_MAP: u64 = PAGE / 5;
/// Free pages that one page of the list names beside itself (section 1.5). SQLite leaves the last six places alone.
const PER_TRUNK: u64 = PAGE / 4 - 8;

#[allow(clippy::disallowed_methods)] // nobody has it open as a database
fn open(file: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(file).expect("the database")
}

fn number(file: &File, at: u64) -> u32 {
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, at).expect("the header");
    u32::from_be_bytes(bytes)
}

fn write(file: &File, at: u64, number: u64) {
    let number = u32::try_from(number).expect("a number of a page");
    file.write_all_at(&number.to_be_bytes(), at).expect("written");
}

/// Makes a database say that it has `bytes`, of pages that nothing leads to. It must have no log.
pub(crate) fn grow(file: &Path, bytes: u64) {
    let file = open(file);
    write(&file, 28, bytes / PAGE);
    file.set_len(bytes / PAGE * PAGE).expect("longer");
}

/// Makes a database that has no free pages yet larger by `bytes` of free ones, all of them holes on the disk but those that
/// name the others. It must have no log.
pub(crate) fn grow_free(file: &Path, bytes: u64) {
    let file = open(file);
    let first = u64::from(number(&file, 28)) + 1;
    assert_eq!(number(&file, 36), 0, "no free pages");
    let last = first + bytes / PAGE;
    file.set_len(last * PAGE).expect("longer");
    let is_map = |page: u64| page >= 2 && (page - 2).is_multiple_of(PER_MAP + 1);
    let mut pages = (first..=last).filter(|page| !is_map(*page));
    let (mut free, mut before) = (0, None);
    while let Some(trunk) = pages.next() {
        let leaves: Vec<u64> = pages.by_ref().take(usize::try_from(PER_TRUNK).expect("small")).collect();
        free += 1 + leaves.len() as u64;
        let words = [0, leaves.len() as u64].into_iter().chain(leaves);
        let content: Vec<u8> = words.flat_map(|word| (word as u32).to_be_bytes()).collect();
        file.write_all_at(&content, (trunk - 1) * PAGE).expect("written");
        let name = before.map_or(32, |before: u64| (before - 1) * PAGE);
        write(&file, name, trunk);
        before = Some(trunk);
    }
    // In the pointer map, 2 is the type of a free page.
    let mut page = first;
    while page <= last {
        let map = (page - 2) / (PER_MAP + 1) * (PER_MAP + 1) + 2;
        let from = page.max(map + 1);
        let until = (map + PER_MAP).min(last);
        let content =
            [2, 0, 0, 0, 0].repeat(usize::try_from((until + 1).saturating_sub(from)).expect("small"));
        file.write_all_at(&content, (map - 1) * PAGE + 5 * (from - map - 1)).expect("written");
        page = until + 1;
    }
    write(&file, 36, free);
    write(&file, 28, last);
}
