//! What must hold after every step, and what must have been given back in the end.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use super::plan::Service;
use crate::balance::Balance;
use crate::config::Config;
use crate::machine::{Fault, State, Step};
use crate::sim::LIE;
use crate::sim::world::World;

/// Looks at a world between its steps.
pub(super) struct Judge {
    services: Vec<Service>,
    most: usize,
    /// Of all services together; 0 if nothing but their own limits holds.
    total: usize,
    addresses: Vec<SocketAddr>,
    /// The balance spreads connections evenly, whatever closes meanwhile: in turn alone does not.
    is_even: bool,
    /// Nothing goes wrong any more, and what went wrong was found out.
    peace: Cell<bool>,
}

impl Judge {
    pub(super) fn new(services: &[Service], config: &Config) -> Self {
        let addresses = services.iter().flat_map(|it| it.addresses.clone());
        Self {
            services: services.to_vec(),
            most: config.max_connections_per_endpoint,
            total: config.max_connections_total,
            is_even: matches!(config.balance, Balance::LeastConnections),
            addresses: addresses.collect(),
            peace: Cell::new(false),
        }
    }

    /// From now on cores must be fair to each other.
    pub(super) fn begin_peace(&self) {
        self.peace.set(true);
    }

    /// Everything that must hold after `step`.
    ///
    /// # Errors
    ///
    /// The rule that does not.
    pub(super) fn after(&self, world: &World, step: Step) -> Result<(), String> {
        if let Step::Ran(core) = step {
            if let Some(shard) = world.shard(core) {
                let audit = shard.audit();
                let audit = audit.map_err(|text| format!("core {core}: {text}"))?;
                let may_die = |state: &mut State| state.faults.happened(Fault::RingDies);
                if audit.dead && !audit.ended && !world.machine.with(may_die) {
                    return Err(format!("I7: core {core} gave its ring up, which works"));
                }
                if self.peace.get() && !audit.ended {
                    shard
                        .withholds(FAIR)
                        .map_err(|text| format!("core {core}: {text}"))?;
                }
            }
            self.limits(world)?;
        }
        match world.machine.first_violation() {
            Some(text) => Err(text),
            None => Ok(()),
        }
    }

    /// No more sockets than the pool may have, counted in the kernels of all cores (I13): one that
    /// changes cores is one. And none without a permit, but those of a ring that can close nothing.
    fn limits(&self, world: &World) -> Result<(), String> {
        let closes = |state: &mut State| !state.faults.happened(Fault::RingDies);
        let is_exact = world.machine.with(closes);
        let all = world.machine.sockets_to(&self.addresses);
        if is_exact && self.total > 0 && all > self.total {
            let most = self.total;
            return Err(format!(
                "I13: {all} sockets to all services, at most {most}"
            ));
        }
        for service in &self.services {
            let sockets = world.machine.sockets_to(&service.addresses);
            let permits = world.permits_of(&service.name) as usize;
            if is_exact && sockets > permits {
                return Err(format!(
                    "I13: {sockets} sockets to {}, {permits} permits",
                    service.name
                ));
            }
            // Each protocol of a client has connections of its own.
            if sockets > self.most * PROTOCOLS {
                let most = self.most * PROTOCOLS;
                return Err(format!(
                    "I13: {sockets} sockets to {}, at most {most}",
                    service.name
                ));
            }
        }
        Ok(())
    }

    /// Only addresses that the name servers gave were dialed (I10).
    ///
    /// # Errors
    ///
    /// The address that was not.
    pub(super) fn only_true_addresses(&self, world: &World) -> Result<(), String> {
        let dialed = world.machine.dialed();
        let wrong = dialed.iter().find(|it| !self.addresses.contains(it));
        match wrong {
            Some(address) if address.ip() == LIE => Err(format!(
                "I10: {address} was dialed, which only a forged answer named"
            )),
            Some(address) => Err(format!("I10: {address} was dialed, which no answer named")),
            None => Ok(()),
        }
    }

    /// Connections differ by at most one for each core (I14), over the addresses that are preferred:
    /// those of IPv6, if there are any.
    ///
    /// # Errors
    ///
    /// The counts.
    pub(super) fn balanced(
        &self,
        world: &World,
        service: &Service,
        cores: usize,
    ) -> Result<(), String> {
        let count = |address: &SocketAddr| world.machine.sockets_to(&[*address]);
        let is_preferred = |address: &&SocketAddr| {
            address.is_ipv6() || service.addresses.iter().all(SocketAddr::is_ipv4)
        };
        let preferred = service.addresses.iter().filter(is_preferred);
        let counts: Vec<usize> = preferred.map(count).collect();
        let (most, least) = (counts.iter().max(), counts.iter().min());
        match (most, least) {
            (Some(most), Some(least)) if self.is_even && most - least > cores => Err(format!(
                "I14: {} has {counts:?} connections on its addresses, with {cores} cores",
                service.name
            )),
            _ => Ok(()),
        }
    }

    /// The core has nothing left (I4, I9).
    ///
    /// # Errors
    ///
    /// What it has.
    pub(super) fn empty(&self, world: &World, core: usize) -> Result<(), String> {
        if let Some(shard) = world.shard(core) {
            let audit = shard
                .audit()
                .map_err(|text| format!("core {core}: {text}"))?;
            if audit.connections + audit.waiters + audit.buffers_lent > 0 {
                return Err(format!("I9: core {core} has drained and has {audit:?}"));
            }
        }
        Ok(())
    }

    /// Nothing exists any more anywhere.
    ///
    /// # Errors
    ///
    /// What does.
    pub(super) fn nothing_left(&self, world: &World) -> Result<(), String> {
        for core in 0..world.cores() {
            let (sockets, operations) = (world.sockets(core), world.operations(core));
            if sockets + operations > 0 {
                return Err(format!(
                    "I9: core {core} has ended and has {sockets} sockets, {operations} operations"
                ));
            }
        }
        let permits = world.permits_in_use();
        if permits > 0 {
            return Err(format!(
                "I13: {permits} permits are held and no core is left"
            ));
        }
        Ok(())
    }
}

/// How long a core may keep idle what another one waits for: 250 ms if that one has no slot to receive it
/// in, a close, and timers that are late.
const FAIR: Duration = Duration::from_millis(400);

/// Sets of connections to one service: without a protocol, and with the greeter's three keys.
const PROTOCOLS: usize = 4;
