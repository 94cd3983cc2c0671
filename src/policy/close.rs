//! How connections end, and what becomes of their slots and permits.
//!
//! Promise: `Close` is asked at most once per connection; its slot and its permit are free only
//! when nothing of it remains (`Closed`, or `ConnectFailed`); a freed slot goes to the opening
//! that has waited longest for one.

use super::PoolPolicy;
use super::bucket::Permit;
use super::conn::Stage;
use super::draining;
use super::event::{Action, CloseReason, ConnKey, EndpointKey, Hook};
use super::race::set_error;
use crate::error::{Error, ErrorKind};
use crate::time::Tick;

impl PoolPolicy {
    /// Asks for the connection to be closed, unless that was done before.
    pub(super) fn close(&mut self, key: ConnKey, reason: CloseReason) {
        let Some(conn) = self.conns.get(key.0) else {
            return;
        };
        if matches!(conn.stage, Stage::Closing(_)) || !conn.exists() {
            return;
        }
        let endpoint = conn.endpoint;
        self.displace(endpoint, key.0);
        let Some(conn) = self.conns.get_mut(key.0) else {
            return;
        };
        conn.timed = false;
        if let Some(bucket) = self.endpoints.get_mut(endpoint.0) {
            if let Some(gauge) = conn.gauge(&mut bucket.counts) {
                *gauge -= 1;
            }
            bucket.counts.closing += 1;
            bucket.counts.closed_by[reason as usize] += 1;
        }
        conn.stage = Stage::Closing(reason);
        self.closing += 1;
        self.actions.push_back(Action::Close { conn: key, reason });
    }

    /// No further use: closes a ready connection now if it is in nobody's hands, else at the end
    /// of its last use.
    pub(super) fn condemn(&mut self, key: ConnKey, reason: CloseReason) {
        let Some(conn) = self.conns.get_mut(key.0) else {
            return;
        };
        let endpoint = conn.endpoint;
        match conn.stage {
            Stage::Expected => return self.decline(endpoint),
            // It is another core's, or comes back and is closed then.
            Stage::Leaving => {
                conn.condemn(reason);
                self.actions.push_back(Action::Recall {
                    conn: key,
                    endpoint,
                });
                return;
            }
            _ if conn.uses == 0 => return self.close(key, reason),
            _ => conn.condemn(reason),
        }
        self.displace(endpoint, key.0);
    }

    pub(super) fn lifetime_ended(&mut self, now: Tick, key: ConnKey) {
        // A connection in a health check is looked at when the answer comes.
        let Some(conn) = self.conns.get(key.0) else {
            return;
        };
        let endpoint = conn.endpoint;
        if conn.stage == Stage::Ready {
            self.condemn(key, CloseReason::Lifetime);
            self.settle(now, endpoint);
        }
    }

    pub(super) fn broken(&mut self, now: Tick, key: ConnKey, reason: CloseReason) -> Option<()> {
        let conn = self.conns.get_mut(key.0)?;
        let endpoint = conn.endpoint;
        match conn.stage {
            Stage::Dialing | Stage::Expected | Stage::Declined | Stage::Claimed => return None,
            // Its end was on its way here when something else closed it.
            Stage::Closing(_) => {}
            Stage::Leaving => conn.condemn(reason),
            Stage::Initialising => {
                let error = Error::new(ErrorKind::Closed, "the connection ended").context(format!(
                    "initialising the connection to tcp:{}",
                    conn.address
                ));
                set_error(conn, error);
                self.close(key, reason);
            }
            Stage::Ready | Stage::Checking => {
                if conn.total_uses == 0 {
                    self.pause_replacements(now, endpoint);
                    self.report_death(now, key, reason);
                }
                self.condemn(key, reason);
                self.settle(now, endpoint);
            }
        }
        Some(())
    }

    pub(super) fn closed(&mut self, now: Tick, key: ConnKey) -> Option<()> {
        let reason = match self.conns.get(key.0)?.stage {
            Stage::Closing(reason) => reason,
            Stage::Expected | Stage::Declined | Stage::Claimed => {
                return self.slot_is_free(now, key);
            }
            _ => return None,
        };
        let conn = self.conns.remove(key.0)?;
        self.closing -= 1;
        let bucket = self.endpoints.get_mut(conn.endpoint.0)?;
        bucket.counts.closing -= 1;
        if reason == CloseReason::Rebalanced {
            bucket.moves.has_room();
            bucket.probes.has_room();
        }
        if reason == CloseReason::HandedOver {
            // Its permit went with it.
            bucket.counts.handed_over += 1;
            bucket.flights.leave(conn.spot);
            self.slots_freed(now);
            self.settle(now, conn.endpoint);
            return Some(());
        }
        if conn.was_ready {
            bucket.counts.closed += 1;
            self.notify(conn.endpoint, key, Hook::Closed(reason));
        }
        if reason == CloseReason::Rebalanced && self.takes_place(now, conn.endpoint) {
            if let Some(bucket) = self.endpoints.get_mut(conn.endpoint.0) {
                bucket.flights.leave(conn.spot);
            }
            self.begin_race(now, conn.endpoint);
            self.slots_freed(now);
            self.settle(now, conn.endpoint);
            return Some(());
        }
        self.left(now, key, conn);
        Some(())
    }

    /// Gives one permit of the endpoint back.
    pub(super) fn return_permit(&mut self, endpoint: EndpointKey) {
        if let Some(bucket) = self.endpoints.get_mut(endpoint.0) {
            bucket.permits -= 1;
            self.actions.push_back(Action::ReturnPermit { endpoint });
        }
    }

    /// Gives free slots to the openings that wait for one.
    pub(super) fn slots_freed(&mut self, now: Tick) {
        while !self.conns.is_full()
            && let Some(endpoint) = self.slot_queue.pop_front()
        {
            let bucket = self.endpoints.get_mut(endpoint.0);
            let Some(bucket) = bucket else { continue };
            if let Some(number) = bucket.parked.take() {
                if let Some(race) = bucket.race_mut(number) {
                    // What failed for others while it stood in line is not its failure.
                    race.since = now;
                }
                self.dial_next(now, endpoint, number);
            }
        }
    }

    /// Frees slots for the openings that wait for one: first those that have no connection, then
    /// those of idle connections, the longest idle first.
    pub(super) fn evict_for_slots(&mut self) {
        self.decline_for_slots();
        while self.closing < self.slot_queue.len()
            && let Some((oldest, _)) = self.oldest_idle()
        {
            self.close(ConnKey(oldest), CloseReason::Evicted);
        }
    }

    pub(super) fn drain(&mut self) {
        self.draining = true;
        self.slot_queue.clear();
        let endpoints: Vec<_> = self
            .endpoints
            .iter()
            .map(|(key, _)| EndpointKey(key))
            .collect();
        for endpoint in endpoints {
            self.disarm(endpoint);
            self.fail_waiters(endpoint, u64::MAX, &draining());
            self.decline(endpoint);
            let Some(bucket) = self.endpoints.get_mut(endpoint.0) else {
                continue;
            };
            if bucket.permit == Permit::Queued {
                bucket.permit = Permit::None;
                self.actions.push_back(Action::WithdrawPermit { endpoint });
            }
            let races: Vec<u64> = bucket.races.iter().map(|race| race.number).collect();
            if bucket.parked.take().is_some() {
                self.return_permit(endpoint);
            }
            for number in races {
                self.remove_race(endpoint, number);
            }
        }
        let conns: Vec<_> = self.conns.iter().map(|(key, _)| ConnKey(key)).collect();
        for conn in conns {
            self.condemn(conn, CloseReason::Drained);
        }
    }
}
