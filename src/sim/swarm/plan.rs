//! One schedule's world, drawn from its seed: cores, limits, servers, what clients do, what goes
//! wrong and when.
//!
//! Promise: everything follows from the seed; taking a fault out of a plan leaves the rest of the
//! plan as it was.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::balance::Balance;
use crate::config::Config;
use crate::hooks::{ConnectionInfo, HealthCheck, Hook};
use crate::machine::{self, Fault, Faults};
use crate::policy::Rng;

use super::Injected;

/// A name with its addresses.
#[derive(Debug, Clone)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) ttl: Duration,
}

/// Something that happens to the world at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blow {
    /// A name has those of its addresses alone whose bits are set, for a while.
    Rename(usize, u64, Duration),
    /// The resolver's files say something else, which leads to the same.
    Files(u64),
    /// A server restarts and is gone for a while.
    Restart(SocketAddr, Duration),
    /// All servers are gone; with `true` nothing answers at all.
    Outage(Duration, bool),
    /// All name servers are gone; with `true` nothing answers at all.
    NamesGone(Duration, bool),
    /// The link to an address is down.
    Flap(SocketAddr),
    /// Nothing runs on a core, or on any.
    Freeze(Option<usize>, Duration),
    /// A core drains, is drained again meanwhile if told so, and joins again.
    Drain { core: usize, twice: bool },
    /// A core's runtime ends; with `true` a handle of its is used afterwards.
    Die { core: usize, handle: bool },
}

/// A schedule.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) cores: usize,
    pub(super) services: Vec<Service>,
    pub(super) config: Config,
    /// Completions that a ring holds.
    pub(super) room: usize,
    pub(super) faults: Faults,
    pub(super) blows: Vec<(Duration, Blow)>,
    /// Clients of each core.
    pub(super) clients: usize,
    /// What each client does, at most.
    pub(super) rounds: u64,
    /// All clients begin at one moment.
    pub(super) at_once: bool,
    /// Most of what is done is done on the first core.
    pub(super) uneven: bool,
    /// Addresses that are dead until the faults end.
    pub(super) dead: Vec<SocketAddr>,
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Plan {
    /// The plan of `seed`, without the faults in `without`.
    pub(super) fn draw(seed: u64, without: &[Fault]) -> Self {
        let mut rng = Rng::new(seed);
        let cores = 2 + rng.below(3) as usize;
        let services = services(&mut rng);
        let mut config = config(&mut rng);
        // Drawn apart: the rest of the plan stays as it was. Who is told of uses has none in the hand.
        if Rng::new(!seed).below(2) == 0 {
            config.on_connection_reused = None;
        }
        let room = 1 << (2 + rng.below(6));
        let clients = 1 + rng.below(3) as usize;
        let rounds = 1 + rng.below(4);
        let mut faults = Faults::draw(&mut rng);
        let planned = blows(&mut rng, &faults, cores, &services);
        let at_once = faults.has(Fault::ManyTimers);
        for fault in without {
            faults.set(*fault, 0);
        }
        let dead = dead(&faults, &services);
        let uneven = rng.below(3) == 0;
        let total = 2 + rng.below(6) as usize;
        if rng.below(4) == 0 {
            config.max_connections_total = total;
        }
        config.balance = balance(&mut rng, &services[0]);
        let blows = planned.into_iter();
        Self {
            seed,
            cores,
            services,
            config,
            room,
            blows: blows
                .filter(|(fault, _, _)| faults.has(*fault))
                .map(|(_, at, blow)| (at, blow))
                .collect(),
            clients,
            rounds,
            at_once: at_once && faults.has(Fault::ManyTimers),
            uneven,
            dead,
            faults,
        }
    }
}

impl Plan {
    /// How many connections the cores may have to one service.
    pub(super) fn most(&self) -> usize {
        let config = &self.config;
        let slots = config.max_connections_per_shard * self.cores;
        let most = config.max_connections_per_endpoint.min(slots);
        match config.max_connections_total {
            0 => most,
            total => most.min(total),
        }
    }
}

/// The addresses that never answer.
fn dead(faults: &Faults, services: &[Service]) -> Vec<SocketAddr> {
    let first =
        Some(&services[0].addresses).filter(|all| all.len() > 1 && faults.has(Fault::DeadAddress));
    let first = first.map(|all| all[0]);
    let all = services.iter().flat_map(|service| &service.addresses);
    let is_silent = |address: &SocketAddr| faults.has(Fault::FamilySilent) && address.is_ipv6();
    all.filter(|address| is_silent(address) || first == Some(**address))
        .copied()
        .collect()
}

fn services(rng: &mut Rng) -> Vec<Service> {
    let count = 1 + rng.below(2);
    (0..count)
        .map(|n| {
            let addresses = 1 + rng.below(4);
            let families = rng.below(3);
            let address = |last| {
                let v4 = Ipv4Addr::new(10, 0, n as u8, 1 + last as u8);
                let v6 = Ipv6Addr::new(0x2001, 0xDB8, 0, 0, 0, 0, n as u16, 1 + last as u16);
                let ip = match (families, last % 2) {
                    (0, _) | (1, 1) => IpAddr::V6(v6),
                    _ => IpAddr::V4(v4),
                };
                SocketAddr::new(ip, 7000)
            };
            Service {
                name: format!("service{n}.test"),
                addresses: (0..addresses).map(address).collect(),
                ttl: Duration::from_secs(rng.below(20)),
            }
        })
        .collect()
}

fn config(rng: &mut Rng) -> Config {
    let buffers = 8 << rng.below(2);
    let endpoint = 2 + rng.below(6) as usize;
    let shard = 2 + rng.below(6) as usize;
    Config {
        max_connections_per_endpoint: endpoint,
        max_connections_per_shard: shard,
        max_endpoints: 4,
        max_waiters: 2 + rng.below(12) as usize,
        min_idle: usize::from(rng.below(4) == 0),
        max_connecting: 1 + rng.below(3) as usize,
        get_timeout: ms(300 + rng.below(1500)),
        connect_timeout: ms(50 + rng.below(900)),
        connect_retry_count: rng.below(3) as u32,
        connect_retry_delay: ms(5 + rng.below(30)),
        connect_retry_delay_max: ms(100),
        max_idle_time: ms(100 + rng.below(3000)),
        max_connection_lifetime: ms(300 + rng.below(8000)),
        max_connection_uses: rng.below(2) * (1 + rng.below(5)),
        read_timeout: ms(50 + rng.below(400)),
        write_timeout: ms(50 + rng.below(400)),
        health_check_after: ms(rng.below(3) * rng.below(300)),
        tcp_nodelay: rng.below(2) == 0,
        tcp_keepalive: (rng.below(2) == 0).then_some(Duration::from_secs(15)),
        tcp_user_timeout: None,
        ring_entries: 16 << rng.below(3),
        recv_buffers: buffers,
        recv_buffer_size: 512,
        recv_limit: 512 << rng.below(3),
        send_limit: 64 << rng.below(8),
        drain_timeout: Duration::from_secs(1),
        on_connection_created: Some(Hook::new(hook)),
        on_connection_reused: Some(Hook::new(hook)),
        on_connection_closed: Some(Hook::new(hook)),
        health_check: (rng.below(2) == 0).then(|| HealthCheck::new(healthy)),
        ..Config::default()
    }
}

/// How new connections are spread. Most worlds have the balance whose result can be counted.
fn balance(rng: &mut Rng, service: &Service) -> Balance {
    let weights = service.addresses.iter();
    let weights = weights.map(|address| (*address, rng.below(5) as u16));
    let weighted = Balance::Weighted(weights.collect());
    match rng.below(8) {
        0 => Balance::PowerOfTwo,
        1 => Balance::RoundRobin,
        2 => weighted,
        _ => Balance::LeastConnections,
    }
}

/// A hook that panics when the world wants it to.
fn hook(_info: &ConnectionInfo) {
    if let Some(place) = machine::current()
        && place.machine.with(|state| state.hit(Fault::PanicInHook))
    {
        std::panic::panic_any(Injected);
    }
}

fn healthy(info: &ConnectionInfo) -> bool {
    hook(info);
    machine::current().is_none_or(|place| place.machine.below(10) > 0)
}

/// What happens to the world, each with the fault it stands for.
fn blows(
    rng: &mut Rng,
    faults: &Faults,
    cores: usize,
    services: &[Service],
) -> Vec<(Fault, Duration, Blow)> {
    let mut blows = Vec::new();
    let mut plan = |rng: &mut Rng, fault, make: &dyn Fn(&mut Rng) -> Blow| {
        // Drawn whether it is wanted or not, so that the next ones are the same.
        let (count, at) = (1 + rng.below(2), [rng.below(400), rng.below(1500)]);
        let made = [make(rng), make(rng)];
        if faults.has(fault) {
            for n in 0..count as usize {
                blows.push((fault, ms(at[n]), made[n]));
            }
        }
    };
    let address = |rng: &mut Rng| {
        let service = &services[rng.below(services.len() as u64) as usize];
        service.addresses[rng.below(service.addresses.len() as u64) as usize]
    };
    let core = |rng: &mut Rng| rng.below(cores as u64) as usize;
    plan(rng, Fault::AddressesChange, &|rng| {
        let service = rng.below(services.len() as u64) as usize;
        Blow::Rename(service, 1 + rng.below(15), ms(rng.below(30_000)))
    });
    plan(rng, Fault::Restart, &|rng| {
        Blow::Restart(address(rng), ms(rng.below(300)))
    });
    plan(rng, Fault::Outage, &|rng| {
        Blow::Outage(ms(100 + rng.below(2000)), rng.below(2) == 0)
    });
    plan(rng, Fault::NamesGone, &|rng| {
        Blow::NamesGone(ms(100 + rng.below(2000)), rng.below(2) == 0)
    });
    plan(rng, Fault::Flap, &|rng| Blow::Flap(address(rng)));
    plan(rng, Fault::Stopped, &|_| {
        Blow::Freeze(None, Duration::from_secs(60))
    });
    plan(rng, Fault::Descheduled, &|rng| {
        Blow::Freeze(Some(core(rng)), Duration::from_secs(1))
    });
    plan(rng, Fault::DrainWhileBusy, &|rng| Blow::Drain {
        core: core(rng),
        twice: false,
    });
    plan(rng, Fault::DrainTwice, &|rng| Blow::Drain {
        core: core(rng),
        twice: true,
    });
    plan(rng, Fault::CoreDies, &|rng| Blow::Die {
        core: core(rng),
        handle: false,
    });
    plan(rng, Fault::LateHandle, &|rng| Blow::Die {
        core: core(rng),
        handle: true,
    });
    plan(rng, Fault::FilesChange, &|rng| {
        Blow::Files(1 + rng.below(4))
    });
    blows.sort_by_key(|(_, at, _)| *at);
    blows
}
