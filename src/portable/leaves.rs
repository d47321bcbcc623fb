//! The transcript of a thread that leaves its home: a file, or the history that a server has.

use super::format::Transcript;
use crate::error::Result;
use crate::rollout::leaving::Leaving;
#[cfg(feature = "postgres")]
use crate::thread_store::leaving::LeavingHistory;

pub(super) enum Leaves {
    File(Leaving),
    #[cfg(feature = "postgres")]
    Rows(Box<LeavingHistory>),
}

impl Leaves {
    /// What is said of it before its bytes.
    pub(super) fn transcript(&self) -> Transcript {
        let (name, archived, bytes) = match self {
            Self::File(Leaving { name, archived, bytes, .. }) => (name, *archived, *bytes),
            #[cfg(feature = "postgres")]
            Self::Rows(history) => (&history.name, history.archived, history.bytes),
        };
        Transcript { name: name.clone(), archived, bytes }
    }

    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// `Replaced` when it became shorter, or was removed; of the system; of the server.
    pub(super) fn read(&mut self, to: &mut [u8]) -> Result<usize> {
        match self {
            Self::File(leaving) => leaving.read(to),
            #[cfg(feature = "postgres")]
            Self::Rows(history) => history.read(to),
        }
    }
}
