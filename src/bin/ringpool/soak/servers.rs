//! Servers in the wild answer late, in pieces, not at all, and go away. These do all of it, drawn
//! from a seed, and check every request that reaches them.
//!
//! Promise: a server that is told to be calm answers every request from then on; what it has
//! received is a request in full, or the connection's end, or [`Seen::wrong`] tells of it; dropping
//! [`Servers`] ends the thread and closes every socket.
//!
//! **Addresses.** Each server has one of its own in 127.11.0.0/16. A client's side is 127.0.0.1, so
//! that a client of a server that is down cannot meet itself: two ends of one port of one address
//! that connect to each other at once are connected (RFC 9293, "simultaneous open").

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use rustix::net::sockopt::set_socket_linger;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::faults::{Fault, Seen};
use super::frame::{self, HEADER, Header, Kind, LONGEST, NO_ANSWER};
use crate::server_thread::ServerThread;

/// How many servers there are: endpoints compete for a shard's connections.
pub(super) const SERVERS: usize = 4;
/// A request longer than this may meet a server that is deaf for a while.
const LONG: u32 = 16 * 1024;
const MS: Duration = Duration::from_millis(1);

/// All servers of a run.
#[derive(Debug)]
pub(super) struct Servers {
    pub(super) names: Vec<String>,
    pub(super) seen: Arc<Seen>,
    _thread: ServerThread,
}

impl Servers {
    /// Starts them, on one thread.
    pub(super) fn start(seed: u64) -> io::Result<Self> {
        let seen = Arc::new(Seen::default());
        let listeners: Vec<std::net::TcpListener> = (0..SERVERS)
            .map(|n| std::net::TcpListener::bind((Ipv4Addr::new(127, 11, 0, n as u8 + 1), 0)))
            .collect::<io::Result<_>>()?;
        let addresses: Vec<SocketAddr> = listeners
            .iter()
            .map(std::net::TcpListener::local_addr)
            .collect::<io::Result<_>>()?;
        let thread = ServerThread::start("soak-servers", || {
            for (number, listener) in listeners.into_iter().enumerate() {
                listener.set_nonblocking(true)?;
                let server = Server {
                    number: number as u32,
                    address: addresses[number],
                    seen: seen.clone(),
                    rng: Rng::with_seed(seed.rotate_left(8) ^ number as u64),
                };
                tokio::spawn(server.run(TcpListener::from_std(listener)?));
            }
            Ok(())
        })?;
        Ok(Self {
            names: addresses.iter().map(SocketAddr::to_string).collect(),
            seen,
            _thread: thread,
        })
    }
}

struct Server {
    number: u32,
    address: SocketAddr,
    seen: Arc<Seen>,
    rng: Rng,
}

impl Server {
    /// Serves and restarts, for ever.
    async fn run(mut self, first: TcpListener) {
        let mut listener = Some(first);
        loop {
            let now = match listener.take() {
                Some(listener) => listener,
                None => match self.listen_again().await {
                    Ok(listener) => listener,
                    Err(error) => {
                        let address = self.address;
                        let text = format!("{error}, listening again on {address}");
                        return self.seen.wrong(text);
                    }
                },
            };
            let mut connections = JoinSet::new();
            let up = MS * self.rng.u32(300..3000);
            self.serve(now, Instant::now() + up, &mut connections).await;
            // The listener is closed; now the connections are.
            connections.shutdown().await;
            self.seen.fault(Fault::Restart);
            sleep(MS * self.rng.u32(10..250)).await;
        }
    }

    /// Connections that were cut may hold the port for a moment.
    async fn listen_again(&self) -> io::Result<TcpListener> {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match TcpListener::bind(self.address).await {
                Err(error)
                    if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline =>
                {
                    sleep(MS * 10).await;
                }
                result => return result,
            }
        }
    }

    /// Serves until `end`, and for as long as it is to be calm.
    async fn serve(&mut self, listener: TcpListener, end: Instant, set: &mut JoinSet<()>) {
        let _listening = self.seen.listen();
        let mut end = end;
        loop {
            let accepted = timeout_at(end, listener.accept()).await;
            // Those that have ended are let go of.
            while set.try_join_next().is_some() {}
            match accepted {
                Ok(Ok((stream, _))) => {
                    let (open, seen) = (self.seen.opened(), self.seen.clone());
                    let number = self.number;
                    let rng = self.rng.fork();
                    set.spawn(async move {
                        let _open = open;
                        let connection = Connection {
                            stream,
                            number,
                            seen: &seen,
                            rng,
                        };
                        // An error is an end like another: it is the client who notices.
                        let _ended = connection.serve().await;
                    });
                }
                // The connection ended while it was in the queue; accept(2).
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Ok(Err(error)) => self.seen.wrong(format!("{error}, accepting")),
                Err(_) if self.seen.is_calm() => end = Instant::now() + MS * 100,
                Err(_) => return,
            }
        }
    }
}

/// What goes on after an answer.
enum Next {
    Request,
    End,
}

struct Connection<'a> {
    stream: TcpStream,
    number: u32,
    seen: &'a Seen,
    rng: Rng,
}

impl Connection<'_> {
    async fn serve(mut self) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        loop {
            if let Some(fault) = self.draw(Fault::of_idle) {
                sleep(MS * self.rng.u32(..10)).await;
                self.seen.fault(fault);
                match fault {
                    Fault::ResetIdle => return self.reset(),
                    Fault::HalfCloseIdle => return self.half_close().await,
                    Fault::Unsolicited => self.stream.write_all(&frame::unsolicited()).await?,
                    _ => return Ok(()),
                }
            }
            let Some(request) = self.read_request().await? else {
                return Ok(());
            };
            if request.about == NO_ANSWER {
                continue;
            }
            match self.answer(request).await? {
                Next::Request => {}
                Next::End => return Ok(()),
            }
        }
    }

    fn draw(&mut self, fault: fn(&mut Rng) -> Option<Fault>) -> Option<Fault> {
        match self.seen.is_calm() {
            true => None,
            false => fault(&mut self.rng),
        }
    }

    /// The next request, checked; `None` if what came is none.
    async fn read_request(&mut self) -> io::Result<Option<Header>> {
        let mut front = [0; HEADER];
        self.stream.read_exact(&mut front).await?;
        let request = Header::from_bytes(&front).and_then(|header| match header.kind {
            Kind::Request if header.len <= LONGEST => Ok(header),
            _ => Err(format!("{header:?} is no request")),
        });
        let request = match request {
            Ok(request) => request,
            Err(text) => {
                self.seen.wrong(format!("server {}: {text}", self.number));
                return Ok(None);
            }
        };
        if request.len > LONG && !self.seen.is_calm() && self.rng.u32(..8) == 0 {
            self.seen.fault(Fault::Deaf);
            sleep(MS * self.rng.u32(10..500)).await;
        }
        let mut content = vec![0; request.len as usize];
        self.stream.read_exact(&mut content).await?;
        if let Err(text) = request.compare(&content) {
            self.seen.wrong(format!("server {}: {text}", self.number));
            return Ok(None);
        }
        Ok(Some(request))
    }

    async fn answer(&mut self, request: Header) -> io::Result<Next> {
        let answer = Header {
            kind: Kind::Answer,
            len: request.about,
            about: self.number,
            id: request.id,
        };
        let mut frame = answer.frame();
        let fault = self.draw(Fault::of_answer);
        if let Some(fault) = fault {
            self.seen.fault(fault);
        }
        let part = self.rng.usize(..frame.len());
        match fault {
            Some(Fault::Slice) => self.write_sliced(&frame).await?,
            Some(Fault::ResetBefore) => {
                self.reset()?;
                return Ok(Next::End);
            }
            Some(Fault::ResetWithin | Fault::CloseWithin | Fault::HalfCloseWithin) => {
                self.stream.write_all(&frame[..part]).await?;
                match fault {
                    Some(Fault::ResetWithin) => self.reset()?,
                    Some(Fault::HalfCloseWithin) => self.half_close().await?,
                    _ => {}
                }
                return Ok(Next::End);
            }
            Some(Fault::Trailing) => {
                frame.extend_from_slice(&frame::unsolicited());
                self.stream.write_all(&frame).await?;
            }
            stalled_or_none => {
                if stalled_or_none.is_some() {
                    sleep(MS * self.rng.u32(20..600)).await;
                }
                self.stream.write_all(&frame).await?;
            }
        }
        self.seen.answer();
        Ok(Next::Request)
    }

    async fn write_sliced(&mut self, frame: &[u8]) -> io::Result<()> {
        let mut rest = frame;
        let most = 1 + frame.len() / 4;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(self.rng.usize(1..=most).min(rest.len()));
            self.stream.write_all(piece).await?;
            rest = after;
            match self.rng.u32(..4) {
                0 => sleep(MS).await,
                _ => tokio::task::yield_now().await,
            }
        }
        Ok(())
    }

    /// The connection ends with a reset when it is dropped.
    fn reset(&self) -> io::Result<()> {
        set_socket_linger(&self.stream, Some(Duration::ZERO)).map_err(io::Error::from)
    }

    /// Ends this direction, and reads until the client ends the other; not for ever.
    async fn half_close(&mut self) -> io::Result<()> {
        rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Write)?;
        let mut buffer = [0; 4096];
        let reading = async { while let Ok(1..) = self.stream.read(&mut buffer).await {} };
        let _ended_or_late = timeout(Duration::from_secs(2), reading).await;
        Ok(())
    }
}
