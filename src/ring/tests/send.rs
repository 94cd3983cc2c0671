use std::io::{Read, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use super::*;
use crate::error::ErrorKind;
use crate::ring::OwnedBuf;

/// Bytes that show where they were torn.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

#[test]
fn writes_of_one_turn_leave_in_one_send() {
    let mut ring = ring(config());
    let mut peer = ring.pair(key(0));
    let before = *ring.stats();
    for piece in [&b"GET "[..], b"/ ", b"HTTP/1.1"] {
        assert_eq!(ring.write(key(0), piece).unwrap(), piece.len());
    }
    assert_eq!(ring.unsent(key(0)), 14);
    ring.submit().unwrap();
    assert_eq!(ring.stats().sqes, before.sqes + 1);
    assert_eq!(ring.stats().enters, before.enters + 1);
    let mut bytes = [0; 14];
    peer.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"GET / HTTP/1.1");
    ring.settle();
    assert_eq!(ring.unsent(key(0)), 0);
}

#[test]
fn e10_an_echo_of_megabytes_through_small_buffers_is_exact() {
    let mut ring = ring(config());
    let peer = ring.pair(key(0));
    let sent = pattern(3 << 20);
    let len = sent.len();
    let echo = thread::spawn(move || {
        let (mut from, mut to) = (peer.try_clone().unwrap(), peer);
        let mut bytes = vec![0; 10_000];
        let mut left = len;
        while left > 0 {
            let count = from.read(&mut bytes).unwrap();
            to.write_all(&bytes[..count]).unwrap();
            left -= count;
        }
    });
    let mut received = Vec::new();
    let mut at = 0;
    ring.until(|ring, _| {
        at += ring.write(key(0), &sent[at..]).unwrap();
        while let Some(chunk) = ring.read(key(0)) {
            received.extend_from_slice(&chunk);
        }
        received.len() == len
    });
    assert!(received == sent, "the bytes differ");
    echo.join().unwrap();
    ring.close_wait(key(0));
    ring.assert_clean();
}

#[test]
fn e7_a_peer_that_does_not_read_stops_the_writer_and_resumes_it() {
    let mut ring = ring(config());
    let mut peer = ring.pair(key(0));
    let bytes = pattern(64 * 1024);
    let mut taken = 0;
    // Sockets hold megabytes; then the bound holds.
    loop {
        let count = ring.write(key(0), &bytes).unwrap();
        taken += count;
        ring.settle();
        if count == 0 && !ring.needs_submit() {
            break;
        }
    }
    assert!(ring.unsent(key(0)) > 0);
    let reader = thread::spawn(move || {
        let mut all = 0;
        let mut buf = vec![0; 1 << 16];
        while all < taken {
            all += peer.read(&mut buf).unwrap();
        }
        peer
    });
    assert!(matches!(ring.next(), Event::Writable { key: at } if at == key(0)));
    ring.notify_flushed(key(0));
    assert!(matches!(ring.next(), Event::Writable { .. }));
    assert!(ring.is_flushed(key(0)));
    reader.join().unwrap();
}

#[test]
fn a_large_write_leaves_the_cached_segments_alone() {
    let mut ring = ring(config());
    let mut peer = ring.pair(key(0));
    for len in [100, 4096, 60_000, 4097, 10_000] {
        ring.write(key(0), &pattern(len)).unwrap();
        ring.until(|ring, _| ring.is_flushed(key(0)));
        peer.read_exact(&mut vec![0; len]).unwrap();
        let normal = usize::from(len > 100);
        assert_eq!(
            ring.segments.counts()[..2],
            [1, normal],
            "after {len} bytes"
        );
    }
}

#[test]
fn what_is_written_in_one_turn_leaves_in_one_send_whatever_it_begins_with() {
    let mut ring = ring(config());
    let mut peer = ring.pair(key(0));
    let sqes = ring.stats().sqes;
    for len in [64, 500, 3000, 20] {
        ring.write(key(0), &pattern(len)).unwrap();
    }
    ring.until(|ring, _| ring.is_flushed(key(0)));
    assert_eq!(ring.stats().sqes - sqes, 1);
    let mut bytes = vec![0; 3584];
    peer.read_exact(&mut bytes).unwrap();
    let written = [64, 500, 3000, 20].map(pattern).concat();
    assert!(bytes == written, "the bytes differ");
}

#[test]
fn large_segments_are_used_again() {
    let mut ring = ring(config());
    let mut peer = ring.pair(key(0));
    let mut first = None;
    for len in [60_000, 10_000, 65_536, 4097] {
        ring.write(key(0), &pattern(len)).unwrap();
        ring.until(|ring, _| ring.is_flushed(key(0)));
        let mut bytes = vec![0; len];
        peer.read_exact(&mut bytes).unwrap();
        assert!(bytes == pattern(len), "the bytes differ");
        let kept = ring.segments.large();
        assert_eq!(kept, [*first.get_or_insert(kept[0])]);
    }
}

#[test]
fn owned_buffers_keep_their_place_and_come_back() {
    let mut ring = ring(config());
    let mut peer = ring.pair(key(0));
    let middle = pattern(50_000);
    let start = middle.as_ptr();
    ring.write(key(0), b"head").unwrap();
    ring.write_owned(key(0), OwnedBuf::new(middle)).unwrap();
    ring.write_owned(key(0), OwnedBuf::new("")).unwrap();
    ring.write(key(0), b"tail").unwrap();
    let mut back = Vec::new();
    ring.until(|_, event| {
        if let Some(Event::WriteDone { buf, result, .. }) = event {
            result.unwrap();
            back.push(buf);
        }
        back.len() == 2
    });
    let mut bytes = vec![0; 50_008];
    ring.settle();
    peer.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes[..4], b"head");
    assert_eq!(&bytes[50_004..], b"tail");
    let (middle, _place) = back.remove(0).downcast::<Vec<u8>>().unwrap();
    assert_eq!(middle.as_ptr(), start);
    assert!(bytes[4..50_004] == middle[..]);
}

#[test]
fn closing_gives_unsent_buffers_back_first() {
    let mut ring = ring(config());
    let _peer = ring.pair(key(0));
    for _ in 0..3 {
        let buf = OwnedBuf::new(vec![7u8; 8 << 20]);
        ring.write_owned(key(0), buf).unwrap();
    }
    ring.settle();
    ring.close(key(0));
    let mut back = 0;
    loop {
        match ring.next() {
            Event::WriteDone { result, .. } => back += usize::from(result.is_err()),
            Event::Closed { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(back, 3);
    ring.assert_clean();
    let (error, buf) = ring.write_owned(key(0), OwnedBuf::new("late")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(buf.len(), 4);
    assert!(ring.write(key(0), b"late").is_err());
}

#[test]
fn half_close_comes_after_the_bytes() {
    let mut ring = ring(config());
    let mut peer = ring.pair(key(0));
    ring.write(key(0), &pattern(20_000)).unwrap();
    ring.shutdown_write(key(0));
    assert!(ring.write(key(0), b"more").is_err());
    ring.notify_flushed(key(0));
    assert!(matches!(ring.next(), Event::Writable { .. }));
    let mut bytes = Vec::new();
    peer.read_to_end(&mut bytes).unwrap();
    assert!(bytes == pattern(20_000));
    // The other half still works.
    peer.write_all(b"answer").unwrap();
    assert_eq!(ring.read_bytes(key(0), 6), b"answer");
}

static SIGNALS: AtomicU32 = AtomicU32::new(0);

extern "C" fn signalled(_: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn e9_a_reset_fails_the_write_and_raises_no_signal() {
    // Rust's runtime ignores the signal, so it would go unnoticed.
    // SAFETY: the handler adds to an atomic and does nothing else.
    #[allow(unsafe_code)]
    unsafe {
        libc::signal(libc::SIGPIPE, signalled as *const () as libc::sighandler_t)
    };
    let mut ring = ring(config());
    let peer = ring.pair(key(0));
    ring.write(key(0), b"unread by the peer").unwrap();
    ring.settle();
    drop(peer);
    let (mut failed, mut ended) = (false, false);
    ring.until(|ring, event| {
        match event {
            Some(Event::WriteFailed { .. }) => failed = true,
            Some(Event::Ended { .. }) => ended = true,
            _ => {}
        }
        if !failed {
            let _ = ring.write(key(0), b"again");
        }
        failed && ended
    });
    assert!(ring.unsent(key(0)) > 0);
    assert!(ring.write(key(0), b"x").is_err());
    ring.close_wait(key(0));
    ring.assert_clean();
    assert_eq!(SIGNALS.load(Ordering::Relaxed), 0);
}

#[test]
fn e10_a_send_that_is_cut_short_goes_on_where_it_stopped() {
    let mut ring = ring(config());
    let mut peer = ring.pair(key(0));
    let len = 24 << 20;
    let buf = OwnedBuf::new(pattern(len));
    let before = ring.stats().sqes;
    ring.write_owned(key(0), buf).unwrap();
    ring.settle();
    let reader = thread::spawn(move || {
        let mut bytes = vec![0; len];
        peer.read_exact(&mut bytes).unwrap();
        assert!(bytes == pattern(len), "the bytes differ");
    });
    match ring.next() {
        Event::WriteDone { result, .. } => result.unwrap(),
        other => panic!("{other:?}"),
    }
    reader.join().unwrap();
    assert!(ring.stats().sqes > before + 1, "nothing was cut short");
}
