//! From pages to rows: the trees that lead from the schema to their leaves.
//!
//! Invariants:
//! 1. A page has one parent. Who points where is collected first, from all trees; two that point to one page both lose
//!    it, unless the pointer map decides. So no walk meets a page twice, and none goes in circles.
//! 2. A row is given away when its cell, its overflow pages and its record hold, its place is in the order of its page
//!    and between the keys that lead to it, and it fits the table.
//! 3. A leaf that as a whole does not fit where it stands is put aside for [`strays`](super::strays).
//! 4. Memory is bounded by the number of pages (about 20 bytes each), the rows of one page, and for tables WITHOUT
//!    ROWID eight bytes a row.

use std::borrow::Cow;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use rusqlite::types::{Value, ValueRef};

use super::Row;
use super::page::{Cell, Kind, Page, be32};
use super::record::{Serial, decode, header};
use super::report::TableReport;
use super::schema::{Probe, hidden_rowid};
use super::source::Source;
use super::space::{Space, Use};
use super::table::{Key, Table, Tree};
use crate::error::Result;

/// What is known of a page.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) kind: Option<Kind>,
    /// Of interior pages.
    pub(super) sound: bool,
    pub(super) parent: Parent,
    /// The table of the tree that leads here, counted from one; 0 for none.
    pub(super) owner: u32,
}

/// Who leads to a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Parent {
    #[default]
    None,
    /// The schema does.
    Root,
    Page(u32),
    /// More than one.
    Contested,
}

/// Between which places the rows of a page are: behind the first, up to the second.
#[derive(Clone, Debug, Default)]
pub(super) struct Bounds {
    pub(super) low: Option<Key>,
    pub(super) high: Option<Key>,
    /// Those of the neighbours: the rows are between these even if one of the keys is damaged.
    wide: (Option<Key>, Option<Key>),
}

impl Bounds {
    pub(super) fn contain(&self, table: &Table, key: &Key) -> bool {
        between(table, key, self.low.as_ref(), self.high.as_ref())
    }

    pub(super) fn nearly_contain(&self, table: &Table, key: &Key) -> bool {
        between(table, key, self.wide.0.as_ref(), self.wide.1.as_ref())
    }
}

fn between(table: &Table, key: &Key, low: Option<&Key>, high: Option<&Key>) -> bool {
    !table.ordered()
        || (low.is_none_or(|low| table.compare(low, key).is_lt())
            && high.is_none_or(|high| table.compare(key, high).is_le()))
}

/// A place in a tree where a page is missing.
#[derive(Debug)]
pub(super) struct Hole {
    pub(super) page: u32,
    pub(super) bounds: Bounds,
}

/// A table and what happened to it so far.
pub(super) struct Tracked {
    pub(super) table: Table,
    pub(super) root: Option<u32>,
    pub(super) holes: Vec<Hole>,
    /// The first and last rowid of each leaf that gave rows; sorted once the trees are walked.
    pub(super) ranges: Vec<(i64, i64)>,
    keys: HashSet<u64>,
    hidden_rowid: bool,
    pub(super) leaves: u64,
    pub(super) stray_leaves: u64,
    pub(super) kept: u64,
    pub(super) kept_from_strays: u64,
    pub(super) refused: u64,
    pub(super) duplicates: u64,
}

impl Tracked {
    pub(super) fn new(table: Table, root: Option<u32>) -> Self {
        Self {
            hidden_rowid: hidden_rowid(&table).is_some(),
            table,
            root,
            holes: Vec::new(),
            ranges: Vec::new(),
            keys: HashSet::new(),
            leaves: 0,
            stray_leaves: 0,
            kept: 0,
            kept_from_strays: 0,
            refused: 0,
            duplicates: 0,
        }
    }

    pub(super) fn report(&self) -> TableReport {
        let leaves = self.leaves + self.stray_leaves;
        let lost_leaves = (self.holes.len() as u64).saturating_sub(self.stray_leaves);
        let lost = self.refused + (lost_leaves * self.kept).checked_div(leaves).unwrap_or(0);
        TableReport {
            name: self.table.name.clone(),
            kept: self.kept,
            kept_from_strays: self.kept_from_strays,
            refused: self.refused,
            duplicates: self.duplicates,
            refused_by_target: 0,
            unreadable_pages: self.holes.len() as u64,
            lost_estimate: lost,
        }
    }

    /// Rows of it can be on pages that no tree leads to.
    pub(super) fn incomplete(&self) -> bool {
        self.root.is_none() || !self.holes.is_empty()
    }
}

/// Takes a row.
pub(super) type Sink<'s> = dyn FnMut(&Row<'_>) -> Result<()> + 's;

/// A salvage under way.
pub(super) struct Walk<'s> {
    pub(super) source: &'s Source,
    pub(super) space: &'s Space,
    pub(super) pages: Vec<Seen>,
    pub(super) tracked: Vec<Tracked>,
    /// Leaves that do not fit where they stand, with the table that leads to them.
    pub(super) misplaced: Vec<(u32, usize)>,
    pub(super) probe: Probe,
    /// Overflow pages that a row was given away with.
    taken: Vec<bool>,
    /// Overflow pages that may still be read: a crafted file must not make every cell read the same long chain.
    overflow_left: u64,
    serials: Vec<Serial>,
    /// The last rowid that the tree under way gave.
    last: Option<Key>,
    sink: &'s mut Sink<'s>,
}

/// A row of a page, not yet given away.
struct Found<'a> {
    key: Key,
    rowid: i64,
    fields: Vec<ValueRef<'a>>,
    cell: usize,
}

/// How a page came to its table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// Its tree leads to it.
    Tree,
    /// It was matched.
    Stray,
}

/// First reading: what the pages are.
pub(super) fn scan(source: &Source, space: &Space) -> Vec<Seen> {
    let mut pages = vec![Seen::default(); source.pages as usize + 1];
    let mut bytes = source.buffer();
    for number in 1..=source.pages {
        if !space.holds_content(number) || !source.read(number, &mut bytes) {
            continue;
        }
        let seen = &mut pages[number as usize];
        seen.kind = Kind::of(bytes[if number == 1 { 100 } else { 0 }]);
        if seen.kind.is_some_and(|kind| !kind.is_leaf()) {
            seen.sound = Page::parse(&bytes[..source.usable], number == 1).is_some_and(|page| page.sound);
        }
    }
    pages
}

impl<'s> Walk<'s> {
    pub(super) fn new(
        source: &'s Source,
        space: &'s Space,
        pages: Vec<Seen>,
        tables: Vec<(Table, Option<u32>)>,
        sink: &'s mut Sink<'s>,
    ) -> Result<Self> {
        let probe = Probe::new(tables.iter().map(|(table, _)| table))?;
        let taken = vec![false; pages.len()];
        let overflow_left = 4 * u64::from(source.pages) + 1000;
        let tracked = tables.into_iter().map(|(table, root)| Tracked::new(table, root)).collect();
        let mut walk = Self {
            source,
            space,
            pages,
            tracked,
            misplaced: Vec::new(),
            probe,
            taken,
            overflow_left,
            serials: Vec::new(),
            last: None,
            sink,
        };
        walk.check_roots();
        walk.claim_all();
        Ok(walk)
    }

    /// Forgets roots that cannot be some.
    fn check_roots(&mut self) {
        for (at, tracked) in self.tracked.iter_mut().enumerate() {
            let Some(root) = tracked.root else { continue };
            let possible = matches!(self.space.used_as(root), None | Some(Use::Root));
            match self.pages.get_mut(root as usize) {
                // A page that is no b-tree's any more leaves a hole, which the walk finds.
                Some(seen) if possible && seen.kind.is_none_or(|kind| suits(kind, &tracked.table)) => {
                    seen.parent = Parent::Root;
                    seen.owner = at as u32 + 1;
                }
                None if root > self.source.pages => {}
                _ => tracked.root = None,
            }
        }
    }

    /// Collects who points where.
    fn claim_all(&mut self) {
        // Where pointer and pointer map contradict, the pointer counts if nobody else has a better claim.
        let mut doubtful = Vec::new();
        for at in 0..self.tracked.len() {
            if let Some(root) = self.tracked[at].root {
                self.claim_below(root, at as u32 + 1, &mut doubtful);
            }
        }
        while let Some((parent, child)) = doubtful.pop() {
            let owner = self.pages[parent as usize].owner;
            // The pointer map names a page of another table: one of the two pages is in the wrong place.
            let contradicts = match self.space.used_as(child) {
                Some(Use::Child(other)) => {
                    self.pages.get(other as usize).is_some_and(|other| ![0, owner].contains(&other.owner))
                }
                _ => false,
            };
            let seen = &mut self.pages[child as usize];
            if seen.parent == Parent::None && !contradicts {
                seen.parent = Parent::Page(parent);
                seen.owner = owner;
                self.claim_below(child, owner, &mut doubtful);
            }
        }
    }

    /// Claims all pages below one.
    pub(super) fn claim_below(&mut self, top: u32, owner: u32, doubtful: &mut Vec<(u32, u32)>) {
        let mut stack = vec![top];
        let mut bytes = self.source.buffer();
        while let Some(parent) = stack.pop() {
            let Some(kind) = self.pages.get(parent as usize).and_then(|seen| seen.kind) else { continue };
            if kind.is_leaf() || !self.source.read(parent, &mut bytes) {
                continue;
            }
            let Some(page) = Page::parse(&bytes[..self.source.usable], parent == 1) else { continue };
            for (child, _) in page.children() {
                let Some(seen) = self.pages.get_mut(child as usize) else { continue };
                let suits = seen.kind.is_some_and(|found| found.is_table() == kind.is_table());
                if child < 2 || child == parent || !suits {
                    continue;
                }
                match (self.space.used_as(child), seen.parent) {
                    (Some(Use::Root | Use::Free), _) | (_, Parent::Root | Parent::Contested) => {}
                    (Some(Use::Child(other)), _) if other != parent => doubtful.push((parent, child)),
                    (Some(Use::FirstOverflow(_) | Use::NextOverflow(_)), _) => doubtful.push((parent, child)),
                    (_, Parent::Page(_)) => seen.parent = Parent::Contested,
                    (_, Parent::None) => {
                        seen.parent = Parent::Page(parent);
                        seen.owner = owner;
                        stack.push(child);
                    }
                }
            }
        }
    }

    /// Walks every tree that the schema leads to.
    ///
    /// # Errors
    /// Of the sink.
    pub(super) fn trees(&mut self) -> Result<()> {
        for at in 0..self.tracked.len() {
            if let Some(root) = self.tracked[at].root {
                self.tree(at, root, Bounds::default(), By::Tree)?;
            }
        }
        for tracked in &mut self.tracked {
            tracked.ranges.sort_unstable();
        }
        Ok(())
    }

    /// Walks the tree below a page.
    ///
    /// # Errors
    /// Of the sink.
    pub(super) fn tree(&mut self, at: usize, top: u32, bounds: Bounds, by: By) -> Result<()> {
        self.last = None;
        let mut stack = vec![(top, bounds)];
        let mut bytes = self.source.buffer();
        while let Some((number, bounds)) = stack.pop() {
            let suits = |kind: Kind| suits(kind, &self.tracked[at].table);
            let kind = self.pages.get(number as usize).and_then(|seen| seen.kind).filter(|kind| suits(*kind));
            match kind {
                Some(kind) if kind.is_leaf() => {
                    if self.tracked[at].table.tree != Tree::Index {
                        self.leaf(at, number, bounds, by)?;
                    }
                }
                Some(_) if self.source.read(number, &mut bytes) => {
                    self.interior(at, number, &bytes, bounds, by, &mut stack)?;
                }
                _ => self.tracked[at].holes.push(Hole { page: number, bounds }),
            }
        }
        Ok(())
    }

    /// Puts the children of a page on the stack, with what their rows are between, and gives away its own rows.
    fn interior(
        &mut self,
        at: usize,
        number: u32,
        bytes: &[u8],
        bounds: Bounds,
        by: By,
        stack: &mut Vec<(u32, Bounds)>,
    ) -> Result<()> {
        let Some(page) = Page::parse(&bytes[..self.source.usable], number == 1) else {
            self.tracked[at].holes.push(Hole { page: number, bounds });
            return Ok(());
        };
        if !page.sound {
            self.tracked[at].holes.push(Hole { page: number, bounds: bounds.clone() });
        }
        let keys = self.separators(at, number, &page);
        let table = &self.tracked[at].table;
        // A key that is out of order is damaged: its neighbours' bounds count instead.
        let inside: Vec<usize> = (0..keys.len())
            .filter(|place| keys[*place].as_ref().is_some_and(|key| bounds.contain(table, key)))
            .collect();
        let ordered = if table.ordered() {
            let order =
                ascending(inside.len(), |one, other| match (&keys[inside[one]], &keys[inside[other]]) {
                    (Some(one), Some(other)) => table.compare(one, other).is_lt(),
                    _ => false,
                });
            order.into_iter().map(|place| inside[place]).collect()
        } else {
            Vec::new()
        };
        let mut low = bounds.low.clone();
        let mut next = ordered.iter().peekable();
        let mut children = Vec::with_capacity(keys.len() + 1);
        for (place, (child, _)) in page.children().enumerate() {
            let high = next.peek().map_or_else(|| bounds.high.clone(), |place| keys[**place].clone());
            let wide = (None, None);
            children.push((child, Bounds { low: low.clone(), high: high.clone(), wide }));
            if next.next_if(|ordered| **ordered == place).is_some() {
                low = high;
            }
        }
        for at in 0..children.len() {
            let low = at.checked_sub(1).map_or(&bounds.wide.0, |before| &children[before].1.low).clone();
            let high = children.get(at + 1).map_or(&bounds.wide.1, |behind| &behind.1.high).clone();
            children[at].1.wide = (low, high);
        }
        if matches!(table.tree, Tree::Keyed(_)) {
            self.rows(at, number, &page, &bounds, by)?;
        }
        // One free child may be an error of the free list; a parent of several is a page of deleted rows itself.
        let free = |child: u32| child <= self.source.pages && self.space.is_free(child);
        let stale = children.iter().filter(|(child, _)| free(*child)).count() > 1;
        for (child, bounds) in children.into_iter().rev() {
            let mine = self.pages.get(child as usize).is_some_and(|seen| seen.parent == Parent::Page(number));
            if mine && !(stale && self.space.is_free(child)) {
                stack.push((child, bounds));
            } else {
                self.tracked[at].holes.push(Hole { page: child, bounds });
            }
        }
        Ok(())
    }

    /// The keys of an interior page.
    fn separators(&mut self, at: usize, number: u32, page: &Page<'_>) -> Vec<Option<Key>> {
        page.cells
            .iter()
            .map(|cell| match self.tracked[at].table.tree {
                Tree::Rowid => Some(Key::Rowid(cell.rowid)),
                Tree::Index | Tree::Keyed(None) => None,
                Tree::Keyed(Some(_)) => {
                    let payload = self.payload(number, page, cell)?.0;
                    let fields = decode(&payload, &mut self.serials)?;
                    Some(self.tracked[at].table.key(0, &fields))
                }
            })
            .collect()
    }

    fn leaf(&mut self, at: usize, number: u32, bounds: Bounds, by: By) -> Result<()> {
        // A tree leads to a free page: either is damaged. Between two keys a page of deleted rows would not fit; at the
        // ends of a tree it may.
        let open = bounds.low.is_none() || bounds.high.is_none();
        if open && self.space.is_free(number) {
            self.tracked[at].holes.push(Hole { page: number, bounds });
            return Ok(());
        }
        let mut bytes = self.source.buffer();
        let read = self.source.read(number, &mut bytes);
        let page = Page::parse(&bytes[..self.source.usable], number == 1).filter(|_| read);
        let fits = match &page {
            Some(page) => self.rows(at, number, page, &bounds, by)?,
            None => false,
        };
        let tracked = &mut self.tracked[at];
        match (fits, by) {
            (true, By::Tree) => tracked.leaves += 1,
            (true, By::Stray) => tracked.stray_leaves += 1,
            (false, By::Tree) => {
                tracked.holes.push(Hole { page: number, bounds });
                self.misplaced.push((number, at));
            }
            (false, By::Stray) => {}
        }
        Ok(())
    }

    /// Gives away the rows of a page; false, and none, when the page does not fit here.
    fn rows(&mut self, at: usize, number: u32, page: &Page<'_>, bounds: &Bounds, by: By) -> Result<bool> {
        let mut payloads: Vec<Option<(Cow<'_, [u8]>, Vec<u32>)>> = Vec::with_capacity(page.cells.len());
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
    fn payload<'a>(
        &mut self,
        number: u32,
        page: &Page<'a>,
        cell: &Cell,
    ) -> Option<(Cow<'a, [u8]>, Vec<u32>)> {
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

/// A page of this kind can be of this table.
pub(super) fn suits(kind: Kind, table: &Table) -> bool {
    kind.is_table() == (table.tree == Tree::Rowid)
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

/// The longest ascending run of `0..count`, gaps allowed: what is not in it is out of order.
fn ascending(count: usize, less: impl Fn(usize, usize) -> bool) -> Vec<usize> {
    if (1..count).all(|place| less(place - 1, place)) {
        return (0..count).collect();
    }
    // Patience sorting: the smallest last element of the runs of each length, and what came before each element.
    let (mut ends, mut before): (Vec<usize>, Vec<Option<usize>>) = (Vec::new(), Vec::with_capacity(count));
    for place in 0..count {
        let length = ends.partition_point(|end| less(*end, place));
        before.push(length.checked_sub(1).map(|length| ends[length]));
        if length == ends.len() {
            ends.push(place);
        } else {
            ends[length] = place;
        }
    }
    let mut run = Vec::with_capacity(ends.len());
    let mut at = ends.last().copied();
    while let Some(place) = at {
        run.push(place);
        at = before[place];
    }
    run.reverse();
    run
}

#[cfg(test)]
mod tests {
    use super::ascending;

    #[test]
    fn the_odd_one_out_is_left_out() {
        let kept = |keys: &[i64]| -> Vec<i64> {
            ascending(keys.len(), |one, other| keys[one] < keys[other])
                .into_iter()
                .map(|at| keys[at])
                .collect()
        };
        assert_eq!(kept(&[1, 2, 99, 4, 5]), [1, 2, 4, 5]);
        assert_eq!(kept(&[7, 1, 2, 3]), [1, 2, 3]);
        assert_eq!(kept(&[1, 2, 2, 3]), [1, 2, 3]);
        assert_eq!(kept(&[1, 2, 3]), [1, 2, 3]);
        assert!(kept(&[]).is_empty());
    }
}
