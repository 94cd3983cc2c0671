//! Questions to name servers: sockets for one exchange each.

use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};

use super::*;
use crate::error::ErrorKind;
use crate::ring::memory::guard_freed_memory;

const QUESTION: &[u8] = b"question";

/// A name server that answers when it is told to.
fn name_server() -> (UdpSocket, SocketAddr) {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = server.local_addr().unwrap();
    (server, address)
}

/// The port that the next question comes from.
fn asked(server: &UdpSocket) -> SocketAddr {
    let mut bytes = [0; 64];
    let (count, from) = server.recv_from(&mut bytes).unwrap();
    assert_eq!(&bytes[..count], QUESTION);
    from
}

/// So many ports that sockets have, as long as these live.
fn taken(count: usize) -> (Vec<UdpSocket>, Vec<u16>) {
    let bind = |_| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let sockets: Vec<UdpSocket> = (0..count).map(bind).collect();
    let ports = sockets.iter().map(|it| it.local_addr().unwrap().port());
    let ports = ports.collect();
    (sockets, ports)
}

impl Ring {
    fn ask_udp(&mut self, server: SocketAddr, ports: &[u16]) -> Key {
        self.query(server, Transport::Udp, QUESTION.to_vec(), ports)
            .unwrap()
    }

    fn ask_tcp(&mut self, server: SocketAddr) -> Key {
        self.query(server, Transport::Tcp, QUESTION.to_vec(), &[])
            .unwrap()
    }

    fn close_query_wait(&mut self, closed: Key) {
        self.close_query(closed);
        match self.next() {
            Event::QueryClosed { key } => assert_eq!(key, closed),
            other => panic!("{other:?}"),
        }
    }

    /// The next bytes of a query, and whether there were more of them.
    fn query_bytes_of(&mut self, asked: Key) -> (Vec<u8>, bool) {
        match self.next() {
            Event::QueryBytes {
                key,
                bytes,
                truncated,
            } => {
                assert_eq!(key, asked);
                (bytes, truncated)
            }
            other => panic!("{other:?}"),
        }
    }

    fn query_failure_of(&mut self, asked: Key) -> i32 {
        match self.next() {
            Event::QueryFailed { key, errno } => {
                assert_eq!(key, asked);
                errno
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn d19_datagrams_go_and_come_and_a_long_one_says_so() {
    let mut ring = ring(config());
    let (server, address) = name_server();
    let before = ring.stats().enters;
    let one = ring.ask_udp(address, &[]);
    ring.submit().unwrap();
    assert_eq!(ring.stats().enters, before + 1);
    let from = asked(&server);
    server.send_to(b"answer", from).unwrap();
    server.send_to(&[5; 3000], from).unwrap();
    assert_eq!(ring.query_bytes_of(one), (b"answer".to_vec(), false));
    assert_eq!(ring.query_bytes_of(one), (vec![5; 1024], true));
    ring.close_query_wait(one);
    ring.assert_clean();
}

#[test]
fn d1_k3_a_port_that_nobody_has_refuses_at_once_and_slots_are_bounded() {
    let mut ring = ring(config());
    let server = UdpSocket::bind("127.0.0.9:0").unwrap();
    let address = server.local_addr().unwrap();
    let keys: Vec<_> = (0..4).map(|_| ring.ask_udp(address, &[])).collect();
    assert_eq!(
        ring.room_for_query().unwrap_err().kind(),
        ErrorKind::Exhausted
    );
    let full = ring.query(address, Transport::Udp, vec![1], &[]);
    assert_eq!(full.unwrap_err().kind(), ErrorKind::Exhausted);
    for key in keys {
        ring.close_query_wait(key);
    }
    assert!(ring.room_for_query().is_ok());
    drop(server);
    let refused = ring.ask_udp(address, &[]);
    assert_eq!(ring.query_failure_of(refused), libc::ECONNREFUSED);
    ring.close_query_wait(refused);
    ring.assert_clean();
}

#[test]
fn d38_a_question_comes_from_the_port_that_was_asked_for() {
    let mut ring = ring(config());
    let (server, address) = name_server();
    let port = free_port();
    let one = ring.ask_udp(address, &[port]);
    ring.submit().unwrap();
    let from = asked(&server);
    assert_eq!(from.port(), port);
    server.send_to(b"answer", from).unwrap();
    assert_eq!(ring.query_bytes_of(one), (b"answer".to_vec(), false));
    ring.close_query_wait(one);
    // The port is free again.
    assert!(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok());
    ring.assert_clean();
}

#[test]
fn d38_a_question_over_ipv6_is_bound_too() {
    let Ok(server) = UdpSocket::bind("[::1]:0") else {
        eprintln!("left out: there is no IPv6 here");
        return;
    };
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut ring = ring(config());
    let (_sockets, mut ports) = taken(1);
    ports.push(free_port());
    let one = ring.ask_udp(server.local_addr().unwrap(), &ports);
    ring.settle();
    assert_eq!(asked(&server).port(), ports[1]);
    ring.close_query_wait(one);
    ring.assert_clean();
}

#[test]
fn d38_ports_that_are_taken_are_left_for_the_next_and_at_last_for_the_kernels() {
    guard_freed_memory(true);
    let mut ring = ring(config());
    let (server, address) = name_server();
    let (sockets, mut ports) = taken(10);
    let by_kernel = ring.ask_udp(address, &ports);
    ring.settle();
    let from = asked(&server);
    assert!(!ports.contains(&from.port()));
    server.send_to(b"answer", from).unwrap();
    assert_eq!(ring.query_bytes_of(by_kernel).0, b"answer");
    ports[9] = free_port();
    let by_us = ring.ask_udp(address, &ports);
    ring.settle();
    let from = asked(&server);
    assert_eq!(from.port(), ports[9]);
    server.send_to(b"answer", from).unwrap();
    assert_eq!(ring.query_bytes_of(by_us).0, b"answer");
    for key in [by_kernel, by_us] {
        ring.close_query_wait(key);
    }
    drop(sockets);
    ring.assert_clean();
    guard_freed_memory(false);
}

#[test]
fn d38_a_kernel_that_cannot_bind_chooses_the_port() {
    let tweaks = Tweaks {
        no_bind: true,
        ..Tweaks::default()
    };
    let mut ring = Ring::with(config(), &tweaks).unwrap();
    let (server, address) = name_server();
    let port = free_port();
    let one = ring.ask_udp(address, &[port]);
    ring.submit().unwrap();
    assert_ne!(asked(&server).port(), port);
    ring.close_query_wait(one);
    ring.assert_clean();
}

#[test]
fn d38_k3_a_close_between_two_ports_leaves_nothing() {
    let (server, address) = name_server();
    let (_sockets, ports) = taken(3);
    for turns in 0..8 {
        let mut ring = ring(config());
        let one = ring.ask_udp(address, &ports);
        for _ in 0..turns {
            ring.submit().unwrap();
            ring.reap();
        }
        ring.close_query_wait(one);
        ring.assert_clean();
    }
    server.set_nonblocking(true).unwrap();
    while let Ok((_, from)) = server.recv_from(&mut [0; 64]) {
        assert!(!ports.contains(&from.port()));
    }
}

#[test]
fn d7_a_datagram_from_somewhere_else_is_not_delivered() {
    let mut ring = ring(config());
    let (server, address) = name_server();
    let (stranger, _) = name_server();
    let neighbour = UdpSocket::bind(("127.0.0.2", address.port())).unwrap();
    let one = ring.ask_udp(address, &[free_port()]);
    ring.submit().unwrap();
    let from = asked(&server);
    stranger.send_to(b"another port", from).unwrap();
    neighbour.send_to(b"another address", from).unwrap();
    server.send_to(b"answer", from).unwrap();
    assert_eq!(ring.query_bytes_of(one), (b"answer".to_vec(), false));
    ring.settle();
    assert!(ring.poll_event().is_none());
    ring.close_query_wait(one);
    ring.assert_clean();
}

#[test]
fn d9_an_empty_datagram_ends_nothing() {
    let mut ring = ring(config());
    let (server, address) = name_server();
    let one = ring.ask_udp(address, &[]);
    ring.submit().unwrap();
    let from = asked(&server);
    for _ in 0..3 {
        server.send_to(b"", from).unwrap();
    }
    server.send_to(b"short", from).unwrap();
    server.send_to(b"", from).unwrap();
    server.send_to(b"answer", from).unwrap();
    assert_eq!(ring.query_bytes_of(one), (b"short".to_vec(), false));
    assert_eq!(ring.query_bytes_of(one), (b"answer".to_vec(), false));
    ring.close_query_wait(one);
    ring.assert_clean();
}

#[test]
fn a_flood_of_datagrams_is_bounded_and_dropped() {
    let mut ring = ring(RingConfig {
        recv_buffers: 256,
        ..config()
    });
    let (server, address) = name_server();
    let one = ring.ask_udp(address, &[]);
    ring.submit().unwrap();
    let from = asked(&server);
    for _ in 0..200 {
        server.send_to(b"forged", from).unwrap();
    }
    ring.settle();
    let mut told = 0;
    while let Some(event) = ring.poll_event() {
        assert!(matches!(event, Event::QueryBytes { .. }), "{event:?}");
        told += 1;
    }
    assert!(told <= 64 && ring.stats().dropped > 0, "{told}");
    server.send_to(b"answer", from).unwrap();
    let mut came = false;
    ring.until(|_, event| {
        came |= matches!(event, Some(Event::QueryBytes { bytes, .. }) if bytes == b"answer");
        came
    });
    ring.close_query_wait(one);
    ring.assert_clean();
}

#[test]
fn d17_a_question_over_a_stream_gets_its_answer_in_pieces_and_then_the_end() {
    let mut ring = ring(config());
    let (listener, address) = listener();
    let one = ring.ask_tcp(address);
    let before = ring.stats().enters;
    ring.submit().unwrap();
    assert_eq!(ring.stats().enters, before + 1);
    let (mut peer, _) = listener.accept().unwrap();
    peer.set_nodelay(true).unwrap();
    let mut question = [0; 8];
    peer.read_exact(&mut question).unwrap();
    assert_eq!(question, QUESTION);
    let (mut sent, mut came) = (Vec::new(), Vec::new());
    for byte in b"the answer" {
        peer.write_all(&[*byte]).unwrap();
        sent.push(*byte);
        while came.len() < sent.len() {
            let (bytes, truncated) = ring.query_bytes_of(one);
            assert!(!truncated && !bytes.is_empty());
            came.extend(bytes);
        }
    }
    assert_eq!(came, sent);
    drop(peer);
    assert_eq!(ring.query_failure_of(one), 0);
    ring.settle();
    assert!(ring.poll_event().is_none());
    ring.close_query_wait(one);
    ring.assert_clean();
}

#[test]
fn d17_a_stream_that_is_reset_says_so_and_one_that_never_ends_fails() {
    let mut ring = ring(config());
    let (listener, address) = listener();
    let one = ring.ask_tcp(address);
    ring.submit().unwrap();
    let (peer, _) = listener.accept().unwrap();
    rustix::net::sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
    drop(peer);
    assert_eq!(ring.query_failure_of(one), libc::ECONNRESET);
    ring.close_query_wait(one);

    let two = ring.ask_tcp(address);
    ring.submit().unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    let flood = std::thread::spawn(move || while peer.write_all(&[1; 4096]).is_ok() {});
    let mut came = 0;
    let errno = loop {
        match ring.next() {
            Event::QueryBytes { bytes, .. } => came += bytes.len(),
            Event::QueryFailed { errno, .. } => break errno,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(errno, libc::EMSGSIZE);
    assert!(came <= 65_537, "{came}");
    ring.close_query_wait(two);
    flood.join().unwrap();
    ring.assert_clean();
}

#[test]
fn a_stream_that_is_refused_says_so_at_once() {
    let mut ring = ring(config());
    let (_socket, address) = deaf();
    let one = ring.ask_tcp(address);
    assert_eq!(ring.query_failure_of(one), libc::ECONNREFUSED);
    ring.settle();
    assert!(ring.poll_event().is_none());
    ring.close_query_wait(one);
    ring.assert_clean();
}

#[test]
fn k4_a_stream_that_nobody_answers_waits_until_it_is_closed_and_leaves_no_socket() {
    let mut ring = ring(config());
    let (_full, address) = full_listener();
    for _ in 0..20 {
        let keys: Vec<_> = (0..4).map(|_| ring.ask_tcp(address)).collect();
        ring.settle();
        assert!(ring.poll_event().is_none());
        let waiting = sockets_to(address);
        assert_eq!(waiting, 4);
        for key in keys {
            ring.close_query_wait(key);
        }
        assert_eq!(sockets_to(address), 0);
    }
    ring.assert_clean();
}

/// How many sockets of this machine try to connect to `address` (SYN_SENT in proc(5), net/tcp).
fn sockets_to(address: SocketAddr) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let remote = format!(
        "{:08X}:{:04X} 02",
        u32::from_be_bytes([1, 0, 0, 127]),
        address.port()
    );
    table.lines().filter(|line| line.contains(&remote)).count()
}

#[test]
fn d17_k9_a_question_over_a_stream_can_be_closed_at_every_stage() {
    let (listener, address) = listener();
    for turns in 0..6 {
        let mut ring = ring(config());
        let one = ring.ask_tcp(address);
        for _ in 0..turns {
            ring.submit().unwrap();
            ring.reap();
        }
        if turns > 4 {
            let (mut peer, _) = listener.accept().unwrap();
            peer.write_all(b"never polled").unwrap();
        }
        ring.close_query_wait(one);
        ring.assert_clean();
    }
}
