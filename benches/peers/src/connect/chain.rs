//! The limit: socket, options and connect as one chain of one submission, into a slot of the ring's
//! own table of descriptors.
#![allow(unsafe_code)] // the kernel gets addresses

use std::net::SocketAddr;

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{DestinationSlot, Fixed};
use io_uring::{IoUring, opcode};

use super::{AT_ONCE, KEEPALIVE, Meter, UNACKNOWLEDGED};
use crate::Outcome;
use crate::harness::{Figures, Settings};

const CONNECT: u64 = 1;
const STEP: u64 = 2;
const STEPS: usize = 7;

/// What chains point to: the same for all, and leaked, so it outlives every one of them.
struct Shared {
    address: libc::sockaddr_in,
    options: [(i32, i32, i32); STEPS - 2],
}

impl Shared {
    fn leak(address: SocketAddr) -> Outcome<&'static Self> {
        let SocketAddr::V4(address) = address else {
            return Err("the server has an IPv4 address".into());
        };
        let keepalive = i32::try_from(KEEPALIVE.as_secs())?;
        let unacknowledged = i32::try_from(UNACKNOWLEDGED.as_millis())?;
        Ok(Box::leak(Box::new(Self {
            address: libc::sockaddr_in {
                sin_family: libc::AF_INET as u16,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(address.ip().octets()),
                },
                sin_zero: [0; 8],
            },
            options: [
                (libc::IPPROTO_TCP, libc::TCP_NODELAY, 1),
                (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
                (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, keepalive),
                (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, keepalive),
                (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, unacknowledged),
            ],
        })))
    }

    fn chain(&'static self, slot: u32) -> Outcome<[Entry; STEPS]> {
        let into = DestinationSlot::try_from_slot_target(slot).map_err(|_| "not a slot")?;
        let socket = opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0)
            .file_index(Some(into))
            .build()
            .flags(Flags::IO_HARDLINK);
        let option = |n: usize| {
            let (level, name, value) = &self.options[n];
            opcode::SetSockOpt::new(
                Fixed(slot),
                *level as u32,
                *name as u32,
                (&raw const *value).cast(),
                size_of::<i32>() as u32,
            )
            .build()
            .flags(Flags::IO_HARDLINK)
        };
        let len = size_of::<libc::sockaddr_in>() as u32;
        let address = (&raw const self.address).cast();
        let connect = opcode::Connect::new(Fixed(slot), address, len).build();
        let steps = [
            socket,
            option(0),
            option(1),
            option(2),
            option(3),
            option(4),
        ];
        let [a, b, c, d, e, f] = steps.map(|step| step.user_data(STEP));
        Ok([a, b, c, d, e, f, connect.user_data(CONNECT)])
    }
}

pub fn run(settings: &Settings) -> Outcome<Figures> {
    let shared = Shared::leak(settings.server()?)?;
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build((AT_ONCE * (STEPS + 1)) as u32)?;
    let slots = u32::try_from(settings.count)?;
    ring.submitter().register_files_sparse(slots)?;
    let meter = Meter::start();
    let (mut next, mut busy, mut done) = (0, 0, 0);
    while done < settings.count {
        while busy < AT_ONCE && next < slots {
            let chain = shared.chain(next)?;
            // SAFETY: what the steps point to was leaked and is never written.
            unsafe { ring.submission().push_multiple(&chain) }?;
            next += 1;
            busy += 1;
        }
        ring.submit_and_wait(1)?;
        for entry in ring.completion() {
            if entry.result() < 0 {
                let error = std::io::Error::from_raw_os_error(-entry.result());
                return Err(format!("a step of the chain: {error}").into());
            }
            if entry.user_data() == CONNECT {
                busy -= 1;
                done += 1;
            }
        }
    }
    Ok(meter.figures(settings))
}
