//! Bytes in and out: sends that wait for room, multishot receives that pick their buffers.

use crate::machine::{Fault, State};
use crate::ring::kernel::Cqe;
use crate::ring::kernel::played::Op;

/// `IORING_CQE_F_BUFFER` and `IORING_CQE_F_MORE` (io_uring.h).
const BUFFER: u32 = 1 << 0;
const MORE: u32 = 1 << 1;
/// Where the number of the buffer stands in the flags.
const BUFFER_SHIFT: u32 = 16;

impl State {
    pub(super) fn receive(&mut self, at: usize, id: u64, slot: u32) {
        let Some(socket) = self.work_on(at, id, slot) else {
            return;
        };
        if self.socket(at, socket).is_some_and(|it| it.to.is_none()) {
            return self.end_soon(at, id, -libc::ENOTCONN);
        }
        self.deliver(at, socket);
    }

    /// Hands what has come to the receive that waits for it.
    pub(in crate::machine) fn deliver(&mut self, at: usize, socket: u64) {
        while let Some(receive) = self.receiver(at, socket) {
            if !self.deliver_one(at, socket, receive) {
                return;
            }
        }
    }

    /// The receive that waits on the socket, if there is one.
    fn receiver(&self, at: usize, socket: u64) -> Option<u64> {
        let ring = self.rings.get(&at)?;
        let users = &ring.sockets.get(&socket)?.users;
        let waits = |id: &&u64| {
            let op = ring.ops.get(id);
            op.is_some_and(|op| matches!(op.op, Op::Recv { .. }) && op.outcome.is_none())
        };
        users.iter().find(waits).copied()
    }

    /// One completion for the receive; `false` if there is nothing for it now.
    fn deliver_one(&mut self, at: usize, socket: u64, receive: u64) -> bool {
        let Some(found) = self.socket(at, socket) else {
            return false;
        };
        let datagram = found.datagram;
        let Some(first) = found.received.pop_front() else {
            let end = found.broken.take().map(|errno| -errno);
            let end = end.or(found.ended.then_some(0));
            if let Some(res) = end {
                self.finish(at, receive, res);
            }
            return false;
        };
        if self.hit(Fault::NoBuffer) {
            return self.no_buffer(at, socket, receive, first);
        }
        let mut most = first.len();
        if !datagram && most > 1 && self.hit(Fault::ShortTransfer) {
            most = 1 + self.rng.below(most as u64 - 1) as usize;
        }
        let buffers = self
            .rings
            .get_mut(&at)
            .and_then(|ring| ring.buffers.as_mut());
        let Some((buffer, len)) = buffers.and_then(|buffers| buffers.fill(&first[..most])) else {
            return self.no_buffer(at, socket, receive, first);
        };
        self.check_buffers(at);
        let trunc = self
            .op(at, receive)
            .is_some_and(|op| matches!(op.op, Op::Recv { trunc, .. } if trunc));
        let res = if datagram && trunc { first.len() } else { len };
        if !datagram && len < first.len() {
            self.put_back(at, socket, first[len..].to_vec());
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
        true
    }

    fn no_buffer(&mut self, at: usize, socket: u64, receive: u64, bytes: Vec<u8>) -> bool {
        self.faults.count(Fault::NoBuffer);
        self.put_back(at, socket, bytes);
        self.finish(at, receive, -libc::ENOBUFS);
        false
    }

    fn put_back(&mut self, at: usize, socket: u64, bytes: Vec<u8>) {
        if let Some(found) = self.socket(at, socket) {
            found.received.push_front(bytes);
        }
    }

    pub(super) fn send(&mut self, at: usize, id: u64, slot: u32) {
        if let Some(socket) = self.work_on(at, id, slot) {
            self.push_out(at, socket);
        }
    }

    /// Lets the send that waits on the socket go on, as far as the network takes bytes.
    pub(in crate::machine) fn push_out(&mut self, at: usize, socket: u64) {
        let Some((id, len)) = self.sender(at, socket) else {
            return;
        };
        let Some(found) = self.socket(at, socket) else {
            return;
        };
        if let Some(errno) = found.unsendable {
            return self.finish(at, id, -errno);
        }
        if self.hit(Fault::NoMemory) {
            return self.end_soon(at, id, -libc::ENOBUFS);
        }
        let Some(found) = self.socket(at, socket) else {
            return;
        };
        let (datagram, flow, to) = (found.datagram, found.flow, found.to);
        if datagram {
            let bytes = self.lent(at, id, len);
            self.ask(at, socket, to, bytes);
            return self.end_soon(at, id, len as i32);
        }
        let Some(flow) = flow else {
            return self.end_soon(at, id, -libc::ENOTCONN);
        };
        let mut room = self.room(flow).min(len);
        if room == 0 {
            return;
        }
        if room > 1 && self.hit(Fault::ShortTransfer) {
            room = 1 + self.rng.below(room as u64 - 1) as usize;
        }
        let bytes = self.lent(at, id, room);
        self.client_sends(flow, bytes);
        self.end_soon(at, id, room as i32);
    }

    /// The send that waits on the socket, and its length.
    fn sender(&self, at: usize, socket: u64) -> Option<(u64, usize)> {
        let ring = self.rings.get(&at)?;
        ring.sockets.get(&socket)?.users.iter().find_map(|id| {
            let op = ring.ops.get(id).filter(|op| op.outcome.is_none())?;
            match &op.op {
                Op::Send { bytes, .. } => Some((*id, bytes.len())),
                _ => None,
            }
        })
    }

    /// Reads the bytes of a send where the ring has them.
    fn lent(&mut self, at: usize, id: u64, most: usize) -> Vec<u8> {
        match self.op(at, id).map(|op| &op.op) {
            Some(Op::Send { bytes, .. }) => bytes.copy(most),
            _ => Vec::new(),
        }
    }
}
