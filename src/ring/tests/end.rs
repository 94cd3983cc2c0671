//! How rings end.

use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;

use super::*;
use crate::error::ErrorKind;
use crate::ring::OwnedBuf;
use crate::ring::memory::guard_freed_memory;

#[test]
fn p2_p15_a_drain_ends_fifty_receives_and_sends() {
    let mut ring = ring(RingConfig {
        max_connections: 50,
        ..config()
    });
    let peers: Vec<_> = (0..50).map(|index| ring.pair(key(index))).collect();
    for index in 0..50 {
        ring.write(key(index), &[1; 60_000]).unwrap();
    }
    ring.submit().unwrap();
    let (_listener, address) = listener();
    let _ = ring.query(address, Transport::Udp, vec![1], &[]);
    assert!(ring.ops.in_flight() >= 50);
    let drained = ring.drain(PATIENCE);
    assert!(drained.clean);
    assert_eq!(drained.leaked_ops, 0);
    ring.assert_clean();
    let mut closed = 0;
    while let Some(event) = ring.poll_event() {
        closed += usize::from(matches!(event, Event::Closed { .. }));
    }
    assert_eq!(closed, 50);
    drop(peers);
    // A drained ring refuses and does not break.
    assert_eq!(ring.drain(PATIENCE), drained);
    ring.connect(key(0), address, &options(), CONNECT);
    assert!(matches!(
        ring.poll_event(),
        Some(Event::ConnectFailed { .. })
    ));
    assert!(ring.query(address, Transport::Udp, vec![1], &[]).is_err());
}

#[test]
fn p8_dropping_a_busy_ring_is_safe_and_its_peers_see_the_end() {
    guard_freed_memory(true);
    let mut ring = ring(config());
    let mut peers: Vec<_> = (0..16).map(|index| ring.pair(key(index))).collect();
    for index in 0..16 {
        ring.write(key(index), &[1; 60_000]).unwrap();
    }
    ring.submit().unwrap();
    drop(ring);
    guard_freed_memory(false);
    for peer in &mut peers {
        let _ = peer.write_all(b"to nobody");
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(peer, &mut rest);
    }
}

#[test]
fn r7_a_ring_that_cannot_enter_is_reported_and_leaks() {
    let mut ring = ring(config());
    let mut peer = ring.pair(key(0));
    ring.set_fault(Some(Box::new(|| Some(libc::EBADR))));
    ring.write(key(0), b"never sent").unwrap();
    let error = ring.submit().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EBADR));
    assert!(ring.has_completions());
    match ring.poll_event() {
        Some(Event::Fatal { error }) => assert_eq!(error.kind(), ErrorKind::Io),
        other => panic!("{other:?}"),
    }
    assert!(ring.poll_event().is_none());
    // Nothing is left to try, so that no driver comes again for it.
    ring.write(key(0), b"never sent either").unwrap();
    assert_eq!(ring.queued(), 0);
    assert!(!ring.has_completions() && !ring.wants_turn());
    let drained = ring.drain(PATIENCE);
    assert!(!drained.clean);
    assert!(drained.leaked_ops >= 2);
    assert_eq!(ring.stats().leaked, drained.leaked_ops as u64);
    drop(ring);
    let _ = peer.write_all(b"the kernel may still write this somewhere");
}

#[test]
fn p2_a_drain_out_of_time_leaks_and_says_so() {
    let mut ring = ring(config());
    let _peer = ring.pair(key(0));
    let drained = ring.drain(std::time::Duration::ZERO);
    assert!(!drained.clean && drained.leaked_ops > 0);
}

#[test]
fn p3_s15_a_child_of_a_fork_leaves_the_ring_alone() {
    let mut ring = ring(config());
    let mut peer = ring.pair(key(0));
    let later = ring.come_until_now().map_or(u64::MAX, |come| come + 1);
    // SAFETY: the child calls only the ring's refusals, which touch no lock, and `_exit`.
    #[allow(unsafe_code)]
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        let refused = ring.forked() && ring.submit().is_err() && !ring.has_completions();
        let taken = ring.has_taken(0) && ring.queued() == 0 && !ring.wants_turn();
        // It waits for nothing: what it asks for has been.
        let refused = refused && taken && ring.come_until_now().is_some() && ring.has_read(later);
        drop(ring);
        // SAFETY: ends the child at once.
        #[allow(unsafe_code)]
        unsafe {
            libc::_exit(i32::from(!refused))
        };
    }
    let mut status = 0;
    // SAFETY: `child` is ours and `status` outlives the call.
    #[allow(unsafe_code)]
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!((waited, status), (child, 0));
    peer.write_all(b"still there").unwrap();
    assert_eq!(ring.read_bytes(key(0), 11), b"still there");
    ring.close_wait(key(0));
    ring.assert_clean();
}

#[test]
fn r7_a_drain_that_leaks_gives_back_what_the_kernel_never_had() {
    for dead in [true, false] {
        let mut ring = ring(config());
        let _peers = [ring.pair(key(0)), ring.pair(key(1))];
        for index in 0..2 {
            // On slot 0 the first is in flight, since the peer does not read; the rest waits.
            let bufs = [vec![1u8; 16 << 20], vec![2], vec![3]];
            for buf in bufs {
                ring.write_owned(key(index), OwnedBuf::new(buf)).unwrap();
            }
            if index == 0 {
                ring.settle();
            }
        }
        let timeout = if dead { PATIENCE } else { Duration::ZERO };
        ring.set_fault(dead.then(|| -> crate::ring::Fault { Box::new(|| Some(libc::EBADR)) }));
        assert!(!ring.drain(timeout).clean);
        let mut back = Vec::new();
        while let Some(event) = ring.poll_event() {
            if let Event::WriteDone { key, buf, result } = event {
                assert!(result.is_err());
                back.push((key.index(), buf.downcast::<Vec<u8>>().unwrap().0[0]));
            }
        }
        assert_eq!(back, [(0, 2), (0, 3), (1, 1), (1, 2), (1, 3)]);
    }
}

#[test]
fn a_drain_takes_back_what_was_not_pushed_yet() {
    let mut ring = ring(RingConfig {
        entries: 16,
        max_connections: 200,
        ..config()
    });
    let (_listener, address) = listener();
    let _peer = ring.pair(key(0));
    let mut calls = 0;
    // All connects but the first wait behind it, also at the begin of the drain.
    ring.set_fault(Some(Box::new(move || {
        calls += 1;
        (calls < 5).then_some(libc::EAGAIN)
    })));
    let buf = OwnedBuf::new("never sent");
    ring.write_owned(key(0), buf).unwrap();
    (1..100).for_each(|index| ring.connect(key(index), address, &options(), CONNECT));
    ring.submit().unwrap();
    (100..200).for_each(|index| ring.connect(key(index), address, &options(), CONNECT));
    let _ = ring.query(address, Transport::Udp, vec![1], &[]);
    ring.close(key(7));
    let before = ring.stats().sqes;
    assert!(ring.drain(PATIENCE).clean);
    assert!(ring.stats().sqes <= before + 36);
    ring.assert_clean();
    let (mut closed, mut back) = (0, 0);
    while let Some(event) = ring.poll_event() {
        closed += usize::from(matches!(event, Event::Closed { .. }));
        back += usize::from(matches!(event, Event::WriteDone { .. }));
    }
    assert_eq!((closed, back), (200, 1));
}

/// A buffer that tells when it is freed.
struct Telltale(Vec<u8>, Rc<Cell<u32>>);

impl Drop for Telltale {
    fn drop(&mut self) {
        self.1.set(self.1.get() + 1);
    }
}

// SAFETY: the bytes are a vector's that nobody touches, so they stay where they are.
#[allow(unsafe_code)]
unsafe impl tokio_uring::buf::IoBuf for Telltale {
    fn stable_ptr(&self) -> *const u8 {
        self.0.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.0.len()
    }

    fn bytes_total(&self) -> usize {
        self.0.capacity()
    }
}

#[test]
fn a_buffer_in_flight_is_freed_only_after_the_kernel_let_go() {
    for (works, freed) in [(true, 2), (false, 1)] {
        let mut ring = ring(config());
        let _peer = ring.pair(key(0));
        let count = Rc::new(Cell::new(0));
        for _ in 0..2 {
            // The first is in flight, since the peer does not read; the second waits.
            let buf = Telltale(vec![1; 16 << 20], Rc::clone(&count));
            ring.write_owned(key(0), OwnedBuf::new(buf)).unwrap();
        }
        ring.settle();
        if !works {
            ring.set_fault(Some(Box::new(|| Some(libc::EBADR))));
        }
        assert_eq!(count.get(), 0);
        ring.close(key(0));
        assert_eq!(count.get(), 0);
        drop(ring);
        assert_eq!(count.get(), freed);
    }
}
