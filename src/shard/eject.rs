//! What one core learns of an address goes to all, and comes back as what all know: which addresses
//! are out, and who is to probe them.
//!
//! Promise: the policy hears of every change, in the order of the targets that it was told last;
//! where nothing was ever out, one load per answer is all there is.

use std::net::SocketAddr;

use crate::policy::event::{EndpointKey, Event, Verdict};

use super::core::Core;
use super::endpoints::held;

impl Core {
    /// Tells all cores what was learned of `address`.
    pub(super) fn report(
        &mut self,
        endpoint: EndpointKey,
        address: SocketAddr,
        verdict: Verdict,
        chance: u64,
    ) {
        let (me, now) = (self.links.shard(), self.now);
        let Some(entry) = self.endpoints.get(endpoint) else {
            return;
        };
        let all: Vec<_> = entry.targets.iter().map(|it| it.address).collect();
        let news = (address, verdict);
        if entry.shared.report(me, now, news, &all, chance) {
            self.tell_ejected(endpoint);
        }
    }

    /// Asks whether this core is the one to probe `address`.
    pub(super) fn ask_to_probe(&mut self, endpoint: EndpointKey, address: SocketAddr, chance: u64) {
        let Some(entry) = self.endpoints.get(endpoint) else {
            return;
        };
        let is_chosen = entry.shared.ejections().claim(self.now, address, chance);
        let held = is_chosen.then(|| held(entry));
        self.tell_ejected(endpoint);
        if let Some(held) = held {
            self.tell(Event::Probe {
                endpoint,
                address,
                held,
            });
        }
    }

    /// Something of the endpoint has changed on another core: perhaps which addresses are out.
    pub(super) fn hear_ejected(&mut self, endpoint: EndpointKey) {
        let entry = self.endpoints.get(endpoint);
        if entry.is_some_and(|it| it.shared.ejections().version() != it.heard) {
            self.tell_ejected(endpoint);
        }
    }

    /// The targets are new to the policy; if some were ever out, it must know which are.
    pub(super) fn renew_ejected(&mut self, endpoint: EndpointKey) {
        let entry = self.endpoints.get(endpoint);
        if entry.is_some_and(|it| it.shared.ejections().version() > 0) {
            self.tell_ejected(endpoint);
        }
    }

    fn tell_ejected(&mut self, endpoint: EndpointKey) {
        let now = self.now;
        let Some(entry) = self.endpoints.get_mut(endpoint) else {
            return;
        };
        let ejections = entry.shared.ejections();
        // Before the list: a change in between is told again.
        entry.heard = ejections.version();
        let addresses: Vec<_> = entry.targets.iter().map(|it| it.address).collect();
        let out = ejections.out(now, &addresses);
        self.tell(Event::Ejected { endpoint, out });
    }
}
