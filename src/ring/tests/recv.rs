use std::io::{Read, Write};
use std::thread;

use super::*;
use crate::ring::End;
use crate::ring::conn::Recv;

#[test]
fn bytes_then_the_end() {
    let mut ring = ring(config());
    let mut peer = ring.pair(key(0));
    peer.write_all(b"last words").unwrap();
    drop(peer);
    let mut readable = false;
    ring.until(|_, event| match event {
        Some(Event::Readable { .. }) => {
            readable = true;
            false
        }
        Some(Event::Ended { how, .. }) => {
            assert_eq!(how, End::Eof);
            true
        }
        _ => false,
    });
    assert!(readable && !ring.is_watching(key(0)));
    let mut chunk = ring.read(key(0)).unwrap();
    assert_eq!(&*chunk, b"last words");
    chunk.advance(5);
    assert_eq!(&*chunk, b"words");
    assert!(ring.read(key(0)).is_none());
    assert_eq!(ring.end(key(0)), Some(End::Eof));
    drop(chunk);
    ring.close_wait(key(0));
    ring.assert_clean();
}

#[test]
fn e2_a_reset_is_told_apart_from_an_end() {
    let mut ring = ring(config());
    let peer = ring.pair(key(0));
    // Closing with bytes unread resets.
    ring.write(key(0), b"x").unwrap();
    ring.settle();
    peer.peek(&mut [0]).unwrap();
    drop(peer);
    match ring.next() {
        Event::Ended { how, .. } => assert_eq!(how, End::Reset(libc::ECONNRESET)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn p9_a_chunk_outlives_connection_and_ring() {
    let mut ring = ring(config());
    let mut peer = ring.pair(key(0));
    peer.write_all(b"kept").unwrap();
    ring.until(|ring, _| ring.unread(key(0)) == 4);
    let chunk = ring.read(key(0)).unwrap();
    let (available, count) = ring.buffers();
    assert_eq!(available + 1, count);
    ring.close_wait(key(0));
    assert_eq!(&*chunk, b"kept");
    drop(ring);
    assert_eq!(&*chunk, b"kept");
    drop(chunk);
}

#[test]
fn a_bounded_connection_is_paused_and_resumes() {
    let mut ring = ring(config());
    let mut peer = ring.pair(key(0));
    let limit = config().recv_limit;
    let total = 4 << 20;
    let writer = thread::spawn(move || {
        let bytes: Vec<u8> = (0..total).map(|at| (at % 253) as u8).collect();
        peer.write_all(&bytes).unwrap();
        peer
    });
    ring.until(|ring, _| ring.unread(key(0)) >= limit);
    ring.until(|ring, _| ring.conns[0].recv == Recv::Paused);
    // The peer goes on, and is not heard.
    let held = ring.unread(key(0));
    for _ in 0..100 {
        ring.settle();
        thread::yield_now();
    }
    assert_eq!(ring.unread(key(0)), held);
    assert!(!ring.is_watching(key(0)));
    let bytes = ring.read_bytes(key(0), total);
    assert!(
        bytes
            .iter()
            .enumerate()
            .all(|(at, b)| *b == (at % 253) as u8)
    );
    ring.until(|ring, _| ring.is_watching(key(0)));
    drop(writer.join().unwrap());
    ring.close_wait(key(0));
    ring.assert_clean();
}

#[test]
fn r11_one_buffer_serves_and_receives_are_not_armed_in_vain() {
    let mut ring = ring(RingConfig {
        recv_buffers: 1,
        ..config()
    });
    let mut peers = [ring.pair(key(0)), ring.pair(key(1))];
    for peer in &mut peers {
        peer.write_all(&[9; 3000]).unwrap();
    }
    let before = ring.stats().sqes;
    // Nobody reads, so the one buffer does not come back: both receives end, and stay so.
    ring.until(|ring, _| ring.stats().enobufs >= 2);
    for _ in 0..100 {
        ring.settle();
    }
    assert!(ring.stats().sqes <= before + 1);
    let mut left = 6000;
    ring.until(|ring, _| {
        for index in 0..2 {
            while let Some(chunk) = ring.read(key(index)) {
                left -= chunk.len();
            }
        }
        left == 0
    });
    ring.until(|ring, _| ring.is_watching(key(0)) && ring.is_watching(key(1)));
    // Three pieces each, and each re-arm had a buffer that came back.
    assert!(ring.stats().rearms <= 8, "{} re-arms", ring.stats().rearms);
    ring.close_wait(key(0));
    ring.close_wait(key(1));
    ring.assert_clean();
}

#[test]
fn r11_a_busy_starved_receive_is_not_passed_over_for_ever() {
    let mut ring = ring(RingConfig {
        recv_buffers: 1,
        ..config()
    });
    let _peers: Vec<_> = (0..16).map(|index| ring.pair(key(index))).collect();
    ring.starve_quietly(16);
    // The first had bytes unread when it starved; quiet ones come before it.
    let first = ring.starved[0].pop_front().unwrap();
    ring.starved[1].push_back(first);
    let mut passes = 0;
    while !ring.is_watching(first) {
        assert!(passes < 4, "passed over {passes} times");
        passes += 1;
        ring.submit().unwrap();
        ring.reap();
    }
    assert!(ring.is_watching(key(1)));
}

#[test]
fn r11_a_flooding_peer_does_not_deafen_a_hundred_quiet_ones() {
    let mut ring = ring(RingConfig {
        max_connections: 101,
        ..config()
    });
    let mut flood = ring.pair(key(100));
    let quiet: Vec<_> = (0..100).map(|index| ring.pair(key(index))).collect();
    let flooding = thread::spawn(move || {
        // Until the other end closes.
        while flood.write_all(&[1; 4096]).is_ok() {}
    });
    ring.until(|ring, _| ring.unread(key(100)) >= config().recv_limit);
    // Nobody reads the flood. Every quiet one says something and goes.
    for (index, mut peer) in quiet.into_iter().enumerate() {
        peer.write_all(&[index as u8; 10]).unwrap();
    }
    let mut ended = 0;
    ring.until(|_, event| {
        ended += usize::from(matches!(event, Some(Event::Ended { how: End::Eof, .. })));
        ended == 100
    });
    for index in 0..100 {
        assert_eq!(ring.read_bytes(key(index), 10), [index as u8; 10]);
    }
    let (available, count) = ring.buffers();
    assert!(available >= count / 4);
    ring.close_wait(key(100));
    flooding.join().unwrap();
    assert!(ring.drain(PATIENCE).clean);
}

#[test]
fn users_that_keep_chunks_cannot_take_every_buffer() {
    let mut ring = ring(config());
    let mut kept = Vec::new();
    let mut peers: Vec<_> = (0..16).map(|index| ring.pair(key(index))).collect();
    for round in 0..20u8 {
        for (index, peer) in (0..16).zip(&mut peers) {
            peer.write_all(&[round; 100]).unwrap();
            let mut left = 100;
            ring.until(|ring, _| {
                while let Some(chunk) = ring.read(key(index)) {
                    assert!(chunk.iter().all(|byte| *byte == round));
                    left -= chunk.len();
                    kept.push(chunk);
                }
                left == 0
            });
            let (available, count) = ring.buffers();
            assert!(available >= count / 4);
        }
    }
    assert!(ring.stats().copied > 0);
    kept.clear();
    let (available, count) = ring.buffers();
    assert_eq!(available, count);
}

#[test]
fn s9_slots_are_reused_at_once_without_old_bytes() {
    let mut ring = ring(config());
    let mut held = None;
    for generation in 0..200u32 {
        let at = Key::new(3, generation);
        let mut peer = ring.pair(at);
        peer.write_all(&generation.to_le_bytes()).unwrap();
        let bytes = ring.read_bytes(at, 4);
        assert_eq!(bytes, generation.to_le_bytes());
        // Some more, unread, and then away.
        peer.write_all(&[0xee; 700]).unwrap();
        ring.until(|ring, _| ring.unread(at) > 0);
        held = (generation % 2 == 0)
            .then(|| ring.read(at))
            .flatten()
            .or(held);
        ring.close_wait(at);
        assert!(ring.read(at).is_none());
        let mut rest = Vec::new();
        let _ = peer.read_to_end(&mut rest);
        assert!(rest.is_empty());
    }
    drop(held);
    ring.assert_clean();
}

#[test]
fn the_bound_holds_although_buffers_are_left() {
    let mut ring = ring(config());
    let mut peer = ring.pair(key(0));
    let limit = config().recv_limit;
    let mut sent = 0;
    while sent < limit {
        peer.write_all(&[4; 512]).unwrap();
        sent += 512;
        ring.until(|ring, _| ring.unread(key(0)) == sent);
    }
    ring.until(|ring, _| ring.conns[0].recv == Recv::Paused);
    assert_eq!(ring.stats().enobufs, 0);
    peer.write_all(&[5; 100]).unwrap();
    // Reading half of it starts the receive again, and not before.
    while ring.unread(key(0)) > limit / 2 {
        assert_eq!(ring.conns[0].recv, Recv::Paused);
        ring.read(key(0)).unwrap();
    }
    assert_eq!(ring.conns[0].recv, Recv::Armed);
    let rest = ring.unread(key(0)) + 100;
    assert_eq!(ring.read_bytes(key(0), rest)[rest - 100..], [5; 100]);
    assert!(ring.is_watching(key(0)));
}

#[test]
fn r6_r12_a_receive_that_ends_without_an_error_is_armed_again() {
    let config = RingConfig {
        entries: 16,
        max_connections: 1,
        recv_buffers: 256,
        recv_limit: 64 * 1024,
        ..config()
    };
    let tweaks = Tweaks {
        completions: Some(16),
        ..Tweaks::default()
    };
    let mut ring = Ring::with(config, &tweaks).unwrap();
    let mut peer = ring.pair(key(0));
    let before = ring.stats().sqes;
    for byte in 0..200 {
        // Each byte is a completion, and nobody takes them: the queue fills up, and then the
        // kernel ends the receive.
        peer.write_all(&[byte]).unwrap();
    }
    let bytes = ring.read_bytes(key(0), 200);
    assert!(bytes.into_iter().eq(0..200));
    ring.until(|ring, _| ring.is_watching(key(0)));
    assert!(ring.stats().sqes > before, "it was never ended");
    assert_eq!(ring.stats().enobufs, 0);
    peer.write_all(b"still heard").unwrap();
    assert_eq!(ring.read_bytes(key(0), 11), b"still heard");
    ring.close_wait(key(0));
    ring.assert_clean();
}
