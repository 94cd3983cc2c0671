//! Freed memory and failing enters.

use std::io::Read;

use super::*;
use crate::ring::OwnedBuf;
use crate::ring::memory::guard_freed_memory;

/// Some traffic with every kind of operation; the error numbers seen.
fn traffic(early_free: bool) -> Vec<i32> {
    guard_freed_memory(true);
    let mut ring = ring(config());
    let mut errors = Vec::new();
    for generation in 0..20 {
        let at = Key::new(1, generation);
        let (listener, address) = listener();
        ring.connect(at, address, &options(), CONNECT);
        assert!(matches!(ring.next(), Event::Connected { .. }));
        let (mut peer, _) = listener.accept().unwrap();
        ring.write(at, &[1; 6000]).unwrap();
        ring.start_sends();
        if early_free {
            ring.ops.break_rules(at);
        }
        let mut failed = false;
        ring.until(|ring, event| {
            if let Some(Event::WriteFailed { error, .. }) = event {
                errors.extend(error.raw_os_error());
                failed = true;
            }
            failed || ring.is_flushed(at)
        });
        if !failed {
            peer.read_exact(&mut [0; 6000]).unwrap();
        }
        ring.close_wait(at);
    }
    ring.assert_clean();
    drop(ring);
    guard_freed_memory(false);
    errors
}

#[test]
fn the_kernel_never_meets_freed_memory() {
    assert!(traffic(false).is_empty());
}

#[test]
fn memory_freed_too_early_is_noticed() {
    let errors = traffic(true);
    assert_eq!(errors.len(), 20);
    assert!(errors.iter().all(|errno| *errno == libc::EFAULT));
}

#[test]
fn an_address_freed_too_early_is_noticed() {
    guard_freed_memory(true);
    let mut ring = ring(config());
    let (_listener, address) = listener();
    ring.connect(key(0), address, &SocketOptions::default(), CONNECT);
    ring.ops.break_rules(key(0));
    match ring.next() {
        Event::ConnectFailed { error, .. } => {
            assert_eq!(error.raw_os_error(), Some(libc::EFAULT));
        }
        other => panic!("{other:?}"),
    }
    guard_freed_memory(false);
}

#[test]
fn r8_r9_the_ring_lives_through_passing_refusals() {
    for errno in [libc::EAGAIN, libc::EBUSY, libc::EINTR, libc::ETIME] {
        let mut ring = ring(RingConfig {
            entries: 16,
            ..config()
        });
        let mut calls = 0u32;
        ring.set_fault(Some(Box::new(move || {
            calls += 1;
            (!calls.is_multiple_of(3)).then_some(errno)
        })));
        for generation in 0..10 {
            let at = Key::new(1, generation);
            let mut peer = ring.pair(at);
            ring.write(at, b"copied").unwrap();
            ring.write_owned(at, OwnedBuf::new("owned")).unwrap();
            ring.until(|ring, _| ring.is_flushed(at));
            let mut bytes = [0; 11];
            peer.read_exact(&mut bytes).unwrap();
            assert_eq!(&bytes, b"copiedowned");
            ring.close_wait(at);
        }
        ring.assert_clean();
        assert!(ring.drain(PATIENCE).clean);
    }
}

#[test]
fn r5_r6_a_tiny_ring_serves_many_connections() {
    let config = RingConfig {
        entries: 16,
        max_connections: 100,
        ..config()
    };
    let tweaks = Tweaks {
        completions: Some(16),
        ..Tweaks::default()
    };
    let mut ring = Ring::with(config, &tweaks).unwrap();
    let mut peers: Vec<_> = (0..100).map(|index| ring.pair(key(index))).collect();
    for index in 0..100 {
        ring.write(key(index), &[index as u8; 500]).unwrap();
    }
    ring.until(|ring, _| (0..100).all(|index| ring.is_flushed(key(index))));
    for (index, peer) in peers.iter_mut().enumerate() {
        let mut bytes = [0; 500];
        peer.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, [index as u8; 500]);
    }
    drop(peers);
    // All ends at once: more completions than the queue has places.
    let mut ended = 0;
    ring.until(|_, event| {
        ended += usize::from(matches!(event, Some(Event::Ended { .. })));
        ended == 100
    });
    for index in 0..100 {
        ring.close(key(index));
    }
    let mut closed = 0;
    ring.until(|_, event| {
        closed += usize::from(matches!(event, Some(Event::Closed { .. })));
        closed == 100
    });
    ring.assert_clean();
}

#[test]
fn k4_a_connect_that_was_not_pushed_yet_is_taken_back() {
    let mut ring = ring(RingConfig {
        entries: 16,
        ..config()
    });
    let (_listener, address) = listener();
    ring.set_fault(Some(Box::new(|| Some(libc::EAGAIN))));
    // The longest chain there is; the second finds no room and waits behind it.
    let all = SocketOptions {
        local_ports: Some(1024..=u16::MAX),
        ..options()
    };
    ring.connect(key(0), address, &all, CONNECT);
    ring.connect(key(1), address, &all, CONNECT);
    ring.close(key(1));
    assert!(matches!(ring.poll_event(), Some(Event::Closed { key: at }) if at == key(1)));
    ring.connect(Key::new(1, 1), address, &options(), CONNECT);
    ring.close(key(0));
    ring.set_fault(None);
    let second = Key::new(1, 1);
    let both = [ring.next(), ring.next()];
    let closed = |event: &Event| matches!(event, Event::Closed { key: at } if *at == key(0));
    let connected = |event: &Event| matches!(event, Event::Connected { key } if *key == second);
    assert!(
        both.iter().any(closed) && both.iter().any(connected),
        "{both:?}"
    );
    ring.close_wait(second);
    ring.assert_clean();
}

#[test]
fn c5_a_hundred_limits_at_once_all_end() {
    let mut ring = ring(RingConfig {
        entries: 16,
        max_connections: 100,
        ..config()
    });
    let (listener, address) = full_listener();
    for index in 0..100 {
        let limit = Duration::from_millis(50);
        ring.connect(key(index), address, &options(), limit);
    }
    let mut ended = 0;
    ring.until(|_, event| {
        if let Some(Event::ConnectFailed { error, .. }) = event {
            assert_eq!(error.kind(), crate::error::ErrorKind::ConnectTimeout);
            ended += 1;
        }
        ended == 100
    });
    ring.assert_clean();
    drop(listener);
}

#[test]
fn k4_a_hundred_closes_of_unfinished_connects_all_end() {
    let mut ring = ring(RingConfig {
        entries: 16,
        max_connections: 100,
        ..config()
    });
    let (listener, address) = full_listener();
    for index in 0..100 {
        ring.connect(key(index), address, &options(), CONNECT);
        if index % 2 == 0 {
            ring.submit().unwrap();
        }
    }
    for index in 0..100 {
        ring.close(key(index));
    }
    let mut ended = 0;
    ring.until(|_, event| {
        ended += usize::from(matches!(event, Some(Event::Closed { .. })));
        ended == 100
    });
    ring.assert_clean();
    drop(listener);
}
