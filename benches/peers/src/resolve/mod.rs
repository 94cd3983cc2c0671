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
use std::sync::{Arc, Barrier};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RecordType};
use ringpool::{Config, Pool, Resolver, Shards};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

use crate::Outcome;
use crate::result::{Case, Contender, Role, Row};
use server::{ADDRESSES, NAME, Server};

const REPETITIONS: usize = 7;
const LOOKUPS: u32 = 1_000_000;

pub fn run(is_short: bool) -> Outcome<Vec<Row>> {
    let server = Server::start()?;
    let lookups = if is_short { LOOKUPS / 10 } else { LOOKUPS };
    let cores = std::thread::available_parallelism()?.get();
    let mut rows = Vec::new();
    for threads in [1, 2] {
        if threads > cores {
            eprintln!("resolve: {threads} threads need {threads} cores, there are {cores}");
            continue;
        }
        rows.push(case(&server, threads, lookups)?);
    }
    Ok(rows)
}

fn case(server: &Server, threads: usize, lookups: u32) -> Outcome<Row> {
    let shards = Shards::builder()
        .shards(NonZeroUsize::new(threads).expect("it is 1 or 2"))
        .config(Config {
            resolver: Resolver::Servers(vec![server.address()]),
            ..Config::default()
        })
        .build()?;
    let hickory = hickory(server.address())?;
    let contenders = vec![
        Contender {
            name: "ringpool",
            role: Role::Ours,
            measure: Box::new(|| ours(&shards, threads, lookups)),
        },
        Contender {
            name: "hickory-resolver: lookup_ip",
            role: Role::Peer,
            measure: Box::new(|| on_threads(threads, lookups, &|| Hickory::ip(&hickory))),
        },
        Contender {
            name: "hickory-resolver: lookup of A",
            role: Role::Peer,
            measure: Box::new(|| on_threads(threads, lookups, &|| Hickory::a(&hickory))),
        },
        Contender {
            name: "limit: a slot of the thread",
            role: Role::Limit,
            measure: Box::new(|| on_threads(threads, lookups, &slots)),
        },
    ];
    let case = Case {
        workload: "resolve",
        case: format!(
            "a cached name, {threads} thread{}",
            if threads > 1 { "s" } else { "" }
        ),
        metric: "processor time of a lookup",
        unit: "ns",
    };
    let row = case.run(contenders, REPETITIONS)?;
    shards.shutdown();
    // Each filled its cache once, and a few threads did that at the same time.
    match server.asked() {
        0..=64 => Ok(row),
        asked => {
            Err(format!("{asked} questions reached the server: somebody does not cache").into())
        }
    }
}

/// What the calling thread has used. Nobody waits in a lookup of what is known, so on an idle machine
/// this is the time that passes; on a busy one it leaves out what others used.
fn processor_time() -> Duration {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(spent.tv_sec as u64, spent.tv_nsec as u32)
}

/// Nanoseconds a lookup, on the slowest shard.
fn ours(shards: &Shards, threads: usize, lookups: u32) -> Outcome<f64> {
    let barrier = Arc::new(Barrier::new(threads));
    let mut running = Vec::new();
    for shard in 0..threads {
        let barrier = barrier.clone();
        running.push(shards.run_on(shard, move || async move {
            let handle = Pool::local()?.endpoint((NAME, 443))?;
            let known = handle.resolve().await?;
            assert_eq!(known.addresses().len(), ADDRESSES);
            barrier.wait();
            let began = processor_time();
            for _ in 0..lookups {
                let known = black_box(&handle).resolve().await?;
                black_box(known.addresses().next().is_some_and(|it| it.is_ipv4()));
            }
            Ok::<_, ringpool::Error>(processor_time() - began)
        })?);
    }
    let mut slowest = 0.0_f64;
    for shard in running {
        let taken: Duration = shard.wait()??;
        slowest = slowest.max(taken.as_nanos() as f64 / f64::from(lookups));
    }
    Ok(slowest)
}

/// Something that looks the name up, on one thread.
trait Lookup {
    fn lookups(&mut self, times: u32) -> Outcome<()>;
}

/// The same on threads of our own, each on its core.
fn on_threads<L: Lookup>(
    threads: usize,
    lookups: u32,
    make: &(dyn Fn() -> Outcome<L> + Sync),
) -> Outcome<f64> {
    let barrier = Barrier::new(threads);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|core| {
                let barrier = &barrier;
                scope.spawn(move || -> Outcome<f64> {
                    let mut cores = CpuSet::new();
                    cores.set(core);
                    sched_setaffinity(None, &cores)?;
                    let mut lookup = make()?;
                    lookup.lookups(1)?;
                    barrier.wait();
                    let began = processor_time();
                    lookup.lookups(lookups)?;
                    let taken = processor_time() - began;
                    Ok(taken.as_nanos() as f64 / f64::from(lookups))
                })
            })
            .collect();
        let mut slowest = 0.0_f64;
        for thread in running {
            let figure = thread.join().map_err(|_| "a thread panicked")??;
            slowest = slowest.max(figure);
        }
        Ok(slowest)
    })
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

impl Lookup for Hickory {
    fn lookups(&mut self, times: u32) -> Outcome<()> {
        let (resolver, name) = (&self.resolver, &self.name);
        self.runtime.block_on(async {
            for _ in 0..times {
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

impl Lookup for Slots {
    fn lookups(&mut self, times: u32) -> Outcome<()> {
        for _ in 0..times {
            let known = self.0.borrow_mut()[black_box(7)].clone();
            black_box(known[0].is_ipv4());
        }
        Ok(())
    }
}
