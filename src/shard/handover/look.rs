//! A connection that nobody has watched for a while may have something in it that is not its next
//! user's: it changed its core, or did not, or its receive had stopped when it was given back.
//!
//! Promise: it is in nobody's hands until its receive was armed, the kernel has had that, and what
//! came at once was read and offered to its protocol (I3, D37). Each look ends: it is seen, or late.
//!
//! States of a look: the ring owes a `Watched` → unseen → seen; back to the first if the receive has
//! stopped once more.

use std::time::Duration;

use super::super::cells::Stage;
use super::super::core::Core;
use super::BACK_OFF;
use crate::policy::event::{ConnKey, Event};
use crate::time::Tick;

impl Core {
    /// Looks at the connection when it is watched.
    pub(in crate::shard) fn look(&mut self, conn: ConnKey) {
        let until = self.now.plus(self.config.connect_timeout);
        if let Some(cell) = self.cells.get_mut(conn) {
            cell.stage = Stage::Looked(until);
            self.arm_timer(conn);
            if !self.backend.tell_when_watched(conn.0) {
                self.look_soon(conn);
            }
        }
    }

    /// If its receive was queued just now, what the kernel has for it comes with the next submission.
    pub(in crate::shard) fn look_soon(&mut self, conn: ConnKey) {
        if self.is_looked_at(conn) {
            let until = self.backend.queued_until_now();
            self.handover.unseen.push((conn, until));
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
        self.handover.unseen.iter().any(|(it, _)| *it == conn)
    }

    /// When the connections that nobody has watched can be looked at. Whoever reads what came for one
    /// brings the turn that looks at it.
    pub(in crate::shard) fn looks_at(&self) -> Option<Tick> {
        let wait = match self.backend.is_refused() {
            true => BACK_OFF,
            false => Duration::ZERO,
        };
        let mut unseen = self.handover.unseen.iter();
        let is_due = unseen.any(|(conn, _)| self.backend.unread(conn.0) == 0);
        is_due.then(|| self.now.plus(wait))
    }

    /// Those whose receive the kernel has had are as good as any that idles here, unless something
    /// came. What came at once is read, and offered to their protocols, before they are judged.
    pub(in crate::shard) fn see_received(&mut self) {
        if self.handover.unseen.is_empty() || self.backend.has_completions() {
            return;
        }
        let mut seen = Vec::new();
        self.handover.unseen.retain(|(conn, until)| {
            let is_packed = self.cells.get(*conn).is_some_and(|cell| cell.is_packed);
            let is_offered = self.backend.unread(conn.0) > 0;
            let is_seen = self.backend.has_taken(*until) && !is_packed && !is_offered;
            if is_seen {
                seen.push(*conn);
            }
            !is_seen
        });
        for conn in seen {
            // One that found no buffer once more is looked at when it is watched.
            if !self.is_looked_at(conn) || self.backend.tell_when_watched(conn.0) {
                continue;
            }
            let healthy = self.backend.is_watching(conn.0);
            if let Some(cell) = self.cells.get_mut(conn) {
                cell.stage = Stage::Ready;
            }
            self.tell(Event::HealthChecked { conn, healthy });
            self.pump();
        }
    }
}
