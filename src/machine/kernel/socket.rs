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

/// A socket. It lives as long as a slot or an operation refers to it.
pub(in crate::machine) struct Socket {
    pub(super) datagram: bool,
    /// Where it is in tables: which ring's, and in which slot.
    pub(super) slots: Vec<(usize, u32)>,
    /// Operations that work on it, with their rings.
    pub(super) users: Vec<(usize, u64)>,
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
    /// It was shut down in both directions.
    pub(super) is_cut: bool,
    /// The last final completion of an operation on it, with its ring.
    pub(super) last: Option<(usize, Cqe)>,
}

impl Socket {
    /// A new one, in a slot of a ring.
    fn new(datagram: bool, at: usize, slot: u32) -> Self {
        Self {
            datagram,
            slots: vec![(at, slot)],
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
            is_cut: false,
            last: None,
        }
    }

    /// Whether something of the ring refers to it.
    pub(super) fn is_on(&self, ring: usize) -> bool {
        self.slots.iter().any(|(at, _)| *at == ring) || self.users.iter().any(|(at, _)| *at == ring)
    }

    /// What broke it, told once: what follows finds the end (tcp(7), `SO_ERROR` in socket(7)).
    pub(super) fn take_error(&mut self) -> Option<i32> {
        let errno = self.broken.take()?;
        self.ended |= !self.datagram;
        Some(errno)
    }
}

impl State {
    pub(in crate::machine) fn socket(&mut self, id: u64) -> Option<&mut Socket> {
        self.sockets.get_mut(&id)
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
            Op::Shutdown { slot, both } => self.shutdown(at, id, slot, both),
            Op::Give { slot, door, to } => self.send_descriptor(at, id, door, slot, to),
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
        self.replaced(at, slot, before);
        self.sockets.insert(socket, Socket::new(datagram, at, slot));
        self.end_soon(at, id, 0);
    }

    /// A slot got a descriptor and had one `before`, which the kernel closes.
    pub(super) fn replaced(&mut self, at: usize, slot: u32, before: Option<u64>) {
        if let Some(before) = before {
            self.violate(format!(
                "I4: slot {slot} of ring {at} got a second descriptor"
            ));
            self.leave_slot(at, slot, before);
        }
    }

    /// Notes that the operation works on what is in the slot; `None`, and ended, if nothing is.
    pub(super) fn work_on(&mut self, at: usize, id: u64, slot: u32) -> Option<u64> {
        let Some(socket) = self.in_slot(at, slot) else {
            self.end_soon(at, id, -libc::EBADF);
            return None;
        };
        self.op(at, id)?.socket = Some(socket);
        let found = self.socket(socket)?;
        let shared = found.users.iter().any(|(ring, _)| *ring != at);
        found.users.push((at, id));
        if shared {
            self.violate(format!(
                "I2: ring {at} works on a connection of another ring"
            ));
        }
        Some(socket)
    }

    fn set_option(&mut self, at: usize, id: u64, slot: u32, name: (u32, u32), value: i32) {
        let Some(socket) = self.work_on(at, id, slot) else {
            return;
        };
        let Some(socket) = self.socket(socket) else {
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
        let Some(found) = self.socket(socket) else {
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
        if let (Ok(port), Some(socket)) = (chosen, self.socket(socket)) {
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
        let sockets = self.sockets.values();
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

    fn shutdown(&mut self, at: usize, id: u64, slot: u32, both: bool) {
        let Some(socket) = self.work_on(at, id, slot) else {
            return;
        };
        let Some(found) = self.socket(socket) else {
            return;
        };
        if found.is_cut {
            return self.end_soon(at, id, 0);
        }
        let over = found.dead || (found.ended && found.unsendable.is_some());
        // Whoever still has the socket has no connection.
        found.is_cut |= both;
        let Some(flow) = found.flow.filter(|_| !over) else {
            return self.end_soon(at, id, -libc::ENOTCONN);
        };
        found.unsendable.get_or_insert(libc::EPIPE);
        if both {
            found.flow = None;
            (found.ended, found.dead) = (true, true);
            self.client_closes(flow, false);
            self.deliver(socket);
        } else {
            self.client_ends(flow);
        }
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
        self.leave_slot(at, slot, socket);
    }

    /// The slot does not refer to the socket any more.
    fn leave_slot(&mut self, at: usize, slot: u32, id: u64) {
        if let Some(socket) = self.socket(id) {
            socket.slots.retain(|it| *it != (at, slot));
        }
        self.drop_unused(id);
    }

    /// An operation on the socket has ended.
    pub(super) fn release(&mut self, at: usize, socket: u64, op: u64) {
        if let Some(found) = self.socket(socket) {
            found.users.retain(|user| *user != (at, op));
            self.drop_unused(socket);
        }
    }

    /// The socket goes if neither a slot nor an operation refers to it.
    fn drop_unused(&mut self, id: u64) {
        let unused = |socket: &Socket| socket.slots.is_empty() && socket.users.is_empty();
        if !self.sockets.get(&id).is_some_and(unused) {
            return;
        }
        let Some(socket) = self.sockets.remove(&id) else {
            return;
        };
        if let Some((at, last)) = socket.last
            && let Some(ring) = self.rings.get_mut(&at)
        {
            ring.stale = Some(last);
        }
        if let Some(flow) = socket.flow {
            let unread = !socket.received.is_empty();
            self.client_closes(flow, unread);
        }
    }

    /// The ring's descriptor is closed: sockets go with it, unless another ring has them too.
    pub(super) fn drop_ring(&mut self, at: usize) {
        if self.rings.remove(&at).is_none() {
            return;
        }
        let own = self.sockets.iter_mut().filter(|(_, it)| it.is_on(at));
        let mut gone = Vec::new();
        for (id, socket) in own {
            socket.slots.retain(|(ring, _)| *ring != at);
            socket.users.retain(|(ring, _)| *ring != at);
            if socket.slots.is_empty() && socket.users.is_empty() {
                gone.push(*id);
            }
        }
        for id in gone {
            if let Some(flow) = self.sockets.remove(&id).and_then(|socket| socket.flow) {
                self.client_closes(flow, true);
            }
        }
    }

    /// Asks the network for a connection.
    fn connect(&mut self, at: usize, id: u64, slot: u32, to: SocketAddr) {
        let Some(socket) = self.work_on(at, id, slot) else {
            return;
        };
        let limit = self.op(at, id).and_then(InFlight::limit_at);
        let Some(found) = self.socket(socket) else {
            return;
        };
        let again = found.to.replace(to).is_some();
        let (datagram, bound) = (found.datagram, found.port.is_some());
        let from = found.chosen_from.clone();
        if datagram {
            if !bound {
                let chosen = self.choose_port(datagram, from);
                if let Some(socket) = self.socket(socket) {
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
        let dialed = self.dial(core, socket, to, limit);
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
                let mut socket = Socket::new(true, ring, 0);
                socket.port = Some(port);
                state.sockets.insert(u64::from(port), socket);
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
