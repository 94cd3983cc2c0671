//! The process may have a limit of its own below those of all endpoints together. Where it is
//! reached, an idle connection of one endpoint keeps another from opening its first, on this core or
//! on any: so idle ones make way, and where there are none, the next that comes free does.
//!
//! Promise: one demand takes one connection of this core; a connection goes to a waiter of its own
//! endpoint first if that has waited about as long as the one elsewhere.

use super::PoolPolicy;
use super::event::{Action, CloseReason, ConnKey, EndpointKey};
use super::serve::DEMAND_GRACE;
use crate::time::Tick;

impl PoolPolicy {
    /// Somebody has waited since `since` for a permit of the process: the longest idle connection
    /// makes way.
    pub(super) fn total_demanded(&mut self, now: Tick, since: Option<Tick>) {
        self.total_demand = since;
        if since.is_none() {
            return;
        }
        let Some((oldest, _)) = self.oldest_idle() else {
            return;
        };
        let oldest = ConnKey(oldest);
        if let Some(endpoint) = self.endpoint_of(oldest) {
            self.meet_total(now, endpoint, oldest);
        }
    }

    /// What the demand last told has become; nothing is closed on this alone.
    pub(super) fn total_renewed(&mut self, since: Option<Tick>) {
        if self.total_demand.is_some() {
            self.total_demand = since;
        }
    }

    /// Whether a connection of `endpoint` that has come free is due to who waits for a permit of the
    /// process.
    #[inline]
    pub(super) fn total_is_due(&self, endpoint: EndpointKey) -> bool {
        self.total_demand.is_some_and(|since| {
            let oldest = self.oldest_wait(endpoint);
            oldest.is_none_or(|oldest| oldest > since.plus(DEMAND_GRACE))
        })
    }

    /// Closes a free connection for who waits for a permit of the process.
    pub(super) fn meet_total(&mut self, now: Tick, endpoint: EndpointKey, conn: ConnKey) {
        self.total_demand = None;
        self.actions.push_back(Action::MakeWay);
        self.close(conn, CloseReason::Demand);
        self.settle(now, endpoint);
    }
}
