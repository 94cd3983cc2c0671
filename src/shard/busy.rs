//! A balance that goes by how busy the addresses are wants to know that of all cores. Each shows what
//! it does once per turn, and reads what the others do when it is about to open a connection.
//!
//! Promise: for the other balances nothing is written and nothing is read.

use std::net::SocketAddr;

use super::core::Core;
use super::endpoints::Entry;
use crate::policy::event::{Busy, EndpointKey, Event};
use crate::share::{Load, Spot};

impl Entry {
    /// A connection to `address` begins, whose figures are at `spot`.
    pub(super) fn joined(&mut self, address: SocketAddr, spot: Option<Spot>) {
        let Some(spot) = spot else {
            return;
        };
        match self.spots.iter_mut().find(|known| known.0 == address) {
            Some(known) => known.2 += 1,
            None => self.spots.push((address, spot, 1)),
        }
    }

    /// A connection to `address` is gone; with the last one, its place belongs to nobody.
    pub(super) fn left(&mut self, address: SocketAddr) {
        if let Some(known) = self.spots.iter_mut().find(|known| known.0 == address) {
            known.2 -= 1;
        }
        self.spots.retain(|known| known.2 > 0);
    }
}

impl Core {
    /// Shows the other cores how busy this one keeps the endpoint's addresses.
    pub(super) fn publish_busy(&self, key: EndpointKey) {
        let (Some(entry), Some(all)) = (self.endpoints.get(key), self.policy.busy(self.now, key))
        else {
            return;
        };
        for (address, busy) in all {
            let known = entry.spots.iter().find(|known| known.0 == address);
            let Some((_, spot, _)) = known else {
                continue;
            };
            let load = Load {
                in_use: busy.uses,
                latency: busy.latency,
            };
            let board = entry.shared.board();
            board.publish_load(self.links.shard(), *spot, load);
        }
    }

    /// Tells the policy how busy all cores keep the endpoint's addresses, if it wants to know.
    pub(super) fn tell_busy(&mut self, endpoint: EndpointKey) {
        if self.policy.busy(self.now, endpoint).is_none() {
            return;
        }
        self.publish_busy(endpoint);
        let Some(entry) = self.endpoints.get(endpoint) else {
            return;
        };
        let addresses: Vec<_> = entry.targets.iter().map(|it| it.address).collect();
        let loads = entry.shared.board().loads(&addresses);
        let busy = |load: &Load| Busy {
            uses: load.in_use,
            latency: load.latency,
        };
        let busy = loads.iter().map(busy).collect();
        self.tell(Event::Busy { endpoint, busy });
    }
}
