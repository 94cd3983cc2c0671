//! A hit allocates nothing, and neither does a release; an idle connection keeps little: counted by
//! the allocator itself.
#![allow(unsafe_code)] // an allocator is

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::mem;
use std::net::Ipv4Addr;

use ringpool::{Config, Conn, NameTable, Pool, Resolver};
use support::{Server, on_one_shard};

/// The most bytes of heap that an idle connection may keep.
const IDLE: isize = 500;
/// Tenths of the allocations that a connection may cost which is opened and closed.
const OPENING_TENTHS: u64 = 30;

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    /// Bytes that the thread has, if it frees its own.
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends may have no counter any more.
    let _ended = COUNT.try_with(|count| count.set(count.get() + 1));
}

fn live(more: usize, fewer: usize) {
    let change = more as isize - fewer as isize;
    let _ended = LIVE.try_with(|live| live.set(live.get() + change));
}

// SAFETY: every call goes to the system's allocator unchanged; the counter is a plain cell of the
// calling thread and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    /// # Safety
    ///
    /// As [`GlobalAlloc::alloc`].
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        live(layout.size(), 0);
        // SAFETY: the caller's duty is passed on.
        unsafe { System.alloc(layout) }
    }

    /// # Safety
    ///
    /// As [`GlobalAlloc::dealloc`].
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        live(0, layout.size());
        // SAFETY: the caller's duty is passed on.
        unsafe { System.dealloc(block, layout) }
    }

    /// # Safety
    ///
    /// As [`GlobalAlloc::realloc`].
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        live(size, layout.size());
        // SAFETY: the caller's duty is passed on.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn the_allocator_counts() {
    let before = COUNT.get();
    drop(std::hint::black_box(Box::new(7)));
    assert_eq!(COUNT.get() - before, 1);
}

#[test]
fn a_hit_and_a_release_allocate_nothing() {
    let server = Server::echo();
    let name = server.name();
    let allocated = on_one_shard(Config::default(), async move || {
        let endpoint = Pool::local()?.endpoint(&*name)?;
        for _ in 0..1000 {
            endpoint.get().await?.release();
        }
        let before = COUNT.get();
        for _ in 0..100_000 {
            endpoint.get().await?.release();
        }
        Ok(COUNT.get() - before)
    });
    // What the runtime does when the task yields, once in 128, is not ours; it allocates nothing
    // either.
    assert_eq!(allocated, 0);
}

#[test]
fn a_round_trip_on_a_pooled_connection_allocates_nothing_after_warm_up() {
    let server = Server::echo();
    let name = server.name();
    let allocated = on_one_shard(Config::default(), async move || {
        let endpoint = Pool::local()?.endpoint(&*name)?;
        let mut echo = [0; 64];
        let mut before = 0;
        for round in 0..3000 {
            if round == 1000 {
                before = COUNT.get();
            }
            let conn = endpoint.get().await?;
            conn.write_all(&[7; 64]).await?;
            conn.read_exact(&mut echo).await?;
            conn.release();
        }
        Ok(COUNT.get() - before)
    });
    assert!(
        allocated <= 20,
        "{allocated} allocations in 2000 round trips"
    );
}

#[test]
fn r20_round_trips_of_512_connections_in_step_allocate_nothing_after_warm_up() {
    const CONNECTIONS: usize = 512;
    let server = Server::echo();
    let name = server.name();
    let config = Config {
        max_connections_per_endpoint: CONNECTIONS,
        max_connections_per_shard: CONNECTIONS,
        ..Config::default()
    };
    let allocated = on_one_shard(config, async move || {
        let endpoint = Pool::local()?.endpoint(&*name)?;
        let mut conns = Vec::with_capacity(CONNECTIONS);
        let mut echo = [0; 64];
        let mut before = 0;
        for round in 0..60 {
            if round == 20 {
                before = COUNT.get();
            }
            for _ in 0..CONNECTIONS {
                conns.push(endpoint.get().await?);
            }
            for conn in &conns {
                conn.write_all(&[7; 64]).await?;
            }
            for conn in conns.drain(..) {
                conn.read_exact(&mut echo).await?;
                conn.release();
            }
        }
        Ok(COUNT.get() - before)
    });
    // What is kept grows to the most that was ever needed at once: a round that copies more answers
    // than any before it takes the missing ones from the allocator, once.
    let trips = 40 * CONNECTIONS as u64;
    assert!(
        allocated * 100 <= trips,
        "{allocated} allocations in {trips} round trips"
    );
}

/// Round trips of messages that are given to the kernel as they are, on 16 connections in step.
#[test]
fn r20_large_round_trips_allocate_nothing_after_warm_up() {
    const CONNECTIONS: usize = 16;
    const LEN: usize = 64 * 1024;
    let server = Server::echo();
    let name = server.name();
    let config = Config {
        max_connections_per_endpoint: CONNECTIONS,
        ..Config::default()
    };
    let allocated = on_one_shard(config, async move || {
        let endpoint = Pool::local()?.endpoint(&*name)?;
        let mut echoes = vec![vec![0; LEN]; CONNECTIONS];
        let mut messages = vec![vec![7; LEN]; CONNECTIONS];
        let mut conns = Vec::with_capacity(CONNECTIONS);
        let mut before = 0;
        for round in 0..60 {
            if round == 20 {
                before = COUNT.get();
            }
            for _ in 0..CONNECTIONS {
                conns.push(endpoint.get().await?);
            }
            for (conn, message) in conns.iter().zip(&mut messages) {
                let (written, back) = conn.write_owned(mem::take(message)).await;
                written.unwrap();
                *message = back;
            }
            for (conn, echo) in conns.drain(..).zip(&mut echoes) {
                conn.read_exact(echo).await?;
                conn.release();
            }
        }
        assert!(echoes == messages);
        Ok(COUNT.get() - before)
    });
    // A round that finds fewer buffers free than any before it may copy, once.
    let trips = 40 * CONNECTIONS as u64;
    assert!(
        allocated * 20 <= trips,
        "{allocated} allocations in {trips} round trips"
    );
}

#[test]
fn resolving_a_name_that_is_known_allocates_nothing() {
    let config = Config {
        resolver: Resolver::Table(
            NameTable::new()
                .with("db.test", [Ipv4Addr::LOCALHOST.into()])
                .unwrap(),
        ),
        ..Config::default()
    };
    let allocated = on_one_shard(config, async move || {
        let endpoint = Pool::local()?.endpoint("db.test:5432")?;
        for _ in 0..1000 {
            endpoint.resolve().await?;
        }
        let before = COUNT.get();
        for _ in 0..100_000 {
            std::hint::black_box(endpoint.resolve().await?.addresses().next());
        }
        Ok(COUNT.get() - before)
    });
    assert_eq!(allocated, 0);
}

/// Bytes of heap that the shard has with so many idle connections.
fn with_idle(connections: usize) -> isize {
    let server = Server::new(support::swallow);
    let name = server.name();
    let config = Config {
        max_connections_per_endpoint: connections,
        max_connections_per_shard: connections,
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let endpoint = Pool::local()?.endpoint(&*name)?;
        let mut held = Vec::with_capacity(connections);
        for _ in 0..connections {
            held.push(endpoint.get().await?);
        }
        held.drain(..).for_each(Conn::release);
        assert_eq!(endpoint.stats().idle as usize, connections);
        drop(held);
        Ok(LIVE.get())
    })
}

#[test]
fn r20_an_idle_connection_keeps_little() {
    let (few, many) = (100, 500);
    let each = (with_idle(many) - with_idle(few)) / (many - few) as isize;
    assert!(each <= IDLE, "{each} bytes for each idle connection");
}

#[test]
fn opening_and_closing_a_connection_allocates_next_to_nothing() {
    let server = Server::new(support::swallow);
    let name = server.name();
    let allocated = on_one_shard(Config::default(), async move || {
        let endpoint = Pool::local()?.endpoint(&*name)?;
        let mut before = 0;
        for round in 0..300 {
            if round == 100 {
                before = COUNT.get();
            }
            endpoint.get().await?.close();
        }
        Ok(COUNT.get() - before)
    });
    assert!(
        allocated * 10 <= 200 * OPENING_TENTHS,
        "{allocated} allocations for 200 connections"
    );
}
