//! The permits of the whole process, where it has a limit: this core hears that somebody waits for
//! one, on this core or on another, and tells the policy.
//!
//! Promise: the policy hears of a demand when it is old enough to be worth a connection, again when
//! it has closed one and somebody still waits, and when nobody does any more.

use crate::policy::event::Event;
use crate::share::EndpointId;
use crate::time::Tick;

use super::core::Core;
use super::permits::patience;

/// What this core knows of those who wait for a permit of the process.
#[derive(Debug, Default)]
pub(super) struct TotalDemand {
    /// As last told to the policy.
    told: Option<Tick>,
    /// When a demand that was too young is to be looked at again.
    pub(super) look_at: Option<Tick>,
}

impl Core {
    /// A notice has come: perhaps of this.
    pub(super) fn hear_of_total(&mut self, notice: EndpointId) {
        if notice == EndpointId::ALL {
            self.look_at_total();
        }
    }

    /// Looks whether somebody has waited long enough.
    pub(super) fn look_at_total(&mut self) {
        let (since, worth) = self.total_demand();
        let patience = patience(self.links.shard());
        let total = &mut self.endpoints.total;
        let changed = total.told != worth;
        total.told = worth;
        total.look_at = match worth {
            None => since.map(|since| since.plus(patience)),
            Some(_) => None,
        };
        if changed {
            self.tell(Event::TotalDemand { since: worth });
        }
    }

    /// A connection of this core makes way: no other needs to, for the same waiter.
    pub(super) fn make_way(&mut self) {
        let me = self.links.shard();
        self.links.registry().promise_total(me, self.now);
    }

    /// A permit has gone back: whoever still waits is told of again.
    pub(super) fn total_was_met(&mut self) {
        let total = &mut self.endpoints.total;
        if total.told.take().is_some() {
            total.look_at = Some(self.now);
        }
    }

    /// Before a connection is given to a waiter here: does somebody still wait longer?
    #[inline]
    pub(super) fn renew_total(&mut self) {
        if self.endpoints.total.told.is_none() {
            return;
        }
        let (_, worth) = self.total_demand();
        let patience = patience(self.links.shard());
        let total = &mut self.endpoints.total;
        if worth == total.told {
            return;
        }
        total.told = worth;
        if worth.is_none() {
            // Perhaps only too young now; the others tell only of what is new.
            total.look_at = Some(self.now.plus(patience));
        }
        self.tell(Event::TotalDemandRenewed { since: worth });
    }

    /// Since when somebody waits, and the same if that is worth a connection.
    fn total_demand(&self) -> (Option<Tick>, Option<Tick>) {
        let since = self.links.registry().total_demand();
        let patience = patience(self.links.shard());
        let worth = since.filter(|since| self.now >= since.plus(patience));
        (since, worth)
    }
}
