//! A question to a name server needs a socket for one exchange. It lives in the ring's own slots,
//! behind the connections, with the same rules.
//!
//! Promise: one submission makes the socket, connects it, sends and receives; the socket goes on
//! receiving until it is closed. The first failure is reported once; closing is up to the caller.

#![allow(unsafe_code)]

use std::net::SocketAddr;
use std::time::Duration;

use io_uring::squeue::Flags;

use crate::error::{Error, ErrorKind, Result};
use crate::ring::Ring;
use crate::ring::buffers::Lease;
use crate::ring::conn::{Phase, Recv};
use crate::ring::events::Event;
use crate::ring::memory::OpBox;
use crate::ring::op::Payload;
use crate::ring::opcode::{self, Transport};
use crate::ring::owned::OwnedBuf;
use crate::ring::queue::Class;
use crate::ring::recv::is_transient;
use crate::ring::token::Kind;
use crate::slot::Key;

impl Ring {
    /// Sends `payload` to `server` from a new socket and receives what comes back.
    ///
    /// # Errors
    ///
    /// `Exhausted` if all slots for datagrams are taken, `Closed` if the ring was drained.
    pub(crate) fn datagram(&mut self, server: SocketAddr, payload: Vec<u8>) -> Result<Key> {
        if self.ended {
            return Err(Self::closed());
        }
        let own = self
            .datagrams
            .insert(())
            .map_err(|()| Error::new(ErrorKind::Exhausted, "all datagram slots are taken"))?;
        let index = self.config.max_connections + own.index();
        let key = Key::new(index, own.generation());
        let dial = OpBox::new(opcode::dial(server, Duration::ZERO, &[]));
        let payload = Payload::Owned(OwnedBuf::new(payload));
        let (start, len) = payload.from(0);
        if !self.claim(key) || self.ops.set_payload(key, payload).is_none() {
            self.datagrams.remove(own);
            return Err(Self::closed());
        }
        let Some(dial) = self.ops.set_dial(key, dial) else {
            return Err(Self::closed());
        };
        self.entries.clear();
        let send = opcode::send(index, start, len).flags(Flags::IO_LINK);
        self.entries.extend([
            opcode::socket(index, server, Transport::Udp),
            opcode::connect(index, dial),
            send,
            opcode::recv(index, Transport::Udp),
        ]);
        let kinds = [Kind::Socket, Kind::Connect, Kind::Send, Kind::Recv];
        // SAFETY: the address is in the dial and the bytes are in the payload, both owned by the
        // table until these steps are final (rules 1 and 3 of `op`); the receive writes into the
        // pool only.
        unsafe { self.issue_chain(&kinds, key, Class::Work) };
        let conn = self.at(key);
        conn.installed = true;
        conn.recv = Recv::Armed;
        Ok(key)
    }

    /// Closes the socket. Ends in `DatagramClosed`.
    pub(crate) fn close_datagram(&mut self, key: Key) {
        if self.is_datagram(key) {
            self.close(key);
        }
    }

    pub(super) fn is_datagram(&self, key: Key) -> bool {
        key.index() >= self.config.max_connections
    }

    /// The key in the table of datagram slots.
    pub(super) fn datagram_slot(&self, key: Key) -> Key {
        Key::new(key.index() - self.config.max_connections, key.generation())
    }

    /// Socket, connect or send completed.
    pub(super) fn on_datagram_step(&mut self, key: Key, step: Kind, res: i32) {
        if res < 0 {
            if step == Kind::Socket {
                self.at(key).installed = false;
            }
            self.datagram_failed(key, -res);
        } else if step == Kind::Connect && self.at(key).phase == Phase::Connecting {
            self.at(key).phase = Phase::Open;
        }
    }

    fn datagram_failed(&mut self, key: Key, errno: i32) {
        let conn = self.at(key);
        if conn.phase != Phase::Closing && conn.failure == 0 {
            conn.failure = errno;
            conn.recv = Recv::Done;
            self.events.push(Event::DatagramFailed { key, errno });
        }
    }

    /// A datagram came, or the receive stopped.
    pub(super) fn on_datagram(&mut self, key: Key, res: i32, lease: Option<Lease>, last: bool) {
        if self.at(key).phase == Phase::Closing {
            return;
        }
        if res >= 0
            && let Some(lease) = lease
        {
            let bytes = lease.to_vec();
            let truncated = res as usize > bytes.len();
            self.events.push(Event::Datagram {
                key,
                bytes,
                truncated,
            });
        }
        if !last || self.at(key).failure != 0 {
            return;
        }
        match -res {
            libc::ENOBUFS => {
                self.queue.stats.enobufs += 1;
                self.starve(key);
            }
            errno if errno <= 0 || is_transient(errno) => self.arm(key),
            errno => self.datagram_failed(key, errno),
        }
    }
}
