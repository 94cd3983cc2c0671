//! What a connection costs that is opened, used by nobody and closed again. Most of it is the kernel's,
//! so that ours does not show in a time: its instructions are counted, by the difference of two runs,
//! and its allocations by the allocator. With `idle` it says what idle connections keep: bytes
//! of heap for each, and after a round trip on each.
//!
//! ```sh
//! cargo bench --bench open -- 20000       # connections, one after the other
//! cargo bench --bench open -- idle 10000  # connections, all at once
//! for n in 2000 4000; do valgrind --tool=callgrind target/release/deps/open-… $n; done
//! ```

#![allow(unsafe_code)] // an allocator is

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::thread;
use std::time::{Duration, Instant};

use ringpool::{Config, Conn, Error, ErrorKind, Pool, Result, Shards, TaskRuntime};

struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static LIVE: Cell<i64> = const { Cell::new(0) };
}

fn count(calls: u64, bytes: i64) {
    // A thread that ends may have no counters any more.
    let _ended = CALLS.try_with(|count| count.set(count.get() + calls));
    let _ended = LIVE.try_with(|live| live.set(live.get() + bytes));
}

// SAFETY: every call goes to the system's allocator unchanged; the counters are plain cells of the
// calling thread and allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: the caller's duty is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(0, -(layout.size() as i64));
        // SAFETY: the caller's duty is passed on.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size as i64 - layout.size() as i64);
        // SAFETY: the caller's duty is passed on.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> Result<()> {
    let failed = |error| Error::from_source(ErrorKind::Io, error);
    let mut numbers = std::env::args().filter_map(|arg| arg.parse().ok());
    let number = numbers.next_back().unwrap_or(2_000).max(1);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    if std::env::args().any(|arg| arg == "idle") {
        thread::spawn(move || echo(&listener));
        return idle(address, number);
    }
    // Whoever closes second keeps no port behind.
    thread::spawn(move || {
        listener
            .incoming()
            .flatten()
            .for_each(|mut stream| drop(stream.read(&mut [0])))
    });
    let (time, calls) = run(1, move || open(address, number))?;
    let each = |whole: f64| whole / number as f64;
    println!(
        "{:.2} µs and {:.2} allocations for each of {number}",
        each(time.as_secs_f64() * 1e6),
        each(calls as f64)
    );
    Ok(())
}

fn run<F, T>(connections: usize, work: impl FnOnce() -> F + Send + 'static) -> Result<T>
where
    F: Future<Output = Result<T>> + 'static,
    T: Send + 'static,
{
    let shards = Shards::builder()
        .shards(NonZeroUsize::MIN)
        .runtime(TaskRuntime::Tokio)
        .config(Config {
            max_connections_per_endpoint: connections,
            max_connections_per_shard: connections,
            ..Config::default()
        })
        .build()?;
    let done = shards.run_on(0, work)?.wait()?;
    shards.shutdown();
    done
}

async fn open(address: SocketAddr, number: usize) -> Result<(Duration, u64)> {
    let endpoint = Pool::local()?.endpoint(address)?;
    for _ in 0..100 {
        endpoint.get().await?.close();
    }
    let (begun, calls) = (Instant::now(), CALLS.get());
    for _ in 0..number {
        endpoint.get().await?.close();
    }
    Ok((begun.elapsed(), CALLS.get() - calls))
}

/// Says what one more connection takes, by what there is without any and with `number` of them.
fn idle(address: SocketAddr, number: usize) -> Result<()> {
    let least = run(1, move || keep(address, 1))?;
    let most = run(number, move || keep(address, number))?;
    let each = |which: fn((i64, i64)) -> i64| {
        (which(most) - which(least)) as f64 / (number.max(2) - 1) as f64
    };
    println!(
        "{:.1} bytes of heap for each of {number} idle connections, {:.1} after a round trip",
        each(|(opened, _)| opened),
        each(|(_, used)| used)
    );
    Ok(())
}

/// Bytes of heap with so many idle connections, and after a round trip on each.
async fn keep(address: SocketAddr, number: usize) -> Result<(i64, i64)> {
    let endpoint = Pool::local()?.endpoint(address)?;
    let mut held = Vec::new();
    for _ in 0..number {
        held.push(endpoint.get().await?);
    }
    held.into_iter().for_each(Conn::release);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let opened = LIVE.get();
    let mut held = Vec::new();
    for _ in 0..number {
        let conn = endpoint.get().await?;
        conn.write_all(&[7; 64]).await?;
        conn.read_exact(&mut [0; 64]).await?;
        held.push(conn);
    }
    held.into_iter().for_each(Conn::release);
    tokio::time::sleep(Duration::from_millis(50)).await;
    Ok((opened, LIVE.get()))
}

/// Echoes 64 bytes at a time, whichever connection they come on.
fn echo(listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        let serving = thread::Builder::new().stack_size(64 * 1024);
        let served = serving.spawn(move || serve(stream));
        drop(served);
    }
}

fn serve(mut stream: TcpStream) {
    let mut bytes = [0; 64];
    while stream.read_exact(&mut bytes).is_ok() && stream.write_all(&bytes).is_ok() {}
}
