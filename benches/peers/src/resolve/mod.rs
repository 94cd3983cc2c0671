//! A name that is known already, asked for again and again: ours; hickory-resolver's in-process
//! cache, filled from the same loopback server; and a slot of the thread's own as the limit.
//!
//! Each is asked for the addresses and says of what family the first one is, so that nobody wins by
//! being lazy; that the server is not asked meanwhile is checked. With two threads, each on a core
//! of its own, both ask for the same name at the same time: what one writes for a hit, the other
//! pays for.

mod server;

use std::cell::RefCell;
use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::rc::Rc;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RecordType};
use ringpool::{Config, Pool, Resolver, Shards};

use crate::Outcome;
use crate::harness::race::{ALLOCATIONS, Operation, TIME, WARM, race, race_shards};
use crate::harness::{Case, Entry, Figures, Role, Settings, Workload, cpu};
use server::{ADDRESSES, NAME, Server};

const LOOKUPS: usize = 300_000;

pub const WORKLOAD: Workload = Workload {
    name: "resolve",
    entries: &[
        Entry {
            name: "ringpool",
            role: Role::Ours,
            run: ours,
        },
        Entry {
            name: "hickory-resolver: lookup_ip",
            role: Role::Peer,
            run: |settings| with_hickory(settings, Hickory::ip),
        },
        Entry {
            name: "hickory-resolver: lookup of A",
            role: Role::Peer,
            run: |settings| with_hickory(settings, Hickory::a),
        },
        Entry {
            name: "limit: a slot of the thread",
            role: Role::Limit,
            run: |settings| race(settings, &slots),
        },
    ],
    metrics: &[TIME, ALLOCATIONS],
    // Each has one of its own, which fills its cache and is not asked while it is measured.
    server: None,
    cases,
    repetitions: 7,
    traced: |settings| match settings.threads {
        1 => 20_000,
        _ => 0,
    },
};

fn cases(is_short: bool) -> Vec<Case> {
    let case = |threads: usize| Case {
        name: format!(
            "a cached name, {threads} thread{}",
            if threads > 1 { "s" } else { "" }
        ),
        settings: Settings {
            threads,
            count: if is_short { LOOKUPS / 3 } else { LOOKUPS },
            ..Settings::default()
        },
    };
    cpu::fitting([1, 2]).map(case).collect()
}

fn ours(settings: &Settings) -> Outcome<Figures> {
    let server = Server::start()?;
    let shards = Shards::builder()
        .shards(NonZeroUsize::new(settings.threads).ok_or("no threads")?)
        .config(Config {
            resolver: Resolver::Servers(vec![server.address()]),
            ..Config::default()
        })
        .build()?;
    let measured = race_shards(&shards, settings, |race, count| async move {
        let handle = Pool::local()?.endpoint((NAME, 443))?;
        for _ in 0..WARM {
            let known = handle.resolve().await?;
            assert_eq!(known.addresses().len(), ADDRESSES);
        }
        let began = race.start();
        for _ in 0..count {
            let known = black_box(&handle).resolve().await?;
            black_box(known.addresses().next().is_some_and(|it| it.is_ipv4()));
        }
        Ok(race.end(began))
    });
    shards.shutdown();
    cached(&server)?;
    measured
}

fn with_hickory(
    settings: &Settings,
    make: fn(&TokioResolver) -> Outcome<Hickory>,
) -> Outcome<Figures> {
    let server = Server::start()?;
    let resolver = hickory(server.address())?;
    // Who asks drives the question for all others who wait for it, and that one waits for them when
    // the race begins: so the cache is filled before.
    make(&resolver)?.times(1)?;
    let measured = race(settings, &|| make(&resolver));
    cached(&server)?;
    measured
}

/// A cache is filled once, by a few threads at the same time.
fn cached(server: &Server) -> Outcome<()> {
    match server.asked() {
        0..=16 => Ok(()),
        asked => Err(format!("{asked} questions reached the server: it does not cache").into()),
    }
}

/// A resolver whose cache all threads share, as its users share it.
fn hickory(server: SocketAddr) -> Outcome<TokioResolver> {
    let mut over_udp = ConnectionConfig::udp();
    over_udp.port = server.port();
    let server = NameServerConfig::new(server.ip(), true, vec![over_udp]);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    Ok(builder.build()?)
}

struct Hickory {
    runtime: tokio::runtime::Runtime,
    resolver: TokioResolver,
    name: Name,
    is_ip: bool,
}

impl Hickory {
    fn ip(resolver: &TokioResolver) -> Outcome<Self> {
        Self::new(resolver, true)
    }

    fn a(resolver: &TokioResolver) -> Outcome<Self> {
        Self::new(resolver, false)
    }

    fn new(resolver: &TokioResolver, is_ip: bool) -> Outcome<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Self {
            runtime,
            resolver: resolver.clone(),
            // Absolute, which is the least work for it.
            name: Name::from_ascii(format!("{NAME}."))?,
            is_ip,
        })
    }
}

impl Operation for Hickory {
    fn times(&mut self, count: usize) -> Outcome<()> {
        let (resolver, name) = (&self.resolver, &self.name);
        self.runtime.block_on(async {
            for _ in 0..count {
                let name = black_box(name).clone();
                if self.is_ip {
                    let known = resolver.lookup_ip(name).await?;
                    black_box(known.iter().next().ok_or("no address")?.is_ipv4());
                } else {
                    let known = resolver.lookup(name, RecordType::A).await?;
                    black_box(known.answers().first().ok_or("no address")?);
                }
            }
            Ok(())
        })
    }
}

/// As little as can be done with a handle: a borrow, a slot, one more owner of what is there.
struct Slots(RefCell<Vec<Rc<[IpAddr]>>>);

fn slots() -> Outcome<Slots> {
    let v6 = server::v6().map(IpAddr::V6);
    let addresses: Rc<[IpAddr]> = v6.chain(server::v4().map(IpAddr::V4)).collect();
    Ok(Slots(RefCell::new(vec![addresses; 16])))
}

impl Operation for Slots {
    fn times(&mut self, count: usize) -> Outcome<()> {
        for _ in 0..count {
            let known = self.0.borrow_mut()[black_box(7)].clone();
            black_box(known[0].is_ipv4());
        }
        Ok(())
    }
}
