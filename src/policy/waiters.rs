//! A get that finds nothing waits. The queue of an endpoint is strictly first come, first served;
//! a waiter that goes away leaves it from any place.
//!
//! Promise: a waiter ends exactly once: its entry is taken out of the table by whoever ends it
//! (grant, failure, deadline, cancel), and its key finds nothing afterwards.

use super::PoolPolicy;
use super::bucket::Bucket;
use super::event::{Action, EndpointKey, WaiterKey};
use super::list::Links;
use super::timers::Timer;
use crate::error::{Error, ErrorKind, Exhaustion};
use crate::slot::Key;
use crate::time::Tick;

/// A waiting get.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) endpoint: EndpointKey,
    pub(crate) since: Tick,
    pub(crate) deadline: Tick,
    /// Waiters are numbered in the order in which they came, over all endpoints.
    pub(crate) number: u64,
    pub(crate) links: Links,
}

#[inline]
fn links(waiter: &mut Waiter) -> &mut Links {
    &mut waiter.links
}

impl PoolPolicy {
    /// Joins the queue of the endpoint; the deadline counts from `since`.
    pub(super) fn join(
        &mut self,
        now: Tick,
        endpoint: EndpointKey,
        since: Tick,
    ) -> Result<WaiterKey, Error> {
        let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
            return Err(Error::new(ErrorKind::InvalidInput, "unknown endpoint"));
        };
        let waiter = Waiter {
            endpoint,
            since,
            deadline: since.plus(self.settings.get_timeout),
            number: self.next_waiter,
            links: Links::default(),
        };
        let deadline = waiter.deadline;
        let key = if bucket.waiting.len() < self.settings.max_waiters {
            self.waiters.insert(waiter).ok()
        } else {
            None
        };
        let Some(key) = key else {
            bucket.counts.refused += 1;
            let error = Error::new(ErrorKind::Exhausted, "as many gets wait as may");
            return Err(exhausted(error, bucket, now, since));
        };
        self.next_waiter += 1;
        bucket.waiting.push_last(&mut self.waiters, key, links);
        bucket.counts.waiters += 1;
        bucket.counts.waited += 1;
        self.timers.insert(deadline, Timer::Waiter(WaiterKey(key)));
        Ok(WaiterKey(key))
    }

    /// The waiter's time begins at `now`, later than the moment that its get was told.
    pub(crate) fn wait_from(&mut self, now: Tick, waiter: WaiterKey) {
        let Some(found) = self.waiters.get_mut(waiter.0) else {
            return;
        };
        let early = found.deadline;
        found.since = now;
        found.deadline = now.plus(self.settings.get_timeout);
        let deadline = found.deadline;
        self.timers.remove(early, Timer::Waiter(waiter));
        self.timers.insert(deadline, Timer::Waiter(waiter));
    }

    /// Takes a waiter out of everything that knows it.
    pub(super) fn leave(&mut self, key: Key) -> Option<Waiter> {
        let endpoint = self.waiters.get(key)?.endpoint;
        if let Some(bucket) = self.endpoints.get_mut(endpoint.0) {
            bucket.waiting.remove(&mut self.waiters, key, links);
            bucket.counts.waiters -= 1;
        }
        let waiter = self.waiters.remove(key)?;
        self.timers
            .remove(waiter.deadline, Timer::Waiter(WaiterKey(key)));
        Some(waiter)
    }

    /// A waiter's time is over.
    pub(super) fn waiter_expired(&mut self, now: Tick, key: WaiterKey) {
        let Some(waiter) = self.waiters.get(key.0) else {
            return;
        };
        let (endpoint, since) = (waiter.endpoint, waiter.since);
        if let Some(bucket) = self.endpoints.get_mut(endpoint.0) {
            bucket.counts.get_timeouts += 1;
            let error = Error::new(ErrorKind::GetTimeout, "no connection became free in time");
            let error = exhausted(error, bucket, now, since);
            self.leave(key.0);
            self.actions.push_back(Action::Fail { waiter: key, error });
        }
        self.settle(now, endpoint);
    }

    /// Fails every waiter of the endpoint whose number is below `before`, oldest first.
    pub(super) fn fail_waiters(&mut self, endpoint: EndpointKey, before: u64, error: &Error) {
        while let Some(bucket) = self.endpoints.get_mut(endpoint.0)
            && let Some(key) = bucket.waiting.first()
            && self.waiters.get(key).is_some_and(|w| w.number < before)
        {
            bucket.counts.failed += 1;
            self.leave(key);
            self.actions.push_back(Action::Fail {
                waiter: WaiterKey(key),
                error: error.clone(),
            });
        }
    }
}

/// Adds the figures of the endpoint to `error`.
fn exhausted(error: Error, bucket: &Bucket, now: Tick, since: Tick) -> Error {
    error
        .with_exhaustion(Exhaustion {
            waited: now.since(since),
            waiters: bucket.waiting.len(),
            in_use: bucket.counts.in_use as usize,
            connecting: bucket.counts.connecting as usize,
            last_connect_error: bucket.last_error.as_ref().map(ToString::to_string),
        })
        .context(format!("getting a connection to {}", bucket.label))
}
