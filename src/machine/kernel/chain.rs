//! Requests that are linked run one after the other; a time limit stands behind the request that it
//! limits.

use std::collections::VecDeque;
use std::time::Duration;

use crate::machine::schedule::{Event, Place};
use crate::machine::{Fault, State};
use crate::ring::kernel::Cqe;
use crate::ring::kernel::played::{Link, Op, Request};
use crate::time::Tick;

/// The most that an operation which could end at once takes in a run where order is drawn.
const DAWDLE: Duration = Duration::from_micros(60);

/// A request that has started.
pub(in crate::machine) struct InFlight {
    pub(super) user_data: u64,
    pub(super) link: Link,
    pub(super) op: Op,
    /// The socket it works on, which lives as long as it does.
    pub(super) socket: Option<u64>,
    /// The requests linked behind it.
    rest: VecDeque<Request>,
    /// The identity of its time limit, and when that is over.
    limit: Option<(u64, Place)>,
    /// What of its bytes a send has passed on, if it is to pass on all of them.
    pub(super) sent: usize,
    /// It has been decided how it ends, and it will at a moment that is planned.
    pub(super) outcome: Option<i32>,
    /// The ring and slot that it brings a descriptor to when it ends.
    pub(super) carried: Option<(usize, u32)>,
    /// A cancel has missed it once.
    pub(super) missed: bool,
    /// A cancel has stopped it, and its completion follows that of the cancel.
    pub(super) cancelled: bool,
}

impl InFlight {
    /// When its time limit is over.
    pub(super) fn limit_at(&mut self) -> Option<Tick> {
        self.limit.map(|(_, place)| place.0)
    }

    /// Whether it was to send all of its bytes and has not (io_uring_prep_send(3), `MSG_WAITALL`).
    fn is_short(&self, res: i32) -> bool {
        let all = match &self.op {
            Op::Send { bytes, all, .. } if *all => bytes.len(),
            _ => 0,
        };
        usize::try_from(res).is_ok_and(|sent| sent < all)
    }
}

impl State {
    /// Starts the first of `chain`; the others follow.
    pub(super) fn start(&mut self, at: usize, mut chain: VecDeque<Request>) {
        let Some(request) = chain.pop_front() else {
            return;
        };
        self.trace.note(self.now, || {
            format!("ring {at} starts {:#x} {:?}", request.user_data, request.op)
        });
        let id = self.id();
        let limit = match chain.front() {
            Some(Request {
                op: Op::Limit(time),
                ..
            }) if request.link != Link::None => Some(*time),
            _ => None,
        };
        let limit = limit.and_then(|time| {
            let limit = chain.pop_front()?;
            let over = self.now.plus(time);
            let place = self.events.plan(over, Event::Limit { ring: at, op: id });
            Some((limit.user_data, place))
        });
        let started = InFlight {
            user_data: request.user_data,
            link: request.link,
            op: request.op,
            socket: None,
            rest: chain,
            limit,
            sent: 0,
            outcome: None,
            carried: None,
            missed: false,
            cancelled: false,
        };
        let Some(ring) = self.ring(at) else { return };
        ring.ops.insert(id, started);
        self.begin(at, id);
    }

    /// Ends an operation that could end at once: now, or in a run where order is drawn, soon.
    pub(super) fn end_soon(&mut self, at: usize, id: u64, res: i32) {
        if self.hit(Fault::AnyOrder) {
            let delay = self.rng.part_of(DAWDLE);
            self.end_after(at, id, res, delay);
        } else {
            self.finish(at, id, res);
        }
    }

    pub(super) fn end_after(&mut self, at: usize, id: u64, res: i32, delay: Duration) {
        let when = self.now.plus(delay);
        if let Some(op) = self.ring(at).and_then(|ring| ring.ops.get_mut(&id)) {
            op.outcome = Some(res);
            self.events
                .plan(when, Event::Operation { ring: at, op: id });
        }
    }

    /// The planned end of an operation has come.
    pub(in crate::machine) fn operation_due(&mut self, at: usize, id: u64) {
        let op = self.ring(at).and_then(|ring| ring.ops.get_mut(&id));
        if let Some(res) = op.and_then(|op| op.outcome.take()) {
            let res = self.carry(at, id, res);
            self.finish(at, id, res);
        }
    }

    /// Ends now whatever was planned to end later.
    pub(super) fn hurry(&mut self, at: usize) {
        loop {
            let Some(ring) = self.ring(at) else { return };
            let mut planned = ring.ops.iter();
            let next = planned.find(|(_, op)| op.outcome.is_some());
            let Some(id) = next.map(|(id, _)| *id) else {
                return;
            };
            self.operation_due(at, id);
        }
    }

    /// The time limit of an operation is over.
    pub(in crate::machine) fn limit_due(&mut self, at: usize, id: u64) {
        let op = self.ring(at).and_then(|ring| ring.ops.get_mut(&id));
        let Some((limit, _)) = op.and_then(|op| op.limit.take()) else {
            return;
        };
        let own = Cqe {
            user_data: limit,
            res: -libc::ETIME,
            flags: 0,
        };
        let first = self.rng.below(2) == 0;
        if first {
            self.post(at, own);
        }
        self.finish(at, id, -libc::ECANCELED);
        if !first {
            self.post(at, own);
        }
    }

    /// The last completion of an operation, without flags.
    pub(super) fn finish(&mut self, at: usize, id: u64, res: i32) {
        self.finish_with(at, id, res, 0);
    }

    /// The last completion of an operation; what is linked behind it goes on or is cancelled.
    pub(super) fn finish_with(&mut self, at: usize, id: u64, res: i32, flags: u32) {
        let Some(op) = self.ring(at).and_then(|ring| ring.ops.remove(&id)) else {
            return;
        };
        let res = match op.sent {
            // What it has passed on goes before why it stopped.
            1.. if res < 0 => op.sent as i32,
            _ => res,
        };
        let own = Cqe {
            user_data: op.user_data,
            res,
            flags,
        };
        let limit = op.limit.map(|(user_data, place)| {
            self.events.cancel(place);
            Cqe {
                user_data,
                res: -libc::ECANCELED,
                flags: 0,
            }
        });
        let swapped = limit.is_some() && self.hit(Fault::AnyOrder);
        let (first, second) = match (limit, swapped) {
            (Some(limit), true) => (limit, Some(own)),
            (limit, _) => (own, limit),
        };
        self.post(at, first);
        if let Some(second) = second {
            self.post(at, second);
        }
        if let (Some(socket), Op::Connect { .. } | Op::Send { .. } | Op::Recv { .. }) =
            (op.socket, &op.op)
            && let Some(socket) = self.socket(socket)
        {
            socket.last = Some((at, Cqe { flags: 0, ..own }));
        }
        self.replay(at);
        if let Some(socket) = op.socket {
            self.release(at, socket, id);
        }
        if op.rest.is_empty() {
            return;
        }
        if (res < 0 || op.is_short(res)) && op.link == Link::Soft {
            self.cancel_chain(at, op.rest);
        } else {
            self.start(at, op.rest);
        }
    }

    /// A chain is broken: what did not start is cancelled.
    fn cancel_chain(&mut self, at: usize, rest: VecDeque<Request>) {
        for request in rest {
            let cqe = Cqe {
                user_data: request.user_data,
                res: -libc::ECANCELED,
                flags: 0,
            };
            self.post(at, cqe);
        }
    }

    /// Posts a completion again that was final, as no kernel should, once its socket is gone: by then
    /// a later tenant may be in the slot.
    fn replay(&mut self, at: usize) {
        let stale = self.ring(at).and_then(|ring| ring.stale.take());
        if let Some(stale) = stale
            && self.hit(Fault::StaleCompletion)
        {
            self.post(at, stale);
        }
    }
}
