//! One number in a file that every process of a database has mapped: a look costs one load.
//!
//! Invariant: every access is atomic, and the file always has the number's length.
//!
//! Tests: `latch`, `write_rate`.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};

use crate::error::{Error, Result};
use crate::home;

const BYTES: usize = size_of::<u64>();

/// The mapped number. A new one is zero.
pub(super) struct SharedNumber(MmapRaw);

impl SharedNumber {
    /// # Errors
    /// Of the system.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = home::open_number(path)?;
        let failed = |error| Error::io("map the number", path, error);
        MmapOptions::new().len(BYTES).map_raw(&file).map(Self).map_err(failed)
    }

    #[allow(clippy::cast_ptr_alignment, reason = "a mapping is page-aligned")]
    fn value(&self) -> &AtomicU64 {
        // SAFETY: the mapping is page-aligned, at least eight bytes long, and lives as long as `self`. It is shared memory
        // that other processes change: every access is atomic, and all bit patterns are valid. Nobody shortens the file:
        // it has its length from the moment on when it has its name.
        unsafe { &*self.0.as_ptr().cast::<AtomicU64>() }
    }

    pub(super) fn get(&self) -> u64 {
        self.value().load(Ordering::Acquire)
    }

    /// Unless it is another one by now.
    pub(super) fn change(&self, from: u64, to: u64) {
        let _ = self.value().compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Makes it what follows from what it is; answers that.
    pub(super) fn update(&self, next: impl Fn(u64) -> u64) -> u64 {
        let mut found = self.get();
        loop {
            let wanted = next(found);
            match self.value().compare_exchange_weak(found, wanted, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return wanted,
                Err(now) => found = now,
            }
        }
    }
}
