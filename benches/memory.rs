//! What one endpoint costs: bytes that stay allocated for it when its connections are closed again,
//! by the cores that have used it and the addresses that its name has.
//!
//! Every core opens a connection to each address, of many endpoints; the allocator counts what is
//! left of that when all of them are closed.
//!
//! ```sh
//! cargo bench --bench memory
//! ```

#![allow(unsafe_code)] // an allocator is

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringpool::{Config, Conn, Error, NameTable, Pool, Resolver, Result, Shards};

/// Endpoints, half of which are there before the count begins, so that tables have grown.
const ENDPOINTS: usize = 16;
/// Cores, and addresses of each name.
const SIZES: [(usize, u8); 7] = [(1, 1), (2, 4), (2, 16), (8, 4), (8, 16), (16, 16), (64, 4)];

/// Connections that the server keeps: more than one core has open at once.
const OPEN: usize = 64;

static LIVE: AtomicIsize = AtomicIsize::new(0);

struct Counting;

fn add(bytes: usize) {
    LIVE.fetch_add(bytes as isize, Ordering::Relaxed);
}

fn subtract(bytes: usize) {
    LIVE.fetch_sub(bytes as isize, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller's duty is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        subtract(layout.size());
        // SAFETY: the caller's duty is passed on.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        subtract(layout.size());
        add(size);
        // SAFETY: the caller's duty is passed on.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn name(number: usize, port: u16) -> String {
    format!("s{number}.test:{port}")
}

/// Opens a connection of `core` to each address of the endpoint, and closes them.
fn use_it(shards: &Shards, core: usize, name: String, addresses: u8) -> Result<()> {
    let work = move || async move {
        let endpoint = Pool::local()?.endpoint(&*name)?;
        let mut held = Vec::new();
        for _ in 0..addresses {
            held.push(endpoint.get().await?);
        }
        held.into_iter().for_each(Conn::close);
        let deadline = Instant::now() + Duration::from_secs(10);
        let has = |stats: ringpool::Stats| stats.permits > 0;
        while has(endpoint.stats()) && Instant::now() < deadline {
            // bounded: by the deadline
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok::<_, Error>(())
    };
    shards.run_on(core, work)?.wait()?
}

/// Bytes for each endpoint.
fn measure(cores: usize, addresses: u8, port: u16) -> Result<isize> {
    let ips: Vec<IpAddr> = (1..=addresses)
        .map(|last| Ipv4Addr::new(127, 20, 0, last).into())
        .collect();
    let table = (0..ENDPOINTS).try_fold(NameTable::new(), |table, number| {
        table.with(&format!("s{number}.test"), ips.iter().copied())
    })?;
    let config = Config {
        resolver: Resolver::Table(table),
        ..Config::default()
    };
    let cores_count = NonZeroUsize::new(cores).unwrap_or(NonZeroUsize::MIN);
    let shards = Shards::builder()
        .shards(cores_count)
        .config(config)
        .build()?;
    let mut before = 0;
    for number in 0..ENDPOINTS {
        if number == ENDPOINTS / 2 {
            before = LIVE.load(Ordering::Relaxed);
        }
        for core in 0..cores {
            use_it(&shards, core, name(number, port), addresses)?;
        }
    }
    let bytes = LIVE.load(Ordering::Relaxed) - before;
    shards.shutdown();
    Ok(bytes / (ENDPOINTS / 2) as isize)
}

fn main() -> Result<()> {
    let failed = |error| Error::from_source(ringpool::ErrorKind::Io, error);
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    thread::spawn(move || {
        let mut kept = VecDeque::new();
        while let Ok((stream, _)) = listener.accept() {
            kept.push_back(stream);
            if kept.len() > OPEN {
                kept.pop_front();
            }
        }
    });
    println!("cores  addresses  bytes of an endpoint");
    for (cores, addresses) in SIZES {
        let bytes = measure(cores, addresses, port)?;
        println!("{cores:5}  {addresses:9}  {bytes:20}");
    }
    Ok(())
}
