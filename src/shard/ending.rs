//! A shard ends in one of three ways: it drains, its runtime ends, or its ring can do no more. In
//! each case whatever waits must fail, and no permit may be free while its socket exists.

use std::task::{Context, Poll};

use crate::error::{Error, ErrorKind};
use crate::policy::event::{CloseReason, ConnKey, Event};

use super::core::Core;
use super::deferred::Call;

impl Core {
    // -- draining ------------------------------------------------------------------------------

    /// No new gets, no new connections, idle ones close.
    pub(crate) fn start_drain(&mut self) {
        if !self.draining && self.alive().is_ok() {
            self.draining = true;
            self.tell(Event::Drain);
            self.pump();
        }
    }

    pub(crate) fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.alive().is_err() || self.policy.is_drained() {
            return Poll::Ready(());
        }
        if !self.drained.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.drained.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Cuts the connections that users still hold: their operations fail, and giving them back is
    /// all that can be done with them. Returns how many that were.
    pub(crate) fn cut_busy(&mut self) -> usize {
        let busy: Vec<ConnKey> = self
            .cells
            .iter_mut()
            .filter(|cell| cell.holders > 0)
            .map(|cell| cell.conn)
            .collect();
        for conn in &busy {
            let error = Error::new(ErrorKind::Draining, "the pool drained and the time was up");
            self.cut(*conn, error, CloseReason::Drained);
        }
        self.pump();
        busy.len()
    }

    // -- the end -------------------------------------------------------------------------------

    /// The runtime ends: the kernel gives back what it has, other cores forget us.
    pub(crate) fn end(&mut self) {
        // A forked child has a copy of all this and owns nothing of it (D30).
        if self.backend.forked() || std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.die(Error::new(ErrorKind::NotOnShard, "the shard has ended"));
        self.end_sent();
        let limit = self.config.drain_timeout;
        let drained = self.backend.drain(limit);
        if !drained.clean {
            // Rare, and not to be missed: memory that only the end of the process gives back.
            self.host.warn(&format!(
                "{:?} ended with {} operations still in the kernel, whose memory is leaked",
                self.links.shard(),
                drained.leaked_ops
            ));
        }
        while let Some(event) = self.backend.poll_event() {
            self.arrive(event);
        }
        self.end_handover(drained.clean);
        for conn in self.cells.keys() {
            self.end_with_shard(conn);
        }
        self.publish_last();
        // Only now: a permit may not be free while its socket exists.
        let unrun = self.links.leave();
        self.deferred.calls.push_back(Call::Drop(Box::new(unrun)));
        self.deferred.wakers.extend(self.drained.drain(..));
    }

    /// The shard can do no more (D17, D21, or its runtime ends): everything that waits fails.
    pub(crate) fn die(&mut self, error: Error) {
        if self.dead.is_some() {
            return;
        }
        self.policy.empty_hand();
        for cell in self.cells.iter_mut() {
            cell.failure.get_or_insert_with(|| error.clone());
            cell.read.wake(&mut self.deferred.wakers);
            cell.write.wake(&mut self.deferred.wakers);
        }
        self.waiters.fail_all(&error, &mut self.deferred.wakers);
        self.deferred.wakers.extend(self.warming.drain(..));
        self.end_names(&error);
        self.dead = Some(error);
    }
}
