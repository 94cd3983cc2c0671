//! The kernel's side: sockets on loopback.

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::thread;
use std::time::Instant;

use super::USUAL;
use super::rig::{Act, ENTRIES, Place, Rig, SLOTS, Size, World};
use crate::ring::buffers::Pool;
use crate::ring::kernel::Kernel;
use crate::ring::probe;
use crate::ring::queue::{Flush, Queue};
use crate::ring::signal::Signal;
use crate::ring::tests::{PATIENCE, deaf, free_port, full_listener};

struct Loopback {
    listener: TcpListener,
    peers: Vec<Option<TcpStream>>,
    deaf: (OwnedFd, SocketAddr),
    full: Option<((OwnedFd, TcpStream), SocketAddr)>,
    datagrams: UdpSocket,
    asked_from: u16,
}

/// A rig on the kernel; `None` if it cannot set options on direct descriptors.
pub(super) fn rig(size: Size) -> Option<Rig> {
    let (queue, pool) = ring(size)?;
    let world = Loopback {
        listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
        peers: Vec::new(),
        deaf: deaf(),
        full: None,
        datagrams: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
        asked_from: 0,
    };
    Some(Rig::new(queue, pool, Rc::new(RefCell::new(world))))
}

fn ring(size: Size) -> Option<(Queue, Rc<Pool>)> {
    let mut ring = probe::build(ENTRIES, size.completions).unwrap();
    probe::register_slots(&ring, SLOTS).unwrap();
    if !probe::sets_options(&mut ring).unwrap() {
        return None;
    }
    let signal = Rc::new(Signal::default());
    let pool = Pool::new(size.buffers, size.buffer, signal).unwrap();
    pool.register(&ring.submitter()).unwrap();
    Some((Queue::new(Kernel::linux(ring)), pool))
}

/// Whether ports are kept for the privileged. This thread is not one of them from now on.
pub(super) fn keeps_low_ports() -> bool {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    let mut mine = capabilities(None).unwrap();
    mine.effective.remove(CapabilitySet::NET_BIND_SERVICE);
    set_capabilities(None, mine).unwrap();
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    first.is_ok_and(|first| first.trim() == "1024")
}

impl World for Loopback {
    fn is_kernel(&self) -> bool {
        true
    }

    fn other(&mut self) -> (Queue, Rc<Pool>) {
        ring(USUAL).unwrap()
    }

    fn no_ring(&self) -> i32 {
        self.listener.as_raw_fd()
    }

    fn address(&mut self, place: Place) -> SocketAddr {
        match place {
            Place::Server | Place::Slow => self.listener.local_addr().unwrap(),
            Place::Deaf => self.deaf.1,
            // No socket of ours is bound to this address.
            Place::DeafDatagrams => ([127, 0, 0, 9], self.deaf.1.port()).into(),
            Place::Full => self.full.get_or_insert_with(full_listener).1,
            Place::Datagrams => self.datagrams.local_addr().unwrap(),
        }
    }

    fn accept(&mut self) {
        let (peer, _) = self.listener.accept().unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        peer.set_write_timeout(Some(PATIENCE)).unwrap();
        peer.set_nodelay(true).unwrap();
        self.peers.push(Some(peer));
    }

    fn act(&mut self, at: usize, act: Act) -> Option<String> {
        let place = &mut self.peers[at];
        let peer = place.as_mut().unwrap();
        match act {
            Act::Send(bytes) => {
                peer.write_all(bytes).unwrap();
                until_heard(peer);
                None
            }
            Act::End => {
                peer.shutdown(Shutdown::Write).unwrap();
                until_heard(peer);
                None
            }
            Act::Reset => {
                let peer = place.take().unwrap();
                rustix::net::sockopt::set_socket_linger(&peer, Some(std::time::Duration::ZERO))
                    .unwrap();
                None
            }
            Act::Read(count) => {
                let mut bytes = vec![0; count];
                peer.read_exact(&mut bytes).unwrap();
                Some(format!("reads {count}"))
            }
            Act::Finish => {
                let mut bytes = Vec::new();
                let how = match peer.read_to_end(&mut bytes) {
                    Ok(_) => "the end",
                    Err(error) if error.kind() == ErrorKind::ConnectionReset => "a reset",
                    Err(error) => panic!("{error}"),
                };
                Some(format!("sees {how}"))
            }
        }
    }

    fn answer(&mut self, answers: &[&'static [u8]]) -> usize {
        self.datagrams.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut bytes = [0; 2048];
        let (len, from) = self.datagrams.recv_from(&mut bytes).unwrap();
        for answer in answers {
            self.datagrams.send_to(answer, from).unwrap();
        }
        self.asked_from = from.port();
        len
    }

    fn asked_from(&self) -> u16 {
        self.asked_from
    }

    fn free_port(&mut self) -> u16 {
        free_port()
    }

    fn settle(&mut self) {}

    fn wait(&mut self, queue: &mut Queue) -> bool {
        queue.wait(1, PATIENCE) == Flush::Done && queue.has_completions()
    }

    fn mistakes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Waits until the other end's kernel has acknowledged everything.
fn until_heard(peer: &TcpStream) {
    let start = Instant::now();
    while unheard(peer) > 0 {
        assert!(start.elapsed() < PATIENCE);
        thread::yield_now();
    }
}

#[allow(unsafe_code)]
fn unheard(peer: &TcpStream) -> i32 {
    let mut count: libc::c_int = 0;
    // SAFETY: the call writes one `int`, which lives until it returns (tcp(7), SIOCOUTQ).
    let done = unsafe { libc::ioctl(peer.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    assert_eq!(done, 0);
    count
}
