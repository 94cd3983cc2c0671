//! A descriptor goes from one ring's table into another's (io_uring_prep_msg_ring_fd(3)). Both have
//! it then, and the connection lives until both have let go.

use std::time::Duration;

use crate::machine::{Fault, State};

/// The most that a message takes which a worker thread of the kernel carries.
const CARRIED: Duration = Duration::from_micros(500);

/// With what a message may fail.
const FAILURES: [i32; 7] = [
    libc::EOVERFLOW,
    libc::EBADFD,
    libc::ENFILE,
    libc::EOWNERDEAD,
    libc::EBADF,
    libc::EINVAL,
    libc::ENOMEM,
];

impl State {
    /// Sends the descriptor of slot `from` to slot `to` of ring number `door`.
    pub(super) fn send_descriptor(&mut self, at: usize, id: u64, door: i32, from: u32, to: u32) {
        let Some(target) = usize::try_from(door)
            .ok()
            .filter(|ring| *ring < self.rings_made)
        else {
            return self.end_soon(at, id, -libc::EBADFD);
        };
        if target == at {
            return self.end_soon(at, id, -libc::EINVAL);
        }
        let busy = self.in_slot(at, from).and_then(|it| self.socket(it));
        if busy.is_some_and(|it| !it.users.is_empty()) {
            self.violate(format!(
                "I2: the connection in slot {from} of ring {at} moves with operations in flight"
            ));
        }
        if self.work_on(at, id, from).is_none() {
            return;
        }
        if self.hit(Fault::MessageFails) {
            let errno = FAILURES[self.rng.below(FAILURES.len() as u64) as usize];
            return self.end_soon(at, id, -errno);
        }
        if self.hit(Fault::MessageLate) {
            if let Some(op) = self.op(at, id) {
                op.carried = Some((target, to));
            }
            let delay = self.rng.part_of(CARRIED);
            return self.end_after(at, id, 0, delay);
        }
        let res = self.install(at, id, target, to);
        self.end_soon(at, id, res);
    }

    /// What a worker thread carries arrives; what the operation ends with.
    pub(super) fn carry(&mut self, at: usize, id: u64, res: i32) -> i32 {
        let carried = self.op(at, id).and_then(|op| op.carried.take());
        match carried {
            Some((target, slot)) => self.install(at, id, target, slot),
            None => res,
        }
    }

    /// Puts what the operation works on into a slot of another ring.
    fn install(&mut self, at: usize, id: u64, target: usize, slot: u32) -> i32 {
        let socket = self.op(at, id).and_then(|op| op.socket);
        // A ring that is gone lives as long as the message to it, and then takes it along.
        let (Some(socket), Some(ring)) = (socket, self.rings.get_mut(&target)) else {
            return 0;
        };
        let Some(place) = ring.slots.get_mut(slot as usize) else {
            return -libc::EINVAL;
        };
        let before = place.replace(socket);
        self.replaced(target, slot, before);
        if let Some(found) = self.socket(socket) {
            found.slots.push((target, slot));
        }
        0
    }
}
