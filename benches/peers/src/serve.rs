//! The servers' side: one process, one thread, one ring, bounded in its connections and its time.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, bind, ipproto, listen, socket, sockopt};

use crate::Outcome;
use crate::bare::{Bare, Done};
use crate::harness::random::Random;
use crate::harness::server::{Kind, Service};
use crate::harness::{child, cpu};

/// Longer than any case; who forgets a server does not keep it.
const LIFE: Duration = Duration::from_secs(1800);
/// What a late echo takes.
const LATE: Duration = Duration::from_millis(1);
const BACKLOG: i32 = 4096;
/// A message that begins like this ends [`SOME`] other connections; it comes back when that is
/// under way.
pub const END_SOME: &[u8] = b"end some of the others";
pub const SOME: usize = 1000;
const MOST_CONNECTIONS: usize = 16_384;

pub fn serve(service: &str) -> Outcome<()> {
    child::end_with_parent()?;
    let service: Service = serde_json::from_str(service)?;
    cpu::pin(cpu::SERVER)?;
    cpu::raise_descriptors()?;
    std::thread::spawn(|| {
        std::thread::sleep(LIFE);
        std::process::exit(3);
    });
    let listener = socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::TCP))?;
    // Inherited by what is accepted.
    sockopt::set_tcp_nodelay(&listener, true)?;
    bind(
        &listener,
        &std::net::SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
    )?;
    listen(&listener, BACKLOG)?;
    let port = std::net::TcpListener::from(listener.try_clone()?)
        .local_addr()?
        .port();
    println!("{}:{port}", Ipv4Addr::LOCALHOST);
    let mut ring = Bare::new()?;
    ring.accept(listener.as_raw_fd())?;
    run(&mut ring, service)
}

fn run(ring: &mut Bare, service: Service) -> Outcome<()> {
    let bytes = service.bytes.max(4096);
    let mut random = Random::new(0);
    let mut limit = move || (service.kind == Kind::Fickle).then(|| random.below(100));
    let (mut done, mut lanes) = (Vec::new(), BTreeSet::new());
    loop {
        ring.turn(&mut done)?;
        for &one in &done {
            match one {
                Done::Accepted(fd) => {
                    let lane = ring.add(fd, bytes);
                    lanes.insert(lane);
                    if lanes.len() > MOST_CONNECTIONS {
                        return Err("too many connections".into());
                    }
                    // It was not idle yet: who opened it has its first message under way.
                    ring.receive(lane, None, None)?;
                }
                Done::Received(lane, n) if n > 0 => {
                    let n = n as usize;
                    if ring
                        .buffer(lane)
                        .is_some_and(|buffer| buffer[..n].starts_with(END_SOME))
                    {
                        end_some(ring, &lanes, lane)?;
                    }
                    if service.kind == Kind::Late {
                        std::thread::sleep(LATE);
                    }
                    ring.send(lane, n, None, limit())?;
                }
                Done::Received(lane, _) => {
                    lanes.remove(&lane);
                    ring.close(lane)?;
                }
                // A peer that went away; its receive says so too.
                Done::Failed(_) => {}
            }
        }
    }
}

fn end_some(ring: &mut Bare, lanes: &BTreeSet<usize>, but: usize) -> Outcome<()> {
    let others = lanes.iter().filter(|lane| **lane != but);
    others.take(SOME).try_for_each(|lane| ring.end(*lane))
}
