//! The rows of one page: put together, checked, and given away.

use std::borrow::Cow;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use rusqlite::types::{Value, ValueRef};

use super::Row;
use super::order::ascending;
use super::page::{Cell, Page, be32};
use super::record::{decode, header};
use super::space::Use;
use super::table::{Key, Table, Tree};
use super::walk::{Bounds, By, Tracked, Walk, suits};
use crate::error::Result;

/// A cell's payload, and the overflow pages that it was put together from.
type Payload<'a> = (Cow<'a, [u8]>, Vec<u32>);

/// A row of a page, not yet given away.
struct Found<'a> {
    key: Key,
    rowid: i64,
    fields: Vec<ValueRef<'a>>,
    cell: usize,
}

impl Walk<'_> {
    /// Gives away the rows of a page; false, and none, when the page does not fit here.
    pub(super) fn rows(
        &mut self,
        at: usize,
        number: u32,
        page: &Page<'_>,
        bounds: &Bounds,
        by: By,
    ) -> Result<bool> {
        let mut payloads: Vec<Option<Payload<'_>>> = Vec::with_capacity(page.cells.len());
        for cell in &page.cells {
            payloads.push(self.payload(number, page, cell));
        }
        let Self { tracked, serials, .. } = self;
        let Tracked { table, .. } = &tracked[at];
        let mut found = Vec::with_capacity(payloads.len());
        // Rows of this table by their types, whether or not their contents hold.
        let (mut fitting, mut expected, mut hidden) = (0, 0, 0);
        for (place, (payload, cell)) in payloads.iter().zip(&page.cells).enumerate() {
            let Some((payload, _)) = payload else { continue };
            let whole = header(payload, serials).is_some_and(|(_, length)| length == payload.len() as u64);
            if !whole || !table.admits(serials) {
                continue;
            }
            fitting += 1;
            hidden += usize::from(table.hides_alias(serials));
            expected += usize::from(table.expects(serials));
            if by == By::Stray && !table.hides_alias(serials) {
                continue;
            }
            let Some(fields) = decode(payload, serials) else { continue };
            found.push(Found { key: table.key(cell.rowid, &fields), rowid: cell.rowid, fields, cell: place });
        }
        let seen = page.cells.len() + page.bad;
        if (fitting == 0 && (seen > 0 || !page.sound)) || (page.sound && fitting * 2 < seen) {
            return Ok(false);
        }
        if hidden * 2 < fitting || (by == By::Tree && expected * 2 < fitting && self.is_rivals(at, page)) {
            return Ok(false);
        }
        let table = &self.tracked[at].table;
        in_order(table, page, &mut found);
        let inside = found.iter().filter(|row| bounds.contain(table, &row.key)).count();
        if by == By::Tree && inside < found.len() {
            // A sound page is right or wrong as a whole; in a damaged one, rows may be.
            if page.sound || inside * 2 <= found.len() {
                return Ok(false);
            }
            found.retain(|row| bounds.contain(table, &row.key));
        }
        if !self.has_room(at, &found, by) {
            if by == By::Stray {
                self.tracked[at].duplicates += found.len() as u64;
            }
            return Ok(false);
        }
        if let (Some(first), Some(last)) = (found.first(), found.last()) {
            self.tracked[at].ranges.push((first.rowid, last.rowid));
            if by == By::Stray {
                self.tracked[at].ranges.sort_unstable();
            }
            self.last = Some(last.key.clone());
        }
        let mut refused = seen - found.len();
        for row in &found {
            let chain = payloads[row.cell].as_ref().map_or(&[][..], |(_, chain)| &chain[..]);
            if !self.give(at, row, chain, page.sound, by)? {
                refused += 1;
            }
        }
        self.tracked[at].refused += refused as u64;
        Ok(true)
    }

    /// Another table would expect every row of a page.
    fn is_rivals(&mut self, at: usize, page: &Page<'_>) -> bool {
        let Self { tracked, serials, .. } = self;
        let mut rival = |(other, tracked): (usize, &Tracked)| {
            let table = &tracked.table;
            let mut expects = |cell: &Cell| {
                header(page.local(cell), serials).is_some_and(|(_, length)| length == cell.payload)
                    && table.expects(serials)
            };
            other != at && suits(page.kind, table) && page.cells.iter().all(&mut expects)
        };
        tracked.iter().enumerate().any(&mut rival)
    }

    /// No leaf that gave rows before has rows in the same range.
    fn has_room(&self, at: usize, found: &[Found<'_>], by: By) -> bool {
        let Tracked { table, ranges, .. } = &self.tracked[at];
        let (Some(first), Some(last)) = (found.first(), found.last()) else { return true };
        match (&table.tree, by) {
            (Tree::Rowid, By::Tree) => {
                self.last.as_ref().is_none_or(|last| table.compare(last, &first.key).is_lt())
            }
            (Tree::Rowid, By::Stray) => {
                let next = ranges.partition_point(|range| range.1 < first.rowid);
                ranges.get(next).is_none_or(|range| range.0 > last.rowid)
            }
            _ => true,
        }
    }

    /// Gives a row away, unless it was given before or SQLite would not have let it in.
    fn give(&mut self, at: usize, row: &Found<'_>, chain: &[u32], sound: bool, by: By) -> Result<bool> {
        if chain.iter().any(|page| self.taken[*page as usize]) {
            return Ok(false);
        }
        let tracked = &mut self.tracked[at];
        let values = tracked.table.values(row.rowid, &row.fields);
        let rowid = tracked.hidden_rowid.then_some(row.rowid);
        if !sound && !self.probe.admits(at, rowid, &values)? {
            return Ok(false);
        }
        if let Key::Fields(key) = &row.key
            && tracked.table.ordered()
            && !tracked.keys.insert(hash(key))
        {
            tracked.duplicates += 1;
            return Ok(true);
        }
        for page in chain {
            self.taken[*page as usize] = true;
        }
        tracked.kept += 1;
        tracked.kept_from_strays += u64::from(by == By::Stray);
        let Table { name, columns, .. } = &tracked.table;
        (self.sink)(&Row { table: name, columns, rowid, values: &values })?;
        Ok(true)
    }

    /// A cell's whole payload, and the overflow pages it was put together from (`#cell_payload_overflow_pages`).
    pub(super) fn payload<'a>(&mut self, number: u32, page: &Page<'a>, cell: &Cell) -> Option<Payload<'a>> {
        let local = page.local(cell);
        if cell.payload == local.len() as u64 {
            return Some((Cow::Borrowed(local), Vec::new()));
        }
        let each = self.source.usable - 4;
        let mut left = cell.payload - local.len() as u64;
        let pages = left.div_ceil(each as u64);
        if pages > u64::from(self.source.pages) {
            return None;
        }
        let (mut next, mut chain) = (cell.overflow, Vec::new());
        let mut payload = local.to_vec();
        let mut bytes = self.source.buffer();
        while left > 0 {
            let before = *chain.last().unwrap_or(&number);
            if !self.follows(next, before, chain.is_empty()) || !self.source.read(next, &mut bytes) {
                return None;
            }
            self.overflow_left = self.overflow_left.checked_sub(1)?;
            chain.push(next);
            let part = (each as u64).min(left) as usize;
            let content = &bytes[4..4 + part];
            // Disks and copies leave pages of zeros. One that nothing before leads up to is damage.
            if bytes.iter().all(|byte| *byte == 0) && payload.iter().rev().take(16).any(|byte| *byte != 0) {
                return None;
            }
            payload.extend_from_slice(content);
            left -= part as u64;
            next = be32(&bytes, 0)?;
        }
        // The last one has none behind it.
        (next == 0).then_some((Cow::Owned(payload), chain))
    }

    /// A page can be the overflow page behind another, or of a leaf.
    fn follows(&self, page: u32, before: u32, first: bool) -> bool {
        page > 1
            && self.space.holds_content(page)
            && !self.taken[page as usize]
            && match self.space.used_as(page) {
                None => true,
                Some(Use::FirstOverflow(leaf)) if first && leaf == before => true,
                Some(Use::NextOverflow(previous)) if !first && previous == before => true,
                Some(Use::Root | Use::Free) => false,
                // The pointer map names another: it is right if that one agrees.
                Some(Use::FirstOverflow(other) | Use::NextOverflow(other) | Use::Child(other)) => {
                    !self.leads_to(other, page)
                }
            }
    }

    /// A page has a pointer to another.
    fn leads_to(&self, from: u32, to: u32) -> bool {
        let mut bytes = self.source.buffer();
        if !self.source.read(from, &mut bytes) {
            return false;
        }
        let page = Page::parse(&bytes[..self.source.usable], from == 1);
        be32(&bytes, 0) == Some(to)
            || page.is_some_and(|page| {
                page.cells.iter().any(|cell| cell.overflow == to)
                    || page.children().any(|(child, _)| child == to)
            })
    }
}

fn hash(key: &[Value]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for value in key {
        match value {
            Value::Null => 0.hash(&mut hasher),
            Value::Integer(whole) => whole.hash(&mut hasher),
            Value::Real(number) => number.to_bits().hash(&mut hasher),
            Value::Text(text) => text.hash(&mut hasher),
            Value::Blob(bytes) => bytes.hash(&mut hasher),
        }
    }
    hasher.finish()
}

/// Leaves out rows that are not in the order of the others, and those that share bytes.
fn in_order(table: &Table, page: &Page<'_>, found: &mut Vec<Found<'_>>) {
    if table.ordered() {
        let kept =
            ascending(found.len(), |one, other| table.compare(&found[one].key, &found[other].key).is_lt());
        if kept.len() < found.len() {
            let mut place = 0;
            let mut kept = kept.into_iter().peekable();
            found.retain(|_| {
                place += 1;
                kept.next_if_eq(&(place - 1)).is_some()
            });
        }
    }
    if !page.sound {
        let mut spans: Vec<_> =
            found.iter().map(|row| (page.cells[row.cell].span.clone(), row.cell)).collect();
        spans.sort_unstable_by_key(|(span, _)| span.start);
        let shared: HashSet<usize> = spans
            .windows(2)
            .filter(|pair| pair[1].0.start < pair[0].0.end)
            .flat_map(|pair| [pair[0].1, pair[1].1])
            .collect();
        found.retain(|row| !shared.contains(&row.cell));
    }
}
