//! What a protocol keeps for a connection is of its core, and goes to another one only as the protocol
//! itself packs it. That is the user's code, so it runs with nothing borrowed (D36), and the
//! connection waits for it.
//!
//! Promise: a state is packed only while nobody holds it or the stream that `init` got; a connection
//! reaches nobody before its state is put together; one whose state was lost on the way closes. A state
//! that outlives its connection is told of the end as any other.

use std::any::Any;
use std::rc::Rc;

use crate::policy::event::{CloseReason, ConnKey, EndpointKey, Event};

use super::Shard;
use super::core::Core;
use super::deferred::{Call, contain};
use super::erased::{ConnectionProtocol, Packed};

impl Shard {
    pub(super) fn pack(&self, conn: ConnKey, protocol: &dyn ConnectionProtocol) {
        let Some(state) = self.enter(|core| core.take_state(conn)) else {
            return;
        };
        let packed = self.contain(|| protocol.pack(state));
        let left = self.enter(|core| core.packed(conn, packed));
        self.end_state(protocol, left);
    }

    pub(super) fn unpack(&self, conn: ConnKey, protocol: &dyn ConnectionProtocol, packed: Packed) {
        let state = self.contain(|| protocol.unpack(packed)).flatten();
        let left = self.enter(|core| core.unpacked(conn, state));
        self.end_state(protocol, left);
    }

    /// Its connection has ended meanwhile.
    fn end_state(&self, protocol: &dyn ConnectionProtocol, left: Option<Rc<dyn Any>>) {
        if let Some(state) = left {
            self.count_panic(contain(move || protocol.closed(&*state)).is_none());
        }
    }
}

impl Core {
    /// Its state is to be packed, if it can be.
    pub(super) fn pack_later(&mut self, conn: ConnKey, endpoint: EndpointKey) {
        let is_kept = |cell: &super::cells::ConnCell| cell.life.strong_count() > 0;
        if self.cells.get(conn).is_none_or(is_kept) {
            return self.not_given(conn, endpoint, true);
        }
        if let Some(entry) = self.endpoints.get(endpoint) {
            let protocol = entry.protocol.clone();
            self.deferred.calls.push_back(Call::Pack { conn, protocol });
        }
    }

    /// Its state is to be put together.
    pub(super) fn unpack_later(
        &mut self,
        conn: ConnKey,
        endpoint: EndpointKey,
        packed: Option<Packed>,
    ) {
        let Some(packed) = packed else { return };
        if let Some(cell) = self.cells.get_mut(conn) {
            cell.is_packed = true;
        }
        let call = match self.endpoints.get(endpoint) {
            Some(entry) => Call::Unpack {
                conn,
                protocol: entry.protocol.clone(),
                packed,
            },
            None => Call::Drop(Box::new(packed)),
        };
        self.deferred.calls.push_back(call);
    }

    /// What is to be packed, if the connection still leaves.
    fn take_state(&mut self, conn: ConnKey) -> Option<Rc<dyn Any>> {
        self.policy.leaving(conn)?;
        let cell = self.cells.get_mut(conn)?;
        cell.state.take()
    }

    /// Sends the connection. Returns a state that is nobody's any more.
    fn packed(
        &mut self,
        conn: ConnKey,
        packed: Option<Result<Packed, Rc<dyn Any>>>,
    ) -> Option<Rc<dyn Any>> {
        self.refresh();
        let endpoint = self.policy.endpoint_of(conn)?;
        let left = match packed {
            Some(Ok(packed)) => {
                self.send(conn, endpoint, Some(packed));
                None
            }
            Some(Err(state)) => {
                let left = self.keep_state(conn, state);
                self.not_given(conn, endpoint, true);
                left
            }
            None => {
                self.state_lost(conn);
                self.not_given(conn, endpoint, false);
                None
            }
        };
        self.pump();
        left
    }

    /// Returns a state that is nobody's any more.
    fn unpacked(&mut self, conn: ConnKey, state: Option<Rc<dyn Any>>) -> Option<Rc<dyn Any>> {
        self.refresh();
        if let Some(cell) = self.cells.get_mut(conn) {
            cell.is_packed = false;
        }
        let left = match state {
            Some(state) => self.keep_state(conn, state),
            None => {
                self.state_lost(conn);
                None
            }
        };
        self.pump();
        left
    }

    fn keep_state(&mut self, conn: ConnKey, state: Rc<dyn Any>) -> Option<Rc<dyn Any>> {
        match self.cells.get_mut(conn) {
            Some(cell) => cell.state.replace(state),
            None => Some(state),
        }
    }

    fn state_lost(&mut self, conn: ConnKey) {
        let reason = CloseReason::Failed;
        self.tell(Event::Broken { conn, reason });
    }
}
