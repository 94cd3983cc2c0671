use std::net::{Ipv6Addr, TcpListener};
use std::time::Duration;

use super::*;
use crate::error::ErrorKind;

fn failed(ring: &mut Ring, key: Key) -> crate::error::Error {
    match ring.next() {
        Event::ConnectFailed { key: at, error } => {
            assert_eq!(at, key);
            error
        }
        other => panic!("{other:?}"),
    }
}

fn plain() -> Ring {
    let tweaks = Tweaks {
        plain_sockets: true,
        ..Tweaks::default()
    };
    Ring::with(config(), &tweaks).unwrap()
}

#[test]
fn a_connect_is_one_enter() {
    let mut ring = ring(config());
    let (_listener, address) = listener();
    let before = ring.stats().enters;
    ring.connect(key(3), address, &options(), CONNECT);
    ring.submit().unwrap();
    assert_eq!(ring.stats().enters, before + 1);
    assert!(matches!(ring.next(), Event::Connected { .. }));
    assert!(ring.is_watching(key(3)));
    ring.close_wait(key(3));
    ring.assert_clean();
}

#[test]
fn sixty_four_connects_cost_few_enters() {
    let mut ring = ring(RingConfig {
        max_connections: 64,
        ..config()
    });
    let (_listener, address) = listener();
    for index in 0..64 {
        ring.connect(key(index), address, &options(), CONNECT);
    }
    let mut connected = 0;
    ring.until(|_, event| {
        connected += usize::from(matches!(event, Some(Event::Connected { .. })));
        connected == 64
    });
    // 64 chains of 8 entries through a queue of 64: eight submissions, and some waits.
    let enters = ring.stats().enters;
    assert!(enters <= 8 + 64 / 4, "{enters} enters");
    assert!(ring.drain(PATIENCE).clean);
}

#[test]
fn c1_a_refused_connect_is_an_error_with_its_number() {
    for mut ring in [ring(config()), plain()] {
        let (_deaf, address) = deaf();
        ring.connect(key(0), address, &options(), CONNECT);
        let error = failed(&mut ring, key(0));
        assert_eq!(error.kind(), ErrorKind::Connect);
        assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
        ring.assert_clean();
    }
}

#[test]
fn c8_a_connect_whose_own_port_is_kept_apart_does_not_meet_itself() {
    for mut ring in [ring(config()), plain()] {
        let from = |ports| SocketOptions {
            local_ports: Some(ports),
            ..options()
        };
        // The kernel has no other choice: who connects is its own server. Another test may take the
        // port meanwhile.
        let meets_itself = |ring: &mut Ring| {
            let (unused, address) = deaf();
            drop(unused);
            let port = address.port();
            ring.connect(key(0), address, &from(port..=port), CONNECT);
            let met = matches!(ring.next(), Event::Connected { .. });
            if met {
                ring.close_wait(key(0));
            }
            met.then_some(address)
        };
        let address = (0..10).find_map(|_| meets_itself(&mut ring)).unwrap();
        let port = address.port();
        let ports = if port < u16::MAX {
            port + 1..=port + 1
        } else {
            port - 1..=port - 1
        };
        ring.connect(key(1), address, &from(ports), CONNECT);
        let errno = failed(&mut ring, key(1)).raw_os_error();
        assert!(
            matches!(errno, Some(libc::ECONNREFUSED | libc::EADDRNOTAVAIL)),
            "{errno:?}"
        );
        ring.assert_clean();
    }
}

#[test]
fn c5_a_full_backlog_times_out() {
    for mut ring in [ring(config()), plain()] {
        let (_full, address) = full_listener();
        ring.connect(key(1), address, &options(), Duration::from_millis(50));
        let error = failed(&mut ring, key(1));
        assert_eq!(error.kind(), ErrorKind::ConnectTimeout);
        ring.assert_clean();
    }
}

#[test]
fn a_failing_option_fails_the_connect_and_frees_the_slot() {
    for mut ring in [ring(config()), plain()] {
        let (_listener, address) = listener();
        let bad = SocketOptions {
            keepalive: Some(Duration::from_secs(1 << 20)),
            ..options()
        };
        ring.connect(key(2), address, &bad, CONNECT);
        let error = failed(&mut ring, key(2));
        assert_eq!(error.kind(), ErrorKind::Connect);
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        ring.assert_clean();
        // The slot is usable at once.
        ring.connect(Key::new(2, 1), address, &options(), CONNECT);
        assert!(matches!(ring.next(), Event::Connected { .. }));
    }
}

#[test]
fn r15_plain_sockets_get_their_options_and_work() {
    let mut ring = plain();
    let mut peer = ring.pair(key(5));
    ring.write(key(5), b"ping").unwrap();
    ring.submit().unwrap();
    let mut bytes = [0; 4];
    std::io::Read::read_exact(&mut peer, &mut bytes).unwrap();
    assert_eq!(&bytes, b"ping");
    ring.close_wait(key(5));
    ring.assert_clean();
}

#[test]
fn version_six() {
    let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else {
        return;
    };
    for mut ring in [ring(config()), plain()] {
        let address = listener.local_addr().unwrap();
        ring.connect(key(0), address, &options(), CONNECT);
        assert!(matches!(ring.next(), Event::Connected { .. }));
    }
}

#[test]
fn r13_an_occupied_slot_refuses_and_keeps_its_tenant() {
    let mut ring = ring(config());
    let _peer = ring.pair(key(0));
    let (_listener, address) = listener();
    ring.connect(Key::new(0, 1), address, &options(), CONNECT);
    assert!(matches!(ring.next(), Event::ConnectFailed { key, .. } if key == Key::new(0, 1)));
    assert!(ring.is_watching(key(0)));
}

#[test]
fn k4_closing_while_connecting_ends_in_closed_only() {
    for submit_first in [false, true] {
        for mut ring in [ring(config()), plain()] {
            let (_listener, address) = listener();
            ring.connect(key(4), address, &options(), CONNECT);
            if submit_first {
                ring.submit().unwrap();
            }
            ring.close(key(4));
            ring.close(key(4));
            assert!(matches!(ring.next(), Event::Closed { key: at } if at == key(4)));
            ring.settle();
            assert!(ring.poll_event().is_none());
            ring.assert_clean();
        }
    }
}

#[test]
fn k5_closing_after_an_unseen_failure_ends_in_closed_only() {
    let mut ring = ring(config());
    let (_deaf, address) = deaf();
    ring.connect(key(0), address, &options(), CONNECT);
    while ring.events.is_empty() {
        ring.settle();
    }
    ring.close(key(0));
    assert!(matches!(ring.next(), Event::Closed { .. }));
    ring.assert_clean();
}

#[test]
fn r13_a_slot_that_the_kernel_does_not_have_fails_the_connect() {
    let tweaks = Tweaks {
        table: Some(2),
        ..Tweaks::default()
    };
    let mut ring = Ring::with(config(), &tweaks).unwrap();
    let (_listener, address) = listener();
    ring.connect(key(2), address, &options(), CONNECT);
    assert_eq!(failed(&mut ring, key(2)).kind(), ErrorKind::Connect);
    ring.assert_clean();
    let plain = Tweaks {
        plain_sockets: true,
        ..tweaks
    };
    let mut ring = Ring::with(config(), &plain).unwrap();
    ring.connect(key(2), address, &options(), CONNECT);
    assert_eq!(failed(&mut ring, key(2)).kind(), ErrorKind::Connect);
    ring.assert_clean();
}
