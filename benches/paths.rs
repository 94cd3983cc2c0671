//! What a user's calls cost, one kind at a time: a get that finds an idle connection, its return, a
//! get that has to open one, a name that is known. Ours alone: beside others, `benches/peers`.
//!
//! Servers are on loopback; the calls run on a shard of its own, and its processor is shared with
//! whatever the machine does.
//!
//! ```sh
//! cargo bench --bench paths -- --quick
//! ```

use std::collections::VecDeque;
use std::hint::black_box;
use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::num::NonZeroUsize;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use ringpool::{Config, Conn, EndpointHandle, NameTable, Pool, Resolver, Result, Shards};

/// Idle connections, and gets in a row.
const HELD: usize = 64;
/// Addresses of the name, so that connects that follow each other do not run out of ports.
const ADDRESSES: u8 = 16;

/// A server that keeps what it accepts for a while; its port on all addresses.
fn serve() -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        let mut kept = VecDeque::new();
        while let Ok((stream, _)) = listener.accept() {
            kept.push_back(stream);
            if kept.len() > 2 * HELD {
                kept.pop_front();
            }
        }
    });
    Ok(port)
}

fn shard() -> Result<Shards> {
    let ips = (1..=ADDRESSES).map(|last| IpAddr::from([127, 21, 0, last]));
    let config = Config {
        max_connections_per_endpoint: HELD,
        resolver: Resolver::Table(NameTable::new().with("paths.test", ips)?),
        ..Config::default()
    };
    let one = Shards::builder().shards(NonZeroUsize::MIN);
    one.config(config).build()
}

/// What `work` says that it took, with a handle on the endpoint, on the shard.
fn timed<Fut>(
    shards: &Shards,
    name: &str,
    work: impl FnOnce(EndpointHandle) -> Fut + Send + 'static,
) -> Duration
where
    Fut: Future<Output = Result<Duration>> + 'static,
{
    let name = name.to_owned();
    let run = shards.run_on(
        0,
        || async move { work(Pool::local()?.endpoint(&*name)?).await },
    );
    let taken = run.and_then(|run| run.wait()?);
    taken.expect("the shard and its server are there")
}

async fn gets(endpoint: &EndpointHandle, held: &mut Vec<Conn>) -> Result<()> {
    for _ in 0..HELD {
        held.push(endpoint.get().await?);
    }
    Ok(())
}

/// Rounds that are timed on one side, each of `HELD` gets and as many returns.
async fn rounds(endpoint: EndpointHandle, count: u64, gets_count: bool) -> Result<Duration> {
    let mut held = Vec::with_capacity(HELD);
    gets(&endpoint, &mut held).await?;
    held.drain(..).for_each(Conn::release);
    let mut taken = Duration::ZERO;
    for _ in 0..count.div_ceil(HELD as u64) {
        let began = Instant::now();
        gets(&endpoint, &mut held).await?;
        let got = Instant::now();
        held.drain(..).for_each(Conn::release);
        taken += if gets_count {
            got - began
        } else {
            got.elapsed()
        };
    }
    // Whole rounds were made; criterion asked for `count`.
    let made = count.div_ceil(HELD as u64) * HELD as u64;
    Ok(taken.mul_f64(count as f64 / made as f64))
}

fn paths(c: &mut Criterion) {
    let port = serve().expect("a port on loopback");
    let shards = shard().expect("io_uring is allowed here");
    let name = format!("paths.test:{port}");
    let mut group = c.benchmark_group("paths");
    group.bench_function("get that finds one, and its release", |b| {
        b.iter_custom(|count| {
            timed(&shards, &name, move |endpoint| async move {
                endpoint.get().await?.release();
                let began = Instant::now();
                for _ in 0..count {
                    black_box(endpoint.get().await?).release();
                }
                Ok(began.elapsed())
            })
        });
    });
    for (what, gets_count) in [
        ("get of 64 in a row", true),
        ("release of 64 in a row", false),
    ] {
        group.bench_function(what, |b| {
            b.iter_custom(|count| {
                timed(&shards, &name, move |endpoint| {
                    rounds(endpoint, count, gets_count)
                })
            });
        });
    }
    group.bench_function("name that is known", |b| {
        b.iter_custom(|count| {
            timed(&shards, &name, move |endpoint| async move {
                let began = Instant::now();
                for _ in 0..count {
                    black_box(endpoint.resolve().await?);
                }
                Ok(began.elapsed())
            })
        });
    });
    group.bench_function("get that opens one, and its close", |b| {
        b.iter_custom(|count| {
            timed(&shards, &name, move |endpoint| async move {
                endpoint.clear();
                let began = Instant::now();
                for _ in 0..count {
                    endpoint.get().await?.close();
                }
                Ok(began.elapsed())
            })
        });
    });
    group.finish();
    shards.shutdown();
}

criterion_group!(all, paths);
criterion_main!(all);
