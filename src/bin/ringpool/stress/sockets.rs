//! Neither the pool nor the servers are asked how many sockets there are: the kernel is
//! (sock_diag(7)). [`Table`] reads its table of TCP sockets, of IPv4 and of some states.
//!
//! Promise: every socket that exists from the beginning of a read to its end is in what the read
//! returns; one that came or went meanwhile may be. A socket's number is never used again, so that
//! two reads tell which sockets were there between them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

/// The kernel makes no larger datagram of a dump.
const BUFFER: usize = 32 * 1024;
/// The answer is made while we ask for it; this only bounds the wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// linux/netlink.h.
const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
/// linux/sock_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `inet_diag_req_v2` and `inet_diag_msg` of linux/inet_diag.h.
const REQUEST: usize = 56;
const ANSWER: usize = 72;

/// A state of a TCP socket: the numbers of tcp(7)'s `TCP_INFO`.
const ESTABLISHED: u8 = 1;
const SYN_SENT: u8 = 2;
const CLOSE_WAIT: u8 = 8;

/// One TCP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Socket {
    pub(crate) number: u64,
    pub(crate) is_established: bool,
    pub(crate) local: SocketAddr,
    pub(crate) peer: SocketAddr,
}

/// The kernel's table of TCP sockets that connect, are connected, or that their peer has left.
#[derive(Debug)]
pub(crate) struct Table {
    netlink: OwnedFd,
    buffer: Vec<u8>,
}

impl Table {
    pub(crate) fn open() -> io::Result<Self> {
        let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
        let protocol = Some(netlink::SOCK_DIAG);
        let netlink = socket_with(family, SocketType::RAW, flags, protocol)?;
        set_socket_timeout(&netlink, Timeout::Recv, Some(PATIENCE))?;
        Ok(Self {
            netlink,
            buffer: vec![0; BUFFER],
        })
    }

    /// All of them now.
    pub(crate) fn read(&mut self) -> io::Result<Vec<Socket>> {
        send(&self.netlink, &request(), SendFlags::empty())?;
        let mut sockets = Vec::new();
        loop {
            let (len, _) = recv(&self.netlink, &mut self.buffer[..], RecvFlags::empty())?;
            if !take(&self.buffer[..len], &mut sockets)? {
                return Ok(sockets);
            }
        }
    }
}

fn request() -> [u8; HEADER + REQUEST] {
    let mut bytes = [0; HEADER + REQUEST];
    let states = [ESTABLISHED, SYN_SENT, CLOSE_WAIT];
    let states = states.iter().fold(0_u32, |mask, state| mask | 1 << state);
    bytes[..4].copy_from_slice(&((HEADER + REQUEST) as u32).to_ne_bytes());
    bytes[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    bytes[HEADER] = AddressFamily::INET.as_raw() as u8;
    bytes[HEADER + 1] = rustix::net::ipproto::TCP.as_raw().get() as u8;
    bytes[HEADER + 4..HEADER + 8].copy_from_slice(&states.to_ne_bytes());
    bytes
}

/// Takes the sockets of one datagram. Says whether there is more to come.
fn take(mut datagram: &[u8], sockets: &mut Vec<Socket>) -> io::Result<bool> {
    let short = || io::Error::new(io::ErrorKind::InvalidData, "a short answer of sock_diag(7)");
    while !datagram.is_empty() {
        let len = datagram.first_chunk().map(|len| u32::from_ne_bytes(*len));
        let len = len.map_or(0, |len| len as usize);
        let message = datagram
            .get(..len)
            .filter(|message| message.len() >= HEADER);
        let message = message.ok_or_else(short)?;
        match u16::from_ne_bytes([message[4], message[5]]) {
            NLMSG_DONE => return Ok(false),
            NLMSG_ERROR => return Err(error(&message[HEADER..])),
            _ => sockets.push(socket(&message[HEADER..]).ok_or_else(short)?),
        }
        // Messages begin at multiples of four.
        datagram = datagram.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(true)
}

fn error(body: &[u8]) -> io::Error {
    let errno = body
        .first_chunk()
        .map_or(0, |errno| i32::from_ne_bytes(*errno));
    io::Error::from_raw_os_error(errno.saturating_neg())
}

fn socket(body: &[u8]) -> Option<Socket> {
    let body: &[u8; ANSWER] = body.first_chunk()?;
    let address = |port: usize, ip: usize| {
        let ip = Ipv4Addr::new(body[ip], body[ip + 1], body[ip + 2], body[ip + 3]);
        let port = u16::from_be_bytes([body[port], body[port + 1]]);
        SocketAddr::V4(SocketAddrV4::new(ip, port))
    };
    Some(Socket {
        number: u64::from_ne_bytes(*body[44..].first_chunk()?),
        is_established: body[1] == ESTABLISHED,
        local: address(4, 8),
        peer: address(6, 24),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    fn of(sockets: &[Socket], local: SocketAddr, peer: SocketAddr) -> Option<Socket> {
        let mut found = sockets
            .iter()
            .filter(|it| (it.local, it.peer) == (local, peer));
        found.next().copied()
    }

    #[test]
    fn both_ends_of_a_connection_are_in_the_table_until_they_are_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut table = Table::open().unwrap();
        // More than one datagram of the answer holds.
        let connect = |_| {
            (
                TcpStream::connect(address).unwrap(),
                listener.accept().unwrap().0,
            )
        };
        let (clients, servers): (Vec<_>, Vec<_>) = (0..500).map(connect).unzip();
        let (first, again) = (table.read().unwrap(), table.read().unwrap());
        for client in &clients {
            let ours = client.local_addr().unwrap();
            let (own, its) = (of(&first, ours, address), of(&first, address, ours));
            assert!(own.unwrap().is_established && its.unwrap().is_established);
            assert_ne!(own.unwrap().number, its.unwrap().number);
            assert_eq!(of(&again, ours, address), own);
        }
        let ours = clients[0].local_addr().unwrap();
        drop(clients);
        let after = table.read().unwrap();
        assert_eq!(of(&after, ours, address), None);
        // The server's end is there, and established no more.
        assert!(!of(&after, address, ours).unwrap().is_established);
        drop(servers);
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let mut sockets = Vec::new();
        for bytes in [&[1, 2, 3][..], &[0; 16], &[255; 40]] {
            assert!(take(bytes, &mut sockets).is_err());
        }
        let mut refused = [0; HEADER + 4];
        refused[0] = (HEADER + 4) as u8;
        refused[4] = NLMSG_ERROR as u8;
        refused[HEADER..].copy_from_slice(&(-2_i32).to_ne_bytes());
        let error = take(&refused, &mut sockets).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(sockets.is_empty());
    }
}
