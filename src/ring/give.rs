//! A core that has a connection to spare gives it to one that waits: the kernel puts the descriptor
//! into a slot that the other ring has chosen (`IORING_MSG_SEND_FD`). For a moment both slots hold
//! it, and the kernel's "done" does not say that anybody will take it (D32).
//!
//! Promise: nothing is in flight on the connection while it moves: its receive has ended, so no byte
//! that the peer sends goes to the old ring (D37). A give ends in exactly one `Given` or
//! `GiveFailed`, or in `Closed` if that was asked for meanwhile; after each, no message is on its way.
//! After `GiveFailed` the connection is as before, its receive armed or about to be, and what came
//! meanwhile was told first. After `Given` it is still this ring's, and at rest: [`Ring::keep`] takes
//! it up again, [`Ring::close`] leaves it to the other ring. A slot that expects is nobody else's
//! until it is closed or adopted. Whoever closes a connection that another ring may have in its table
//! too, and does not leave it to that one, ends it for both: a connection that was closed here is not
//! established, whenever the other comes to close its own.
//!
//! States of a slot here: giver `Open` → `Leaving` (the receive ends, then the message is on its way)
//! → `Away` → `Open` or `Closing`; receiver `Expecting` → `Open` or `Closing`.
//!
//! The message posts no completion to the other ring (`CQE_SKIP`). With one, -EOVERFLOW would mean
//! that the descriptor has arrived and nobody was told (io_uring_prep_msg_ring_fd(3)).

#![allow(unsafe_code)]

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::ring::address::Address;
use crate::ring::buffers::Lease;
use crate::ring::conn::{Leave, Phase, Recv};
use crate::ring::events::Event;
use crate::ring::queue::Class;
use crate::ring::recv::is_transient;
use crate::ring::token::{Kind, Token};
use crate::ring::{Ring, opcode, probe};
use crate::slot::Key;

impl Ring {
    /// Whether the kernel can send descriptors from ring to ring.
    pub(crate) fn gives(&self) -> bool {
        self.gives
    }

    /// Where other rings can send to this one, until it is drained.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the process has no descriptor left.
    pub(crate) fn address(&self) -> Result<Arc<Address>> {
        if let Some(address) = self.address.get() {
            return Ok(Arc::clone(address));
        }
        let door = self
            .queue
            .door()
            .map_err(|error| probe::unavailable(&error, "opening the ring to other cores"))?;
        let address = self.address.get_or_init(|| Arc::new(Address::new(door)));
        Ok(Arc::clone(address))
    }

    // -- the receiver ----------------------------------------------------------------------------

    /// The slot of `key` waits for a connection from another ring; `false` if it is not free.
    pub(crate) fn expect(&mut self, key: Key) -> bool {
        if self.is_query(key) || !self.claim(key, Phase::Expecting) {
            return false;
        }
        // A close must look for what may have come.
        self.at(key).installed = true;
        true
    }

    /// Closes a slot that expects, and what may have come into it. Ends in `Closed`. No message to
    /// the slot may be on its way any more.
    pub(crate) fn unexpect(&mut self, key: Key) {
        if self
            .live(key)
            .is_some_and(|it| it.phase == Phase::Expecting)
        {
            self.close(key);
        }
    }

    /// Frees a slot that expects and that nobody can have sent to: there is nothing to close.
    pub(crate) fn forgo(&mut self, key: Key) {
        if let Some(conn) = self.live_mut(key)
            && conn.phase == Phase::Expecting
        {
            conn.installed = false;
            self.close(key);
        }
    }

    /// The connection in the slot is this ring's now: its receive is armed. `false` if the slot does
    /// not expect any more.
    pub(crate) fn adopt(&mut self, key: Key) -> bool {
        let Some(conn) = self.live_mut(key) else {
            return false;
        };
        if conn.phase != Phase::Expecting {
            return false;
        }
        conn.phase = Phase::Open;
        conn.shared = true;
        self.arm(key);
        true
    }

    // -- the giver -------------------------------------------------------------------------------

    /// Sends the connection to `slot` of the ring at `to`, which expects it. Ends in `Given` or
    /// `GiveFailed`; at once in the latter if the connection is not at rest.
    pub(crate) fn give(&mut self, key: Key, to: Arc<Address>, slot: Key) {
        if self.is_query(key) || self.live(key).is_none() {
            return;
        }
        // Only what is open can be watched.
        let rests = self.is_watching(key) && self.is_flushed(key) && self.writable(key).is_ok();
        if !rests {
            self.give_failed(key, libc::EBUSY);
            return;
        }
        let conn = self.at(key);
        conn.phase = Phase::Leaving;
        conn.leave = Some(Box::new(Leave {
            to,
            slot: slot.index(),
        }));
        self.end_receive(key);
    }

    /// A connection that was given and not taken is this ring's again: its receive is armed.
    pub(crate) fn keep(&mut self, key: Key) {
        if let Some(conn) = self.live_mut(key)
            && conn.phase == Phase::Away
        {
            conn.phase = Phase::Open;
            conn.shared = true;
            self.arm(key);
        }
    }

    fn give_failed(&mut self, key: Key, errno: i32) {
        let error = Error::from_errno(ErrorKind::Io, errno);
        self.events.push(Event::GiveFailed { key, error });
    }

    /// Cancels the receive, unless a cancel is in flight: that one's report brings the next try.
    fn end_receive(&mut self, key: Key) {
        let entry = opcode::cancel(Token::new(Kind::Recv, key).encode());
        // SAFETY: the entry points at no memory.
        if unsafe { self.issue(Kind::CancelRecv, key, entry, Class::Control) } {
            self.at(key).recv = Recv::Cancelling;
        }
    }

    /// The receive of a connection that leaves reported. If that was bytes or an end, it stays.
    pub(super) fn on_last_recv(&mut self, key: Key, res: i32, lease: Option<Lease>, last: bool) {
        if last && is_transient(-res) {
            self.at(key).recv = Recv::Off;
            return;
        }
        self.stay(key);
        self.on_recv(key, res, lease, last);
        self.give_failed(key, libc::EBUSY);
    }

    /// The cancel of the receive of a connection that leaves reported; if it met the receive between
    /// two states, it is sent again. Other answers mean that the receive ends (D3).
    pub(super) fn on_cancel_leaving(&mut self, key: Key, res: i32) {
        let missed = res == -libc::ENOENT || self.at(key).recv == Recv::Armed;
        if missed && self.ops.has(Kind::Recv, key) {
            self.end_receive(key);
        }
    }

    /// Nothing is in flight any more: the message goes, unless it went.
    pub(super) fn send_away(&mut self, key: Key) {
        let Some(leave) = self.at(key).leave.take() else {
            return;
        };
        let entry = leave.to.open().and_then(|door| {
            let door = self.ops.set_door(key, door)?;
            opcode::give(key.index(), door, leave.slot)
        });
        let Some(entry) = entry else {
            self.stay_after(key, libc::EBADFD);
            return;
        };
        // SAFETY: the entry points at no memory; the ring that it names is kept open by the table
        // until its final completion (rule 5 of `op`).
        unsafe { self.issue(Kind::Give, key, entry, Class::Work) };
    }

    /// The message reported.
    pub(super) fn on_give(&mut self, key: Key, res: i32) {
        if self.at(key).phase != Phase::Leaving {
            return;
        }
        if res < 0 {
            self.stay_after(key, -res);
        } else {
            self.at(key).phase = Phase::Away;
            self.events.push(Event::Given { key });
        }
    }

    fn stay(&mut self, key: Key) {
        let conn = self.at(key);
        conn.phase = Phase::Open;
        conn.leave = None;
    }

    /// It stays, and its receive has ended.
    fn stay_after(&mut self, key: Key, errno: i32) {
        self.stay(key);
        self.arm(key);
        self.give_failed(key, errno);
    }
}
