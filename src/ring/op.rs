//! The kernel works on memory and slots of ours long after a call returned, and it reports in its
//! own order. [`OpTable`] knows which operations are in flight and owns everything that their
//! submission entries point at. It makes no system call, so all of its rules are tested without a
//! kernel.
//!
//! Promise: an operation is in flight from [`begin`](OpTable::begin) to its final completion, the
//! first one without `IORING_CQE_F_MORE` (D13); its memory is freed not before that (D1), once;
//! a completion of anything else is counted and changes nothing (D8).
//!
//! Rules for who may touch what, cited by the SAFETY comments of this layer:
//!
//! 1. What an entry points at is put into the table *before* the entry is pushed:
//!    [`set_dial`](OpTable::set_dial) for addresses, time limits and option values,
//!    [`set_payload`](OpTable::set_payload) for bytes to send.
//! 2. It lives in heap memory of its own ([`OpBox`], [`OpBytes`], [`OwnedBuf`]), never in a future
//!    or on a stack, and nobody writes to it while it is in the table (D2, D34).
//! 3. A dial is freed by the table, or kept for another dial, when the last of its steps is final,
//!    not before. A payload leaves the table
//!    only by [`take_payload`](OpTable::take_payload), which gives nothing while a send is in
//!    flight.
//! 4. A table with operations in flight is never dropped: who cannot drain it forgets it (D10).
//! 5. The descriptor of another ring that an entry names is kept open by the table
//!    ([`set_door`](OpTable::set_door)) until that entry's final completion, or until the table is
//!    leaked (see [`leak`](OpTable::leak)).

use std::mem;
use std::sync::Arc;

use io_uring::types::Timespec;
use slab::Slab;

use crate::ring::address::Door;
use crate::ring::memory::{OpBox, OpBytes};
use crate::ring::owned::OwnedBuf;
use crate::ring::token::{Kind, Token};
use crate::slot::{Key, KeyMap};

/// What the steps of a connect, or of a query's, point at.
#[derive(Clone, Copy)]
pub(super) struct Dial {
    pub(super) address: Address,
    /// Of the same family and length: what a query's socket is bound to.
    pub(super) local: Address,
    pub(super) address_len: u32,
    pub(super) timeout: Timespec,
    pub(super) options: [i32; Kind::OPTIONS.len()],
}

/// A socket address in the kernel's form.
#[derive(Clone, Copy)]
pub(super) union Address {
    pub(super) v4: libc::sockaddr_in,
    pub(super) v6: libc::sockaddr_in6,
}

/// Bytes that a send points at.
#[derive(Debug)]
pub(super) enum Payload {
    /// Copied from the user.
    Copied(OpBytes),
    /// The user's own buffer.
    Owned(OwnedBuf),
}

impl Payload {
    fn start(&self) -> (*const u8, usize) {
        match self {
            Payload::Copied(bytes) => (bytes.as_ptr(), bytes.len()),
            Payload::Owned(buf) => (buf.as_ptr(), buf.len()),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.start().1
    }

    /// Where the bytes from `sent` on are, and how many.
    pub(super) fn from(&self, sent: usize) -> (*const u8, usize) {
        let (start, len) = self.start();
        let sent = sent.min(len);
        (start.wrapping_add(sent), len - sent)
    }
}

/// The steps whose memory is the slot's [`Dial`].
const DIAL_KINDS: u32 = Kind::Connect.bit()
    | Kind::Bind.bit()
    | Kind::ConnectTimeout.bit()
    | Kind::Option0.bit()
    | Kind::Option1.bit()
    | Kind::Option2.bit()
    | Kind::Option3.bit()
    | Kind::Option4.bit()
    | Kind::Option5.bit();

/// There is one for each connection that may be, so what few have at once lies elsewhere.
#[derive(Default)]
struct OpSlot {
    generation: u32,
    outstanding: u32,
    /// One more than where its payload is; 0 if it has none.
    payload: u32,
    abandoned: bool,
    dial: Option<OpBox<Dial>>,
}

/// How many boxes are kept for the next dials.
const SPARE_DIALS: usize = 64;

/// What a completion means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Completion {
    /// No operation of ours has such a number.
    Unknown,
    /// The operation had ended, or its slot has another tenant.
    Stale,
    /// An operation in flight; `last` if this ended it, `abandoned` if nobody wants its result.
    Op {
        token: Token,
        last: bool,
        abandoned: bool,
    },
}

/// The operations in flight, by slot; one more slot is for those of the ring as a whole.
#[derive(Default)]
pub(super) struct OpTable {
    slots: Vec<OpSlot>,
    /// As many as there were at once.
    payloads: Slab<Payload>,
    doors: KeyMap<Key, Arc<Door>>,
    /// Boxes that nothing points at.
    spare_dials: Vec<OpBox<Dial>>,
    in_flight: usize,
    stale: u64,
}

impl OpTable {
    /// The index of operations that belong to no connection.
    pub(super) const RING: Key = Key::new(u32::MAX, 0);

    pub(super) fn new(slots: usize) -> Self {
        Self {
            slots: (0..=slots).map(|_| OpSlot::default()).collect(),
            payloads: Slab::new(),
            doors: KeyMap::default(),
            spare_dials: Vec::new(),
            in_flight: 0,
            stale: 0,
        }
    }

    fn at(&self, index: u32) -> Option<usize> {
        let last = self.slots.len().checked_sub(1)?;
        match index {
            u32::MAX => Some(last),
            index => Some(index as usize).filter(|index| *index < last),
        }
    }

    fn slot(&self, key: Key) -> Option<&OpSlot> {
        let slot = &self.slots[self.at(key.index())?];
        (slot.generation == key.generation()).then_some(slot)
    }

    fn slot_mut(&mut self, key: Key) -> Option<&mut OpSlot> {
        let at = self.at(key.index())?;
        let slot = &mut self.slots[at];
        (slot.generation == key.generation()).then_some(slot)
    }

    /// A new tenant moves in; `false` if the slot does not exist or is not drained (D25).
    pub(super) fn open(&mut self, key: Key) -> bool {
        let Some(at) = self.at(key.index()) else {
            return false;
        };
        let slot = &mut self.slots[at];
        if slot.outstanding != 0 {
            return false;
        }
        let generation = key.generation();
        let old = mem::replace(
            slot,
            OpSlot {
                generation,
                ..OpSlot::default()
            },
        );
        if old.payload != 0 {
            drop(self.payloads.try_remove(old.payload as usize - 1));
        }
        true
    }

    /// An operation starts; its `user_data`, or `None` if the slot has another tenant or one of
    /// the kind is still in flight (D38).
    #[must_use]
    pub(super) fn begin(&mut self, kind: Kind, key: Key) -> Option<u64> {
        let slot = self.slot_mut(key)?;
        if slot.outstanding & kind.bit() != 0 {
            return None;
        }
        slot.outstanding |= kind.bit();
        self.in_flight += 1;
        Some(Token::new(kind, key).encode())
    }

    /// A completion came.
    pub(super) fn complete(&mut self, user_data: u64, more: bool) -> Completion {
        let Some(token) = Token::decode(user_data) else {
            self.stale += 1;
            return Completion::Unknown;
        };
        let Some(slot) = self.slot_mut(token.key) else {
            self.stale += 1;
            return Completion::Stale;
        };
        if slot.outstanding & token.kind.bit() == 0 {
            self.stale += 1;
            return Completion::Stale;
        }
        let abandoned = slot.abandoned;
        if !more {
            slot.outstanding &= !token.kind.bit();
            if slot.outstanding & DIAL_KINDS == 0
                && let Some(dial) = slot.dial.take()
                && self.spare_dials.len() < SPARE_DIALS
                // A guarded one is freed, so that its memory shows late use.
                && !dial.is_guarded()
            {
                self.spare_dials.push(dial);
            }
            if token.kind == Kind::Give {
                self.doors.remove(&token.key);
            }
            self.in_flight -= 1;
        }
        Completion::Op {
            token,
            last: !more,
            abandoned,
        }
    }

    /// Nobody wants the results of the slot's operations any more (D5). They stay in flight.
    pub(super) fn abandon(&mut self, key: Key) {
        if let Some(slot) = self.slot_mut(key) {
            slot.abandoned = true;
        }
    }

    /// The kinds that are in flight on the slot, as a set.
    pub(super) fn outstanding(&self, key: Key) -> u32 {
        self.slot(key).map_or(0, |slot| slot.outstanding)
    }

    /// Whether an operation of this kind is in flight.
    pub(super) fn has(&self, kind: Kind, key: Key) -> bool {
        self.outstanding(key) & kind.bit() != 0
    }

    /// A box for what the steps of a connect will point at.
    pub(super) fn dial_box(&mut self, dial: Dial) -> OpBox<Dial> {
        match self.spare_dials.pop() {
            Some(spare) => spare.again(dial),
            None => OpBox::new(dial),
        }
    }

    /// Keeps what the steps of a connect will point at.
    pub(super) fn set_dial(&mut self, key: Key, dial: OpBox<Dial>) -> Option<&Dial> {
        let slot = self.slot_mut(key)?;
        if slot.outstanding & DIAL_KINDS != 0 {
            return None;
        }
        Some(slot.dial.insert(dial))
    }

    /// What the steps of a connect point at, while it is kept.
    #[cfg(test)]
    pub(super) fn dial(&self, key: Key) -> Option<&Dial> {
        self.slot(key)?.dial.as_deref()
    }

    /// Keeps the bytes that the next send will point at.
    pub(super) fn set_payload(&mut self, key: Key, payload: Payload) -> Option<&Payload> {
        let at = self.at(key.index())?;
        let slot = &mut self.slots[at];
        let is_tenant = slot.generation == key.generation();
        if !is_tenant || slot.outstanding & Kind::Send.bit() != 0 || slot.payload != 0 {
            return None;
        }
        let place = self.payloads.insert(payload);
        slot.payload = place as u32 + 1;
        self.payloads.get(place)
    }

    /// The bytes of the send, in flight or just ended.
    pub(super) fn payload(&self, key: Key) -> Option<&Payload> {
        let place = self.slot(key)?.payload.checked_sub(1)?;
        self.payloads.get(place as usize)
    }

    /// The bytes of the send that ended; nothing while it is in flight.
    pub(super) fn take_payload(&mut self, key: Key) -> Option<Payload> {
        let slot = self.slot_mut(key)?;
        if slot.outstanding & Kind::Send.bit() != 0 {
            return None;
        }
        let place = mem::take(&mut slot.payload).checked_sub(1)?;
        self.payloads.try_remove(place as usize)
    }

    /// Keeps the ring open that the next give will name; what it is named by.
    pub(super) fn set_door(&mut self, key: Key, door: Arc<Door>) -> Option<i32> {
        if self.slot(key)?.outstanding & Kind::Give.bit() != 0 {
            return None;
        }
        let number = door.number();
        self.doors.insert(key, door);
        Some(number)
    }

    /// How many operations are in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// How many completions belonged to nothing.
    pub(super) fn stale(&self) -> u64 {
        self.stale
    }

    /// Leaves the memory of what is in flight to the kernel, for ever (D10).
    pub(super) fn leak(&mut self) {
        // The kernel has its own reference by now, or will never look at the entry.
        self.doors.clear();
        for slot in self.slots.iter_mut().filter(|slot| slot.outstanding != 0) {
            let slot = mem::take(slot);
            if let Some(place) = slot.payload.checked_sub(1) {
                mem::forget(self.payloads.try_remove(place as usize));
            }
            mem::forget(slot);
        }
        self.in_flight = 0;
    }

    /// Frees memory that is in flight, to show that the guard of [`memory`](super::memory)
    /// notices.
    #[cfg(test)]
    pub(super) fn break_rules(&mut self, key: Key) {
        if let Some(slot) = self.slot_mut(key) {
            slot.dial = None;
            if let Some(place) = mem::take(&mut slot.payload).checked_sub(1) {
                drop(self.payloads.try_remove(place as usize));
            }
        }
    }
}
