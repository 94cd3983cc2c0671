//! An endpoint whose addresses are good for a day wants no name for a day, and nobody looks at the
//! system's files meanwhile. While such an endpoint is in use, its core looks, and tells the policy
//! what has changed: the files, or where this machine is.
//!
//! Promise: a change of the files is found within the time between two looks (see `sources`), later
//! only where nobody got anything for long, and names are asked for again within a second from then;
//! a core without connections wakes up for nothing; endpoints that are addresses are left alone.

use super::core::Core;
use crate::policy::event::{EndpointKey, Event};

impl Core {
    /// The endpoint gets a connection: the files that its addresses depend on are looked at from
    /// now on.
    pub(super) fn watch_sources(&mut self, endpoint: EndpointKey) {
        let entry = self.endpoints.get(endpoint);
        if entry.is_some_and(|entry| !entry.is_fixed()) {
            self.names.watch(self.now);
        }
    }

    /// Looks at the files if nobody else did in time; no longer, if no name is in use.
    pub(super) fn look_at_sources(&mut self) {
        if self.names.poll_timeout().is_none_or(|due| due > self.now) {
            return;
        }
        self.refresh_sources();
        let names = self.endpoints.iter().filter(|entry| !entry.is_fixed());
        let pauses = names.filter_map(|entry| self.policy.names_pause(self.now, entry.key));
        match pauses.min() {
            Some(pause) => self.names.watch_on(self.now, pause),
            None => self.names.unwatch(),
        }
    }

    /// Takes over what is new in the files.
    pub(super) fn refresh_sources(&mut self) {
        if self.names.refresh(self.now) {
            let names = self.links.registry().names();
            names.flush(self.names.sources().generation);
            self.names_changed();
        }
    }

    /// Tells the policy that names may lead elsewhere than is known.
    pub(super) fn names_changed(&mut self) {
        let names = self.endpoints.iter().filter(|entry| !entry.is_fixed());
        let names: Vec<EndpointKey> = names.map(|entry| entry.key).collect();
        for endpoint in names {
            self.tell(Event::NamesChanged { endpoint });
        }
    }
}
