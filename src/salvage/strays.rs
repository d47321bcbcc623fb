//! Pages that no tree leads to: which table they belong to.
//!
//! A whole lost subtree is judged as one. It goes to a table only if rows of that table can be missing (its root is
//! unknown, or its tree has holes), the subtree's rows have the table's shape, its keys fit a hole where there is a
//! tree, and one of these holds:
//! 1. The pointer map leads from it to that table.
//! 2. No other table has its shape.
//! 3. The pointer map leads nowhere, all tables of its shape have a known root, and only one a hole for it.
//! 4. The pointer map leads nowhere, it starts where that table's root is in a new file, and all roots that are known
//!    are where they are there.
//!
//! Where two tables are left, the rows are lost, and counted: a row in a wrong table would be an invented one. Pages
//! of indexes and of SQLite's own tables take part, so that none of them is taken for a table's.
//! Two tables of one shape whose first pages changed places cannot be told apart by anybody.

use rusqlite::types::ValueRef;

use super::page::{Kind, Page};
use super::record::{Serial, decode, header};
use super::schema::{SCHEMA, SEQUENCE};
use super::space::Use;
use super::table::{Key, Tree};
use super::walk::{Bounds, By, Parent, Tracked, Walk, suits};
use crate::error::Result;

/// How many leaves of a subtree are looked at to judge it.
const SAMPLED_LEAVES: usize = 16;
/// How many rows of them SQLite itself is asked about.
const PROBED_ROWS: usize = 64;

/// The highest page of a lost subtree, or a leaf that does not fit where it stands.
struct Top {
    page: u32,
    leaves: Vec<u32>,
    /// The table that the pointer map leads to.
    link: Option<usize>,
    /// The table whose tree leads here, and where it does not fit.
    origin: Option<usize>,
}

/// What a look at a subtree found, for one table.
#[derive(Default)]
struct Fit {
    rows: usize,
    fitting: usize,
    /// Of these, rows that the table expects.
    expected: usize,
    first: Option<Key>,
    last: Option<Key>,
}

impl Fit {
    fn mostly(&self) -> bool {
        self.fitting > 0 && self.fitting * 8 >= self.rows * 7
    }
}

impl Walk<'_> {
    /// Gives away the rows of all pages that can be told a table. Returns how many pages could not.
    ///
    /// # Errors
    /// Of the sink, or of the database in memory.
    pub(super) fn strays(&mut self) -> Result<u64> {
        let mut tops = self.tops();
        // Each subtree that found its table leaves fewer possibilities for the others.
        loop {
            let mut left = Vec::new();
            let before = tops.len();
            for top in tops {
                match self.choose(&top)? {
                    Some((at, bounds)) => self.adopt(at, &top, bounds)?,
                    None => left.push(top),
                }
            }
            tops = left;
            if tops.is_empty() || tops.len() == before {
                break;
            }
        }
        Ok(tops.iter().map(|top| top.leaves.len() as u64).sum())
    }

    fn tops(&mut self) -> Vec<Top> {
        for page in 1..self.pages.len() as u32 {
            let seen = self.pages[page as usize];
            let interior = seen.kind.is_some_and(|kind| !kind.is_leaf());
            let lost = matches!(seen.parent, Parent::None) && self.space.is_live(page);
            if interior && seen.sound && lost && page > 1 {
                self.claim_below(page, 0, &mut Vec::new());
            }
        }
        let mut tops: Vec<Top> = std::mem::take(&mut self.misplaced)
            .into_iter()
            .filter(|(page, _)| !self.space.is_free(*page))
            .map(|(page, at)| Top { page, leaves: vec![page], link: None, origin: Some(at) })
            .collect();
        for page in 2..self.pages.len() as u32 {
            let seen = self.pages[page as usize];
            let lost = matches!(seen.parent, Parent::None | Parent::Contested);
            if seen.kind.is_some() && lost && self.space.is_live(page) {
                let (leaves, link) = (self.leaves_below(page), self.link(page));
                tops.push(Top { page, leaves, link, origin: None });
            }
        }
        // Those that something leads to go first.
        tops.sort_by_key(|top| top.link.is_none());
        tops
    }

    fn leaves_below(&self, top: u32) -> Vec<u32> {
        let (mut stack, mut leaves) = (vec![top], Vec::new());
        let mut bytes = self.source.buffer();
        while let Some(number) = stack.pop() {
            if self.pages[number as usize].kind.is_some_and(Kind::is_leaf) {
                leaves.push(number);
            } else if self.source.read(number, &mut bytes)
                && let Some(page) = Page::parse(&bytes[..self.source.usable], false)
            {
                let mine = |child: &u32| {
                    let seen = self.pages.get(*child as usize);
                    seen.is_some_and(|seen| seen.parent == Parent::Page(number))
                };
                let children: Vec<u32> = page.children().map(|(child, _)| child).filter(mine).collect();
                stack.extend(children.into_iter().rev());
            }
        }
        leaves
    }

    /// The table that the pointer map leads to, from parent to parent.
    fn link(&self, page: u32) -> Option<usize> {
        let mut at = page;
        for _ in 0..20 {
            let parent = match self.space.used_as(at)? {
                Use::Child(parent) => parent,
                Use::Root => return self.tracked.iter().position(|tracked| tracked.root == Some(at)),
                _ => return None,
            };
            let hole = |tracked: &Tracked| tracked.holes.iter().any(|hole| hole.page == parent);
            if let Some(table) = self.tracked.iter().position(hole) {
                return Some(table);
            }
            if let Some(owner) = self.pages.get(parent as usize)?.owner.checked_sub(1) {
                return Some(owner as usize);
            }
            at = parent;
        }
        None
    }

    /// The table of a subtree, and what its rows are between there.
    fn choose(&mut self, top: &Top) -> Result<Option<(usize, Bounds)>> {
        let Some(kind) = self.pages[top.page as usize].kind else { return Ok(None) };
        let mut fits = Vec::new();
        for at in 0..self.tracked.len() {
            let tracked = &self.tracked[at];
            if tracked.incomplete() && suits(kind, &tracked.table) {
                let fit = self.look(at, &top.leaves)?;
                let led = top.link == Some(at) || top.origin == Some(at);
                let linked = led && fit.fitting > 0 && fit.fitting * 2 >= fit.rows;
                if linked || fit.mostly() {
                    fits.push((at, fit));
                }
            }
        }
        // One that expects such rows goes before one that would admit them.
        let expects = |fit: &Fit| fit.expected * 2 >= fit.fitting;
        if fits.iter().any(|(_, fit)| expects(fit)) {
            fits.retain(|(_, fit)| expects(fit));
        }
        // SQLite's own tables are told by what they hold.
        if let Some(own) = fits.iter().position(|(at, _)| self.tracked[*at].table.name == SEQUENCE) {
            fits = vec![fits.swap_remove(own)];
        }
        let mut holes: Vec<(usize, Bounds)> = Vec::new();
        fits.retain(|(at, fit)| {
            let Tracked { table, holes: missing, root, .. } = &self.tracked[*at];
            let keys = || fit.first.iter().chain(&fit.last);
            let hole =
                missing.iter().find(|hole| keys().all(|key| hole.bounds.contain(table, key))).or_else(|| {
                    missing.iter().find(|hole| keys().all(|key| hole.bounds.nearly_contain(table, key)))
                });
            holes.extend(hole.map(|hole| (*at, hole.bounds.clone())));
            // Where the tree is there, what is missing from it fits one of its holes.
            hole.is_some() || root.is_none()
        });
        let rootless = fits.iter().any(|(at, _)| self.tracked[*at].root.is_none());
        let linked = top.link.filter(|link| fits.iter().any(|(at, _)| at == link));
        let chosen = match (linked, &fits[..], &holes[..]) {
            (Some(link), _, holes) if holes.iter().any(|(at, _)| *at == link) => {
                holes.iter().find(|(at, _)| *at == link).cloned()
            }
            (_, [(only, _)], holes) => {
                Some(holes.first().cloned().unwrap_or_else(|| (*only, Bounds::default())))
            }
            (None, _, [only]) if !rootless => Some(only.clone()),
            (None, several, _) if self.roots_are_usual() => several
                .iter()
                .map(|(at, _)| *at)
                .find(|at| {
                    let tracked = &self.tracked[*at];
                    tracked.root.is_none() && tracked.table.usual_root == top.page
                })
                .map(|at| (at, Bounds::default())),
            _ => None,
        };
        Ok(chosen)
    }

    /// All roots that are known are where they are in a new file.
    fn roots_are_usual(&self) -> bool {
        let usual =
            |tracked: &Tracked| tracked.root.is_none_or(|root| [root, 0].contains(&tracked.table.usual_root));
        self.tracked.iter().all(usual)
    }

    /// Looks at some leaves of a subtree as if they were a table's.
    fn look(&mut self, at: usize, leaves: &[u32]) -> Result<Fit> {
        let mut fit = Fit::default();
        let mut bytes = self.source.buffer();
        let (mut serials, mut probed): (Vec<Serial>, usize) = (Vec::new(), 0);
        let step = (leaves.len().saturating_sub(1) / (SAMPLED_LEAVES - 1)).max(1);
        let sampled = leaves.iter().step_by(step).chain(leaves.last().filter(|_| step > 1));
        for leaf in sampled {
            if !self.source.read(*leaf, &mut bytes) {
                continue;
            }
            let Some(page) = Page::parse(&bytes[..self.source.usable], false) else { continue };
            fit.rows += page.bad;
            let tracked = &self.tracked[at];
            for cell in &page.cells {
                fit.rows += 1;
                let local = page.local(cell);
                let length = header(local, &mut serials).map(|(_, length)| length);
                if length != Some(cell.payload)
                    || !tracked.table.admits(&serials)
                    || !tracked.table.hides_alias(&serials)
                {
                    continue;
                }
                let key = match tracked.table.tree {
                    Tree::Rowid => Some(Key::Rowid(cell.rowid)),
                    _ => None,
                };
                let mut admitted = true;
                let mut key = key;
                // The contents of a large row are on other pages.
                if cell.overflow == 0 {
                    let Some(fields) = decode(local, &mut serials) else { continue };
                    if tracked.table.name == SEQUENCE {
                        admitted = self.names_a_table(&fields);
                    } else if tracked.table.name == SCHEMA {
                        admitted = is_declaration(&fields);
                    } else if self.is_sqlites_own(&fields) {
                        admitted = false;
                    } else if probed < PROBED_ROWS && tracked.table.tree != Tree::Index {
                        probed += 1;
                        let values = tracked.table.values(cell.rowid, &fields);
                        let rowid = super::schema::hidden_rowid(&tracked.table).map(|_| cell.rowid);
                        admitted = self.probe.admits(at, rowid, &values)?;
                    }
                    key = Some(tracked.table.key(cell.rowid, &fields));
                }
                if admitted {
                    fit.fitting += 1;
                    fit.expected += usize::from(tracked.table.expects(&serials));
                    let ahead = |one: &Key, other: &Option<Key>| {
                        other.as_ref().is_none_or(|other| tracked.table.compare(one, other).is_lt())
                    };
                    if let Some(key) = key {
                        if ahead(&key, &fit.first) {
                            fit.first = Some(key.clone());
                        }
                        if fit.last.as_ref().is_none_or(|last| !ahead(&key, &Some(last.clone()))) {
                            fit.last = Some(key);
                        }
                    }
                }
            }
        }
        Ok(fit)
    }

    fn names_a_table(&self, fields: &[ValueRef<'_>]) -> bool {
        let name = fields.first().and_then(|name| name.as_str().ok());
        name.is_some_and(|name| self.tracked.iter().any(|tracked| tracked.table.name == name))
    }

    /// A row of `sqlite_schema`, `sqlite_stat1` or `sqlite_stat4`, which also fits tables without types.
    fn is_sqlites_own(&self, fields: &[ValueRef<'_>]) -> bool {
        let index = fields.get(1).and_then(|value| value.as_str().ok());
        match fields.len() {
            5 => is_declaration(fields),
            3 | 6 => {
                self.names_a_table(fields)
                    && index.is_some_and(|index| {
                        self.tracked
                            .iter()
                            .any(|tracked| tracked.table.tree == Tree::Index && tracked.table.name == index)
                    })
            }
            _ => false,
        }
    }

    fn adopt(&mut self, at: usize, top: &Top, bounds: Bounds) -> Result<()> {
        let tracked = &mut self.tracked[at];
        if tracked.root.is_none() && self.space.used_as(top.page) == Some(Use::Root) {
            tracked.root = Some(top.page);
        }
        if tracked.table.tree == Tree::Index {
            return Ok(());
        }
        self.tree(at, top.page, bounds, By::Stray)
    }
}

/// A row of `sqlite_schema`.
fn is_declaration(fields: &[ValueRef<'_>]) -> bool {
    let text = |at: usize| fields.get(at).and_then(|value: &ValueRef<'_>| value.as_str().ok());
    matches!(text(0), Some("table" | "index" | "view" | "trigger"))
        && text(4).is_none_or(|sql| sql.starts_with("CREATE "))
}
