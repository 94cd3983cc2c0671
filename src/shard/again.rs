//! The get that services do most: of the connection that was given back just before. The policy has it
//! in its hand, and what cannot have changed since is not looked at again.
//!
//! Promise: the same as by the long way, which is taken whenever this one is not open. Once the
//! clock has moved, something has completed or the shard can do no more, nothing is in the hand.

use super::Shard;
use super::cells::{ConnCell, Use};
use super::core::Core;
use super::endpoints::EndpointRef;
use super::io::fate;
use crate::policy::event::{ConnKey, EndpointKey};

impl Shard {
    /// A get of what was given back just before, if that may be had again at once and no protocol
    /// keeps anything for it. Nothing is deferred by it.
    #[inline]
    pub(crate) fn get_again(&self, endpoint: &EndpointRef) -> Option<Use> {
        let mut core = self.core.borrow_mut();
        let cell = core.get_again(endpoint.key(), |cell| cell.state.is_none())?;
        Some(cell.sole_use())
    }

    /// A user gives the connection back, at a message boundary, it says; `false`, and nothing is
    /// done, if it does not come back to where it was taken from.
    #[inline]
    pub(crate) fn put_again(&self, conn: ConnKey) -> bool {
        self.core.borrow_mut().put_again(conn)
    }
}

impl Core {
    /// A get of what is in the hand, if it is what the caller wants.
    #[inline]
    pub(super) fn get_again(
        &mut self,
        endpoint: EndpointKey,
        is_wanted: impl FnOnce(&ConnCell) -> bool,
    ) -> Option<&ConnCell> {
        let conn = self.policy.at_hand(self.now, endpoint)?;
        if !self.backend.is_quiet() || self.tap.is_on() {
            return None;
        }
        if self.backend.holds_back() && self.has_rested_since(self.now) {
            return None;
        }
        let cell = self.cells.get_mut(conn)?;
        // Its protocol may have kept a stream of it and used that meanwhile; nobody else can.
        let is_as_left = cell.state.is_none() || self.backend.is_watched(conn.0);
        if !is_wanted(cell) || !is_as_left {
            return None;
        }
        self.policy.take_again();
        #[cfg(feature = "sim")]
        self.host.cover("InHand", "Get");
        cell.hold();
        Some(cell)
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
        let is_free = self.read.is_free() && self.write.is_free();
        is_free && !self.shared && self.front.is_empty() && fate(self).is_none()
    }
}
