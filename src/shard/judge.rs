//! What comes for a connection after its user gave it back is not the next user's (I3). The pool can
//! know of it only if the receive is armed, the kernel has had that, and all that has come was read.
//!
//! Promise: whoever gets an exclusive connection that was somebody else's gets it by a verdict made
//! after what the completion queue had was taken in, with no user's code in between; one that nothing
//! is known of is looked at first, or closed. Only one that opens without a protocol is not judged:
//! all that came for it is its first user's.

use super::Shard;
use super::cells::ConnCell;
use super::core::Core;
use super::io::fate;
use crate::policy::event::{CloseReason, ConnKey, Return};

/// How often the completion queue is read before what else is in it waits for the driver: enough for
/// all that was in it at the beginning.
const MAX_COLLECTS: usize = 64;

impl Shard {
    /// A user is done with the connection, or with its share; `released`: at a message boundary, it
    /// says.
    pub(crate) fn give_back(&self, conn: ConnKey, released: bool) {
        self.enter(|core| {
            if core.is_alive() {
                core.give_back(conn, released);
            }
        });
    }
}

impl Core {
    #[inline]
    fn give_back(&mut self, conn: ConnKey, released: bool) {
        self.refresh();
        let how = match self.cells.get(conn) {
            Some(cell) if cell.shared => fate(cell).map_or(Return::Clean, Return::Discard),
            _ => match self.judge(conn) {
                Return::Clean | Return::Unwatched if !released => {
                    Return::Discard(CloseReason::NotReleased)
                }
                how => how,
            },
        };
        // What had come may have been the ring's end.
        if self.is_alive() {
            self.put(conn, how);
        }
    }

    /// Takes in what has come, without waiting for the driver's turn; whether that is all.
    #[inline]
    pub(super) fn collect(&mut self) -> bool {
        !self.backend.has_completions() || self.collect_all()
    }

    #[inline(never)]
    fn collect_all(&mut self) -> bool {
        self.policy.empty_hand();
        for _ in 0..MAX_COLLECTS {
            if !self.backend.has_completions() {
                return true;
            }
            let count = self.backend.reap();
            self.came |= count > 0;
            self.pump();
            if count == 0 && self.backend.is_refused() {
                // What the kernel keeps aside waits for a better moment.
                break;
            }
        }
        !self.backend.has_completions()
    }

    /// What becomes of an exclusive connection that its user gives back (the return rule).
    #[inline]
    pub(super) fn judge(&mut self, conn: ConnKey) -> Return {
        let is_all = self.collect();
        self.verdict(conn, is_all)
    }

    /// The same by what is known; `is_all`: what has come was taken in.
    #[inline]
    pub(super) fn verdict(&self, conn: ConnKey, is_all: bool) -> Return {
        let Some(cell) = self.cells.get(conn) else {
            return Return::Clean;
        };
        if let Some(reason) = fate(cell) {
            return Return::Discard(reason);
        }
        if is_all && cell.front.is_empty() && self.backend.is_at_rest(conn.0) {
            return Return::Clean;
        }
        self.verdict_at_work(conn, cell, is_all)
    }

    /// The same where something is left to do, or to know.
    fn verdict_at_work(&self, conn: ConnKey, cell: &ConnCell, is_all: bool) -> Return {
        let reason = if self.backend.unsent(conn.0) > 0 {
            CloseReason::UnfinishedWrite
        } else if !cell.front.is_empty() || self.backend.unread(conn.0) > 0 {
            CloseReason::Unread
        } else {
            return self.watched(conn, is_all);
        };
        Return::Discard(reason)
    }

    /// Whether anything that has come for the connection is known. If its receive has stopped, or is
    /// armed again and the kernel has not had that, something may have come that nobody knows of.
    #[inline]
    pub(super) fn watched(&self, conn: ConnKey, is_all: bool) -> Return {
        match is_all && self.backend.is_watched(conn.0) {
            true => Return::Clean,
            false => self.not_watched(conn),
        }
    }

    #[cold]
    fn not_watched(&self, conn: ConnKey) -> Return {
        match self.backend.is_watching(conn.0) || self.backend.will_watch(conn.0) {
            true => Return::Unwatched,
            false => Return::Discard(CloseReason::Unwatched),
        }
    }

    /// The same where what has come cannot be taken in, because something is being done.
    pub(super) fn watched_meanwhile(&self, conn: ConnKey) -> Return {
        self.watched(conn, !self.backend.has_completions())
    }
}
