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

use std::collections::HashSet;

use super::Row;
use super::order::ascending;
use super::page::{Kind, Page};
use super::record::{Serial, decode};
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
    pub(super) keys: HashSet<u64>,
    pub(super) hidden_rowid: bool,
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
    pub(super) taken: Vec<bool>,
    /// Overflow pages that may still be read: a crafted file must not make every cell read the same long chain.
    pub(super) overflow_left: u64,
    pub(super) serials: Vec<Serial>,
    /// The last rowid that the tree under way gave.
    pub(super) last: Option<Key>,
    pub(super) sink: &'s mut Sink<'s>,
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
}

/// A page of this kind can be of this table.
pub(super) fn suits(kind: Kind, table: &Table) -> bool {
    kind.is_table() == (table.tree == Tree::Rowid)
}
