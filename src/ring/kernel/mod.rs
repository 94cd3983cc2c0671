//! The queue speaks to the kernel through two shared rings and one system call. To see what the
//! pool does when the kernel answers late, in another order or not at all, something else must be
//! able to stand there (feature `sim`).
//!
//! Promise: everything above sees the same interface; without the feature this is the kernel, and
//! costs nothing.

#[cfg(feature = "sim")]
mod decode;
mod linux;
#[cfg(feature = "sim")]
pub(crate) mod played;

use std::os::fd::OwnedFd;
use std::time::Duration;
use std::{io, thread};

use io_uring::squeue::Entry;

use self::linux::Linux;
#[cfg(feature = "sim")]
use self::played::Played;
use crate::ring::address::Door;
use crate::ring::clock;
use crate::time::Tick;

/// What the kernel reported, copied out of the shared ring (D18).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cqe {
    pub(crate) user_data: u64,
    pub(crate) res: i32,
    pub(crate) flags: u32,
}

/// One call of io_uring_enter(2).
#[derive(Debug, Clone, Copy)]
pub(super) struct Enter {
    /// How many entries to take.
    pub(super) submit: u32,
    /// How many completions to wait for.
    pub(super) min: u32,
    /// Until when; only with `min`.
    pub(super) timeout: Option<Duration>,
}

/// Who takes the entries and gives the completions.
#[allow(clippy::large_enum_variant)] // one for each ring, and looked into on every hit
pub(in crate::ring) enum Kernel {
    Linux(Linux),
    #[cfg(feature = "sim")]
    Played(Played),
    /// Closed for ever.
    Closed,
}

impl Kernel {
    pub(super) fn linux(ring: io_uring::IoUring) -> Self {
        Kernel::Linux(Linux::new(ring))
    }

    /// The kernel's own, for what is registered at the start; nothing if it is played.
    pub(super) fn submitter(&self) -> Option<io_uring::Submitter<'_>> {
        match self {
            Kernel::Linux(linux) => Some(linux.submitter()),
            #[cfg(feature = "sim")]
            Kernel::Played(_) => None,
            Kernel::Closed => None,
        }
    }

    /// A descriptor of its own, readable when there are completions.
    pub(super) fn fd(&self) -> io::Result<OwnedFd> {
        match self {
            Kernel::Linux(linux) => linux.fd(),
            #[cfg(feature = "sim")]
            Kernel::Played(_) => Err(io::ErrorKind::Unsupported.into()),
            Kernel::Closed => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// What other rings name this one by.
    pub(super) fn door(&self) -> io::Result<Door> {
        match self {
            #[cfg(feature = "sim")]
            Kernel::Played(played) => Ok(Door::Played(played.number())),
            _ => self.fd().map(Door::Linux),
        }
    }

    /// Whether completions can be read: two loads.
    #[inline]
    pub(super) fn has_completions(&self) -> bool {
        match self {
            Kernel::Linux(linux) => linux.has_completions(),
            #[cfg(feature = "sim")]
            Kernel::Played(played) => played.has_completions(),
            Kernel::Closed => false,
        }
    }

    /// How many completions can be read.
    pub(super) fn completions(&mut self) -> usize {
        match self {
            Kernel::Linux(linux) => linux.completions(),
            #[cfg(feature = "sim")]
            Kernel::Played(played) => played.completions(),
            Kernel::Closed => 0,
        }
    }

    /// Whether it keeps completions aside for want of room in the queue.
    pub(super) fn overflowed(&mut self) -> bool {
        match self {
            Kernel::Linux(linux) => linux.overflowed(),
            #[cfg(feature = "sim")]
            Kernel::Played(played) => played.overflowed(),
            Kernel::Closed => false,
        }
    }

    /// Whether something has come that it posts only when this thread enters it: a load or two.
    #[inline]
    pub(super) fn holds_back(&mut self) -> bool {
        match self {
            Kernel::Linux(linux) => linux.holds_back(),
            #[cfg(feature = "sim")]
            Kernel::Played(played) => played.holds_back(),
            Kernel::Closed => false,
        }
    }

    /// How many entries wait in the submission queue.
    #[inline]
    pub(super) fn waiting(&mut self) -> usize {
        match self {
            Kernel::Linux(linux) => linux.waiting(),
            #[cfg(feature = "sim")]
            Kernel::Played(played) => played.waiting(),
            Kernel::Closed => 0,
        }
    }

    /// Puts all of `entries` into the submission queue, or none if they do not fit.
    ///
    /// # Safety
    ///
    /// As for [`Queue::push`](super::queue::Queue::push).
    #[allow(unsafe_code)]
    pub(super) unsafe fn push(&mut self, entries: &[Entry]) -> bool {
        match self {
            // SAFETY: the caller's promise.
            Kernel::Linux(linux) => unsafe { linux.push(entries) },
            #[cfg(feature = "sim")]
            // SAFETY: the caller's promise.
            Kernel::Played(played) => unsafe { played.push(entries) },
            Kernel::Closed => false,
        }
    }

    /// Hands over what is queued; how many entries were taken, or an error number.
    pub(super) fn enter(&mut self, enter: Enter) -> Result<usize, i32> {
        match self {
            Kernel::Linux(linux) => linux.enter(enter),
            #[cfg(feature = "sim")]
            Kernel::Played(played) => played.enter(enter),
            Kernel::Closed => Err(libc::ENXIO),
        }
    }

    /// Copies up to `max` completions to `out` and frees their places.
    pub(super) fn take(&mut self, out: &mut Vec<Cqe>, max: usize) {
        match self {
            Kernel::Linux(linux) => linux.take(out, max),
            #[cfg(feature = "sim")]
            Kernel::Played(played) => played.take(out, max),
            Kernel::Closed => {}
        }
    }

    /// Takes the receive buffers back; `false` if it did not give them.
    pub(super) fn unregister_buffers(&mut self, group: u16) -> bool {
        match self {
            Kernel::Linux(linux) => linux.submitter().unregister_buf_ring(group).is_ok(),
            #[cfg(feature = "sim")]
            Kernel::Played(played) => played.unregister_buffers(),
            Kernel::Closed => true,
        }
    }

    /// The moment now, as this kernel counts it.
    pub(super) fn now(&self) -> Tick {
        match self {
            Kernel::Linux(_) | Kernel::Closed => clock::now(),
            #[cfg(feature = "sim")]
            Kernel::Played(played) => played.now(),
        }
    }

    /// Lets `time` pass on this thread.
    pub(super) fn pause(&mut self, time: Duration) {
        match self {
            Kernel::Linux(_) | Kernel::Closed => thread::sleep(time),
            #[cfg(feature = "sim")]
            Kernel::Played(played) => played.pause(time),
        }
    }
}
