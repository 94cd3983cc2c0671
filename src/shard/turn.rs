//! When a core's loop runs. Most of what a driver is woken for is that tasks did something: it must
//! go to the kernel, and nothing else need be looked at. A *turn* is for what comes from outside:
//! completions, other cores, time.
//!
//! Promise: a turn takes in what has come before it finds anything late (P13), and each end of one,
//! as each batch of what tasks did, is [settled](Core::settle): submitted, shown to the other cores,
//! and the next deadline is known. Between the two nothing is looked at twice.
//!
//! How late a turn is tells whether the thread stood still. It is measured from what was due since
//! the deadlines were last looked at, so settling never passes over one that is due already.

use std::cmp::Reverse;
use std::time::Duration;

use super::core::Core;
use crate::ring::Next;
use crate::time::Tick;

/// How much later than planned a turn must be for the thread to have stood still.
const STANDSTILL: Duration = Duration::from_millis(10);
/// How long tasks then have to see what came meanwhile.
const GRACE: Duration = Duration::from_millis(5);
/// How long after one grace there is no other: a thread that is always late must find lateness.
const BETWEEN_GRACES: Duration = Duration::from_secs(1);

impl Core {
    /// One turn of the driver: everything that has come and is due. It [settles](Self::settle)
    /// afterwards.
    pub(crate) fn turn(&mut self) {
        self.policy.empty_hand();
        self.now = self.host.now();
        // A deadline that was armed since the last rest counts, a lookup that waits in line does not.
        // A turn that nothing settled, because the batch still grows, left word of none.
        let armed = !std::mem::replace(&mut self.stale, true);
        let unsettled = std::mem::replace(&mut self.unsettled, true);
        if armed || unsettled {
            let due = self.next_due();
            self.asleep_until = self.asleep_until.min(due);
        }
        if self.dead.is_some() {
            return self.wake_onlookers();
        }
        let due = self.asleep_until.max(self.seen_to);
        self.notice_sleep();
        self.look_at_sources();
        let came = std::mem::take(&mut self.came) | (self.backend.reap() > 0);
        self.hear_notices();
        // What has come is taken in before anything is found late (P13).
        self.pump();
        self.see_received();
        let came = came | std::mem::take(&mut self.came);
        self.recall_late();
        self.look_at_demands();
        // After a standstill, tasks too must see what has come before they are found late.
        let stood_still = self.now >= due.plus(STANDSTILL);
        let may = self
            .grace
            .is_none_or(|last| self.now >= last.plus(BETWEEN_GRACES));
        if came && stood_still && may {
            self.grace = Some(self.now.plus(GRACE));
        }
        if self.grace.is_none_or(|until| self.now >= until) {
            self.deadlines();
        }
        self.pump();
        self.wake_onlookers();
        // What is left is not late.
        self.seen_to = self.now;
        self.asleep_until = Tick::NEVER;
    }

    /// Whoever waits for the state of the pool looks at it again.
    fn wake_onlookers(&mut self) {
        if self.draining && self.policy.is_drained() {
            self.deferred.wakers.extend(self.drained.drain(..));
        }
        if !self.warming.is_empty() {
            self.deferred.wakers.extend(self.warming.drain(..));
        }
    }

    /// What is late ends.
    fn deadlines(&mut self) {
        self.lookups_due();
        self.timers_due();
        let due = self.policy.poll_timeout();
        if due.is_some_and(|due| due <= self.now) {
            self.policy.handle_timeout(self.now);
        }
    }

    /// The end of a turn that was taken just now, after what it deferred has run; or of what tasks
    /// did since one. It goes to the kernel, other cores are shown the counts, and the driver learns
    /// when the next turn is due.
    pub(crate) fn settle(&mut self, turned: bool) -> Next {
        self.policy.empty_hand();
        if self.ended {
            return Next::Stop;
        }
        if self.dead.is_some() {
            // Tasks that were woken for it see why, before the shard ends.
            let known = std::mem::replace(&mut self.told_dead, true);
            return if known {
                Next::Stop
            } else {
                Next::At(self.now)
            };
        }
        // The first command of the batch has read the clock, unless the driver was woken without.
        if !turned && (self.stale || self.came) {
            self.now = self.host.now();
        }
        self.pump();
        let (mut reaped, mut again) = (false, false);
        if self.backend.queued() > 0 {
            // Before: what is sent may have another core look at them.
            self.publish();
            if let Err(error) = self.backend.submit() {
                self.die(error);
                return Next::At(self.now);
            }
            // Short sends are done by now, and a turn for each would be one too many.
            if self.backend.has_completions() {
                reaped = self.backend.reap() > 0;
                self.pump();
                again = self.backend.queued() > 0 && !self.backend.is_refused();
            }
        }
        self.wake_onlookers();
        self.publish();
        let due = self.rest();
        let at_once = again || !self.deferred.is_empty() || due <= self.now;
        self.came = at_once && (self.came || reaped);
        match at_once {
            true => Next::At(self.now),
            false => Next::At(due),
        }
    }

    /// When the next deadline is.
    fn rest(&mut self) -> Tick {
        let due = self.next_due();
        self.stale = true;
        self.unsettled = false;
        if due > self.now {
            self.seen_to = self.now;
            self.asleep_until = due;
        } else {
            // The turn that comes at once is to see for how long it was due.
            self.asleep_until = self.asleep_until.min(due);
        }
        due
    }

    /// Whether something has come that a turn sees to.
    pub(crate) fn has_come(&self) -> bool {
        self.backend.has_completions() || self.policy.has_work() || self.links.wake().is_pending()
    }

    pub(super) fn next_due(&mut self) -> Tick {
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        // One after the other: asked for with each batch of what tasks did.
        let due = earlier(timer, self.policy.poll_timeout());
        let due = earlier(due, self.lookups.poll_timeout());
        let due = earlier(due, self.names.poll_timeout());
        let due = earlier(due, self.endpoints.look_at_due());
        let due = earlier(due, self.looks_at());
        let due = earlier(due, self.recall_at());
        due.map_or(Tick::NEVER, |due| match self.grace {
            Some(until) if self.now < until => due.max(until),
            _ => due,
        })
    }
}

/// The earlier of the two, as far as there are.
#[inline]
fn earlier(one: Option<Tick>, other: Option<Tick>) -> Option<Tick> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
