//! One function per submission entry, so that flags and link kinds are decided in one place.
//! Building an entry is safe; pushing it is not (see [`queue`](super::queue)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use io_uring::opcode;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, DestinationSlot, Fd, Fixed, Timespec};

use crate::ring::buffers::GROUP;
use crate::ring::events::SocketOptions;
use crate::ring::op::{Address, Dial};
use crate::ring::token::Kind;

/// `IORING_MSG_RING_CQE_SKIP` (io_uring.h).
const CQE_SKIP: u32 = 1 << 0;

/// What a socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

/// A socket option: level, name, value.
pub(super) type Setting = (i32, i32, i32);

/// The port that the own end gets is one of a range: the last in the upper 16 bits, the first in the
/// lower ones, of both families (ip(7); Linux 6.3).
pub(crate) const IP_LOCAL_PORT_RANGE: i32 = 51;

/// The options asked for, in the order of [`Kind::OPTIONS`].
pub(super) fn settings(options: &SocketOptions, out: &mut Vec<Setting>) {
    let tcp = libc::IPPROTO_TCP;
    out.clear();
    if options.nodelay {
        out.push((tcp, libc::TCP_NODELAY, 1));
    }
    if let Some(idle) = options.keepalive.map(whole_seconds) {
        out.push((libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1));
        out.push((tcp, libc::TCP_KEEPIDLE, idle));
        out.push((tcp, libc::TCP_KEEPINTVL, idle));
    }
    if let Some(time) = options.user_timeout {
        let millis = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
        out.push((tcp, libc::TCP_USER_TIMEOUT, millis));
    }
    if let Some(ports) = &options.local_ports {
        let range = u32::from(*ports.end()) << 16 | u32::from(*ports.start());
        out.push((libc::IPPROTO_IP, IP_LOCAL_PORT_RANGE, range.cast_signed()));
    }
}

fn whole_seconds(time: Duration) -> i32 {
    i32::try_from(time.as_secs()).unwrap_or(i32::MAX)
}

/// `address` in the kernel's form, and its length.
pub(super) fn address(address: SocketAddr) -> (Address, u32) {
    match address {
        SocketAddr::V4(v4) => {
            let v4 = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(v4.ip().octets()),
                },
                sin_zero: [0; 8],
            };
            (Address { v4 }, size_of::<libc::sockaddr_in>() as u32)
        }
        SocketAddr::V6(v6) => {
            let v6 = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr {
                    s6_addr: v6.ip().octets(),
                },
                sin6_scope_id: v6.scope_id(),
            };
            (Address { v6 }, size_of::<libc::sockaddr_in6>() as u32)
        }
    }
}

/// The dial for a connect.
pub(super) fn dial(to: SocketAddr, timeout: Duration, settings: &[Setting]) -> Dial {
    let (address, address_len) = address(to);
    let (local, _) = any(to, 0);
    let mut options = [0; Kind::OPTIONS.len()];
    for (kept, setting) in options.iter_mut().zip(settings) {
        *kept = setting.2;
    }
    Dial {
        address,
        local,
        address_len,
        timeout: Timespec::from(timeout),
        options,
    }
}

/// The dial for a query from `port`, or one of the kernel's choice.
pub(super) fn dial_from(to: SocketAddr, port: Option<u16>) -> Dial {
    let (local, _) = any(to, port.unwrap_or(0));
    Dial {
        local,
        ..dial(to, Duration::ZERO, &[])
    }
}

/// Every own address of the family of `to`, in the kernel's form.
fn any(to: SocketAddr, port: u16) -> (Address, u32) {
    let ip: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    address(SocketAddr::new(ip, port))
}

/// The first step of a chain: if it fails, the chain ends. No `SOCK_CLOEXEC`: a direct descriptor
/// is in no table that exec could keep, and the kernel refuses the flag.
pub(super) fn socket(index: u32, to: SocketAddr, transport: Transport) -> Entry {
    let domain = match to {
        SocketAddr::V4(_) => libc::AF_INET,
        SocketAddr::V6(_) => libc::AF_INET6,
    };
    let (kind, protocol) = match transport {
        Transport::Tcp => (libc::SOCK_STREAM, libc::IPPROTO_TCP),
        Transport::Udp => (libc::SOCK_DGRAM, libc::IPPROTO_UDP),
    };
    opcode::Socket::new(domain, kind, protocol)
        .file_index(DestinationSlot::try_from_slot_target(index).ok())
        .build()
        .flags(Flags::IO_LINK)
}

/// An option step. Hard-linked: a chain that fails here still completes whole (D20).
pub(super) fn option(index: u32, setting: Setting, value: &i32) -> Entry {
    opcode::SetSockOpt::new(
        Fixed(index),
        setting.0 as u32,
        setting.1 as u32,
        (&raw const *value).cast(),
        size_of::<i32>() as u32,
    )
    .build()
    .flags(Flags::IO_HARDLINK)
}

/// The own port of a query; if it cannot be had, the chain ends.
pub(super) fn bind(index: u32, dial: &Dial) -> Entry {
    let address = (&raw const dial.local).cast();
    opcode::Bind::new(Fixed(index), address, dial.address_len)
        .build()
        .flags(Flags::IO_LINK)
}

/// The connect; the next entry is its time limit or, for a query, the send.
pub(super) fn connect(index: u32, dial: &Dial) -> Entry {
    let address = (&raw const dial.address).cast();
    opcode::Connect::new(Fixed(index), address, dial.address_len)
        .build()
        .flags(Flags::IO_LINK)
}

pub(super) fn connect_timeout(dial: &Dial) -> Entry {
    opcode::LinkTimeout::new(&raw const dial.timeout).build()
}

/// A receive that goes on until it is cancelled, fails or finds no buffer.
pub(super) fn recv(index: u32, transport: Transport) -> Entry {
    let flags = match transport {
        Transport::Tcp => 0,
        // The result is then the datagram's length, whatever fitted.
        Transport::Udp => libc::MSG_TRUNC,
    };
    opcode::RecvMulti::new(Fixed(index), GROUP)
        .flags(flags)
        .build()
}

/// A library may not leave SIGPIPE to its user (D27).
pub(super) fn send(index: u32, start: *const u8, len: usize) -> Entry {
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    opcode::Send::new(Fixed(index), start, len)
        .flags(libc::MSG_NOSIGNAL)
        .build()
}

/// All of a query, or the chain ends; the next entry is the receive.
pub(super) fn send_query(index: u32, start: *const u8, len: usize) -> Entry {
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    opcode::Send::new(Fixed(index), start, len)
        .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
        .build()
        .flags(Flags::IO_LINK)
}

/// The user's half-close. It goes to a worker thread of the kernel: not for closing.
pub(super) fn shutdown(index: u32) -> Entry {
    opcode::Shutdown::new(Fixed(index), libc::SHUT_WR).build()
}

/// Ends the connection in both directions, whoever else has its descriptor. Linked to the close.
pub(super) fn cut(index: u32) -> Entry {
    opcode::Shutdown::new(Fixed(index), libc::SHUT_RDWR)
        .build()
        .flags(Flags::IO_HARDLINK)
}

/// Cancels everything on the slot. The slot must still be ours when the kernel sees this (D24).
pub(super) fn cancel_slot(index: u32) -> Entry {
    opcode::AsyncCancel2::new(CancelBuilder::fd(Fixed(index)).all()).build()
}

/// Cancels one operation by its identity (D26).
pub(super) fn cancel(user_data: u64) -> Entry {
    opcode::AsyncCancel::new(user_data).build()
}

pub(super) fn cancel_all() -> Entry {
    opcode::AsyncCancel2::new(CancelBuilder::any()).build()
}

/// Closes the direct descriptor (no `IOSQE_FIXED_FILE`: the kernel refuses it, D25).
pub(super) fn close(index: u32) -> Entry {
    opcode::Close::new(Fixed(index)).build()
}

/// Sends the descriptor of slot `index` to slot `to` of the ring `door`, which is not told. The kernel
/// refuses without asking if it is the last number there is.
pub(super) fn give(index: u32, door: i32, to: u32) -> Option<Entry> {
    let to = DestinationSlot::try_from_slot_target(to).ok()?;
    let entry = opcode::MsgRingSendFd::new(Fd(door), Fixed(index), to, 0);
    Some(entry.opcode_flags(CQE_SKIP).build())
}

#[cfg(test)]
pub(super) fn nop() -> Entry {
    opcode::Nop::new().build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_options_asked_for_are_set() {
        let mut set = Vec::new();
        settings(&SocketOptions::default(), &mut set);
        assert!(set.is_empty());
        let all = SocketOptions {
            nodelay: true,
            keepalive: Some(Duration::from_secs(15)),
            user_timeout: Some(Duration::from_secs(30)),
            local_ports: Some(0x8001..=0xF002),
        };
        settings(&all, &mut set);
        assert_eq!(set.len(), Kind::OPTIONS.len());
        assert_eq!(set[2], (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 15));
        assert_eq!(set[4], (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 30_000));
        let range = 0xF002_8001_u32.cast_signed();
        assert_eq!(set[5], (libc::IPPROTO_IP, IP_LOCAL_PORT_RANGE, range));
    }
}
