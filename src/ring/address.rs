//! A connection goes to another core as a message to that core's ring, and a message names the ring
//! by a descriptor. That must stay open for as long as a sender's entry names it, and no longer:
//! whoever holds it keeps the ring, and every socket in its table, from being closed (D32).
//!
//! Promise: [`Address::close`] closes the descriptor as soon as no message is on its way by it; from
//! then on nobody sends. A sender has it from the push of its entry to the final completion alone.
//!
//! States: open, closed.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

/// What an entry names a ring by.
#[derive(Debug)]
pub(super) enum Door {
    Linux(OwnedFd),
    /// The number of a ring of a machine.
    #[cfg(feature = "sim")]
    Played(i32),
}

impl Door {
    /// The number that goes into the entry.
    pub(super) fn number(&self) -> i32 {
        match self {
            Door::Linux(fd) => fd.as_raw_fd(),
            #[cfg(feature = "sim")]
            Door::Played(number) => *number,
        }
    }
}

/// Where a ring can be sent to, from any thread.
#[derive(Debug)]
pub(crate) struct Address(Mutex<Option<Arc<Door>>>);

impl Address {
    pub(super) fn new(door: Door) -> Self {
        Self(Mutex::new(Some(Arc::new(door))))
    }

    /// From now on nobody sends.
    pub(crate) fn close(&self) {
        let door = self.with(Option::take);
        // The last one closes the ring: not under the lock.
        drop(door);
    }

    /// For the time of one message.
    pub(super) fn open(&self) -> Option<Arc<Door>> {
        self.with(|door| door.clone())
    }

    fn with<R>(&self, work: impl FnOnce(&mut Option<Arc<Door>>) -> R) -> R {
        // Nothing that could panic runs under the lock.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
