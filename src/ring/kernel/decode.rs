//! Whoever plays the kernel must do what an entry says, not what its builder meant: entries are
//! read here as the kernel reads them, from their 64 bytes (struct io_uring_sqe, io_uring.h).

#![allow(unsafe_code)]

use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use io_uring::opcode;
use io_uring::squeue::Entry;

use super::played::{Lent, Link, Op, Request, Target};

const FIXED_FILE: u8 = 1 << 0;
const IO_LINK: u8 = 1 << 2;
const IO_HARDLINK: u8 = 1 << 3;
const BUFFER_SELECT: u8 = 1 << 5;
const RECV_MULTISHOT: u16 = 1 << 1;
/// `IORING_ASYNC_CANCEL_ALL`, `_FD` and `_FD_FIXED`.
const CANCEL_SLOT: u32 = 1 << 0 | 1 << 1 | 1 << 3;
const CANCEL_ANY: u32 = 1 << 2;

/// `IORING_MSG_SEND_FD` and `IORING_MSG_RING_CQE_SKIP`.
const SEND_FD: u64 = 1;
const MESSAGE_CQE_SKIP: u32 = 1 << 0;

/// The 64 bytes of an entry.
struct Raw([u8; 64]);

impl Raw {
    fn u8(&self, at: usize) -> u8 {
        self.0[at]
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_ne_bytes([self.0[at], self.0[at + 1]])
    }

    fn u32(&self, at: usize) -> u32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.0[at..at + 4]);
        u32::from_ne_bytes(bytes)
    }

    fn u64(&self, at: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[at..at + 8]);
        u64::from_ne_bytes(bytes)
    }
}

/// Reads `entry`.
///
/// # Safety
///
/// What the entry points at is valid until its final completion (D1): the addresses of a bind
/// and a connect and a time limit are read here, the bytes of a send later.
pub(super) unsafe fn decode(entry: &Entry) -> Request {
    const { assert!(size_of::<Entry>() == 64) };
    // SAFETY: an entry is 64 bytes of integers (`repr(C)`), all written when it was zeroed.
    let raw = Raw(unsafe { mem::transmute_copy::<Entry, [u8; 64]>(entry) });
    let link = match raw.u8(1) {
        flags if flags & IO_HARDLINK != 0 => Link::Hard,
        flags if flags & IO_LINK != 0 => Link::Soft,
        _ => Link::None,
    };
    Request {
        user_data: raw.u64(32),
        link,
        // SAFETY: the caller's promise.
        op: unsafe { operation(&raw) },
    }
}

/// # Safety
///
/// As for [`decode`].
unsafe fn operation(raw: &Raw) -> Op {
    let slot = raw.u32(4);
    let fixed = raw.u8(1) & FIXED_FILE != 0;
    match raw.u8(0) {
        opcode::Nop::CODE => Op::Nop,
        opcode::Socket::CODE => Op::Socket {
            slot: raw.u32(44).wrapping_sub(1),
            datagram: raw.u64(8) as i32 == libc::SOCK_DGRAM,
        },
        // SAFETY: the value is four bytes in the dial, by the caller's promise.
        opcode::SetSockOpt::CODE if fixed => match unsafe { option(raw) } {
            Some(value) => Op::Option {
                slot,
                name: (raw.u32(16), raw.u32(20)),
                value,
            },
            None => Op::Refused,
        },
        // SAFETY: the address is in the dial, by the caller's promise.
        opcode::Bind::CODE if fixed => match unsafe { address(raw.u64(16), raw.u64(8)) } {
            Some(to) => Op::Bind { slot, to },
            None => Op::Refused,
        },
        // SAFETY: the address is in the dial, by the caller's promise.
        opcode::Connect::CODE if fixed => match unsafe { address(raw.u64(16), raw.u64(8)) } {
            Some(to) => Op::Connect { slot, to },
            None => Op::Refused,
        },
        opcode::LinkTimeout::CODE => {
            let time = raw.u64(16) as *const [i64; 2];
            // SAFETY: the time is two 64-bit numbers in the dial, by the caller's promise.
            let [seconds, nanos] = unsafe { time.read_unaligned() };
            Op::Limit(Duration::new(seconds as u64, nanos as u32))
        }
        opcode::Recv::CODE
            if fixed && raw.u16(2) & RECV_MULTISHOT != 0 && raw.u8(1) & BUFFER_SELECT != 0 =>
        {
            let trunc = raw.u32(28) & libc::MSG_TRUNC as u32 != 0;
            Op::Recv { slot, trunc }
        }
        opcode::Send::CODE if fixed => Op::Send {
            slot,
            bytes: Lent::new(raw.u64(16) as *const u8, raw.u32(24) as usize),
            all: raw.u32(28) & libc::MSG_WAITALL as u32 != 0,
        },
        opcode::Shutdown::CODE if fixed => Op::Shutdown {
            slot,
            both: raw.u32(24) == libc::SHUT_RDWR as u32,
        },
        opcode::Close::CODE if raw.u32(44) != 0 => Op::Close {
            slot: raw.u32(44).wrapping_sub(1),
        },
        opcode::MsgRingSendFd::CODE
            if !fixed
                && raw.u64(16) == SEND_FD
                && raw.u32(24) == 0
                && raw.u32(28) == MESSAGE_CQE_SKIP
                && raw.u32(44) != 0 =>
        {
            Op::Give {
                slot: raw.u64(48) as u32,
                door: raw.u32(4) as i32,
                to: raw.u32(44).wrapping_sub(1),
            }
        }
        opcode::AsyncCancel::CODE => Op::Cancel(match raw.u32(28) {
            flags if flags & CANCEL_ANY != 0 => Target::Everything,
            CANCEL_SLOT => Target::Slot(slot),
            0 => Target::Operation(raw.u64(16)),
            _ => return Op::Refused,
        }),
        _ => Op::Refused,
    }
}

/// # Safety
///
/// The option's value is valid.
unsafe fn option(raw: &Raw) -> Option<i32> {
    let value = raw.u64(48) as *const i32;
    if raw.u32(44) != 4 || value.is_null() {
        return None;
    }
    // SAFETY: four bytes long and valid by the caller's promise.
    Some(unsafe { value.read_unaligned() })
}

/// # Safety
///
/// `len` bytes at `start` are valid.
unsafe fn address(start: u64, len: u64) -> Option<SocketAddr> {
    let start = start as *const u8;
    if len as usize == size_of::<libc::sockaddr_in>() {
        // SAFETY: as long as the structure, by the caller's promise.
        let v4 = unsafe { start.cast::<libc::sockaddr_in>().read_unaligned() };
        let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
        return Some((ip, u16::from_be(v4.sin_port)).into());
    }
    if len as usize == size_of::<libc::sockaddr_in6>() {
        // SAFETY: as long as the structure, by the caller's promise.
        let v6 = unsafe { start.cast::<libc::sockaddr_in6>().read_unaligned() };
        let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
        let port = u16::from_be(v6.sin6_port);
        let v6 = SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id);
        return Some(v6.into());
    }
    None
}
