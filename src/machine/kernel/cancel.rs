//! Cancelling: what is found ends with ECANCELED, what is between two states is missed or ends
//! later, and the answers come in any order (io_uring_prep_cancel(3)).

use std::time::Duration;

use super::InFlight;
use crate::machine::{Fault, State};
use crate::ring::kernel::played::{Op, Target};

/// How long an operation may go on that a cancel could not stop at once.
const LINGERS: Duration = Duration::from_micros(200);

/// How long a cancel looks for what it does not find.
const LOOKS: Duration = Duration::from_micros(1);

impl State {
    pub(super) fn cancel(&mut self, at: usize, id: u64, target: Target) {
        let found = self.targets(at, id, target);
        let single = matches!(target, Target::Operation(_));
        if let Target::Slot(slot) = target
            && self.in_slot(at, slot).is_none()
        {
            return self.end_soon(at, id, -libc::EBADF);
        }
        if single && found.is_empty() {
            // Whoever asks again at once must not keep the clock from moving.
            return self.end_after(at, id, -libc::ENOENT, LOOKS);
        }
        let mut stopped = 0;
        let mut answer = None;
        let report_first = self.rng.below(2) == 0;
        for op in found {
            match self.stop(at, op, report_first) {
                Stopped::Yes => stopped += 1,
                Stopped::Missed => answer = Some(-libc::ENOENT),
                Stopped::Later => answer = Some(-libc::EALREADY),
            }
        }
        let res = match (single, answer) {
            (true, Some(res)) => res,
            (true, None) => 0,
            (false, _) => stopped,
        };
        if report_first {
            self.finish(at, id, res);
            self.hurry_cancelled(at);
        } else {
            self.end_soon(at, id, res);
        }
    }

    /// What the cancel `own` is for: what waits, not what is linked and has not begun.
    fn targets(&self, at: usize, own: u64, target: Target) -> Vec<u64> {
        let Some(ring) = self.rings.get(&at) else {
            return Vec::new();
        };
        let slot = match target {
            Target::Slot(slot) => ring.slots.get(slot as usize).copied().flatten(),
            _ => None,
        };
        let matches = |id: &u64| {
            let Some(op) = ring.ops.get(id) else {
                return false;
            };
            let waits = matches!(
                op.op,
                Op::Connect { .. } | Op::Recv { .. } | Op::Send { .. }
            );
            let meant = match target {
                Target::Operation(user_data) => op.user_data == user_data,
                Target::Slot(_) => slot.is_some() && op.socket == slot,
                Target::Everything => true,
            };
            waits && meant && *id != own
        };
        ring.ops.keys().copied().filter(matches).collect()
    }

    fn stop(&mut self, at: usize, id: u64, report_first: bool) -> Stopped {
        let has_sent = |op: &InFlight| matches!(op.op, Op::Send { .. }) && op.outcome.is_some();
        if self.op(at, id).is_some_and(|op| has_sent(op)) {
            // Too late: it has its result.
            self.operation_due(at, id);
            return Stopped::Missed;
        }
        let again = self.op(at, id).is_none_or(|op| op.missed);
        if !again && self.hit(Fault::CancelMisses) {
            if let Some(op) = self.op(at, id) {
                op.missed = true;
            }
            return Stopped::Missed;
        }
        if !again && self.hit(Fault::CancelLate) {
            if let Some(op) = self.op(at, id) {
                op.missed = true;
            }
            // What was decided comes, or it ends as interrupted.
            let decided = self.op(at, id).and_then(|op| op.outcome);
            let ends = [decided.unwrap_or(-libc::ECANCELED), -libc::EINTR];
            let res = ends[self.rng.below(2) as usize];
            let delay = self.rng.part_of(LINGERS);
            self.end_after(at, id, res, delay);
            return Stopped::Later;
        }
        if report_first {
            if let Some(op) = self.op(at, id) {
                op.cancelled = true;
            }
        } else {
            self.finish(at, id, -libc::ECANCELED);
        }
        Stopped::Yes
    }

    /// Ends what a cancel has stopped and not reported yet.
    fn hurry_cancelled(&mut self, at: usize) {
        loop {
            let ring = self.rings.get(&at);
            let next = ring.and_then(|ring| ring.ops.iter().find(|(_, op)| op.cancelled));
            let Some(id) = next.map(|(id, _)| *id) else {
                return;
            };
            self.finish(at, id, -libc::ECANCELED);
        }
    }
}

enum Stopped {
    Yes,
    Missed,
    Later,
}
