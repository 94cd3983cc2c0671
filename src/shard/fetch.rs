//! What comes while this thread runs is not in the completion queue yet: the kernel notes it and posts
//! it when the thread enters it next, or is interrupted (`IORING_SETUP_COOP_TASKRUN`,
//! io_uring_setup(2)). A server's close may be among that, and whoever gets the connection then has
//! one that is dead.
//!
//! Promise: a get of a connection that has been idle for [`RESTED`] or longer knows of everything that
//! had reached the kernel; that costs it one system call where the kernel says that there is
//! something, and none where it does not. A get of one that was released just now costs none.
//!
//! A release does not ask. The kernel holds something back most of the time while other connections
//! are busy, so that it would be a call for each; and what it tells of this connection would be about
//! a moment that is over: what is on its way to it still comes a moment later.

use std::time::Duration;

use super::core::Core;
use crate::policy::event::EndpointKey;
use crate::time::Tick;

/// How long a connection has been idle if it is worth a system call to know what became of it.
///
/// A call takes less than a thousandth of this, so that looking after idle connections never costs a
/// core more than that share of its time for each. Servers close what is idle; what was in use this
/// short a while ago they have hardly found to be so. And a shorter time would change little: the
/// timer interrupts a thread that runs on, after 1 to 10 ms, and has everything posted.
const RESTED: Duration = Duration::from_millis(1);

impl Core {
    /// Takes in what has come, before a get takes a connection of `endpoint`; whether that is all
    /// that was posted.
    #[inline(never)]
    pub(super) fn take_in(&mut self, endpoint: EndpointKey) -> bool {
        self.policy.empty_hand();
        // First: what was posted may end the one that a get would take, and leave it an older one.
        let is_all = self.collect();
        if self.backend.holds_back() && self.is_rested(endpoint) {
            self.backend.fetch();
            return self.collect();
        }
        is_all
    }

    /// Whether what came back at `moment` has been idle for long.
    #[inline(never)]
    pub(super) fn has_rested_since(&self, moment: Tick) -> bool {
        self.host.now().since(moment) >= RESTED
    }

    /// Whether the connection that a get would take has been idle for long. Tells by the clock: the
    /// turn may have begun long ago.
    fn is_rested(&mut self, endpoint: EndpointKey) -> bool {
        let now = self.host.now();
        let since = self.policy.idle_since(now, endpoint);
        let rested = since.is_some_and(|since| now.since(since) >= RESTED);
        if rested {
            // What is released from now on is released now.
            self.now = now;
        }
        rested
    }
}
