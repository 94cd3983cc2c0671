//! A server that dies is not one thing: its connections end, then connects are refused, or nobody
//! answers at all. A [`Gate`] makes one address do each of these, and serve again.
//!
//! Promise: the port stays ours all the while, so that the server returns to the same one.
//!
//! **Silence.** A kernel that has no room for a new connection drops its SYN (listen(2)), as a
//! network does that has lost the way. So the queue is made as short as it can be, and is kept full
//! by a connection of our own, from [`STRANGER`].

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{
    AddressFamily, Shutdown, SocketFlags, SocketType, bind, connect, listen, shutdown, socket_with,
};
use tokio::sync::watch;

/// Where connections come from that are not the pool's.
pub(crate) const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 12, 0, 1);
/// Connections that the kernel completes before they are accepted: a burst of connects must not
/// be slowed down by lost SYNs.
const BACKLOG: i32 = 4096;

/// What a server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// It accepts connections and serves them.
    Open,
    /// It does not listen, and its connections were reset.
    Refusing,
    /// It answers nobody, and its connections were reset.
    Silent,
}

/// One address of a server.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) address: SocketAddr,
    listener: TcpListener,
    service: watch::Sender<Service>,
    /// What fills the queue of a silent server.
    filler: Mutex<Option<OwnedFd>>,
}

impl Gate {
    /// Listens at `address`, whose port is not 0.
    pub(super) fn open(address: SocketAddr) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        // Connections that were cut do not keep us from listening again.
        set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &address)?;
        listen(&socket, BACKLOG)?;
        Ok(Self {
            address,
            listener: TcpListener::from(socket),
            service: watch::Sender::new(Service::Open),
            filler: Mutex::default(),
        })
    }

    /// What the server's tasks follow.
    pub(super) fn service(&self) -> watch::Receiver<Service> {
        self.service.subscribe()
    }

    /// The listener for a task of its own, until the service changes.
    pub(super) fn listener(&self) -> io::Result<TcpListener> {
        self.listener.try_clone()
    }

    /// Resets the connections, and refuses new ones.
    pub(crate) fn refuse(&self) -> io::Result<()> {
        let before = self.service.send_replace(Service::Refusing);
        self.stop_listening(before)
    }

    /// Resets the connections, and lets new ones wait without an answer.
    pub(crate) fn fall_silent(&self) -> io::Result<()> {
        let before = self.service.send_replace(Service::Silent);
        self.stop_listening(before)?;
        listen(&self.listener, 0)?;
        let filler = socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        bind(&filler, &SocketAddr::from((STRANGER, 0)))?;
        connect(&filler, &self.address)?;
        self.fill(Some(filler));
        Ok(())
    }

    /// Serves again.
    pub(crate) fn serve(&self) -> io::Result<()> {
        let before = *self.service.borrow();
        if before == Service::Open {
            return Ok(());
        }
        self.stop_listening(before)?;
        listen(&self.listener, BACKLOG)?;
        self.service.send_replace(Service::Open);
        Ok(())
    }

    /// Those in the queue are reset; the port stays bound.
    fn stop_listening(&self, before: Service) -> io::Result<()> {
        self.fill(None);
        // A socket that does not listen would remember it: its next connections would be shut down
        // from the beginning.
        if before != Service::Refusing {
            shutdown(&self.listener, Shutdown::Both)?;
        }
        Ok(())
    }

    fn fill(&self, filler: Option<OwnedFd>) {
        *self.filler.lock().unwrap_or_else(PoisonError::into_inner) = filler;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use std::net::TcpStream;
    use std::time::Duration;

    #[test]
    fn a_gate_refuses_falls_silent_and_serves_again_on_its_port() {
        let port = super::super::echo::free_port().unwrap();
        let gate = Gate::open((Ipv4Addr::LOCALHOST, port).into()).unwrap();
        let soon = Duration::from_millis(200);
        let connect = || TcpStream::connect_timeout(&gate.address, soon).map_err(|it| it.kind());
        for _ in 0..2 {
            let _queued = connect().unwrap();
            gate.refuse().unwrap();
            assert_eq!(connect().unwrap_err(), ErrorKind::ConnectionRefused);
            gate.refuse().unwrap();
            gate.fall_silent().unwrap();
            assert_eq!(connect().unwrap_err(), ErrorKind::TimedOut);
            gate.fall_silent().unwrap();
            assert_eq!(connect().unwrap_err(), ErrorKind::TimedOut);
            gate.serve().unwrap();
            gate.serve().unwrap();
        }
    }
}
