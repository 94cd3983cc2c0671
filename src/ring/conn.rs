//! One slot of the descriptor table as the ring sees it. The states here and the operations in
//! flight (see [`op`](super::op)) together decide what may be submitted for the slot.
//!
//! Promise: a slot is `Free` only when no operation refers to it and its descriptor is closed
//! (D25).
//!
//! States of a slot: `Free` → `Connecting` → `Open` → `Closing` → `Free`; a connect that fails goes
//! from `Connecting` to `Closing`. A connection that changes cores goes through `Leaving` and `Away`
//! here and through `Expecting` there (see [`give`](super::give)). States of its receive (D37): `Off`, `Armed`, `Cancelling` (over
//! its bound), `Paused` (cancelled), `Starved` (no buffer was left), `Done` (the end was seen).

use std::sync::Arc;

use crate::line::{Line, Lines};
use crate::ring::Ring;
use crate::ring::address::Address;
use crate::ring::buffers::Chunk;
use crate::ring::events::End;
use crate::ring::send::SendQueue;
use crate::slot::Key;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Phase {
    #[default]
    Free,
    Connecting,
    Open,
    /// For a connection from another ring.
    Expecting,
    /// Its receive ends, then it is sent to another ring.
    Leaving,
    /// It was sent, and rests here until it is closed or kept.
    Away,
    Closing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Recv {
    #[default]
    Off,
    Armed,
    Cancelling,
    Paused,
    Starved,
    Done,
}

/// A slot.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) key: Key,
    pub(super) phase: Phase,
    pub(super) recv: Recv,
    /// The caller asked for the close and is owed a `Closed`.
    pub(super) close_asked: bool,
    /// The limit of the connect ran out.
    pub(super) timed_out: bool,
    /// The descriptor may be in the slot.
    pub(super) installed: bool,
    /// Another ring may have the descriptor too.
    pub(super) shared: bool,
    /// A cancel of an earlier receive had not reported when the close began: its answer says nothing
    /// of the receive that is armed now.
    pub(super) old_cancel: bool,
    /// It is in the ring's list of those that may hold their bound.
    pub(super) noted: bool,
    /// A `Watched` is due when the receive is armed.
    pub(super) awaited: bool,
    /// What the kernel must have had since the receive was armed again, to have had that.
    pub(super) rearmed: u64,
    /// A `Readable` is queued.
    pub(super) readable_told: bool,
    /// A `Writable` is queued.
    pub(super) writable_told: bool,
    /// Why the connect failed; 0 if it did not.
    pub(super) failure: i32,
    pub(super) end: Option<End>,
    /// Received and not read yet.
    pub(super) pieces: Line,
    pub(super) unread: usize,
    /// How many of the pieces hold a buffer of the kernel's.
    pub(super) lent: u16,
    pub(super) send: SendQueue,
    /// Where it goes when nothing is in flight any more.
    pub(super) leave: Option<Box<Leave>>,
}

/// Where a connection goes.
#[derive(Debug)]
pub(super) struct Leave {
    pub(super) to: Arc<Address>,
    pub(super) slot: u32,
}

impl Conn {
    pub(super) fn free() -> Self {
        Self {
            key: Key::new(0, 0),
            phase: Phase::Free,
            recv: Recv::Off,
            close_asked: false,
            timed_out: false,
            installed: false,
            shared: false,
            old_cancel: false,
            noted: false,
            awaited: false,
            rearmed: 0,
            readable_told: false,
            writable_told: false,
            failure: 0,
            end: None,
            pieces: Line::default(),
            unread: 0,
            lent: 0,
            send: SendQueue::default(),
            leave: None,
        }
    }

    /// The next tenant moves in; the last one has left nothing.
    pub(super) fn reset(&mut self, key: Key, phase: Phase) {
        debug_assert!(self.pieces.is_empty() && self.send.is_empty());
        *self = Self {
            key,
            phase,
            ..Self::free()
        };
    }

    /// Whether the receive is armed, nothing is unread and no end was seen.
    #[inline]
    pub(super) fn is_watching(&self) -> bool {
        self.phase == Phase::Open && self.recv == Recv::Armed && self.unread == 0
    }

    /// The same, and the kernel has had the receive: it has had what was queued until `heard`.
    #[inline]
    pub(super) fn is_watched(&self, heard: u64) -> bool {
        self.is_watching() && heard >= self.rearmed
    }

    /// Takes the oldest piece out.
    pub(super) fn pop_piece(&mut self, all: &mut Lines<Chunk>) -> Option<Chunk> {
        let piece = all.pop_front(&mut self.pieces)?;
        self.unread -= piece.len();
        self.lent -= u16::from(piece.is_lent());
        Some(piece)
    }

    /// Copies the oldest bytes to `buf`, as many as fit. What is copied whole is given back.
    pub(super) fn copy_out(&mut self, all: &mut Lines<Chunk>, buf: &mut [u8]) -> usize {
        let mut count = 0;
        while count < buf.len()
            && let Some(piece) = all.front_mut(&self.pieces)
        {
            let taken = piece.copy_to(&mut buf[count..]);
            count += taken;
            if taken < piece.len() {
                piece.advance(taken);
                break;
            }
            self.lent -= u16::from(piece.is_lent());
            all.pop_front(&mut self.pieces);
        }
        self.unread -= count;
        count
    }

    /// Drops everything unread: the buffers go back to the kernel.
    pub(super) fn drop_pieces(&mut self, all: &mut Lines<Chunk>) {
        all.clear(&mut self.pieces);
        self.unread = 0;
        self.lent = 0;
    }
}

/// Finding slots.
impl Ring {
    /// The slot of a key whose operation is in flight, which makes it the slot's tenant.
    #[inline]
    pub(super) fn at(&mut self, key: Key) -> &mut Conn {
        &mut self.conns[key.index() as usize]
    }

    /// The slot of `key`, if that is its tenant.
    #[inline]
    pub(super) fn live(&self, key: Key) -> Option<&Conn> {
        self.conns
            .get(key.index() as usize)
            .filter(|conn| conn.phase != Phase::Free && conn.key == key)
    }

    #[inline]
    pub(super) fn live_mut(&mut self, key: Key) -> Option<&mut Conn> {
        self.conns
            .get_mut(key.index() as usize)
            .filter(|conn| conn.phase != Phase::Free && conn.key == key)
    }

    /// `key` moves in, if its slot is free and drained.
    pub(super) fn claim(&mut self, key: Key, phase: Phase) -> bool {
        let free = self
            .conns
            .get(key.index() as usize)
            .is_some_and(|conn| conn.phase == Phase::Free);
        if self.ended || !free || !self.ops.open(key) {
            return false;
        }
        self.at(key).reset(key, phase);
        self.segments.opened();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r20_an_idle_slot_is_small() {
        assert!(size_of::<Conn>() <= 112, "{}", size_of::<Conn>());
    }
}
