//! Closing a ring's descriptor is not a wait: the kernel tears it down later and may write into
//! our memory until then. So a ring is drained before its memory goes.
//!
//! Promise: after [`Ring::drain`] either no operation is in flight (`clean`), or the memory of
//! those that are is left to the kernel for ever, and the answer says how many (D10, D11). Then no
//! `Closed` comes for their slots, and no `WriteDone` for the buffers that their sends point at;
//! every other buffer of the user's comes back. A ring that is dropped drains itself, briefly. In a forked child nothing is touched (D30).

#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

use crate::ring::Ring;
use crate::ring::buffers::GROUP;
use crate::ring::conn::Phase;
use crate::ring::events::Drained;
use crate::ring::op::OpTable;
use crate::ring::opcode;
use crate::ring::queue::{Class, Flush};
use crate::ring::token::Kind;

/// How long the drop of a ring that nobody drained may take.
const AT_DROP: Duration = Duration::from_millis(200);
/// How long to wait before trying again when the kernel takes nothing and owes nothing.
const BACK_OFF: Duration = Duration::from_millis(1);

impl Ring {
    /// Cancels and closes everything and waits, at most for `timeout`, until the kernel has let go
    /// of it. Afterwards the ring takes no work; events that are queued can still be polled.
    pub(crate) fn drain(&mut self, timeout: Duration) -> Drained {
        if self.ended {
            return Drained {
                clean: self.queue.stats.leaked == 0,
                leaked_ops: self.queue.stats.leaked as usize,
            };
        }
        self.ended = true;
        if self.forked() {
            return self.leak();
        }
        if let Some(address) = self.address.get() {
            address.close();
        }
        self.cancel_everything();
        let end = self.queue.now().plus(timeout);
        while self.ops.in_flight() > 0 {
            let left = end.since(self.queue.now());
            if left.is_zero() || !self.wait_for_one(left) {
                return self.leak();
            }
        }
        if !self.queue.unregister_buffers(GROUP) {
            self.pool.leak();
        }
        self.pool.close();
        if self.address.get().is_some() {
            // Messages that came late have left descriptors in the table.
            self.close_kernel();
        }
        Drained {
            clean: true,
            leaked_ops: 0,
        }
    }

    fn cancel_everything(&mut self) {
        // All at once: each close would search what is left for its own.
        let forgotten = self.queue.forget_work();
        self.take_back(&forgotten);
        self.starved.iter_mut().for_each(VecDeque::clear);
        let entry = opcode::cancel_all();
        // SAFETY: the entry points at no memory.
        unsafe { self.issue(Kind::CancelAll, OpTable::RING, entry, Class::Control) };
        for index in 0..self.conns.len() {
            let conn = &self.conns[index];
            if conn.phase != Phase::Free {
                let key = conn.key;
                self.close(key);
            }
        }
    }

    /// Waits for a completion and handles what came; `false` if none will ever come.
    fn wait_for_one(&mut self, left: Duration) -> bool {
        if self.reap() > 0 {
            return true;
        }
        match self.queue.wait(1, left) {
            Flush::Done => true,
            Flush::Later => {
                self.queue.pause(BACK_OFF.min(left));
                true
            }
            Flush::Dead(_) => self.reap() > 0,
        }
    }

    /// Leaves what is in flight to the kernel. The user's buffers that no send points at go back;
    /// those that one does are lost with it.
    fn leak(&mut self) -> Drained {
        if !self.forked() {
            for index in 0..self.conns.len() {
                let conn = &self.conns[index];
                if conn.phase != Phase::Free {
                    let key = conn.key;
                    self.return_unsent(key);
                }
            }
        }
        let leaked_ops = self.ops.in_flight();
        self.queue.stats.leaked = leaked_ops as u64;
        self.pool.leak();
        self.ops.leak();
        if !self.forked() {
            // Its sockets go now and not when the last handle of a user does: the permits do too.
            self.close_kernel();
        }
        Drained {
            clean: leaked_ops == 0,
            leaked_ops,
        }
    }

    fn close_kernel(&mut self) {
        self.queue.close();
        // Who ends the ring knows.
        self.fatal_told = true;
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if !self.ended {
            self.drain(AT_DROP);
        }
        if self.forked() {
            // Dropping the maps or the table would act on the parent's ring.
            mem::forget(mem::take(&mut self.ops));
        }
    }
}
