//! A core that ends has connections on their way: each of them must end, here or with the core that took
//! it, before its permit is free.
//!
//! Promise: nothing is waited for; what the other core has taken is left to it, the rest ends here for
//! both.

use std::collections::BTreeMap;

use super::super::cells::Stage;
use super::{Call, Claim, CloseReason, ConnKey, Core, Event, Giving, Packed};

impl Core {
    /// The core ends and waits for no more answers: what has moved is another core's, the rest ends
    /// here for both, before its permit is free. Messages that are on their way are not touched.
    pub(in crate::shard) fn end_sent(&mut self) {
        let all = std::mem::take(&mut self.handover.giving);
        let is_sent = |(_, giving): &(ConnKey, Giving)| giving.sent.is_some();
        let (sent, rest): (BTreeMap<_, _>, _) = all.into_iter().partition(is_sent);
        self.handover.giving = rest;
        let mut returned = self.returned();
        for (conn, giving) in sent {
            if self.end_claim(conn, giving.claim) {
                self.end_state(conn, returned.remove(&conn));
                // Closing what rests would leave it to the other core, which will not take it.
                self.backend.keep(conn.0);
                self.backend.close(conn.0);
            }
        }
    }

    /// The ring takes no more work. If it has drained, no message is on its way any more; if not,
    /// claims end with the core, when the permits do.
    pub(in crate::shard) fn end_handover(&mut self, is_drained: bool) {
        for (conn, giving) in std::mem::take(&mut self.handover.giving) {
            if is_drained {
                self.end_claim(conn, giving.claim);
            }
            self.end_state(conn, giving.state);
        }
        // What others sent goes back to them; what they sent back may be the user's to drop.
        let post = self.handover.post.take();
        self.deferred.calls.push_back(Call::Drop(Box::new(post)));
    }

    /// What protocols keep for connections that were not taken.
    fn returned(&self) -> BTreeMap<ConnKey, Packed> {
        let answers = std::iter::from_fn(|| self.handover.post.as_ref()?.answer());
        let states = answers.filter_map(|it| Some((ConnKey(it.conn), it.returned?.state?)));
        states.collect()
    }

    /// The connection ends with its core.
    fn end_state(&mut self, conn: ConnKey, state: Option<Packed>) {
        if let Some(endpoint) = self.policy.endpoint_of(conn) {
            self.unpack_later(conn, endpoint, state);
        }
    }

    /// Returns whether the connection is still this core's.
    fn end_claim(&mut self, conn: ConnKey, claim: Claim) -> bool {
        let endpoint = self.policy.endpoint_of(conn);
        let Some(entry) = endpoint.and_then(|it| self.endpoints.get(it)) else {
            return true;
        };
        if entry.shared.unclaim(self.links.shard(), claim) {
            return true;
        }
        self.policy.handle_event(self.now, Event::Given { conn });
        if let Some(cell) = self.cells.get_mut(conn) {
            cell.stage = Stage::Closing(CloseReason::HandedOver);
        }
        false
    }
}
