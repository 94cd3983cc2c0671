//! Permits are shared by all cores: this core asks for them, gives them back, hears that others
//! wait for one, and tells the policy.
//!
//! Promise: a request is asked once and withdrawn once; another core's demand reaches the policy
//! when it is old enough, and its end does too.

use std::time::Duration;

use crate::policy::event::{EndpointKey, Event};
use crate::share::Acquire;

use super::core::Core;
use super::endpoints::held;

/// How long another core's waiter must have waited before this core gives up a connection for it.
/// A core whose waiters are served by its own returns asks for more all the time; closing for it at
/// once would only move connections to and fro, at the price of a connect each time.
const PATIENCE: Duration = Duration::from_millis(5);

impl Core {
    pub(crate) fn acquire_permit(&mut self, endpoint: EndpointKey) {
        let Some(entry) = self.endpoints.get_mut(endpoint) else {
            return;
        };
        let event = match entry.shared.acquire(self.links.shard(), self.now) {
            Acquire::Granted => Event::PermitGranted {
                endpoint,
                held: held(entry),
            },
            Acquire::Queued => {
                entry.queued = true;
                if !std::mem::replace(&mut entry.listed, true) {
                    self.endpoints.queued.push(endpoint);
                }
                Event::PermitQueued { endpoint }
            }
        };
        self.tell(event);
    }

    pub(crate) fn withdraw_permit(&mut self, endpoint: EndpointKey) {
        if let Some(entry) = self.endpoints.get_mut(endpoint) {
            entry.shared.withdraw(self.links.shard());
            entry.queued = false;
        }
    }

    pub(crate) fn return_permit(&mut self, endpoint: EndpointKey) {
        let Some(entry) = self.endpoints.get_mut(endpoint) else {
            return;
        };
        entry.shared.release(self.links.shard());
        // The policy answers each demand by one permit. It may have gone to another core, or back
        // to this one: whoever still waits is told of again.
        entry.demand = None;
        self.hear_notice(endpoint);
    }

    /// What other cores did to the endpoints that this one shares with them.
    pub(crate) fn hear_notices(&mut self) {
        self.links.wake().take();
        for id in self.links.drain_notices() {
            let Some(endpoint) = self.endpoints.by_id.get(&id).copied() else {
                continue;
            };
            self.hear_notice(endpoint);
        }
        if self.links.take_names() {
            self.hear_names();
        }
        while let Some(job) = self.links.inbox.pop() {
            self.deferred
                .calls
                .push_back(super::deferred::Call::Job(job));
        }
    }

    fn hear_notice(&mut self, endpoint: EndpointKey) {
        let Some(entry) = self.endpoints.get_mut(endpoint) else {
            return;
        };
        if entry.shared.take_granted(self.links.shard()) {
            entry.queued = false;
            let held = held(entry);
            self.tell(Event::PermitGranted { endpoint, held });
        }
        self.look_at_demand(endpoint);
    }

    /// Tells the policy how long another core has waited for a permit of `endpoint`, once that is
    /// long enough to be worth a connection.
    fn look_at_demand(&mut self, endpoint: EndpointKey) {
        let now = self.now;
        let Some(entry) = self.endpoints.get_mut(endpoint) else {
            return;
        };
        let since = entry.shared.demand(self.links.shard());
        let worth = since.filter(|since| now >= since.plus(PATIENCE));
        let changed = entry.demand != worth;
        entry.demand = worth;
        if changed {
            self.tell(Event::Demand {
                endpoint,
                since: worth,
            });
        }
        if let (Some(since), None) = (since, worth) {
            self.endpoints.watch(endpoint, since.plus(PATIENCE));
        }
    }

    /// Looks again at the demands that were too young.
    pub(crate) fn look_at_demands(&mut self) {
        if self
            .endpoints
            .look_at_due()
            .is_none_or(|due| due > self.now)
        {
            return;
        }
        for endpoint in std::mem::take(&mut self.endpoints.watched) {
            if let Some(entry) = self.endpoints.get_mut(endpoint) {
                entry.watched = false;
                self.look_at_demand(endpoint);
            }
        }
    }

    /// Tells the other cores since when the oldest waiter here waits, where this core asked for a
    /// permit: a core that serves its waiters well does not look as if it starved.
    pub(crate) fn renew_requests(&mut self) {
        let mut queued = std::mem::take(&mut self.endpoints.queued);
        queued.retain(|endpoint| {
            let Some(entry) = self.endpoints.get_mut(*endpoint) else {
                return false;
            };
            entry.listed = entry.queued;
            if let (true, Some(since)) = (entry.queued, self.policy.oldest_wait(*endpoint)) {
                entry.shared.renew(self.links.shard(), since);
            }
            entry.listed
        });
        self.endpoints.queued = queued;
    }

    /// Before a connection is given to a waiter here: does another core still wait longer?
    #[inline]
    pub(crate) fn renew_demand(&mut self, endpoint: EndpointKey) {
        let Some(entry) = self.endpoints.get_mut(endpoint) else {
            return;
        };
        if entry.demand.is_none() {
            return;
        }
        let since = entry.shared.demand(self.links.shard());
        let since = since.filter(|since| self.now >= since.plus(PATIENCE));
        if since == entry.demand {
            return;
        }
        entry.demand = since;
        self.tell(Event::DemandRenewed { endpoint, since });
        if since.is_none() {
            // Perhaps only too young now; the others tell only of what is new.
            self.endpoints.watch(endpoint, self.now.plus(PATIENCE));
        }
    }
}
