//! Bytes in and out: sends that wait for room, multishot receives that pick their buffers.

use super::socket::Socket;
use crate::machine::{Fault, State};
use crate::ring::kernel::Cqe;
use crate::ring::kernel::played::Op;

/// `IORING_CQE_F_BUFFER` and `IORING_CQE_F_MORE` (io_uring.h).
const BUFFER: u32 = 1 << 0;
const MORE: u32 = 1 << 1;
/// Where the number of the buffer stands in the flags.
const BUFFER_SHIFT: u32 = 16;
/// The first length that no datagram over IPv4 has (udp(7)).
const LONGEST: usize = 65_508;

impl State {
    pub(super) fn receive(&mut self, at: usize, id: u64, slot: u32) {
        let Some(socket) = self.work_on(at, id, slot) else {
            return;
        };
        let unconnected = |it: &mut Socket| !it.datagram && it.to.is_none();
        if self.socket(socket).is_some_and(unconnected) {
            return self.end_soon(at, id, -libc::ENOTCONN);
        }
        if !self.has_buffers(at) {
            return self.no_buffer(at, id);
        }
        self.deliver(socket);
    }

    /// Hands what has come to the receive that waits for it.
    pub(in crate::machine) fn deliver(&mut self, socket: u64) {
        while let Some((at, receive)) = self.receiver(socket) {
            if !self.deliver_one(at, socket, receive) {
                return;
            }
        }
    }

    /// The receive that waits on the socket, if there is one.
    fn receiver(&self, socket: u64) -> Option<(usize, u64)> {
        let users = &self.sockets.get(&socket)?.users;
        let waits = |(at, id): &&(usize, u64)| {
            let op = self.rings.get(at).and_then(|ring| ring.ops.get(id));
            op.is_some_and(|op| matches!(op.op, Op::Recv { .. }) && op.outcome.is_none())
        };
        users.iter().find(waits).copied()
    }

    /// One completion for the receive; `false` if there is nothing for it now.
    fn deliver_one(&mut self, at: usize, socket: u64, receive: u64) -> bool {
        let Some(found) = self.socket(socket) else {
            return false;
        };
        let datagram = found.datagram;
        if found.received.is_empty() && found.broken.is_none() && !found.ended {
            return false;
        }
        // Whatever it is that came, the kernel picks a buffer first.
        if self.hit(Fault::NoBuffer) || !self.has_buffers(at) {
            self.no_buffer(at, receive);
            return false;
        }
        let Some(found) = self.socket(socket) else {
            return false;
        };
        let Some(first) = found.received.pop_front().filter(|it| !it.is_empty()) else {
            let res = match found.ended {
                true => 0,
                false => found.take_error().map_or(0, |errno| -errno),
            };
            self.finish(at, receive, res);
            return false;
        };
        let mut most = first.len();
        if !datagram && most > 1 && self.hit(Fault::ShortTransfer) {
            most = 1 + self.rng.below(most as u64 - 1) as usize;
        }
        let buffers = self
            .rings
            .get_mut(&at)
            .and_then(|ring| ring.buffers.as_mut());
        let Some((buffer, len)) = buffers.and_then(|buffers| buffers.fill(&first[..most])) else {
            return false;
        };
        self.check_buffers(at);
        let trunc = self
            .op(at, receive)
            .is_some_and(|op| matches!(op.op, Op::Recv { trunc, .. } if trunc));
        let res = if datagram && trunc { first.len() } else { len };
        if !datagram && len < first.len() {
            self.put_back(socket, first[len..].to_vec());
        }
        let flags = BUFFER | (u32::from(buffer) << BUFFER_SHIFT);
        self.trace.note(self.now, || {
            format!("ring {at} receives {len} bytes into {buffer}")
        });
        if self.is_crowded(at) || self.hit(Fault::MultishotEnds) {
            self.finish_with(at, receive, res as i32, flags);
            return false;
        }
        let Some(user_data) = self.op(at, receive).map(|op| op.user_data) else {
            return false;
        };
        let cqe = Cqe {
            user_data,
            res: res as i32,
            flags: flags | MORE,
        };
        self.post(at, cqe);
        if datagram && !self.has_buffers(at) {
            // It looks for the next datagram at once, for which it wants a buffer.
            self.no_buffer(at, receive);
            return false;
        }
        true
    }

    fn has_buffers(&mut self, at: usize) -> bool {
        let ring = self.rings.get_mut(&at);
        let buffers = ring.and_then(|ring| ring.buffers.as_mut());
        buffers.is_some_and(|buffers| buffers.len() > 0)
    }

    fn no_buffer(&mut self, at: usize, receive: u64) {
        self.faults.count(Fault::NoBuffer);
        self.finish(at, receive, -libc::ENOBUFS);
    }

    fn put_back(&mut self, socket: u64, bytes: Vec<u8>) {
        if let Some(found) = self.socket(socket) {
            found.received.push_front(bytes);
        }
    }

    pub(super) fn send(&mut self, at: usize, id: u64, slot: u32) {
        if let Some(socket) = self.work_on(at, id, slot) {
            self.push_out(socket);
        }
    }

    /// Lets the send that waits on the socket go on, as far as the network takes bytes.
    pub(in crate::machine) fn push_out(&mut self, socket: u64) {
        let Some((at, id, len, all)) = self.sender(socket) else {
            return;
        };
        let before = self.op(at, id).map_or(0, |op| op.sent);
        let Some(found) = self.socket(socket) else {
            return;
        };
        if let Some(errno) = found.take_error().or(found.unsendable) {
            return self.finish(at, id, -errno);
        }
        if self.hit(Fault::NoMemory) {
            return self.end_soon(at, id, -libc::ENOBUFS);
        }
        let Some(found) = self.socket(socket) else {
            return;
        };
        let (datagram, flow, to) = (found.datagram, found.flow, found.to);
        if datagram {
            let errno = match (to, len) {
                (None, _) => libc::EDESTADDRREQ,
                (_, LONGEST..) => libc::EMSGSIZE,
                _ => 0,
            };
            if errno != 0 {
                return self.end_soon(at, id, -errno);
            }
            let bytes = self.lent(at, id, 0, len);
            self.ask(at, socket, to, bytes);
            return self.end_soon(at, id, len as i32);
        }
        let Some(flow) = flow else {
            return self.end_soon(at, id, -libc::EPIPE);
        };
        let mut room = self.room(flow).min(len - before);
        if room == 0 {
            return;
        }
        if !all && room > 1 && self.hit(Fault::ShortTransfer) {
            room = 1 + self.rng.below(room as u64 - 1) as usize;
        }
        let bytes = self.lent(at, id, before, room);
        self.client_sends(flow, bytes);
        let sent = before + room;
        if all && sent < len {
            if let Some(op) = self.op(at, id) {
                op.sent = sent;
            }
            return;
        }
        self.end_soon(at, id, sent as i32);
    }

    /// The socket has broken: whoever waited last hears it, the others find the end.
    pub(in crate::machine) fn wake_broken(&mut self, socket: u64) {
        let send = self.sender(socket).map(|(_, id, _, _)| id);
        if send > self.receiver(socket).map(|(_, id)| id) {
            self.push_out(socket);
            self.deliver(socket);
        } else {
            self.deliver(socket);
            self.push_out(socket);
        }
    }

    /// The send that waits on the socket, with its ring, its length, and whether it sends all of it.
    fn sender(&self, socket: u64) -> Option<(usize, u64, usize, bool)> {
        self.sockets
            .get(&socket)?
            .users
            .iter()
            .find_map(|(at, id)| {
                let op = self.rings.get(at)?.ops.get(id);
                let op = op.filter(|op| op.outcome.is_none())?;
                match &op.op {
                    Op::Send { bytes, all, .. } => Some((*at, *id, bytes.len(), *all)),
                    _ => None,
                }
            })
    }

    /// Reads the bytes of a send from `first` on where the ring has them.
    fn lent(&mut self, at: usize, id: u64, first: usize, most: usize) -> Vec<u8> {
        match self.op(at, id).map(|op| &op.op) {
            Some(Op::Send { bytes, .. }) => bytes.copy(first, most),
            _ => Vec::new(),
        }
    }
}
