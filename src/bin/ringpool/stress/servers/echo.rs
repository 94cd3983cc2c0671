//! The other end of the pool's connections: servers that send back what they receive.
//!
//! Promise: all addresses of one name listen on one port; bytes go back in order, as they come;
//! faults are in the [`Tally`].

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::tally::{Accepted, Tally};

/// Connections that the kernel completes before they are accepted: a burst of connects must not
/// be slowed down by lost SYNs.
const BACKLOG: i32 = 4096;
/// How often another port is tried when one is taken on one of the addresses.
const PORT_ATTEMPTS: usize = 64;
const BUFFER: usize = 4096;

/// Listens on one port of all of `addresses`; the kernel chooses which.
pub(crate) fn listen_on(addresses: &[Ipv4Addr]) -> io::Result<Vec<TcpListener>> {
    let mut attempts = PORT_ATTEMPTS;
    loop {
        match try_listen(addresses) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts > 0 => attempts -= 1,
            result => return result,
        }
    }
}

fn try_listen(addresses: &[Ipv4Addr]) -> io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::with_capacity(addresses.len());
    let mut port = 0;
    for address in addresses {
        let listener = listen_at(SocketAddrV4::new(*address, port))?;
        port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(listeners)
}

/// As [`TcpListener::bind`], with a longer queue and not blocking.
fn listen_at(address: SocketAddrV4) -> io::Result<TcpListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    bind(&socket, &SocketAddr::V4(address))?;
    listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// Spawns a server on the current runtime. `address` is the listener's number in the tally.
pub(crate) fn spawn(listener: TcpListener, address: usize, tally: Arc<Tally>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(serve(stream, tally.accept(address)));
                }
                // The connection ended while it was in the queue; accept(2).
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tally.fault(format!("{error}, accepting a connection"));
                    return;
                }
            }
        }
    });
    Ok(())
}

async fn serve(mut stream: TcpStream, mut accepted: Accepted) {
    if !accepted.place().await {
        return;
    }
    // Without it an echo in two pieces waits for the client's delayed acknowledgement.
    let _slower_without = stream.set_nodelay(true);
    let mut buffer = [0; BUFFER];
    // An error is the client's end of the connection as much as 0 is: the client reports it.
    while let Ok(received @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..received]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tally::PATIENCE;
    use super::*;
    use crate::server_thread::ServerThread;
    use std::io::{Read, Write};
    use std::time::Instant;

    #[test]
    fn all_addresses_of_a_name_share_a_port() {
        let addresses = [1, 2, 3, 4].map(|n| Ipv4Addr::new(127, 9, 0, n));
        let listeners = listen_on(&addresses).unwrap();
        let bound: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap()).collect();
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
        let listener = listen_on(&[Ipv4Addr::LOCALHOST]).unwrap().remove(0);
        let address = listener.local_addr().unwrap();
        let tally = Tally::new(1, 300);
        let thread = ServerThread::start("echo", || spawn(listener, 0, tally.clone())).unwrap();
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
}
