//! The get that services do most: of the connection that was given back just before. The policy has it
//! in its hand, and what cannot have changed since is not looked at again.
//!
//! Promise: the same as by the long way, which is taken whenever this one is not open. Once the
//! clock has moved, something has completed or the shard can do no more, nothing is in the hand.

use super::Checkout;
use super::Shard;
use super::cells::ConnCell;
use super::core::Core;
use super::endpoints::EndpointRef;
use super::io::fate;
use crate::policy::event::{ConnKey, EndpointKey};

impl Shard {
    /// A get of what was given back just before, if it may be had again at once.
    #[inline]
    pub(crate) fn get_again(&self, endpoint: &EndpointRef) -> Option<Checkout> {
        // Nothing is deferred by it.
        self.core.borrow_mut().get_again(endpoint.key())
    }

    /// A user gives the connection back, at a message boundary, it says; `false`, and nothing is
    /// done, if it does not come back to where it was taken from.
    #[inline]
    pub(crate) fn put_again(&self, conn: ConnKey) -> bool {
        self.core.borrow_mut().put_again(conn)
    }
}

impl Core {
    #[inline]
    fn get_again(&mut self, endpoint: EndpointKey) -> Option<Checkout> {
        let conn = self.policy.at_hand(self.now, endpoint)?;
        if !self.backend.is_quiet() || self.tap.is_on() {
            return None;
        }
        let cell = self.cells.get_mut(conn)?;
        // Its protocol may have kept a stream of it and used that meanwhile; nobody else can.
        if cell.state.is_some() && !self.backend.is_watched(conn.0) {
            return None;
        }
        self.policy.take_again();
        #[cfg(feature = "sim")]
        self.host.cover("InHand", "Get");
        cell.hold();
        Some(cell.checkout())
    }

    #[inline]
    fn put_again(&mut self, conn: ConnKey) -> bool {
        let may = self.policy.is_out(self.now, conn) && self.backend.is_quiet();
        if !may || !self.backend.is_at_rest(conn.0) {
            return false;
        }
        let Some(cell) = self.cells.get_mut(conn).filter(|cell| cell.is_at_rest()) else {
            return false;
        };
        cell.let_go_unwaited();
        self.policy.put_again();
        true
    }
}

impl ConnCell {
    /// Whether nobody waits on it and nothing that was done with it is left: as it was when it was
    /// taken.
    #[inline]
    fn is_at_rest(&self) -> bool {
        let waits = self.read.is_waiting() || self.write.is_waiting();
        !waits && !self.shared && self.front.is_empty() && fate(self).is_none()
    }
}
