//! What every page of the file is for, as far as the file tells: pointer map and free list.
//!
//! A deleted row must not come back. Its page may still hold it, so a page that no tree leads to is read only when the
//! file proves that it is in use:
//! 1. It is not on any part of the free list that can be read.
//! 2. The pointer map, which every file of this library has (`auto_vacuum`), calls it a page of a b-tree.
//! 3. Where there is no pointer map, or its page is damaged: the free list was read in full, and as many pages were
//!    found as the header says; the page is not one of them.
//! 4. It is not behind the end that the header names.
//!
//! `.recover` of the sqlite3 shell does otherwise: it reads free pages too, unless told to `--ignore-freelist`.
//! Held by `tests/salvage_random_damage.rs`, where every file has deleted rows on free pages.

use super::page::be32;
use super::source::Source;

/// What the pointer map says of a page (`#pointer_map_or_ptrmap_pages`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Root,
    Free,
    /// The first overflow page of a row on that leaf.
    FirstOverflow(u32),
    /// Follows that overflow page.
    NextOverflow(u32),
    /// A child of that page.
    Child(u32),
}

impl Use {
    fn of(kind: u8, parent: u32, pages: u32) -> Option<Self> {
        let somewhere = parent > 0 && parent <= pages;
        Some(match kind {
            1 if parent == 0 => Self::Root,
            2 if parent == 0 => Self::Free,
            3 if somewhere => Self::FirstOverflow(parent),
            4 if somewhere => Self::NextOverflow(parent),
            5 if somewhere => Self::Child(parent),
            _ => return None,
        })
    }
}

/// See the head of the module.
pub(super) struct Space {
    /// By page number.
    uses: Vec<Option<Use>>,
    /// The pages of the pointer map, and the lock page.
    special: Vec<bool>,
    free: Vec<bool>,
    free_known: bool,
    end: u32,
    pub(super) free_count: u32,
}

impl Space {
    pub(super) fn read(source: &Source) -> Self {
        let slots = source.pages as usize + 1;
        let end = source.header.and_then(|header| header.pages).unwrap_or(u32::MAX);
        let mut space = Self {
            uses: vec![None; slots],
            special: vec![false; slots],
            free: vec![false; slots],
            free_known: false,
            end,
            free_count: 0,
        };
        space.mark_special(0);
        if let Some(slot) = space.special.get_mut(source.lock_page() as usize) {
            *slot = true;
        }
        space.read_pointer_map(source);
        space.free_known = space.read_free_list(source).is_some();
        space.free_count = (1..=source.pages).filter(|page| space.is_free(*page)).count() as u32;
        space
    }

    fn mark_special(&mut self, page: u32) {
        self.special[page as usize] = true;
    }

    fn read_pointer_map(&mut self, source: &Source) {
        let mut bytes = source.buffer();
        // A file that was cut short had pages behind its end.
        let named = source.header.and_then(|header| header.pages).unwrap_or(0).max(source.pages);
        let stride = (source.usable / 5 + 1) as u32;
        let mut at = 2;
        while at <= source.pages {
            let map = if at == source.lock_page() { at + 1 } else { at };
            let covered = map + 1..=(at + stride - 1).min(source.pages);
            let readable = source.read(map, &mut bytes);
            let found: Vec<_> = covered
                .clone()
                .map(|page| {
                    let entry = 5 * (page - map - 1) as usize;
                    Use::of(bytes[entry], be32(&bytes, entry + 1)?, named)
                })
                .collect();
            let good = found.iter().flatten().count();
            // Anything else than a pointer map has hardly an entry that makes sense.
            let trusted = readable && good > 0 && good * 4 >= found.len() * 3;
            if at == 2 {
                let says = match source.header {
                    Some(header) => {
                        header.auto_vacuum && (trusted || !super::page::is_sound(&bytes[..source.usable]))
                    }
                    None => trusted && good == found.len(),
                };
                if !says {
                    return;
                }
            }
            if map <= source.pages {
                self.mark_special(map);
            }
            if trusted {
                for (page, entry) in covered.zip(found) {
                    self.uses[page as usize] = entry;
                }
            }
            at += stride;
        }
    }

    /// `#the_freelist`. `None` when it is not whole.
    fn read_free_list(&mut self, source: &Source) -> Option<()> {
        let (mut trunk, count) = source.header?.free_list;
        let mut bytes = source.buffer();
        let mut found = 0;
        while trunk != 0 {
            if !self.may_be_free(trunk) || !source.read(trunk, &mut bytes) {
                return None;
            }
            let leaves = be32(&bytes, 4)? as usize;
            if leaves > source.usable / 4 - 2 {
                return None;
            }
            let named: Vec<u32> = (0..leaves).map_while(|leaf| be32(&bytes, 8 + 4 * leaf)).collect();
            // All or none: a trunk with a wrong entry is no trunk.
            if named.iter().any(|page| *page == trunk || !self.may_be_free(*page)) {
                return None;
            }
            for page in named.iter().chain([&trunk]) {
                found += 1;
                if let Some(free) = self.free.get_mut(*page as usize) {
                    *free = true;
                }
            }
            trunk = be32(&bytes, 0)?;
        }
        (found == count).then_some(())
    }

    /// In range, of no other use, and not found free before. A file that was cut short had pages behind its end.
    fn may_be_free(&self, page: u32) -> bool {
        let Some(free) = self.free.get(page as usize) else { return page <= self.end };
        page > 1
            && !free
            && !self.special[page as usize]
            && matches!(self.uses[page as usize], None | Some(Use::Free))
    }

    /// What the pointer map says; `None` when there is none, or it is damaged there.
    pub(super) fn used_as(&self, page: u32) -> Option<Use> {
        self.uses.get(page as usize).copied().flatten()
    }

    /// Can be part of a tree at all.
    pub(super) fn holds_content(&self, page: u32) -> bool {
        self.special.get(page as usize) == Some(&false)
    }

    /// The free list or the pointer map calls it free.
    pub(super) fn is_free(&self, page: u32) -> bool {
        self.free[page as usize] || self.used_as(page) == Some(Use::Free)
    }

    /// A page that no tree leads to is in use (see the head of the module).
    pub(super) fn is_live(&self, page: u32) -> bool {
        self.holds_content(page)
            && page <= self.end
            && !self.free[page as usize]
            && match self.used_as(page) {
                Some(used) => matches!(used, Use::Root | Use::Child(_)),
                None => self.free_known,
            }
    }
}
