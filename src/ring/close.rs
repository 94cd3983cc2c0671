//! Closing a direct descriptor does not end what runs on it: an armed receive keeps the socket
//! alive, and the peer sees no FIN. So a close cancels first, in the same submission.
//!
//! Promise: cancel hard-linked to close, in one submission (D24); the slot is free after the close
//! and every other operation on it are final (D25); what the cancel missed, because it was between
//! two states in the kernel, is cancelled again by its identity. A connection that another ring may
//! have too is shut down first, because closing one of two descriptors ends nothing. After
//! [`Ring::close`] the caller hears of the slot only `WriteDone` and then one `Closed`: what was
//! queued before is not told.

#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::mem;

use io_uring::squeue::Flags;

use crate::error::{Error, ErrorKind};
use crate::ring::Ring;
use crate::ring::conn::{Phase, Recv};
use crate::ring::events::Event;
use crate::ring::op::Completion;
use crate::ring::opcode;
use crate::ring::queue::Class;
use crate::ring::recv::is_transient;
use crate::ring::token::{Kind, Token};
use crate::slot::Key;

/// What can wait for the peer, with the kind of the cancel for each; in the order of a query's chain.
const WAITING: [(Kind, Kind); 4] = [
    (Kind::Connect, Kind::CancelConnect),
    (Kind::Send, Kind::CancelSend),
    (Kind::Recv, Kind::CancelRecv),
    (Kind::Shutdown, Kind::CancelShutdown),
];

impl Ring {
    /// Closes the slot of `key`, whatever it is doing. Ends in `Closed`. Again, or with a stale
    /// key, it does nothing; if a `ConnectFailed` is queued, that becomes the `Closed`.
    pub(crate) fn close(&mut self, key: Key) {
        let Some(conn) = self.live_mut(key) else {
            self.events.failed_to_closed(key);
            return;
        };
        if conn.close_asked {
            return;
        }
        conn.close_asked = true;
        if conn.phase != Phase::Closing {
            self.start_close(key);
        }
    }

    /// Gives up what was not pushed yet, and cancels and closes the rest.
    pub(super) fn start_close(&mut self, key: Key) {
        let sent = self.ops.has(Kind::Give, key);
        let conn = &mut self.conns[key.index() as usize];
        conn.shared = (conn.shared || sent) && conn.phase != Phase::Away;
        conn.phase = Phase::Closing;
        conn.drop_pieces(&mut self.pieces);
        conn.leave = None;
        conn.awaited = false;
        if mem::replace(&mut conn.recv, Recv::Off) == Recv::Starved {
            let others = |queue: &mut VecDeque<Key>| queue.retain(|waiting| *waiting != key);
            self.starved.iter_mut().for_each(others);
        }
        self.at(key).old_cancel = self.ops.has(Kind::CancelRecv, key);
        self.ops.abandon(key);
        let forgotten = self.queue.forget(key.index());
        self.take_back(&forgotten);
        if self.at(key).installed {
            self.push_close(key);
        } else if self.ops.outstanding(key) == 0 {
            self.finish(key);
        }
    }

    /// The kernel never sees the operations `forgotten`, so they are final now (D5).
    pub(super) fn take_back(&mut self, forgotten: &[u64]) {
        for user_data in forgotten {
            if let Completion::Op { token, .. } = self.ops.complete(*user_data, false)
                && token.kind == Kind::Socket
            {
                self.at(token.key).installed = false;
            }
        }
    }

    fn push_close(&mut self, key: Key) {
        let index = key.index();
        let mut kinds = [Kind::Close; 3];
        self.entries.clear();
        if self.at(key).shared {
            kinds[0] = Kind::Cut;
            self.entries.push(opcode::cut(index));
        }
        let outstanding = self.ops.outstanding(key);
        if outstanding != 0 {
            kinds[self.entries.len()] = Kind::Cancel;
            // By identity if it is only the receive: by slot, the kernel looks at every operation.
            let cancel = if outstanding == Kind::Recv.bit() {
                opcode::cancel(Token::new(Kind::Recv, key).encode())
            } else {
                opcode::cancel_slot(index)
            };
            // Hard, because a cancel that finds nothing must not keep the close from happening.
            self.entries.push(cancel.flags(Flags::IO_HARDLINK));
        }
        self.entries.push(opcode::close(index));
        let kinds = &kinds[..self.entries.len()];
        // SAFETY: no entry points at memory.
        unsafe { self.issue_chain(kinds, key, Class::Control) };
    }

    /// The close completed: what is still in flight is cancelled by its identity.
    pub(super) fn on_close(&mut self, key: Key, res: i32) {
        if is_transient(-res) {
            let entry = opcode::close(key.index());
            // SAFETY: the entry points at no memory.
            unsafe { self.issue(Kind::Close, key, entry, Class::Control) };
        } else {
            self.chase(key);
        }
    }

    /// Cancels what is in flight. Of a query's chain that is its first step: those linked behind it
    /// have not begun, so that no cancel finds them, and will find the slot empty.
    fn chase(&mut self, key: Key) {
        for (target, cancel) in WAITING {
            if !self.ops.has(target, key) {
                continue;
            }
            if !self.ops.has(cancel, key) {
                let entry = opcode::cancel(Token::new(target, key).encode());
                // SAFETY: the entry points at no memory.
                unsafe { self.issue(cancel, key, entry, Class::Control) };
            }
            if self.is_query(key) {
                return;
            }
        }
    }

    /// The cancel of a receive completed while the slot closes. If it was of an earlier receive, the
    /// one in flight has not been cancelled by identity yet: the chase left it out for this one.
    pub(super) fn on_old_cancel(&mut self, key: Key) {
        if !self.ops.has(Kind::Close, key) {
            self.chase(key);
        }
    }

    /// A cancel completed. Its result says little (D3): only if it found nothing and its target
    /// is still in flight, it met the target between two states and is sent again.
    pub(super) fn on_cancel(&mut self, key: Key, res: i32) {
        if res == -libc::ENOENT
            && self.at(key).phase == Phase::Closing
            && !self.ops.has(Kind::Close, key)
        {
            self.chase(key);
        }
    }

    /// Everything on the slot is final: it is free.
    pub(super) fn finish(&mut self, key: Key) {
        self.return_unsent(key);
        self.segments.closed();
        let is_query = self.is_query(key);
        let conn = &mut self.conns[key.index() as usize];
        conn.drop_pieces(&mut self.pieces);
        conn.phase = Phase::Free;
        let event = if is_query {
            let own = self.query_slot(key);
            self.queries.remove(own);
            Event::QueryClosed { key }
        } else if conn.close_asked {
            Event::Closed { key }
        } else {
            let error = self.connect_error(key);
            Event::ConnectFailed { key, error }
        };
        self.events.push(event);
    }

    /// The error of calls on a connection that is closed or closing.
    pub(super) fn closed() -> Error {
        Error::new(ErrorKind::Closed, "the connection is closed")
    }
}
