//! One b-tree page and its cells (<https://sqlite.org/fileformat.html#b_tree_pages>).
//!
//! Invariants: every offset is checked before it is followed; nothing is allocated by a length that a page claims. A
//! page is *sound* when header, cells, free blocks and fragments add up to the page, as `integrity_check` asks.

use std::ops::Range;

use super::record::varint;

/// What a b-tree page is, by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    TableLeaf,
    TableInterior,
    IndexLeaf,
    IndexInterior,
}

impl Kind {
    pub(super) fn of(flag: u8) -> Option<Self> {
        Some(match flag {
            0x02 => Self::IndexInterior,
            0x05 => Self::TableInterior,
            0x0A => Self::IndexLeaf,
            0x0D => Self::TableLeaf,
            _ => return None,
        })
    }

    pub(super) fn is_leaf(self) -> bool {
        matches!(self, Self::TableLeaf | Self::IndexLeaf)
    }

    /// Of a table with rowids, not of an index or a table without.
    pub(super) fn is_table(self) -> bool {
        matches!(self, Self::TableLeaf | Self::TableInterior)
    }
}

/// One cell: a row, a pointer to a child, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    /// The page left of it, on interior pages.
    pub(super) child: u32,
    /// Of table pages.
    pub(super) rowid: i64,
    /// The length of the whole payload; 0 on the interior pages of tables.
    pub(super) payload: u64,
    /// The part of the payload on this page.
    pub(super) local: Range<usize>,
    /// Where the rest begins; 0 for none.
    pub(super) overflow: u32,
    /// All its bytes on this page.
    pub(super) span: Range<usize>,
}

/// A page that begins like one of a b-tree.
#[derive(Debug)]
pub(super) struct Page<'a> {
    bytes: &'a [u8],
    pub(super) kind: Kind,
    /// The child right of all cells, on interior pages.
    pub(super) rightmost: u32,
    pub(super) cells: Vec<Cell>,
    /// Pointers that lead to no cell.
    pub(super) bad: usize,
    pub(super) sound: bool,
}

pub(super) fn be16(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?)))
}

pub(super) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

impl<'a> Page<'a> {
    /// Reads a page. `bytes` are its usable ones; the first page begins behind the file's header.
    pub(super) fn parse(bytes: &'a [u8], first: bool) -> Option<Self> {
        let base = if first { 100 } else { 0 };
        // The least that a page has for its use.
        if bytes.len() < 480 {
            return None;
        }
        let kind = Kind::of(bytes[base])?;
        let pointers = base + if kind.is_leaf() { 8 } else { 12 };
        let rightmost = if kind.is_leaf() { 0 } else { be32(bytes, base + 8)? };
        let count = be16(bytes, base + 3)?;
        let content = match be16(bytes, base + 5)? {
            0 => 65_536,
            at => at,
        };
        let mut page = Self { bytes, kind, rightmost, cells: Vec::new(), bad: 0, sound: false };
        // What cells and free blocks must add up to; None when the header contradicts itself.
        let free = page.free_blocks(be16(bytes, base + 1)?, content);
        let fragments = usize::from(*bytes.get(base + 7)?);
        let due =
            free.and_then(|free| bytes.len().checked_sub(content)?.checked_sub(free)?.checked_sub(fragments));
        let room = bytes.len().saturating_sub(pointers) / 2;
        // A count that cannot be: the pointers begin right anyhow.
        let believed = count <= room && pointers + 2 * count <= content;
        let mut used = 0;
        let mut at = 0;
        while at < room {
            // Cells behind the count are there when a damaged count hides them: exactly until the page adds up.
            let enough = due.map_or(believed, |due| used >= due);
            if enough && (at >= count || !believed) {
                break;
            }
            let cell = be16(bytes, pointers + 2 * at)
                .and_then(|offset| (offset >= pointers + 2 * (at + 1)).then(|| page.cell(offset)).flatten());
            match cell {
                Some(cell) => {
                    used += cell.span.len();
                    page.cells.push(cell);
                }
                None if at < count && believed => page.bad += 1,
                None => break,
            }
            at += 1;
        }
        let adds_up = page.bad == 0 && due == Some(used) && !page.overlaps(content);
        if at > count && believed && !adds_up {
            page.cells.truncate(count - page.bad);
        }
        page.sound = adds_up && at == count;
        Some(page)
    }

    /// How many bytes the chain of free blocks has.
    fn free_blocks(&self, first: usize, content: usize) -> Option<usize> {
        let (mut at, mut sum) = (first, 0);
        while at != 0 {
            let (next, size) = (be16(self.bytes, at)?, be16(self.bytes, at + 2)?);
            let ascends = next == 0 || next >= at + size;
            if at < content || size < 4 || at + size > self.bytes.len() || !ascends {
                return None;
            }
            sum += size;
            at = next;
        }
        Some(sum)
    }

    fn overlaps(&self, content: usize) -> bool {
        let mut spans: Vec<_> = self.cells.iter().map(|cell| (cell.span.start, cell.span.end)).collect();
        spans.sort_unstable();
        spans.first().is_some_and(|first| first.0 < content)
            || spans.windows(2).any(|pair| pair[1].0 < pair[0].1)
    }

    /// The cell at an offset.
    fn cell(&self, offset: usize) -> Option<Cell> {
        let mut at = offset;
        let mut child = 0;
        if !self.kind.is_leaf() {
            child = be32(self.bytes, at)?;
            at += 4;
        }
        let mut payload = 0;
        if self.kind != Kind::TableInterior {
            let (length, taken) = varint(self.bytes.get(at..)?)?;
            // SQLite's own bound (<https://sqlite.org/limits.html>); a record has at least two bytes.
            payload = Some(length).filter(|length| (2..=0x7FFF_FFFF).contains(length))?;
            at += taken;
        }
        let mut rowid = 0;
        if self.kind.is_table() {
            let (value, taken) = varint(self.bytes.get(at..)?)?;
            rowid = value.cast_signed();
            at += taken;
        }
        let length = local_length(self.kind, payload, self.bytes.len());
        let local = at..at.checked_add(length)?;
        at = local.end;
        let mut overflow = 0;
        if payload > length as u64 {
            overflow = be32(self.bytes, at)?;
            at += 4;
        }
        // A cell takes four bytes even when it needs less.
        let span = offset..at.max(offset + 4);
        (span.end <= self.bytes.len()).then_some(Cell { child, rowid, payload, local, overflow, span })
    }

    /// The children from left to right, each with the cell right of it.
    pub(super) fn children(&self) -> impl Iterator<Item = (u32, Option<&Cell>)> {
        let last = (!self.kind.is_leaf()).then_some((self.rightmost, None));
        let cells = if self.kind.is_leaf() { &[][..] } else { &self.cells[..] };
        cells.iter().map(|cell| (cell.child, Some(cell))).chain(last)
    }

    pub(super) fn local(&self, cell: &Cell) -> &'a [u8] {
        &self.bytes[cell.local.clone()]
    }
}

/// A page of a b-tree, whole and not empty.
pub(super) fn is_sound(bytes: &[u8]) -> bool {
    Page::parse(bytes, false).is_some_and(|page| page.sound && !page.cells.is_empty())
}

/// How much of a payload stays on its page (`#cell_payload`).
fn local_length(kind: Kind, payload: u64, usable: usize) -> usize {
    let most = if kind == Kind::TableLeaf { usable - 35 } else { (usable - 12) * 64 / 255 - 23 };
    if payload <= most as u64 {
        return payload as usize;
    }
    let least = (usable - 12) * 32 / 255 - 23;
    let fits = least + ((payload - least as u64) % (usable as u64 - 4)) as usize;
    if fits <= most { fits } else { least }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A leaf of a table with a row `(rowid, 1-byte integer)` for each pair.
    fn leaf(rows: &[(u8, u8)]) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        let mut end = 512;
        for (number, (rowid, value)) in rows.iter().enumerate() {
            end -= 5;
            bytes[end..end + 5].copy_from_slice(&[3, *rowid, 2, 1, *value]);
            bytes[8 + 2 * number..10 + 2 * number].copy_from_slice(&(end as u16).to_be_bytes());
        }
        bytes[0] = 0x0D;
        bytes[4] = rows.len() as u8;
        bytes[5..7].copy_from_slice(&(end as u16).to_be_bytes());
        bytes
    }

    fn rowids(page: &Page) -> Vec<i64> {
        page.cells.iter().map(|cell| cell.rowid).collect()
    }

    #[test]
    fn a_sound_leaf_gives_its_cells() {
        let bytes = leaf(&[(1, 10), (2, 20), (9, 30)]);
        let page = Page::parse(&bytes, false).expect("a page");
        assert!(page.sound && page.bad == 0);
        assert_eq!((page.kind, rowids(&page)), (Kind::TableLeaf, vec![1, 2, 9]));
        assert_eq!(page.local(&page.cells[2]), [2, 1, 30]);
    }

    #[test]
    fn a_pointer_that_leads_nowhere_costs_its_cell_only() {
        let mut bytes = leaf(&[(1, 10), (2, 20), (9, 30)]);
        bytes[10..12].copy_from_slice(&600u16.to_be_bytes());
        let page = Page::parse(&bytes, false).expect("a page");
        assert!(!page.sound);
        assert_eq!((page.bad, rowids(&page)), (1, vec![1, 9]));
    }

    #[test]
    fn a_damaged_count_hides_no_cell_and_adds_none() {
        for count in [0u8, 1, 2, 200, 255] {
            let mut bytes = leaf(&[(1, 10), (2, 20), (9, 30)]);
            bytes[4] = count;
            let page = Page::parse(&bytes, false).expect("a page");
            assert!(!page.sound, "{count}");
            assert_eq!(rowids(&page), [1, 2, 9], "{count}");
        }
        let mut bytes = leaf(&[(1, 10), (2, 20), (9, 30)]);
        bytes[3] = 0xFF;
        assert_eq!(rowids(&Page::parse(&bytes, false).expect("a page")), [1, 2, 9]);
    }

    #[test]
    fn a_deleted_cell_stays_deleted() {
        // As SQLite leaves it: the block is free, the pointer array is one shorter, its old tail still there.
        let mut bytes = leaf(&[(1, 10), (2, 20), (9, 30)]);
        let at = 512 - 10;
        bytes[at..at + 4].copy_from_slice(&[0, 0, 0, 5]);
        bytes[1..3].copy_from_slice(&(at as u16).to_be_bytes());
        bytes.copy_within(12..14, 10);
        bytes[4] = 2;
        let page = Page::parse(&bytes, false).expect("a page");
        assert!(page.sound);
        assert_eq!(rowids(&page), [1, 9]);
    }

    #[test]
    fn free_blocks_in_a_circle_end() {
        let mut bytes = leaf(&[(1, 10)]);
        bytes[1..3].copy_from_slice(&508u16.to_be_bytes());
        bytes[5..7].copy_from_slice(&500u16.to_be_bytes());
        bytes[508..512].copy_from_slice(&[1, 252, 0, 4]);
        assert!(!Page::parse(&bytes, false).expect("a page").sound);
    }

    #[test]
    fn any_first_bytes_are_read_or_refused() {
        for flag in [2u8, 5, 10, 13] {
            for fill in 0..=255u8 {
                let mut bytes = vec![fill; 512];
                bytes[0] = flag;
                let page = Page::parse(&bytes, false).expect("a page");
                assert!(page.cells.iter().all(|cell| cell.span.end <= 512), "{flag} {fill}");
            }
        }
        assert!(Page::parse(&[0x0D; 3], false).is_none());
        assert!(Page::parse(&[0x0D; 50], true).is_none());
    }

    #[test]
    fn a_large_row_stays_in_part_on_its_page() {
        // The numbers that SQLite's own documentation gives for 4096 bytes: X = 4061, M = 489.
        assert_eq!(local_length(Kind::TableLeaf, 4061, 4096), 4061);
        assert_eq!(local_length(Kind::TableLeaf, 4062, 4096), 489);
        assert_eq!(local_length(Kind::TableLeaf, 489 + 4092 + 100, 4096), 589);
        assert_eq!(local_length(Kind::IndexLeaf, 1002, 4096), 1002);
        assert_eq!(local_length(Kind::IndexLeaf, 1003, 4096), 489);
        assert_eq!(local_length(Kind::IndexLeaf, 489 + 4092 + 10, 4096), 499);
    }
}
