//! Sockets and the table of descriptors: what starts, where it works, and when a socket is gone.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use super::chain::InFlight;
use crate::machine::{Fault, State};
use crate::ring::IP_LOCAL_PORT_RANGE;
use crate::ring::kernel::Cqe;
use crate::ring::kernel::played::{Link, Op};

/// Seconds that keepalive times may have (tcp(7), `MAX_TCP_KEEPIDLE` in the kernel).
const KEEPALIVE: RangeInclusive<i32> = 1..=32_767;

/// The first port that needs no privilege (ip(7), `ip_unprivileged_port_start`).
const FREE_FOR_ALL: u16 = 1024;
/// Ports that the kernel chooses (ip(7), `ip_local_port_range`).
const CHOSEN: RangeInclusive<u16> = 32_768..=60_999;

/// A socket. It lives as long as its slot or an operation refers to it.
pub(in crate::machine) struct Socket {
    pub(super) datagram: bool,
    pub(super) in_slot: bool,
    /// Operations that work on it.
    pub(super) users: Vec<u64>,
    /// The port that it has of its own; the kernel gives it one at last when it connects.
    pub(in crate::machine) port: Option<u16>,
    /// Those that the kernel may choose from when it connects.
    pub(in crate::machine) chosen_from: RangeInclusive<u16>,
    /// Where it is connected to.
    pub(in crate::machine) to: Option<SocketAddr>,
    /// Its connection in the network.
    pub(in crate::machine) flow: Option<u64>,
    /// What has come and was not received.
    pub(in crate::machine) received: VecDeque<Vec<u8>>,
    /// The peer sends no more.
    pub(in crate::machine) ended: bool,
    /// It broke, with this error number, and nobody was told yet.
    pub(in crate::machine) broken: Option<i32>,
    /// Nothing more may be sent, with this error number.
    pub(in crate::machine) unsendable: Option<i32>,
    /// There is no connection any more.
    pub(in crate::machine) dead: bool,
    /// The last final completion of an operation on it.
    pub(super) last: Option<Cqe>,
}

impl Socket {
    /// A new one, in a slot.
    fn new(datagram: bool) -> Self {
        Self {
            datagram,
            in_slot: true,
            users: Vec::new(),
            port: None,
            chosen_from: CHOSEN,
            to: None,
            flow: None,
            received: VecDeque::new(),
            ended: false,
            broken: None,
            unsendable: None,
            dead: false,
            last: None,
        }
    }

    /// What broke it, told once: what follows finds the end (tcp(7), `SO_ERROR` in socket(7)).
    pub(super) fn take_error(&mut self) -> Option<i32> {
        let errno = self.broken.take()?;
        self.ended |= !self.datagram;
        Some(errno)
    }
}

impl State {
    pub(in crate::machine) fn socket(&mut self, at: usize, id: u64) -> Option<&mut Socket> {
        self.rings.get_mut(&at)?.sockets.get_mut(&id)
    }

    pub(super) fn in_slot(&self, at: usize, slot: u32) -> Option<u64> {
        *self.rings.get(&at)?.slots.get(slot as usize)?
    }

    pub(super) fn op(&mut self, at: usize, id: u64) -> Option<&mut InFlight> {
        self.rings.get_mut(&at)?.ops.get_mut(&id)
    }

    /// An operation begins.
    pub(super) fn begin(&mut self, at: usize, id: u64) {
        let Some(op) = self.op(at, id) else { return };
        match op.op {
            Op::Nop => self.end_soon(at, id, 0),
            Op::Socket { slot, datagram } => self.make_socket(at, id, slot, datagram),
            Op::Option { slot, name, value } => self.set_option(at, id, slot, name, value),
            Op::Bind { slot, to } => self.bind(at, id, slot, to.port()),
            Op::Connect { slot, to } => self.connect(at, id, slot, to),
            Op::Recv { slot, .. } => self.receive(at, id, slot),
            Op::Send { slot, .. } => self.send(at, id, slot),
            Op::Shutdown { slot } => self.shutdown(at, id, slot),
            Op::Close { slot } => self.close(at, id, slot),
            Op::Cancel(target) => self.cancel(at, id, target),
            // A limit alone, and what the kernel does not know.
            Op::Limit(_) | Op::Refused => self.end_soon(at, id, -libc::EINVAL),
        }
    }

    fn make_socket(&mut self, at: usize, id: u64, slot: u32, datagram: bool) {
        let errno = match () {
            () if self.hit(Fault::TableFull) => libc::ENFILE,
            () if self.hit(Fault::NoMemory) => libc::ENOBUFS,
            () => 0,
        };
        if errno != 0 {
            return self.end_soon(at, id, -errno);
        }
        let socket = self.id();
        let Some(ring) = self.rings.get_mut(&at) else {
            return;
        };
        let Some(place) = ring.slots.get_mut(slot as usize) else {
            // A socket that finds no slot does not break its chain (D20).
            if let Some(op) = ring.ops.get_mut(&id) {
                op.link = Link::Hard;
            }
            return self.end_soon(at, id, -libc::EINVAL);
        };
        let before = place.replace(socket);
        if let Some(before) = before {
            self.violate(format!(
                "I4: slot {slot} of ring {at} got a second descriptor"
            ));
            self.leave_slot(at, before);
        }
        if let Some(ring) = self.rings.get_mut(&at) {
            ring.sockets.insert(socket, Socket::new(datagram));
        }
        self.end_soon(at, id, 0);
    }

    /// Notes that the operation works on what is in the slot; `None`, and ended, if nothing is.
    pub(super) fn work_on(&mut self, at: usize, id: u64, slot: u32) -> Option<u64> {
        let Some(socket) = self.in_slot(at, slot) else {
            self.end_soon(at, id, -libc::EBADF);
            return None;
        };
        self.op(at, id)?.socket = Some(socket);
        self.socket(at, socket)?.users.push(id);
        Some(socket)
    }

    fn set_option(&mut self, at: usize, id: u64, slot: u32, name: (u32, u32), value: i32) {
        let Some(socket) = self.work_on(at, id, slot) else {
            return;
        };
        let Some(socket) = self.socket(at, socket) else {
            return;
        };
        let errno = match (name.0 as i32, name.1 as i32) {
            (libc::IPPROTO_TCP, _) if socket.datagram => libc::ENOPROTOOPT,
            (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE | libc::TCP_KEEPINTVL)
                if !KEEPALIVE.contains(&value) =>
            {
                libc::EINVAL
            }
            (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT) if value < 0 => libc::EINVAL,
            (
                libc::IPPROTO_TCP,
                libc::TCP_NODELAY
                | libc::TCP_KEEPIDLE
                | libc::TCP_KEEPINTVL
                | libc::TCP_USER_TIMEOUT,
            )
            | (libc::SOL_SOCKET, libc::SO_KEEPALIVE) => 0,
            (libc::IPPROTO_IP, IP_LOCAL_PORT_RANGE) => {
                let (last, first) = (value.cast_unsigned() >> 16, value.cast_unsigned() & 0xFFFF);
                socket.chosen_from = first as u16..=last as u16;
                0
            }
            _ => libc::ENOPROTOOPT,
        };
        self.end_soon(at, id, -errno);
    }

    /// Gives the socket a port of its own (bind(2)).
    fn bind(&mut self, at: usize, id: u64, slot: u32, port: u16) {
        let Some(socket) = self.work_on(at, id, slot) else {
            return;
        };
        let Some(found) = self.socket(at, socket) else {
            return;
        };
        let (datagram, bound) = (found.datagram, found.port.is_some());
        let from = found.chosen_from.clone();
        let errno = match () {
            () if port != 0 && port < FREE_FOR_ALL => libc::EACCES,
            () if bound => libc::EINVAL,
            () if self.hit(Fault::PortForbidden) => libc::EACCES,
            () if self.has_port(datagram, port) || self.hit(Fault::PortTaken) => libc::EADDRINUSE,
            () => 0,
        };
        let chosen = match (errno, port) {
            (0, 0) => self.choose_port(datagram, from).ok_or(libc::EADDRINUSE),
            (0, port) => Ok(port),
            (errno, _) => Err(errno),
        };
        if let (Ok(port), Some(socket)) = (chosen, self.socket(at, socket)) {
            socket.port = Some(port);
        }
        self.end_soon(at, id, chosen.map_or_else(|errno| -errno, |_| 0));
    }

    /// Whether some socket of the machine has the port.
    fn has_port(&self, datagram: bool, port: u16) -> bool {
        port != 0 && self.ports(datagram).any(|taken| taken == port)
    }

    /// The ports that sockets of the machine have.
    fn ports(&self, datagram: bool) -> impl Iterator<Item = u16> {
        let sockets = self.rings.values().flat_map(|ring| ring.sockets.values());
        let alike = sockets.filter(move |socket| socket.datagram == datagram);
        alike.filter_map(|socket| socket.port)
    }

    /// A port `from` these that nobody has, from where chance begins to look; `None` if all are
    /// taken.
    fn choose_port(&mut self, datagram: bool, from: RangeInclusive<u16>) -> Option<u16> {
        let begin = self.rng.below(from.len().max(1) as u64) as usize;
        let taken: BTreeSet<u16> = self.ports(datagram).collect();
        let mut ports = from.clone().skip(begin).chain(from.take(begin));
        ports.find(|port| !taken.contains(port))
    }

    fn shutdown(&mut self, at: usize, id: u64, slot: u32) {
        let Some(socket) = self.work_on(at, id, slot) else {
            return;
        };
        let Some(found) = self.socket(at, socket) else {
            return;
        };
        let over = found.dead || (found.ended && found.unsendable.is_some());
        let Some(flow) = found.flow.filter(|_| !over) else {
            return self.end_soon(at, id, -libc::ENOTCONN);
        };
        found.unsendable.get_or_insert(libc::EPIPE);
        self.client_ends(flow);
        self.end_soon(at, id, 0);
    }

    fn close(&mut self, at: usize, id: u64, slot: u32) {
        let ring = self.rings.get_mut(&at);
        let Some(place) = ring.and_then(|ring| ring.slots.get_mut(slot as usize)) else {
            return self.end_soon(at, id, -libc::EINVAL);
        };
        let Some(socket) = place.take() else {
            return self.end_soon(at, id, -libc::EBADF);
        };
        self.end_soon(at, id, 0);
        self.leave_slot(at, socket);
    }

    /// The slot does not refer to the socket any more.
    fn leave_slot(&mut self, at: usize, id: u64) {
        if let Some(socket) = self.socket(at, id) {
            socket.in_slot = false;
        }
        self.drop_unused(at, id);
    }

    /// An operation on the socket has ended.
    pub(super) fn release(&mut self, at: usize, socket: u64, op: u64) {
        if let Some(found) = self.socket(at, socket) {
            found.users.retain(|user| *user != op);
            self.drop_unused(at, socket);
        }
    }

    /// The socket goes if neither a slot nor an operation refers to it.
    fn drop_unused(&mut self, at: usize, id: u64) {
        let Some(ring) = self.rings.get_mut(&at) else {
            return;
        };
        let unused = |socket: &Socket| !socket.in_slot && socket.users.is_empty();
        if !ring.sockets.get(&id).is_some_and(unused) {
            return;
        }
        let Some(socket) = ring.sockets.remove(&id) else {
            return;
        };
        ring.stale = socket.last.or(ring.stale.take());
        if let Some(flow) = socket.flow {
            let unread = !socket.received.is_empty();
            self.client_closes(flow, unread);
        }
    }

    /// The ring's descriptor is closed: sockets go with it.
    pub(super) fn drop_ring(&mut self, at: usize) {
        let Some(mut ring) = self.rings.remove(&at) else {
            return;
        };
        let sockets = std::mem::take(&mut ring.sockets);
        for flow in sockets.into_values().filter_map(|socket| socket.flow) {
            self.client_closes(flow, true);
        }
    }

    /// Asks the network for a connection.
    fn connect(&mut self, at: usize, id: u64, slot: u32, to: SocketAddr) {
        let Some(socket) = self.work_on(at, id, slot) else {
            return;
        };
        let limit = self.op(at, id).and_then(InFlight::limit_at);
        let Some(found) = self.socket(at, socket) else {
            return;
        };
        let again = found.to.replace(to).is_some();
        let (datagram, bound) = (found.datagram, found.port.is_some());
        let from = found.chosen_from.clone();
        if datagram {
            if !bound {
                let chosen = self.choose_port(datagram, from);
                if let Some(socket) = self.socket(at, socket) {
                    socket.port = chosen;
                }
                if chosen.is_none() {
                    // As inet_autobind in the kernel.
                    return self.end_soon(at, id, -libc::EAGAIN);
                }
            }
            return self.end_soon(at, id, 0);
        }
        if again {
            self.violate(format!("I4: a socket of ring {at} connects twice"));
            return self.end_soon(at, id, -libc::EISCONN);
        }
        let core = self.rings.get(&at).map_or(0, |ring| ring.core);
        let dialed = self.dial(core, at, socket, to, limit);
        if let Some((res, delay)) = dialed {
            self.end_after(at, id, res, delay);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Faults, Machine};

    #[test]
    fn d38_the_kernel_chooses_no_port_that_another_socket_has() {
        let machine = Machine::new(7, Faults::none());
        let _rings = [machine.kernel(0, 1, 1), machine.kernel(1, 1, 1)];
        machine.with(|state| {
            let put = |state: &mut State, ring: usize, port: u16| {
                let mut socket = Socket::new(true);
                socket.port = Some(port);
                let sockets = &mut state.rings.get_mut(&ring).unwrap().sockets;
                sockets.insert(u64::from(port), socket);
            };
            for port in CHOSEN.skip(2) {
                put(state, usize::from(port % 2), port);
            }
            for _ in 0..2 {
                let port = state.choose_port(true, CHOSEN).unwrap();
                assert!(!state.has_port(true, port));
                put(state, 0, port);
            }
            assert_eq!(state.choose_port(true, CHOSEN), None);
            assert!(
                state.choose_port(false, CHOSEN).is_some(),
                "streams have their own"
            );
        });
    }
}
