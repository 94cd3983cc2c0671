//! What the other end sees.

use std::io::{Read, Write};

use super::*;

#[test]
fn a_close_is_seen_after_one_submission() {
    let mut ring = ring(config());
    for generation in 0..50 {
        let at = Key::new(0, generation);
        let mut peer = ring.pair(at);
        assert!(ring.is_watching(at));
        let before = *ring.stats();
        ring.close(at);
        ring.submit().unwrap();
        // The ring does nothing more until the peer has seen the end.
        assert_eq!(ring.stats().enters, before.enters + 1);
        assert_eq!(ring.stats().sqes, before.sqes + 2);
        assert_eq!(peer.read(&mut [0]).unwrap(), 0);
        assert!(matches!(ring.next(), Event::Closed { key } if key == at));
    }
    ring.assert_clean();
}

#[test]
fn a_close_under_a_flood_ends_it() {
    for _ in 0..20 {
        let mut ring = ring(config());
        let mut peer = ring.pair(key(0));
        let flooding = std::thread::spawn(move || while peer.write_all(&[1; 4096]).is_ok() {});
        ring.until(|ring, _| ring.unread(key(0)) > 0);
        ring.close_wait(key(0));
        flooding.join().unwrap();
        ring.assert_clean();
    }
}

#[test]
fn p2_a_close_with_a_send_stuck_ends_it() {
    let mut ring = ring(config());
    let mut peer = ring.pair(key(0));
    loop {
        let count = ring.write(key(0), &[3; 32 * 1024]).unwrap();
        ring.settle();
        if count == 0 && !ring.needs_submit() {
            break;
        }
    }
    ring.close(key(0));
    ring.submit().unwrap();
    let mut rest = Vec::new();
    // What the sockets hold, and then the end.
    let _ = peer.read_to_end(&mut rest);
    assert!(!rest.is_empty());
    assert!(matches!(ring.next(), Event::Closed { .. }));
    ring.assert_clean();
}

#[test]
fn closing_again_or_with_an_old_key_is_nothing() {
    let mut ring = ring(config());
    let _first = ring.pair(key(0));
    ring.close_wait(key(0));
    ring.close(key(0));
    let _second = ring.pair(Key::new(0, 1));
    ring.close(key(0));
    ring.settle();
    assert!(ring.poll_event().is_none());
    assert!(ring.is_watching(Key::new(0, 1)));
    assert!(!ring.is_watching(key(0)));
    assert_eq!(ring.unread(key(0)) + ring.unsent(key(0)), 0);
    ring.close(Key::new(4_000_000, 0));
}

#[test]
fn k5_after_a_close_nothing_earlier_is_told() {
    let mut ring = ring(config());
    let mut peer = ring.pair(key(0));
    peer.write_all(b"bytes").unwrap();
    drop(peer);
    // Readable, Writable and Ended are queued.
    ring.notify_flushed(key(0));
    let start = Instant::now();
    while ring.end(key(0)).is_none() {
        assert!(start.elapsed() < PATIENCE);
        ring.reap();
    }
    let (listener, address) = listener();
    ring.connect(key(1), address, &options(), CONNECT);
    ring.submit().unwrap();
    let _peer = listener.accept().unwrap();
    while !ring.is_watching(key(1)) {
        assert!(start.elapsed() < PATIENCE);
        ring.submit().unwrap();
        ring.reap();
    }
    // And Connected of the other.
    ring.close(key(0));
    ring.close(key(1));
    for _ in 0..2 {
        assert!(matches!(ring.next(), Event::Closed { .. }));
    }
    assert!(ring.poll_event().is_none());
    ring.assert_clean();
}

#[test]
fn k14_a_close_whose_cancel_finds_nothing_still_closes() {
    let mut ring = ring(config());
    for generation in 0..20 {
        let at = Key::new(0, generation);
        let mut peer = ring.pair(at);
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        // The receive has ended, and nobody has read that yet.
        assert_eq!(ring.queue.wait(1, PATIENCE), Flush::Done);
        assert!(ring.is_watching(at));
        ring.close(at);
        ring.submit().unwrap();
        assert_eq!(peer.read(&mut [0]).unwrap(), 0);
        assert!(matches!(ring.next(), Event::Closed { .. }));
    }
    ring.assert_clean();
}

#[test]
fn k4_k14_a_connect_missed_by_the_cancel_is_cancelled_again() {
    let (_full, address) = full_listener();
    let mut ring = ring(config());
    for (generation, options) in (0..).zip([SocketOptions::default(), options()]) {
        let at = Key::new(0, generation);
        // In one submission: the cancel runs before the connect has begun.
        ring.connect(at, address, &options, PATIENCE * 100);
        ring.close(at);
        assert!(matches!(ring.next(), Event::Closed { .. }));
    }
    ring.assert_clean();
}
