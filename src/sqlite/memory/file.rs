//! One file in memory: its bytes, its locks, and the index of its write-ahead log.

use std::cell::UnsafeCell;

use parking_lot::{Mutex, RwLock};
use rusqlite::ffi;

/// What SQLite answers when something is taken; no lock here waits.
#[derive(Clone, Copy)]
pub(super) struct Taken;

/// The slots of the index that can be locked.
const SLOTS: usize = ffi::SQLITE_SHM_NLOCK as usize;

#[derive(Default)]
pub(super) struct MemoryFile {
    pub(super) bytes: RwLock<Vec<u8>>,
    locks: Mutex<Locks>,
    index: Mutex<Index>,
}

/// How far a connection's lock on the file goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    #[default]
    None,
    Shared,
    Reserved,
    Pending,
    Exclusive,
}

#[derive(Default)]
struct Locks {
    /// How many have at least `Shared`.
    shared: u32,
    /// Somebody has at least `Reserved`.
    reserved: bool,
    /// Somebody has at least `Pending`: nobody comes in any more.
    closing: bool,
}

impl MemoryFile {
    /// Raises a connection's lock from `held`. Answers how far it came, and whether that is far enough.
    pub(super) fn lock(&self, held: Level, wanted: Level) -> (Level, Result<(), Taken>) {
        let mut locks = self.locks.lock();
        let mut held = held;
        if wanted <= held {
            return (held, Ok(()));
        }
        if held == Level::None {
            if locks.closing {
                return (held, Err(Taken));
            }
            locks.shared += 1;
            held = Level::Shared;
        }
        if wanted >= Level::Reserved && held < Level::Reserved {
            if locks.reserved {
                // Whoever came in only for this call goes out again when SQLite unlocks it.
                return (held, Err(Taken));
            }
            locks.reserved = true;
            held = Level::Reserved;
        }
        if wanted == Level::Exclusive {
            locks.closing = true;
            held = Level::Pending;
            if locks.shared > 1 {
                return (held, Err(Taken));
            }
            held = Level::Exclusive;
        }
        (held, Ok(()))
    }

    /// Lowers a connection's lock to `Shared` or `None`.
    pub(super) fn unlock(&self, held: Level, wanted: Level) -> Level {
        let mut locks = self.locks.lock();
        if held >= Level::Reserved && wanted < Level::Reserved {
            (locks.reserved, locks.closing) = (false, false);
        }
        if held >= Level::Shared && wanted == Level::None {
            locks.shared -= 1;
        }
        wanted.min(held)
    }

    /// Somebody is about to write.
    pub(super) fn is_reserved(&self) -> bool {
        self.locks.lock().reserved
    }

    /// One more connection uses the index.
    pub(super) fn join_index(&self) {
        self.index.lock().users += 1;
    }

    /// A region of the index; `None` when it is not there and should not be created. It stays where it is until the
    /// last user has left.
    pub(super) fn region(&self, number: usize, bytes: usize, create: bool) -> Option<*mut u8> {
        let mut index = self.index.lock();
        while index.regions.len() <= number && create {
            index.regions.push(Region::new(bytes));
        }
        index.regions.get(number).map(Region::start)
    }

    /// Locks slots of the index for a connection that holds `own`, all or none.
    pub(super) fn lock_slots(&self, own: &mut Slots, slots: Span, exclusive: bool) -> Result<(), Taken> {
        let mut index = self.index.lock();
        let mask = slots.mask();
        if exclusive {
            if own.exclusive & mask == mask {
                return Ok(());
            }
            if slots.each().any(|slot| index.slots[slot] != 0) {
                return Err(Taken);
            }
            slots.each().for_each(|slot| index.slots[slot] = -1);
            own.exclusive |= mask;
        } else {
            if own.shared & mask == mask {
                return Ok(());
            }
            if slots.each().any(|slot| index.slots[slot] < 0) {
                return Err(Taken);
            }
            slots.each().for_each(|slot| index.slots[slot] += 1);
            own.shared |= mask;
        }
        Ok(())
    }

    /// Gives back what `own` holds of these slots.
    pub(super) fn unlock_slots(&self, own: &mut Slots, slots: Span) {
        let mut index = self.index.lock();
        for slot in slots.each() {
            let bit = 1 << slot;
            if own.exclusive & bit != 0 {
                index.slots[slot] = 0;
            } else if own.shared & bit != 0 {
                index.slots[slot] -= 1;
            }
            own.exclusive &= !bit;
            own.shared &= !bit;
        }
    }

    /// A connection uses the index no more. With the last one the index goes: it is made anew from the log.
    pub(super) fn leave_index(&self, own: &mut Slots) {
        self.unlock_slots(own, Span::ALL);
        let mut index = self.index.lock();
        index.users = index.users.saturating_sub(1);
        if index.users == 0 {
            index.regions.clear();
        }
    }
}

/// The index of a log, which all connections to a file share.
#[derive(Default)]
struct Index {
    regions: Vec<Region>,
    /// How many hold each slot; -1: one does, for itself.
    slots: [i32; SLOTS],
    users: u32,
}

/// Memory that SQLite reads and writes from several threads, by its own rules. Eight bytes wide, as its start must be.
struct Region(Box<[UnsafeCell<u64>]>);

// SAFETY: nothing here reads or writes what is in a region; it only hands out where it starts.
unsafe impl Send for Region {}

impl Region {
    fn new(bytes: usize) -> Self {
        Self((0..bytes.div_ceil(8)).map(|_| UnsafeCell::new(0)).collect())
    }

    fn start(&self) -> *mut u8 {
        UnsafeCell::raw_get(self.0.as_ptr()).cast()
    }
}

/// The slots that one connection holds, a bit each.
#[derive(Default)]
pub(super) struct Slots {
    shared: u32,
    exclusive: u32,
}

/// Neighbouring slots, all of which exist.
#[derive(Clone, Copy)]
pub(super) struct Span {
    first: usize,
    end: usize,
}

impl Span {
    const ALL: Self = Self { first: 0, end: SLOTS };

    /// `count` slots from `first` on, if there are so many.
    pub(super) fn new(first: usize, count: usize) -> Option<Self> {
        let end = first.checked_add(count)?;
        (end <= SLOTS).then_some(Self { first, end })
    }

    fn each(self) -> std::ops::Range<usize> {
        self.first..self.end
    }

    fn mask(self) -> u32 {
        self.each().fold(0, |mask, slot| mask | 1 << slot)
    }
}
