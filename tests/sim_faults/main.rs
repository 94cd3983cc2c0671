//! A fault that is met once in a million requests is met every day. Each test here injects one
//! fault, or a few that belong together, in a simulated world, and asserts what the pool must do
//! and what it must never do. A test of a row of `docs/faults.md` begins with its number.
//!
//! Promise: a test shows by the world's count, or by what the servers saw, that its fault happened;
//! at its end the cores are drained and their kernels hold no socket and no operation.

mod cancellation;
mod connect;
mod cores;
mod dead_address;
mod established;
mod fairness;
mod gossip;
mod idle;
mod packed;
mod panics;
mod process;
mod queues;
mod race;
mod resolver;
mod resources;
mod security;
mod spread;
mod time;

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use ringpool::sim::{self, Fault, Script, Server, World, WorldBuilder};
use ringpool::{Config, Conn, Error, ErrorKind, Pool, Protocol, Result, Stats};

/// The endpoint of most tests.
const NAME: &str = "service.test:7000";

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Waits in virtual time.
async fn after(time: Duration) {
    sim::sleep(time).await; // bounded: the world's clock runs on when nothing else can
}

/// Runs a test for the seeds below `count`; a failure is preceded by the seed.
fn seeds(count: u64, test: impl Fn(u64)) {
    struct Failing(u64);
    impl Drop for Failing {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("seed {}", self.0);
            }
        }
    }
    for seed in 0..count {
        let failing = Failing(seed);
        test(seed);
        drop(failing);
    }
}

/// A world with these settings.
fn world(seed: u64, config: Config) -> World {
    World::builder(seed).config(config).build().unwrap()
}

/// A server that answers `ping` with `pong`, often enough for every test.
fn pongs() -> Script {
    pongs_after(Script::new())
}

/// The same after what `script` does.
fn pongs_after(script: Script) -> Script {
    (0..500).fold(script, |it, _| it.expect("ping").send("pong"))
}

/// One server for each address, all behind [`NAME`].
fn servers(world: &World, addresses: &[&str]) -> Vec<Server> {
    let mut all = Vec::new();
    for (n, address) in addresses.iter().enumerate() {
        let own = format!("n{n}.test:7000");
        let server = world.server(&own, &[address]).unwrap();
        server.on_connect(pongs());
        all.push(server);
    }
    name_over(world, &all);
    all
}

/// Puts all of the servers behind [`NAME`].
fn name_over(world: &World, servers: &[Server]) {
    let all = servers.iter().flat_map(|server| server.addresses());
    let all: Vec<_> = all.map(std::net::SocketAddr::ip).collect();
    world.set_name("service.test", &all, secs(60));
}

/// One server behind [`NAME`] that answers.
fn ponging(world: &World) -> Server {
    let server = world.server(NAME, &["10.0.0.1"]).unwrap();
    server.on_connect(pongs());
    server
}

/// How many connections the servers have now.
fn open_at<'a>(servers: impl IntoIterator<Item = &'a Server>) -> usize {
    let all = servers.into_iter().flat_map(|server| {
        let addresses = server.addresses().iter();
        addresses.map(|address| server.connections(*address))
    });
    all.sum()
}

/// How often the servers' addresses were dialed.
fn dials_of<'a>(servers: impl IntoIterator<Item = &'a Server>) -> usize {
    let all = servers.into_iter().flat_map(|server| {
        let addresses = server.addresses().iter();
        addresses.map(|address| server.dials(*address).len())
    });
    all.sum()
}

/// One `ping` and its `pong` on a connection.
async fn ping<P: Protocol>(conn: &Conn<P>) -> Result<()> {
    conn.write_all(b"ping").await?;
    let mut answer = [0; 4];
    conn.read_exact(&mut answer).await?;
    assert_eq!(&answer, b"pong", "a byte was lost, repeated or strange");
    Ok(())
}

/// Get, `ping`, release.
async fn exchange(pool: &Pool) -> Result<()> {
    let conn = pool.get(NAME).await?;
    ping(&conn).await?;
    conn.release();
    Ok(())
}

/// What `work` returns when it runs on a core with the core's pool.
fn on<T, F>(world: &World, core: usize, work: F) -> Result<T>
where
    T: 'static,
    F: AsyncFnOnce(Pool) -> Result<T> + 'static,
{
    let run = world.run_on(core, async move { work(Pool::local()?).await });
    run.unwrap()
}

/// [`exchange`] on core 0.
fn exchange_on(world: &World) -> Result<()> {
    on(world, 0, async |pool| exchange(&pool).await)
}

/// Closes the idle connections of core 0.
fn clear(world: &World) {
    on(world, 0, async |pool| pool.clear_endpoint(NAME)).unwrap();
}

/// `count` gets that wait at once, each its own task: how each of them ended.
fn gets_at_once(world: &World, cores: usize, count: usize) -> Rc<RefCell<Vec<Result<()>>>> {
    let ended = Rc::new(RefCell::new(Vec::new()));
    for n in 0..count {
        let ended = ended.clone();
        world.spawn_on(n % cores, &format!("get {n}"), async move {
            let result = exchange(&Pool::local().unwrap()).await;
            ended.borrow_mut().push(result);
        });
    }
    ended
}

/// The pool of core 0, for figures between two steps.
fn pool_of(world: &World) -> Pool {
    on(world, 0, async |pool| Ok(pool)).unwrap()
}

/// The figures of [`NAME`]; runs until every task has ended.
fn stats(world: &World) -> Stats {
    pool_of(world).stats(NAME).unwrap()
}

/// Nothing disagrees, and after a drain nothing is left, at the pool, in its kernels or at the
/// servers.
fn nothing_left(world: &World, servers: &[Server]) {
    world.end_faults();
    world.audit().unwrap();
    for core in 0..world.cores() {
        let run = world.run_on(core, async {
            if let Ok(pool) = Pool::local() {
                pool.drain(secs(5)).await;
            }
        });
        run.unwrap();
    }
    world.run_for(secs(1)).unwrap();
    world.audit().unwrap();
    for core in 0..world.cores() {
        assert_eq!(world.sockets(core), 0, "sockets of core {core}");
        assert_eq!(world.operations(core), 0, "operations of core {core}");
    }
    for server in servers {
        for address in server.addresses() {
            assert_eq!(server.connections(*address), 0, "connections to {address}");
        }
    }
}

/// That an error of opening says so.
fn is_of_opening(error: &Error) -> bool {
    error.is_connect() || error.is_exhausted()
}

/// That the faults happened.
fn assert_fired(world: &World, faults: &[Fault]) {
    for fault in faults {
        assert!(world.fired(*fault) > 0, "{fault} never happened");
    }
}

/// Polls `inner` a number of times and drops it then: at once, or when it would be polled again.
struct DropAt<F> {
    inner: Option<Pin<Box<F>>>,
    polls: usize,
    at_once: bool,
}

impl<F: Future> Future for DropAt<F> {
    /// What it returned, if it was not dropped before.
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        if self.polls == 0 {
            self.inner = None;
            return Poll::Ready(None);
        }
        self.polls -= 1;
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(value) = inner.as_mut().poll(cx) {
            return Poll::Ready(Some(value));
        }
        if self.polls == 0 && self.at_once {
            self.inner = None;
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}

/// Drops `future` after `polls` polls, if it has not ended by then.
fn drop_at<F: Future>(polls: usize, at_once: bool, future: F) -> DropAt<F> {
    DropAt {
        inner: Some(Box::pin(future)),
        polls,
        at_once,
    }
}

/// A world of two cores to be set up.
fn two_cores(seed: u64) -> WorldBuilder {
    World::builder(seed).cores(2)
}

/// The kinds of all that failed, and how many did not.
fn sorted(ended: &[Result<()>]) -> (usize, Vec<ErrorKind>) {
    let failed = ended.iter().filter_map(|it| it.as_ref().err());
    let failed: Vec<_> = failed.map(Error::kind).collect();
    (ended.len() - failed.len(), failed)
}
