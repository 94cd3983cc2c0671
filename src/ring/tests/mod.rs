//! The ring against the real kernel, on loopback.

mod by_hand;
mod chaos;
mod conformance;
mod connect;
mod driver;
mod end;
mod faults;
mod give;
#[cfg(feature = "sim")]
mod give_played;
mod give_refused;
mod op;
#[cfg(feature = "sim")]
mod orders;
mod peer;
mod query;
mod queue;
mod recv;
mod send;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::ring::conn::{Conn, Recv};
use crate::ring::queue::Flush;
use crate::ring::{Event, Ring, RingConfig, SocketOptions, Transport, Tweaks};
use crate::slot::Key;

/// No test waits longer for anything. Reaching it is a failure, not a measurement.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
pub(super) const CONNECT: Duration = Duration::from_secs(10);

pub(super) fn config() -> RingConfig {
    RingConfig {
        entries: 64,
        max_connections: 16,
        max_queries: 4,
        recv_buffers: 16,
        recv_buffer_size: 1024,
        recv_limit: 8 * 1024,
        send_limit: 64 * 1024,
    }
}

pub(super) fn options() -> SocketOptions {
    SocketOptions {
        local_ports: None,
        nodelay: true,
        keepalive: Some(Duration::from_secs(15)),
        user_timeout: Some(Duration::from_secs(30)),
    }
}

pub(super) fn ring(config: RingConfig) -> Ring {
    Ring::with(config, &Tweaks::default()).unwrap()
}

pub(super) fn key(index: u32) -> Key {
    Key::new(index, 0)
}

pub(super) fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A port that no socket of datagrams has, below those that the kernel chooses from, so that it
/// stays free.
pub(super) fn free_port() -> u16 {
    loop {
        let port = 10_000 + (crate::ring::random_seed().unwrap() % 20_000) as u16;
        if UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
}

/// An address that nobody listens on, and that nobody else gets while the socket lives.
pub(super) fn deaf() -> (OwnedFd, SocketAddr) {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    bind(&socket, &any).unwrap();
    let address = getsockname(&socket).unwrap().try_into().unwrap();
    (socket, address)
}

/// A listener whose backlog is full: connects to it wait.
pub(super) fn full_listener() -> ((OwnedFd, TcpStream), SocketAddr) {
    let (socket, address) = deaf();
    rustix::net::listen(&socket, 0).unwrap();
    // One connection fills a backlog of 0.
    let first = TcpStream::connect(address).unwrap();
    ((socket, first), address)
}

impl Ring {
    /// Submits, then waits for one event.
    pub(super) fn next(&mut self) -> Event {
        let start = Instant::now();
        loop {
            if let Some(event) = self.step(start) {
                return event;
            }
        }
    }

    /// An event if one is there; else handles or waits for completions.
    fn step(&mut self, start: Instant) -> Option<Event> {
        if let Some(event) = self.poll_event() {
            return Some(event);
        }
        if self.reap() > 0 {
            return None;
        }
        let _ = self.submit();
        if !self.has_completions() {
            let left = PATIENCE.checked_sub(start.elapsed()).expect("in time");
            if let Flush::Dead(errno) = self.queue.wait(1, left) {
                assert!(self.has_completions(), "the ring is dead: {errno}");
            }
        }
        None
    }

    /// Handles what is there without waiting.
    pub(super) fn settle(&mut self) {
        while self.needs_submit() || self.queue.has_completions() {
            self.submit().unwrap();
            self.reap();
        }
    }

    /// Waits until `done` says so, which sees every event and is asked again after every step.
    pub(super) fn until(&mut self, mut done: impl FnMut(&mut Ring, Option<Event>) -> bool) {
        let start = Instant::now();
        while !done(self, None) {
            if let Some(event) = self.step(start)
                && done(self, Some(event))
            {
                return;
            }
        }
    }

    /// Connects slot `key` to a peer and returns the peer's end.
    pub(super) fn pair(&mut self, key: Key) -> TcpStream {
        let (listener, address) = listener();
        self.connect(key, address, &options(), CONNECT);
        match self.next() {
            Event::Connected { key: connected } => assert_eq!(connected, key),
            other => panic!("{other:?}"),
        }
        self.settle();
        let (peer, _) = listener.accept().unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        peer.set_write_timeout(Some(PATIENCE)).unwrap();
        peer
    }

    /// Closes slot `key` and waits for it.
    pub(super) fn close_wait(&mut self, key: Key) {
        self.close(key);
        self.until(|_, event| match event {
            Some(Event::Closed { key: closed }) => closed == key,
            _ => false,
        });
    }

    /// Ends the receives of the first `count` connections, all idle, as if they had found no buffer.
    pub(super) fn starve_quietly(&mut self, count: u32) {
        for index in 0..count {
            self.conns[index as usize].unread = self.config.recv_limit;
            self.bound(key(index));
        }
        let paused = |conn: &Conn| conn.recv == Recv::Paused;
        self.until(|ring, _| ring.conns[..count as usize].iter().all(paused));
        for index in 0..count {
            self.conns[index as usize].unread = 0;
            self.starve(key(index));
        }
        self.signal.wake();
    }

    /// Reads `count` bytes.
    pub(super) fn read_bytes(&mut self, key: Key, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.until(|ring, _| {
            while bytes.len() < count
                && let Some(chunk) = ring.read(key)
            {
                bytes.extend_from_slice(&chunk);
            }
            bytes.len() >= count
        });
        bytes
    }

    /// Everything is back where it was before the first connection.
    pub(super) fn assert_clean(&self) {
        assert_eq!(self.ops.in_flight(), 0);
        let (available, count) = self.buffers();
        assert_eq!(available, count);
        for conn in &self.conns {
            assert_eq!(conn.phase, crate::ring::conn::Phase::Free);
            assert!(conn.pieces.is_empty());
        }
        assert_eq!(self.stats().stale_cqes, 0);
    }
}
