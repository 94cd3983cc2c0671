//! The other end of the pool's connections: servers that send back what they receive.
//!
//! Promise: all addresses of one name listen on one port; bytes go back in order, as they come;
//! faults are in the [`Tally`].

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::gate::{Gate, Service};
use super::tally::{Accepted, Tally};

/// How often another port is tried when one is taken on one of the addresses.
const PORT_ATTEMPTS: usize = 64;
const BUFFER: usize = 4096;

/// Listens on one port of all of `addresses`.
pub(crate) fn listen_on(addresses: &[Ipv4Addr]) -> io::Result<Vec<Arc<Gate>>> {
    let mut attempts = PORT_ATTEMPTS;
    loop {
        let port = free_port()?;
        let gates = addresses
            .iter()
            .map(|address| Gate::open((*address, port).into()));
        match gates.map(|gate| gate.map(Arc::new)).collect() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts > 0 => attempts -= 1,
            result => return result,
        }
    }
}

/// A port that the kernel chose. A socket whose port was chosen when it was bound to none loses it
/// when it stops listening; one that was told its port keeps it.
pub(super) fn free_port() -> io::Result<u16> {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(socket.local_addr()?.port())
}

/// Spawns a server on the current runtime. `address` is the gate's number in the tally.
pub(crate) fn spawn(gate: Arc<Gate>, address: usize, tally: Arc<Tally>) -> io::Result<()> {
    // Made here, so that an error is one of the start.
    let first = tokio::net::TcpListener::from_std(gate.listener()?)?;
    tokio::spawn(async move {
        let mut service = gate.service();
        let mut listener = Ok(first);
        while let Ok(listening) = listener {
            if let Err(error) = accept(listening, &mut service, address, &tally).await {
                return tally.fault(format!("{error}, accepting a connection"));
            }
            // The gate, which we hold, is the sender: it is there.
            let _open = service.wait_for(|service| *service == Service::Open).await;
            // What epoll(7) was told of the old one ended with it.
            listener = gate.listener().and_then(tokio::net::TcpListener::from_std);
        }
        tally.fault("listening again failed".into());
    });
    Ok(())
}

/// Accepts and serves connections until the gate changes.
async fn accept(
    listener: tokio::net::TcpListener,
    service: &mut watch::Receiver<Service>,
    address: usize,
    tally: &Arc<Tally>,
) -> io::Result<()> {
    while let Some(accepted) = unless_changed(service, listener.accept()).await {
        match accepted {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, tally.accept(address), service.clone()));
            }
            // The connection ended while it was in the queue; accept(2).
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) if service.has_changed().unwrap_or(true) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn serve(
    mut stream: TcpStream,
    mut accepted: Accepted,
    mut service: watch::Receiver<Service>,
) {
    let served = echo(&mut stream, &mut accepted);
    if unless_changed(&mut service, served).await.is_none() {
        // Dropped, it is reset.
        let _dropped_anyway = set_socket_linger(&stream, Some(Duration::ZERO));
    }
}

/// What `work` ends with; nothing if the gate changes before.
async fn unless_changed<T>(
    service: &mut watch::Receiver<Service>,
    work: impl Future<Output = T>,
) -> Option<T> {
    let (mut changed, mut work) = (pin!(service.changed()), pin!(work));
    poll_fn(|cx| match changed.as_mut().poll(cx) {
        Poll::Ready(_) => Poll::Ready(None),
        Poll::Pending => work.as_mut().poll(cx).map(Some),
    })
    .await
}

async fn echo(stream: &mut TcpStream, accepted: &mut Accepted) {
    if !accepted.place().await {
        return;
    }
    // Without it an echo in two pieces waits for the client's delayed acknowledgement.
    let _slower_without = stream.set_nodelay(true);
    let mut buffer = [0; BUFFER];
    let mut is_used = false;
    // An error is the client's end of the connection as much as 0 is: the client reports it.
    while let Ok(received @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..received]).await.is_err() {
            return;
        }
        if !std::mem::replace(&mut is_used, true) {
            accepted.used();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tally::PATIENCE;
    use super::*;
    use crate::server_thread::ServerThread;
    use std::io::{Read, Write};
    use std::net::SocketAddr;
    use std::time::Instant;

    #[test]
    fn all_addresses_of_a_name_share_a_port() {
        let addresses = [1, 2, 3, 4].map(|n| Ipv4Addr::new(127, 9, 0, n));
        let gates = listen_on(&addresses).unwrap();
        let bound: Vec<_> = gates.iter().map(|gate| gate.address).collect();
        let port = bound[0].port();
        assert_ne!(port, 0);
        assert_eq!(
            bound,
            addresses.map(|address| SocketAddr::from((address, port)))
        );
    }

    #[test]
    fn an_address_that_is_not_ours_is_an_error() {
        let elsewhere = Ipv4Addr::new(192, 0, 2, 1);
        assert_eq!(
            listen_on(&[elsewhere]).unwrap_err().kind(),
            io::ErrorKind::AddrNotAvailable
        );
    }

    #[test]
    fn many_connections_get_their_own_bytes_back() {
        let gate = listen_on(&[Ipv4Addr::LOCALHOST]).unwrap().remove(0);
        let address = gate.address;
        let tally = Tally::new(1, 300);
        let thread = ServerThread::start("echo", || spawn(gate, 0, tally.clone())).unwrap();
        let mut clients: Vec<_> = (0..300)
            .map(|_| std::net::TcpStream::connect(address).unwrap())
            .collect();
        let message = |n: usize| vec![n as u8; 10_000];
        for (n, client) in clients.iter_mut().enumerate() {
            client.write_all(&message(n)).unwrap();
        }
        for (n, client) in clients.iter_mut().enumerate() {
            let mut echo = vec![0; 10_000];
            client.read_exact(&mut echo).unwrap();
            assert_eq!(echo, message(n));
        }
        assert_eq!(tally.counts().open, [300]);
        drop(clients);
        assert!(tally.wait_for(Instant::now() + PATIENCE, |counts| counts.open == [0]));
        assert_eq!(
            (tally.counts().accepted, tally.counts().faults.count),
            (vec![300], 0)
        );
        drop(thread);
        assert!(std::net::TcpStream::connect(address).is_err());
    }

    #[test]
    fn a_server_that_dies_resets_its_connections_and_serves_when_it_returns() {
        let gate = listen_on(&[Ipv4Addr::LOCALHOST]).unwrap().remove(0);
        let tally = Tally::new(1, 8);
        let serve = || spawn(gate.clone(), 0, tally.clone());
        let _thread = ServerThread::start("echo", serve).unwrap();
        let echo = || {
            let mut client = std::net::TcpStream::connect(gate.address).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client.write_all(b"hello").unwrap();
            let mut echo = [0; 5];
            client.read_exact(&mut echo).unwrap();
            assert_eq!(&echo, b"hello");
            client
        };
        for die in [Gate::refuse, Gate::fall_silent, Gate::refuse] {
            let mut client = echo();
            die(&gate).unwrap();
            let error = client.read(&mut [0; 5]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            gate.serve().unwrap();
        }
        drop(echo());
        assert!(tally.wait_for(Instant::now() + PATIENCE, |counts| counts.open == [0]));
        assert_eq!(tally.counts().accepted, [4]);
        assert_eq!(tally.counts().faults.count, 0);
    }
}
