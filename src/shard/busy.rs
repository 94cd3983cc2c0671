//! A balance that goes by how busy the addresses are wants to know that of all cores. Each shows what
//! it does whenever its driver settles, and reads what the others do when it is about to open a connection.
//!
//! Promise: for the other balances nothing is written and nothing is read.

use std::net::SocketAddr;

use super::core::Core;
use crate::policy::event::{Busy, EndpointKey, Event};
use crate::share::{Load, Spot};

/// The addresses that a core has connections to, and where the board has their figures.
#[derive(Debug, Default)]
pub(super) struct Joins(Vec<Join>);

#[derive(Debug)]
struct Join {
    address: SocketAddr,
    /// Where the board counts some of them.
    spot: Option<Spot>,
    counted: u32,
    /// Those that came while the board had no column for the address.
    uncounted: u32,
}

impl Joins {
    /// A connection to `address` begins, which the board counts at `spot`.
    pub(super) fn begin(&mut self, address: SocketAddr, spot: Option<Spot>) {
        let at = match self.0.iter().position(|it| it.address == address) {
            Some(at) => at,
            None => {
                self.0.push(Join {
                    address,
                    spot: None,
                    counted: 0,
                    uncounted: 0,
                });
                self.0.len() - 1
            }
        };
        let join = &mut self.0[at];
        match spot {
            Some(_) => (join.spot, join.counted) = (spot, join.counted + 1),
            None => join.uncounted += 1,
        }
    }

    /// A connection to `address` is gone. Whether the board must count one less: those that it did
    /// not count go first, or its column would go to another address while this one has connections.
    pub(super) fn end(&mut self, address: SocketAddr) -> bool {
        let Some(at) = self.0.iter().position(|it| it.address == address) else {
            return false;
        };
        let join = &mut self.0[at];
        let was_counted = join.uncounted == 0;
        match was_counted {
            true => join.counted -= 1,
            false => join.uncounted -= 1,
        }
        if join.counted + join.uncounted == 0 {
            self.0.swap_remove(at);
        }
        was_counted
    }

    fn spot(&self, address: SocketAddr) -> Option<Spot> {
        let known = self.0.iter().find(|it| it.address == address);
        known.and_then(|it| it.spot)
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
            let Some(spot) = entry.joins.spot(address) else {
                continue;
            };
            let load = Load {
                in_use: busy.uses,
                latency: busy.latency,
            };
            let board = entry.shared.board();
            board.publish_load(self.links.shard(), spot, load);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_the_board_does_not_count_takes_no_other_ones_place_away() {
        let (address, spot) = (([127, 0, 0, 1], 80).into(), Spot::at(3));
        let mut joins = Joins::default();
        joins.begin(address, None);
        assert_eq!(joins.spot(address), None);
        joins.begin(address, Some(spot));
        assert!(!joins.end(address), "the board has never counted it");
        assert_eq!(joins.spot(address), Some(spot));
        assert!(joins.end(address));
        assert_eq!(joins.spot(address), None);
        assert!(joins.0.is_empty() && !joins.end(address));
    }
}
