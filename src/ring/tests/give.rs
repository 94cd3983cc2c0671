//! Connections that change rings.

use std::io::{Read, Write};
use std::sync::Arc;
use std::thread;

use super::*;
use crate::ring::conn::Phase;
use crate::ring::token::Kind;
use crate::ring::{Address, End};

impl Ring {
    fn door(&self) -> Arc<Address> {
        self.address().unwrap()
    }

    /// Gives `from` to a slot that expects; whether it went.
    pub(super) fn give_wait(&mut self, from: Key, to: &Ring, slot: Key) -> Result<(), i32> {
        self.give(from, to.door(), slot);
        let mut ended = None;
        self.until(|_, event| {
            match event {
                Some(Event::Given { key }) if key == from => ended = Some(Ok(())),
                Some(Event::GiveFailed { key, error }) if key == from => {
                    ended = Some(Err(error.raw_os_error().unwrap()));
                }
                Some(Event::Readable { .. }) | None => {}
                Some(other) => panic!("{other:?}"),
            }
            ended.is_some()
        });
        ended.unwrap()
    }

    fn phase(&self, key: Key) -> Phase {
        self.conns[key.index() as usize].phase
    }

    fn echo(&mut self, key: Key, peer: &mut TcpStream) {
        self.write(key, b"there").unwrap();
        self.settle();
        let mut bytes = [0; 5];
        peer.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"there");
        peer.write_all(b"back").unwrap();
        assert_eq!(self.read_bytes(key, 4), b"back");
        self.until(|ring, _| ring.is_watching(key));
        // What is left of it: a Readable.
        while self.poll_event().is_some() {}
    }
}

/// What the peer still gets, to the end. Another ring that goes may interrupt it.
fn sees(peer: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    peer.read_to_end(&mut bytes).unwrap();
    bytes
}

pub(super) fn two() -> (Ring, Ring) {
    let rings = (ring(config()), ring(config()));
    assert!(rings.0.gives());
    rings
}

/// Gives the connection of slot 0 in `a` to slot 1 of `b`, where it is adopted; `a` lets go of it.
fn hand_over(a: &mut Ring, b: &mut Ring) {
    assert!(b.expect(key(1)));
    a.give_wait(key(0), b, key(1)).unwrap();
    assert!(b.adopt(key(1)));
    b.settle();
    a.close_wait(key(0));
}

#[test]
fn a_given_connection_goes_on_in_the_other_ring() {
    let (mut a, mut b) = two();
    let mut peer = a.pair(key(0));
    a.echo(key(0), &mut peer);
    hand_over(&mut a, &mut b);
    a.assert_clean();
    b.echo(key(1), &mut peer);
    // The giver has closed its own, and the peer hears nothing of it before the other does.
    b.close(key(1));
    b.submit().unwrap();
    assert_eq!(sees(&mut peer), b"");
    assert!(matches!(b.next(), Event::Closed { .. }));
    b.assert_clean();
}

#[test]
fn nothing_of_a_stream_is_lost_or_repeated_while_it_changes_rings() {
    const BYTES: usize = 400_000;
    let mut rings = [ring(config()), ring(config())];
    let mut peer = rings[0].pair(key(0));
    let writer = thread::spawn(move || {
        let bytes: Vec<u8> = (0..BYTES).map(|at| (at % 251) as u8).collect();
        for piece in bytes.chunks(997) {
            peer.write_all(piece).unwrap();
            thread::yield_now();
        }
        peer
    });
    let (mut at, mut own, mut generation) = (0, 0, 0);
    let mut given = 0;
    let mut here = key(0);
    while at < BYTES {
        let [first, second] = &mut rings;
        let (mine, other) = match own {
            0 => (first, second),
            _ => (second, first),
        };
        generation += 1;
        let there = Key::new(0, generation);
        assert!(other.expect(there));
        let went = mine.is_watching(here) && mine.give_wait(here, other, there).is_ok();
        if went {
            assert!(other.adopt(there));
            mine.close_wait(here);
            (own, here) = (1 - own, there);
            given += 1;
        } else {
            other.unexpect(there);
            assert!(matches!(other.next(), Event::Closed { .. }));
        }
        let mine = &mut rings[own];
        mine.settle();
        while let Some(event) = mine.poll_event() {
            assert!(matches!(event, Event::Readable { .. }), "{event:?}");
        }
        while let Some(chunk) = mine.read(here) {
            for byte in chunk.iter() {
                assert_eq!(*byte, (at % 251) as u8, "at {at}, given {given} times");
                at += 1;
            }
        }
    }
    assert!(given > 0);
    drop(writer.join().unwrap());
    rings[own].close_wait(here);
    rings.iter().for_each(Ring::assert_clean);
}

#[test]
fn bytes_or_an_end_keep_a_connection_and_are_told_first() {
    for end in [false, true] {
        let (mut a, mut b) = two();
        let mut peer = a.pair(key(0));
        assert!(b.expect(key(1)));
        if end {
            peer.shutdown(std::net::Shutdown::Write).unwrap();
        } else {
            peer.write_all(b"late").unwrap();
        }
        // It has come, and the ring has not looked.
        assert_eq!(a.queue.wait(1, PATIENCE), Flush::Done);
        assert!(a.is_watching(key(0)));
        a.give(key(0), b.door(), key(1));
        match a.next() {
            Event::Readable { .. } => assert!(!end),
            Event::Ended { how, .. } => assert_eq!((how, end), (End::Eof, true)),
            other => panic!("{other:?}"),
        }
        assert!(matches!(a.next(), Event::GiveFailed { .. }));
        assert_eq!(a.phase(key(0)), Phase::Open);
        if !end {
            assert_eq!(a.read_bytes(key(0), 4), b"late");
            a.until(|ring, _| ring.is_watching(key(0)));
            a.echo(key(0), &mut peer);
        }
        a.close_wait(key(0));
        b.close_wait(key(1));
        a.assert_clean();
        b.assert_clean();
    }
}

#[test]
fn a_connection_that_is_not_at_rest_is_not_given() {
    let (mut a, b) = two();
    let mut peers: Vec<_> = (0..4).map(|index| a.pair(key(index))).collect();
    peers[0].write_all(b"unread").unwrap();
    a.until(|ring, _| ring.unread(key(0)) > 0);
    while a.poll_event().is_some() {}
    a.shutdown_write(key(3));
    a.until(|ring, _| ring.ops.has(Kind::Shutdown, key(3)));
    a.until(|ring, _| ring.is_flushed(key(3)));
    a.write(key(2), b"sending").unwrap();
    a.start_sends();
    assert!(a.ops.has(Kind::Send, key(2)));
    a.write(key(1), b"unsent").unwrap();
    for index in 0..4 {
        a.give(key(index), b.door(), key(index));
        let event = a.poll_event();
        let failed = matches!(event, Some(Event::GiveFailed { key, .. }) if key.index() == index);
        assert!(failed, "{index}: {event:?}");
        assert_eq!(a.phase(key(index)), Phase::Open);
    }
    // Who is not there or does not live there any more is nobody.
    for absent in [key(5), Key::new(1, 7), key(4_000_000)] {
        a.give(absent, b.door(), key(0));
        a.keep(absent);
        assert!(!a.adopt(absent));
    }
    assert!(a.poll_event().is_none());
}

#[test]
fn x13_d32_a_ring_that_takes_no_messages_leaves_the_connection_where_it_is() {
    let (mut a, mut b) = two();
    let mut peer = a.pair(key(0));
    let small = Tweaks {
        table: Some(4),
        ..Tweaks::default()
    };
    let few = Ring::with(config(), &small).unwrap();
    // Its table ends before that slot.
    assert_eq!(a.give_wait(key(0), &few, key(7)), Err(libc::EINVAL));
    a.echo(key(0), &mut peer);
    // It closes for good.
    let door = b.door();
    assert!(b.drain(PATIENCE).clean);
    a.give(key(0), Arc::clone(&door), key(1));
    drop(b);
    match a.next() {
        Event::GiveFailed { error, .. } => assert_eq!(error.raw_os_error(), Some(libc::EBADFD)),
        other => panic!("{other:?}"),
    }
    a.echo(key(0), &mut peer);
    // To itself.
    let own = a.door();
    a.give(key(0), own, key(1));
    assert!(matches!(a.next(), Event::GiveFailed { .. }));
    a.echo(key(0), &mut peer);
    a.close_wait(key(0));
    a.assert_clean();
}

#[test]
fn x5_x13_a_ring_that_ends_with_the_connection_in_its_table_leaves_it_to_the_giver() {
    for clean in [true, false] {
        let (mut a, mut b) = two();
        let mut peer = a.pair(key(0));
        assert!(b.expect(key(1)));
        a.give_wait(key(0), &b, key(1)).unwrap();
        if clean {
            assert!(b.drain(PATIENCE).clean);
            // Its user may keep a drained ring: it holds nothing.
        } else {
            // The kernel takes nothing: the ring is given up.
            b.set_fault(Some(Box::new(|| Some(libc::EBADFD))));
            assert!(!b.drain(PATIENCE).clean || b.queue.dead().is_some());
        }
        a.keep(key(0));
        a.settle();
        assert!(a.is_watching(key(0)));
        a.echo(key(0), &mut peer);
        a.close(key(0));
        a.submit().unwrap();
        assert_eq!(sees(&mut peer), b"", "nobody else holds it");
        assert!(matches!(a.next(), Event::Closed { .. }));
        a.assert_clean();
    }
}

#[test]
fn x13_a_message_on_its_way_keeps_the_ring_and_nothing_does_after_it() {
    let (mut a, mut b) = two();
    let mut peer = a.pair(key(0));
    assert!(b.expect(key(1)));
    let address = b.door();
    a.give(key(0), Arc::clone(&address), key(1));
    a.until(|ring, _| ring.ops.has(Kind::Give, key(0)));
    // The entry is not with the kernel yet: its number must not come to mean another ring.
    drop(b);
    assert!(address.open().is_none());
    assert!(matches!(a.next(), Event::Given { .. }));
    a.keep(key(0));
    a.settle();
    a.echo(key(0), &mut peer);
    a.close_wait(key(0));
    assert_eq!(sees(&mut peer), b"");
    a.assert_clean();
}

#[test]
fn x13_what_comes_after_a_ring_has_closed_everything_goes_with_it() {
    let (mut a, mut b) = two();
    let mut peer = a.pair(key(0));
    // Into a slot that the ring does not look at when it ends.
    a.give_wait(key(0), &b, key(5)).unwrap();
    a.close_wait(key(0));
    assert!(b.drain(PATIENCE).clean);
    // Its user keeps the drained ring.
    assert_eq!(sees(&mut peer), b"");
    assert!(b.poll_event().is_none() && !b.has_completions());
}

#[test]
fn x11_a_connection_that_nobody_takes_is_kept_and_is_whole() {
    let (mut a, mut b) = two();
    let mut peer = a.pair(key(0));
    for generation in 0..20 {
        let there = Key::new(1, generation);
        assert!(b.expect(there));
        a.give_wait(key(0), &b, there).unwrap();
        // Bytes that come meanwhile wait in the socket.
        peer.write_all(b"meanwhile").unwrap();
        b.close_wait(there);
        a.keep(key(0));
        assert_eq!(a.read_bytes(key(0), 9), b"meanwhile");
        while a.poll_event().is_some() {}
        a.until(|ring, _| ring.is_watching(key(0)));
    }
    a.echo(key(0), &mut peer);
    a.close_wait(key(0));
    assert_eq!(sees(&mut peer), b"");
    a.assert_clean();
    b.assert_clean();
}

#[test]
fn x5_x11_a_close_ends_what_the_other_ring_still_has_in_its_table() {
    for taken in [false, true] {
        let (mut a, mut b) = two();
        let mut peer = a.pair(key(0));
        assert!(b.expect(key(1)));
        a.give_wait(key(0), &b, key(1)).unwrap();
        // The other is busy and does not come to close its own.
        let (closes, waits) = if taken {
            assert!(b.adopt(key(1)));
            ((&mut b, key(1)), (&mut a, key(0)))
        } else {
            a.keep(key(0));
            ((&mut a, key(0)), (&mut b, key(1)))
        };
        closes.0.close_wait(closes.1);
        assert_eq!(sees(&mut peer), b"");
        waits.0.close_wait(waits.1);
        a.assert_clean();
        b.assert_clean();
    }
}

#[test]
fn k14_a_close_at_every_point_of_a_give_ends_in_one_closed() {
    type Until = fn(&mut Ring) -> bool;
    let points: [Until; 4] = [
        |_| true,
        |ring| !ring.ops.has(Kind::Recv, key(0)),
        |ring| ring.ops.has(Kind::Give, key(0)),
        |ring| ring.phase(key(0)) == Phase::Away,
    ];
    for (at, point) in points.iter().enumerate() {
        let (mut a, mut b) = two();
        let mut peer = a.pair(key(0));
        assert!(b.expect(key(1)));
        a.give(key(0), b.door(), key(1));
        a.until(|ring, _| point(ring));
        a.close(key(0));
        assert!(matches!(a.next(), Event::Closed { .. }), "{at}");
        a.settle();
        assert!(a.poll_event().is_none(), "{at}");
        a.assert_clean();
        // Whether it has arrived or not, it has ended; but if the other has it for certain, it may
        // have taken it.
        if at < 3 {
            assert_eq!(sees(&mut peer), b"", "{at}");
        }
        b.unexpect(key(1));
        assert!(matches!(b.next(), Event::Closed { .. }), "{at}");
        assert_eq!(sees(&mut peer), b"", "{at}");
        b.assert_clean();
    }
}

#[test]
fn a_slot_that_expects_is_nobody_elses() {
    let (mut a, mut b) = two();
    let (_listener, address) = listener();
    assert!(b.expect(key(1)));
    assert!(!b.expect(key(1)) && !b.expect(Key::new(1, 1)));
    assert!(!b.expect(key(config().max_connections)), "for queries");
    b.connect(Key::new(1, 1), address, &options(), CONNECT);
    assert!(matches!(b.next(), Event::ConnectFailed { .. }));
    b.unexpect(key(1));
    assert!(matches!(b.next(), Event::Closed { key: closed } if closed == key(1)));
    assert!(!b.adopt(key(1)));
    // Adopted though nothing has come: it ends at once.
    assert!(b.expect(Key::new(1, 1)) && b.adopt(Key::new(1, 1)));
    b.unexpect(Key::new(1, 1));
    match b.next() {
        Event::Ended { how, .. } => assert_eq!(how, End::Reset(libc::EBADF)),
        other => panic!("{other:?}"),
    }
    b.close_wait(Key::new(1, 1));
    // Then the next tenant has it.
    let _peer = b.pair(Key::new(1, 2));
    b.close_wait(Key::new(1, 2));
    b.assert_clean();
    assert!(a.drain(PATIENCE).clean && !a.expect(key(0)));
}

#[test]
fn x4_a_ring_whose_completions_overflow_gets_the_connection_all_the_same() {
    let mut a = ring(config());
    let tweaks = Tweaks {
        completions: Some(16),
        ..Tweaks::default()
    };
    let small = RingConfig {
        entries: 8,
        max_connections: 64,
        ..config()
    };
    let mut b = Ring::with(small, &tweaks).unwrap();
    let mut peer = a.pair(key(0));
    assert!(b.expect(key(1)));
    for index in 2..64 {
        assert!(b.expect(key(index)));
        b.unexpect(key(index));
    }
    b.submit().unwrap();
    // Completions that nobody has read: more than there is room for.
    a.give_wait(key(0), &b, key(1)).unwrap();
    assert!(b.adopt(key(1)));
    b.settle();
    a.close_wait(key(0));
    b.until(|ring, _| ring.ops.in_flight() == 1);
    assert!(b.stats().overflows > 0);
    while b.poll_event().is_some() {}
    b.echo(key(1), &mut peer);
    b.close_wait(key(1));
    b.assert_clean();
}

#[test]
fn r8_r9_a_give_lives_through_passing_refusals() {
    for errno in [libc::EAGAIN, libc::EBUSY, libc::EINTR] {
        let small = RingConfig {
            entries: 8,
            ..config()
        };
        let (mut a, mut b) = (ring(small), ring(config()));
        let mut calls = 0u32;
        a.set_fault(Some(Box::new(move || {
            calls += 1;
            (!calls.is_multiple_of(3)).then_some(errno)
        })));
        for generation in 0..10 {
            let (here, there) = (Key::new(0, generation), Key::new(1, generation));
            let mut peer = a.pair(here);
            assert!(b.expect(there));
            a.give_wait(here, &b, there).unwrap();
            assert!(b.adopt(there));
            a.close_wait(here);
            b.echo(there, &mut peer);
            b.close_wait(there);
        }
        a.assert_clean();
        b.assert_clean();
    }
}

#[test]
fn another_thread_gets_the_connection_while_it_sleeps() {
    let mut a = ring(config());
    let mut peer = a.pair(key(0));
    let (tell, told) = std::sync::mpsc::channel();
    let (given, taken) = std::sync::mpsc::channel();
    let other = thread::spawn(move || {
        let mut b = ring(config());
        assert!(b.expect(key(1)));
        tell.send(b.door()).unwrap();
        taken.recv().unwrap();
        assert!(b.adopt(key(1)));
        let bytes = b.read_bytes(key(1), 5);
        b.close_wait(key(1));
        b.assert_clean();
        bytes
    });
    a.give(key(0), told.recv().unwrap(), key(1));
    a.until(|_, event| matches!(event, Some(Event::Given { .. })));
    given.send(()).unwrap();
    a.close_wait(key(0));
    peer.write_all(b"hello").unwrap();
    assert_eq!(other.join().unwrap(), b"hello");
    assert_eq!(sees(&mut peer), b"");
    a.assert_clean();
}
