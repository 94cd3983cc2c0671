//! Servers on loopback for the tests: real sockets, in threads of their own, ended with the test.
#![allow(dead_code, unreachable_pub)] // each test binary uses a part

pub mod bare;
pub mod held;
pub mod names;

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use held::held_by_clients;
use ringpool::{Config, Result, Shards, TaskRuntime};

/// What a test does on a shard: one shard, the given settings.
pub fn on_one_shard<F, Fut, T>(config: Config, work: F) -> T
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<T>> + 'static,
    T: Send + 'static,
{
    let shards = shards(1, config);
    let value = shards.run_on(0, work).unwrap().wait().unwrap().unwrap();
    shards.shutdown();
    value
}

/// `n` shards with the given settings, which end quickly.
pub fn shards(n: usize, config: Config) -> Shards {
    shards_on(TaskRuntime::default(), n, config)
}

/// The same on a runtime of one's choice.
pub fn shards_on(runtime: TaskRuntime, n: usize, config: Config) -> Shards {
    Shards::builder()
        .shards(NonZeroUsize::new(n).unwrap())
        .runtime(runtime)
        .config(config)
        .drain(Duration::from_secs(2))
        .build()
        .unwrap()
}

/// Waits until `condition` holds; fails after ten seconds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        // bounded: the loop ends by the condition or its deadline
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The same on a shard, where the loop must go on meanwhile.
pub async fn eventually_async(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await; // bounded: as above
    }
}

/// Polls `future` `times` times, letting the loop turn in between, then drops it.
pub async fn poll_times<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..times {
        let polled = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        if let Poll::Ready(value) = polled {
            return Some(value);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// What a server does with one connection.
type Serve = dyn Fn(TcpStream, &Counters) + Send + Sync;

/// What a server saw.
#[derive(Default)]
pub struct Counters {
    pub accepted: AtomicUsize,
    /// Connections whose end (FIN or reset) the server has seen.
    pub ended: AtomicUsize,
    /// Connections whose end the server has not seen: at least as many as there are.
    pub open: AtomicUsize,
    /// How many clients may hold at once; 0 if nobody counts.
    pub limit: AtomicUsize,
    /// The most that they were found to hold at once, whenever it might be more than that.
    pub most_held: AtomicUsize,
}

impl Counters {
    /// Who sees that it was accepted finds it counted.
    fn opened(&self, server: SocketAddr, streams: &Streams) {
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        let limit = self.limit.load(Ordering::SeqCst);
        if limit > 0 && open > limit {
            let streams = streams.lock().unwrap();
            let clients = streams.values().filter_map(|it| it.peer_addr().ok());
            let held = held_by_clients(server, &clients.collect::<Vec<_>>());
            self.most_held.fetch_max(held, Ordering::SeqCst);
        }
        self.accepted.fetch_add(1, Ordering::SeqCst);
    }
}

/// Handles on the open connections, to end them from outside.
type Streams = Mutex<HashMap<usize, TcpStream>>;

/// A server with a thread per connection.
pub struct Server {
    address: SocketAddr,
    counters: Arc<Counters>,
    stop: Arc<AtomicBool>,
    streams: Arc<Streams>,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    /// Echoes what comes until the end.
    pub fn echo() -> Self {
        Self::start(Ipv4Addr::LOCALHOST.into(), 0, echo)
    }

    /// Serves each connection with `serve` on a port of 127.0.0.1.
    pub fn new(serve: impl Fn(TcpStream, &Counters) + Send + Sync + 'static) -> Self {
        Self::start(Ipv4Addr::LOCALHOST.into(), 0, serve)
    }

    pub fn start(
        ip: IpAddr,
        port: u16,
        serve: impl Fn(TcpStream, &Counters) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((ip, port)).unwrap();
        let address = listener.local_addr().unwrap();
        let counters = Arc::new(Counters::default());
        let stop = Arc::new(AtomicBool::new(false));
        let streams = Arc::new(Streams::default());
        let serve: Arc<Serve> = Arc::new(serve);
        let acceptor = {
            let (counters, stop, streams) = (counters.clone(), stop.clone(), streams.clone());
            std::thread::spawn(move || accept(&listener, &serve, &counters, &stop, &streams))
        };
        Self {
            address,
            counters,
            stop,
            streams,
            acceptor: Some(acceptor),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `127.0.0.1:port`.
    pub fn name(&self) -> String {
        self.address.to_string()
    }

    pub fn accepted(&self) -> usize {
        self.counters.accepted.load(Ordering::SeqCst)
    }

    pub fn ended(&self) -> usize {
        self.counters.ended.load(Ordering::SeqCst)
    }

    pub fn open(&self) -> usize {
        self.counters.open.load(Ordering::SeqCst)
    }

    /// Counts what clients hold whenever it might be more than `limit`.
    pub fn limited_to(self, limit: usize) -> Self {
        self.counters.limit.store(limit, Ordering::SeqCst);
        self
    }

    /// The most connections that clients held at once, if that was more than the limit.
    pub fn over_limit(&self) -> Option<usize> {
        let limit = self.counters.limit.load(Ordering::SeqCst);
        assert!(limit > 0, "nobody counts");
        let most = self.counters.most_held.load(Ordering::SeqCst);
        Some(most).filter(|most| *most > limit)
    }

    /// Ends every connection that is open now.
    pub fn close_all(&self) {
        for (_, stream) in self.streams.lock().unwrap().drain() {
            let _already_ended = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the acceptor, which then sees the flag.
        let _refused = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().unwrap();
        }
        self.close_all();
    }
}

fn accept(
    listener: &TcpListener,
    serve: &Arc<Serve>,
    counters: &Arc<Counters>,
    stop: &AtomicBool,
    streams: &Arc<Streams>,
) {
    let address = listener.local_addr().unwrap();
    for stream in listener.incoming() {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let stream = stream.unwrap();
        stream.set_nodelay(true).unwrap();
        let id = counters.accepted.load(Ordering::SeqCst);
        streams
            .lock()
            .unwrap()
            .insert(id, stream.try_clone().unwrap());
        counters.opened(address, streams);
        let (serve, counters, streams) = (serve.clone(), counters.clone(), streams.clone());
        std::thread::spawn(move || {
            serve(stream, &counters);
            // The last handle of the connection: now it closes.
            streams.lock().unwrap().remove(&id);
            counters.open.fetch_sub(1, Ordering::SeqCst);
            counters.ended.fetch_add(1, Ordering::SeqCst);
        });
    }
}

/// Sends back what comes.
pub fn echo(mut stream: TcpStream, _counters: &Counters) {
    let mut buf = [0; 16 * 1024];
    while let Ok(n) = stream.read(&mut buf) {
        if n == 0 || stream.write_all(&buf[..n]).is_err() {
            return;
        }
    }
}

/// Reads and answers nothing until the end.
pub fn swallow(mut stream: TcpStream, _counters: &Counters) {
    let mut buf = [0; 16 * 1024];
    while matches!(stream.read(&mut buf), Ok(n) if n > 0) {}
}

/// A port of 127.0.0.1 that refuses connections: it was free a moment ago.
pub fn refusing_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Settings under which a get that must fail does so soon, because its retries follow at once. How
/// long it may take is no matter of theirs: servers and timers of a busy machine may be late.
pub fn short_pauses() -> Config {
    Config {
        get_timeout: Duration::from_secs(60),
        connect_timeout: Duration::from_secs(30),
        connect_retry_delay: Duration::from_millis(10),
        ..Config::default()
    }
}
