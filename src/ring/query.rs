//! A question to a name server needs a socket for one exchange, over UDP or TCP. It lives in the
//! ring's own slots, behind the connections, with the same rules.
//!
//! Promise: one submission makes the socket, binds it, connects it, sends and receives; the socket
//! goes on receiving until it is closed. The first failure is reported once; closing is up to the
//! caller, cancels whatever the socket waits for and leaves no descriptor, and nothing but
//! `QueryClosed` is reported after it.
//!
//! A port that an attacker cannot guess is half of what protects a question over UDP (RFC 5452). So
//! the caller gives the ports to be tried, in order. One that is taken or forbidden ends the chain
//! (soft link): when all of its steps have reported, the rest of it is pushed again with the next
//! port and in the end without one, which leaves the choice to the kernel. A query never fails for
//! its port. Between the bind and the connect anybody's datagrams are taken in; they are judged by
//! their id and question like all others.
//!
//! Bounded: of one query at most [`MOST_UNTOLD`] datagrams are queued as events, the rest is
//! dropped as a network drops them; a stream that brings more than [`MOST_BYTES`] fails.
//!
//! States: `Connecting` (a chain is under way, or the port was refused and its steps are awaited),
//! `Open`, failed (the receive is `Done`), `Closing`.

#![allow(unsafe_code)]

use std::net::SocketAddr;

use crate::error::{Error, ErrorKind, Result};
use crate::ring::Ring;
use crate::ring::buffers::Lease;
use crate::ring::conn::{Phase, Recv};
use crate::ring::events::Event;
use crate::ring::op::Payload;
use crate::ring::opcode::{self, Transport};
use crate::ring::owned::OwnedBuf;
use crate::ring::queue::Class;
use crate::ring::recv::is_transient;
use crate::ring::token::Kind;
use crate::slot::Key;

/// Datagrams of one query that wait to be polled.
const MOST_UNTOLD: u16 = 64;
/// The longest message that a stream can bring, with its length (RFC 1035 §4.2.2).
const MOST_BYTES: usize = 2 + 65_535;

/// What a query's socket needs until it is closed.
#[derive(Debug)]
pub(super) struct Query {
    server: SocketAddr,
    transport: Transport,
    /// Ports not tried yet, the next one last.
    ports: Vec<u16>,
    /// The port was refused; the other steps of the chain have yet to report.
    unbound: bool,
    /// Datagrams queued and not polled.
    untold: u16,
    /// Bytes that the stream may still bring.
    room: usize,
}

impl Ring {
    /// Whether one more [`query`](Self::query) finds a slot.
    ///
    /// # Errors
    ///
    /// `Exhausted` if all slots for queries are taken, `Closed` if the ring was drained.
    pub(crate) fn room_for_query(&self) -> Result<()> {
        match self.queries.is_full() {
            _ if self.ended => Err(Self::closed()),
            true => Err(no_query_slot()),
            false => Ok(()),
        }
    }

    /// Sends `payload` to `server` from a new socket and receives what comes back. Over TCP the
    /// payload has its length before it. `ports` are for UDP only: the own ports to try, in order,
    /// before the kernel chooses one; a kernel without `BIND` (before 6.11) chooses at once.
    ///
    /// # Errors
    ///
    /// As [`room_for_query`](Self::room_for_query).
    pub(crate) fn query(
        &mut self,
        server: SocketAddr,
        transport: Transport,
        payload: Vec<u8>,
        ports: &[u16],
    ) -> Result<Key> {
        self.room_for_query()?;
        let ports = match transport {
            Transport::Udp if self.binds => ports.iter().rev().copied().collect(),
            _ => Vec::new(),
        };
        let query = Query {
            server,
            transport,
            ports,
            unbound: false,
            untold: 0,
            room: MOST_BYTES,
        };
        let own = self.queries.insert(query).map_err(|_| no_query_slot())?;
        let key = Key::new(self.config.max_connections + own.index(), own.generation());
        let payload = Payload::Owned(OwnedBuf::new(payload));
        if !self.claim(key, Phase::Connecting) || self.ops.set_payload(key, payload).is_none() {
            self.queries.remove(own);
            return Err(Self::closed());
        }
        self.ask(key, Some(Kind::Socket));
        Ok(key)
    }

    /// Closes the socket. Ends in `QueryClosed`.
    pub(crate) fn close_query(&mut self, key: Key) {
        if self.is_query(key) {
            self.close(key);
        }
    }

    pub(super) fn is_query(&self, key: Key) -> bool {
        key.index() >= self.config.max_connections
    }

    /// The key in the table of queries.
    pub(super) fn query_slot(&self, key: Key) -> Key {
        Key::new(key.index() - self.config.max_connections, key.generation())
    }

    fn query_mut(&mut self, key: Key) -> Option<&mut Query> {
        let own = self.query_slot(key);
        self.queries.get_mut(own)
    }

    /// What the socket in the slot speaks.
    pub(super) fn transport(&self, key: Key) -> Transport {
        if !self.is_query(key) {
            return Transport::Tcp;
        }
        let query = self.queries.get(self.query_slot(key));
        query.map_or(Transport::Udp, |query| query.transport)
    }

    /// Pushes the chain, from the `socket` on or, with a socket in the slot, from the bind on. No
    /// step of an earlier chain may be in flight.
    fn ask(&mut self, key: Key, socket: Option<Kind>) {
        let index = key.index();
        let Some(query) = self.query_mut(key) else {
            return;
        };
        let (server, transport, port) = (query.server, query.transport, query.ports.pop());
        let dial = self.ops.dial_box(opcode::dial_from(server, port));
        let payload = self.ops.payload(key).map(|payload| payload.from(0));
        let (Some((start, len)), Some(dial)) = (payload, self.ops.set_dial(key, dial)) else {
            return;
        };
        let bind = port.map(|_| Kind::Bind);
        self.entries.clear();
        if socket.is_some() {
            self.entries.push(opcode::socket(index, server, transport));
        }
        if bind.is_some() {
            self.entries.push(opcode::bind(index, dial));
        }
        self.entries.extend([
            opcode::connect(index, dial),
            opcode::send_query(index, start, len),
            opcode::recv(index, transport),
        ]);
        let last = [Kind::Connect, Kind::Send, Kind::Recv];
        let kinds: Vec<Kind> = socket.into_iter().chain(bind).chain(last).collect();
        // SAFETY: both addresses are in the dial and the bytes are in the payload, both owned by
        // the table until these steps are final (rules 1 and 3 of `op`); the receive writes into
        // the pool only.
        unsafe { self.issue_chain(&kinds, key, Class::Work) };
        let conn = self.at(key);
        conn.installed = true;
        conn.recv = Recv::Armed;
    }

    /// Socket, bind, connect or send completed.
    pub(super) fn on_query_step(&mut self, key: Key, step: Kind, res: i32) {
        let len = self.ops.payload(key).map_or(0, Payload::len);
        let conn = self.at(key);
        if step == Kind::Socket && res < 0 {
            conn.installed = false;
        }
        if matches!(conn.phase, Phase::Closing) || conn.recv == Recv::Done {
            return;
        }
        match (step, res) {
            (Kind::Bind, ..0) => self.on_no_port(key, -res),
            // The kernel cut the chain behind the bind, for want of memory: it has chosen a port.
            (Kind::Connect, 0..) if self.waits_for_port(key) => self.connected_anyway(key),
            _ if self.waits_for_port(key) => {}
            (_, ..0) => self.query_failed(key, -res),
            (Kind::Connect, _) => self.at(key).phase = Phase::Open,
            // It broke in the middle, and why is not told.
            (Kind::Send, sent) if (sent as usize) < len => self.query_failed(key, libc::EPIPE),
            _ => {}
        }
        self.try_next_port(key);
    }

    fn waits_for_port(&mut self, key: Key) -> bool {
        self.query_mut(key).is_some_and(|query| query.unbound)
    }

    /// The bind failed. Another port may do, or the kernel finds one.
    fn on_no_port(&mut self, key: Key, errno: i32) {
        match errno {
            // Not the port's fault: the chain was cancelled, or there is no socket.
            libc::ECANCELED | libc::EBADF => return self.query_failed(key, errno),
            _ => {}
        }
        let Some(query) = self.query_mut(key) else {
            return;
        };
        query.unbound = true;
        if !matches!(errno, libc::EADDRINUSE | libc::EACCES) {
            // Whatever it is, it is not this one port.
            query.ports.clear();
        }
    }

    /// The connect went well although the bind did not.
    fn connected_anyway(&mut self, key: Key) {
        self.at(key).phase = Phase::Open;
        if let Some(query) = self.query_mut(key) {
            query.unbound = false;
        }
    }

    /// Goes on with the next port once nothing of the broken chain is in flight (D38).
    fn try_next_port(&mut self, key: Key) {
        let idle = self.ops.outstanding(key) == 0 && self.at(key).phase == Phase::Connecting;
        if let Some(query) = self.query_mut(key)
            && idle
            && query.unbound
        {
            query.unbound = false;
            self.ask(key, None);
        }
    }

    fn query_failed(&mut self, key: Key, errno: i32) {
        let conn = self.at(key);
        if conn.phase != Phase::Closing && conn.recv != Recv::Done {
            conn.recv = Recv::Done;
            self.events.push(Event::QueryFailed { key, errno });
        }
    }

    /// Bytes came, or the receive stopped.
    pub(super) fn on_query_recv(&mut self, key: Key, res: i32, lease: Option<Lease>, last: bool) {
        let conn = self.at(key);
        if conn.phase == Phase::Closing || conn.recv == Recv::Done {
            return;
        }
        if self.waits_for_port(key) {
            // The chain was broken, and with it the receive.
            return self.try_next_port(key);
        }
        // A buffer may come back with an error, or with nothing in it.
        if let Some(lease) = lease.filter(|lease| !lease.is_empty()) {
            self.query_bytes(key, res, &lease);
        }
        if !last || self.at(key).recv == Recv::Done {
            return;
        }
        match -res {
            libc::ENOBUFS => {
                self.queue.stats.enobufs += 1;
                self.starve(key);
            }
            // An empty datagram stops the receive too, and is no end of anything.
            0 if self.transport(key) == Transport::Tcp => self.query_failed(key, 0),
            errno if errno <= 0 || is_transient(errno) => self.arm(key),
            errno => self.query_failed(key, errno),
        }
    }

    fn query_bytes(&mut self, key: Key, res: i32, bytes: &[u8]) {
        let Some(query) = self.query_mut(key) else {
            return;
        };
        match query.transport {
            Transport::Tcp if query.room < bytes.len() => {
                return self.query_failed(key, libc::EMSGSIZE);
            }
            Transport::Tcp => query.room -= bytes.len(),
            Transport::Udp if query.untold == MOST_UNTOLD => {
                self.queue.stats.dropped += 1;
                return;
            }
            Transport::Udp => query.untold += 1,
        }
        self.events.push(Event::QueryBytes {
            key,
            bytes: bytes.to_vec(),
            truncated: usize::try_from(res).is_ok_and(|len| len > bytes.len()),
        });
    }

    /// Bytes or the failure of a query leave the queue of events; `false` if the query was closed
    /// since, and its caller waits only for the end.
    pub(super) fn query_told(&mut self, key: Key) -> bool {
        if let Some(query) = self.query_mut(key) {
            query.untold = query.untold.saturating_sub(1);
        }
        self.live(key).is_some_and(|conn| !conn.close_asked)
    }
}

fn no_query_slot() -> Error {
    Error::new(ErrorKind::Exhausted, "all query slots are taken")
}
