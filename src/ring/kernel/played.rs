//! A kernel that is played: the ring pushes the same entries and reads the same completions, and a
//! [`Machine`] decides what happens in between.
//!
//! Promise: the machine sees whole requests, decoded from the entries' own bytes, in the order and
//! with the links in which they were pushed; it reads the bytes of a send and fills receive buffers
//! where the kernel would, in the memory that the ring gave. It is told if the ring breaks a rule
//! that the kernel could not see: a receive buffer that is given twice.

#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use io_uring::squeue::Entry;
use io_uring::types::BufRingEntry;

pub(crate) use super::Cqe;
use super::Enter;
use super::decode::decode;
use crate::ring::buffers::Pool;
use crate::time::Tick;

/// One submission entry, read.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) user_data: u64,
    pub(crate) link: Link,
    pub(crate) op: Op,
}

/// Whether the next entry waits for this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    None,
    /// It is cancelled if this one fails.
    Soft,
    /// It comes whatever becomes of this one.
    Hard,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Op {
    Nop,
    Socket {
        slot: u32,
        datagram: bool,
    },
    Option {
        slot: u32,
        name: (u32, u32),
        value: i32,
    },
    Bind {
        slot: u32,
        to: SocketAddr,
    },
    Connect {
        slot: u32,
        to: SocketAddr,
    },
    /// The time limit of the entry before.
    Limit(Duration),
    /// Multishot, into the pool; with `trunc` the result is the length of the whole datagram.
    Recv {
        slot: u32,
        trunc: bool,
    },
    /// With `all`, of a stream: all of the bytes, or it counts as failed.
    Send {
        slot: u32,
        bytes: Lent,
        all: bool,
    },
    /// Sends the descriptor to slot `to` of the ring that is named `door`, which is not told.
    Give {
        slot: u32,
        door: i32,
        to: u32,
    },
    /// Of the write side, or of both.
    Shutdown {
        slot: u32,
        both: bool,
    },
    Close {
        slot: u32,
    },
    Cancel(Target),
    /// Something that the kernel would answer with EINVAL.
    Refused,
}

/// What a cancel is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Operation(u64),
    /// Every operation on the slot.
    Slot(u32),
    Everything,
}

/// Bytes that the ring lends until the final completion of the request they came with.
pub(crate) struct Lent {
    start: *const u8,
    len: usize,
}

impl Lent {
    pub(super) fn new(start: *const u8, len: usize) -> Self {
        Self { start, len }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Up to `most` of the bytes from `first` on, copied. Not after the request's final completion.
    pub(crate) fn copy(&self, first: usize, most: usize) -> Vec<u8> {
        // SAFETY: who pushed the entry keeps the bytes until its final completion (D1), and the
        // machine copies them only before.
        let bytes = unsafe { std::slice::from_raw_parts(self.start, self.len) };
        let rest = bytes.get(first..).unwrap_or_default();
        rest[..rest.len().min(most)].to_vec()
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len)
    }
}

/// Plays the kernel for one ring.
pub(crate) trait Machine {
    /// The receive buffers of the ring.
    fn register(&self, buffers: Buffers);
    /// Takes entries, in order; how many, or an error number as io_uring_enter(2) gives. What it
    /// does not take stays in `queue`. With `min` completions to wait for, it lets time pass for
    /// this ring until there are as many, at most for the `timeout`.
    fn enter(
        &self,
        queue: &mut VecDeque<Request>,
        min: u32,
        timeout: Option<Duration>,
    ) -> Result<usize, i32>;
    /// Entries did not fit into the submission queue.
    fn full(&self);
    fn completions(&self) -> usize;
    /// Whether completions are kept aside.
    fn overflowed(&self) -> bool;
    fn take(&self) -> Option<Cqe>;
    /// Whether something is posted only when the ring is entered.
    fn holds_back(&self) -> bool;
    /// The ring takes its receive buffers back; nothing is in flight any more.
    fn unregister(&self);
    fn now(&self) -> Tick;
    /// Lets time pass for this ring.
    fn pause(&self, time: Duration);
    /// What other rings of the machine name this one by.
    fn number(&self) -> i32;
    /// The ring is gone.
    fn gone(&self);
}

/// The kernel's side of a ring, as the queue sees it.
pub(crate) struct Played {
    queue: VecDeque<Request>,
    entries: usize,
    machine: Rc<dyn Machine>,
}

impl Played {
    pub(in crate::ring) fn new(entries: usize, pool: &Rc<Pool>, machine: Rc<dyn Machine>) -> Self {
        if let Some(buffers) = Buffers::new(pool) {
            machine.register(buffers);
        }
        Self {
            queue: VecDeque::with_capacity(entries),
            entries,
            machine,
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// # Safety
    ///
    /// As for [`Queue::push`](crate::ring::queue::Queue::push).
    pub(super) unsafe fn push(&mut self, entries: &[Entry]) -> bool {
        if self.queue.len() + entries.len() > self.entries {
            self.machine.full();
            return false;
        }
        for entry in entries {
            // SAFETY: the caller's promise.
            self.queue.push_back(unsafe { decode(entry) });
        }
        true
    }

    pub(super) fn enter(&mut self, enter: Enter) -> Result<usize, i32> {
        let mut none = VecDeque::new();
        let queue = match enter.submit {
            0 => &mut none,
            _ => &mut self.queue,
        };
        self.machine.enter(queue, enter.min, enter.timeout)
    }

    pub(super) fn number(&self) -> i32 {
        self.machine.number()
    }

    pub(super) fn has_completions(&self) -> bool {
        self.machine.completions() > 0
    }

    pub(super) fn completions(&self) -> usize {
        self.machine.completions()
    }

    pub(super) fn overflowed(&self) -> bool {
        self.machine.overflowed()
    }

    pub(super) fn take(&self, out: &mut Vec<Cqe>, max: usize) {
        for _ in 0..max {
            let Some(cqe) = self.machine.take() else {
                return;
            };
            out.push(cqe);
        }
    }

    pub(super) fn holds_back(&self) -> bool {
        self.machine.holds_back()
    }

    pub(super) fn unregister_buffers(&self) -> bool {
        self.machine.unregister();
        true
    }

    pub(super) fn now(&self) -> Tick {
        self.machine.now()
    }

    pub(super) fn pause(&self, time: Duration) {
        self.machine.pause(time);
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        self.machine.gone();
    }
}

/// The kernel's view of a ring's receive buffers: it takes them from the front of a ring of entries
/// whose end the owner moves.
pub(crate) struct Buffers {
    /// Keeps the memory.
    pool: Rc<Pool>,
    entries: NonNull<BufRingEntry>,
    head: u16,
    seen: u16,
    /// Which buffers were given and not used since.
    given: Vec<bool>,
    twice: Option<u16>,
}

impl Buffers {
    fn new(pool: &Rc<Pool>) -> Option<Self> {
        Some(Self {
            pool: Rc::clone(pool),
            entries: pool.entries()?,
            head: 0,
            seen: 0,
            given: vec![false; usize::from(pool.count())],
            twice: None,
        })
    }

    /// A buffer that was given although it had been given already, if there was one.
    pub(crate) fn given_twice(&self) -> Option<u16> {
        self.twice
    }

    /// How many buffers can be filled.
    pub(crate) fn len(&mut self) -> u16 {
        self.look();
        self.seen.wrapping_sub(self.head)
    }

    /// Looks at what was given since the last look.
    fn look(&mut self) {
        // SAFETY: the entries live as long as the pool, which `self` keeps.
        let tail = unsafe { BufRingEntry::tail(self.entries.as_ptr()) };
        // SAFETY: aligned, and valid as long as the entries.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) }.load(Ordering::Acquire);
        while self.seen != tail {
            let (id, _, _) = self.entry(self.seen);
            self.seen = self.seen.wrapping_add(1);
            match self.given.get_mut(usize::from(id)) {
                Some(given) if !*given => *given = true,
                _ => self.twice = Some(id),
            }
        }
    }

    fn entry(&self, at: u16) -> (u16, u64, u32) {
        let at = usize::from(at & (self.pool.count() - 1));
        // SAFETY: below the count, so inside of the mapping.
        let entry = unsafe { self.entries.add(at) };
        // SAFETY: published before the tail was; its owner writes to an entry again only after the
        // buffer in it was used.
        let entry = unsafe { entry.as_ref() };
        (entry.bid(), entry.addr(), entry.len())
    }

    /// Puts as much of `bytes` as fits into the next buffer; its number and how much that was, or
    /// nothing if there is no buffer.
    pub(crate) fn fill(&mut self, bytes: &[u8]) -> Option<(u16, usize)> {
        if self.len() == 0 {
            return None;
        }
        let (id, start, size) = self.entry(self.head);
        self.head = self.head.wrapping_add(1);
        if let Some(given) = self.given.get_mut(usize::from(id)) {
            *given = false;
        }
        let len = bytes.len().min(size as usize);
        let start = start as *mut u8;
        // SAFETY: the ring gave these `size` bytes to the kernel, whose part is played here, and
        // looks at them only after the completion that names the buffer (D16, D34).
        unsafe { start.copy_from_nonoverlapping(bytes.as_ptr(), len) };
        Some((id, len))
    }
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffers")
            .field("count", &self.given.len())
            .finish_non_exhaustive()
    }
}
