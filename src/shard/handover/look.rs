//! A connection that nobody has watched for a while may have something in it that is not its next
//! user's: it changed its core, or did not, or its receive had stopped when it was given back.
//!
//! Promise: it is in nobody's hands until its receive was armed, the kernel has had that, and what
//! came at once was read and offered to its protocol (I3, D37). Each look ends: it is seen, or late.
//!
//! States of a look: the ring owes a `Watched` → unseen → the kernel has had the receive → seen, when
//! what had come by then was read; back to the first if the receive has stopped once more, to the
//! second if it was armed once more.

use std::time::Duration;

use super::super::cells::Stage;
use super::super::core::Core;
use super::super::deferred::Call;
use super::{BACK_OFF, Unseen};
use crate::policy::event::{ConnKey, Event, Return};
use crate::time::Tick;

impl Core {
    /// Looks at the connection when it is watched.
    pub(in crate::shard) fn look(&mut self, conn: ConnKey) {
        let until = self.now.plus(self.config.connect_timeout);
        let Some(cell) = self.cells.get_mut(conn) else {
            return;
        };
        cell.stage = Stage::Looked(until);
        let is_offered = !cell.is_packed && !cell.reads_for_itself();
        self.arm_timer(conn);
        if is_offered && self.backend.unread(conn.0) > 0 {
            // It came before this was nobody's, and was told of then.
            self.deferred.calls.push_back(Call::IdleBytes { conn });
        }
        if !self.backend.tell_when_watched(conn.0) {
            self.look_soon(conn);
        }
    }

    /// If its receive was queued just now, what the kernel has for it comes with the next submission.
    pub(in crate::shard) fn look_soon(&mut self, conn: ConnKey) {
        if self.is_looked_at(conn) {
            let queued = self.backend.queued_until_now();
            let come = None;
            let unseen = Unseen { conn, queued, come };
            self.handover.unseen.push(unseen);
            self.signal.wake();
        }
    }

    fn is_looked_at(&self, conn: ConnKey) -> bool {
        let cell = self.cells.get(conn);
        cell.is_some_and(|cell| matches!(cell.stage, Stage::Looked(_)))
    }

    /// Whether it is among those that the next turns look at.
    #[cfg(feature = "sim")]
    pub(in crate::shard) fn is_unseen(&self, conn: ConnKey) -> bool {
        self.handover.unseen.iter().any(|it| it.conn == conn)
    }

    /// When the connections that nobody has watched can be looked at. Whoever reads what came for one
    /// brings the turn that looks at it.
    pub(in crate::shard) fn looks_at(&self) -> Option<Tick> {
        let wait = match self.backend.is_refused() {
            true => BACK_OFF,
            false => Duration::ZERO,
        };
        let mut unseen = self.handover.unseen.iter();
        let is_due = unseen.any(|it| !self.is_offered(it.conn));
        is_due.then(|| self.now.plus(wait))
    }

    /// Whether its bytes, or the whole of it, are with somebody who comes back with it.
    fn is_offered(&self, conn: ConnKey) -> bool {
        let is_packed = self.cells.get(conn).is_some_and(|cell| cell.is_packed);
        is_packed || self.backend.unread(conn.0) > 0
    }

    /// Those whose receive the kernel has had are as good as any that idles here, unless something
    /// came. What came at once is read, and offered to their protocols, before they are judged: what
    /// comes for others all the time does not delay that.
    pub(in crate::shard) fn see_received(&mut self) {
        if self.handover.unseen.is_empty() {
            return;
        }
        let mut seen = std::mem::take(&mut self.handover.seen);
        let mut unseen = std::mem::take(&mut self.handover.unseen);
        unseen.retain_mut(|it| {
            if it.come.is_none() && self.backend.has_taken(it.queued) {
                it.come = self.backend.come_until_now();
            }
            let is_read = it.come.is_some_and(|come| self.backend.has_read(come));
            let is_seen = is_read && !self.is_offered(it.conn);
            if is_seen {
                seen.push(it.conn);
            }
            !is_seen
        });
        self.handover.unseen = unseen;
        for conn in seen.drain(..) {
            self.see(conn);
        }
        self.handover.seen = seen;
    }

    /// What had come until its receive was armed was taken in. Since then more may have come, or been
    /// put off by a submission for another one.
    fn see(&mut self, conn: ConnKey) {
        let is_all = self.collect();
        if !self.is_alive() {
            return;
        }
        // One that found no buffer once more is looked at when it is watched.
        if !self.is_looked_at(conn) || self.backend.tell_when_watched(conn.0) {
            return;
        }
        if self.backend.unread(conn.0) > 0 {
            return self.look_soon(conn);
        }
        let healthy = match self.watched(conn, is_all) {
            Return::Clean => true,
            // It has ended meanwhile, and was armed once more.
            Return::Unwatched => return self.look_soon(conn),
            Return::Discard(_) => false,
        };
        if let Some(cell) = self.cells.get_mut(conn) {
            cell.stage = Stage::Ready;
        }
        self.tell(Event::HealthChecked { conn, healthy });
        self.pump();
    }
}
