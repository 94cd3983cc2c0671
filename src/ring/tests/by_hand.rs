//! Completions that a kernel gives once a year, fed by hand while the real one gets nothing: every
//! error number, and every order in which a connect and its time limit can end.

use super::*;
use crate::error::ErrorKind;
use crate::ring::End;
use crate::ring::kernel::Cqe;
use crate::ring::token::{Kind, Token};

/// A ring that submits nothing, so that its completions are the test's to give.
struct ByHand(Ring);

impl ByHand {
    fn new() -> Self {
        let mut ring = ring(config());
        ring.set_fault(Some(Box::new(|| Some(libc::EAGAIN))));
        Self(ring)
    }

    /// Begins to connect; the steps before the connect itself have gone well.
    fn connecting(at: Key) -> Self {
        let mut hand = Self::new();
        let ring = &mut hand.0;
        ring.connect(at, ([127, 0, 0, 1], 1).into(), &options(), CONNECT);
        for kind in Kind::ALL {
            let last = matches!(kind, Kind::Connect | Kind::ConnectTimeout);
            if !last && hand.0.ops.has(kind, at) {
                hand.complete(kind, at, 0);
            }
        }
        hand
    }

    fn complete(&mut self, kind: Kind, key: Key, res: i32) {
        let user_data = Token::new(kind, key).encode();
        self.0.handle(Cqe {
            user_data,
            res,
            flags: 0,
        });
    }

    /// Sent a question; the steps before the bind have gone well.
    fn asking(transport: Transport, ports: &[u16]) -> (Self, Key) {
        let mut hand = Self::new();
        let to = ([127, 0, 0, 1], 1).into();
        let asked = hand.0.query(to, transport, b"question".to_vec(), ports);
        let at = asked.unwrap();
        hand.complete(Kind::Socket, at, 0);
        (hand, at)
    }

    /// The receive reports with one of the buffers.
    fn received(&mut self, at: Key, res: i32, more: bool) {
        let user_data = Token::new(Kind::Recv, at).encode();
        let flags = 1 | (u32::from(more) << 1);
        let cqe = Cqe {
            user_data,
            res,
            flags,
        };
        self.0.handle(cqe);
    }

    /// The query is closed, and nothing else is told of it.
    fn close_query(&mut self, at: Key) {
        self.0.close_query(at);
        self.end_all(at);
        assert!(matches!(self.events()[..], [Event::QueryClosed { key }] if key == at));
        self.0.assert_clean();
    }

    /// Whatever is in flight on the slot ends, as a cancel ends it; a close succeeds.
    fn end_all(&mut self, key: Key) {
        while let Some(kind) = Kind::ALL
            .into_iter()
            .find(|kind| self.0.ops.has(*kind, key))
        {
            let res = match kind {
                Kind::Close => 0,
                Kind::Cancel => -libc::ENOENT,
                _ => -libc::ECANCELED,
            };
            self.complete(kind, key, res);
        }
    }

    /// Connected: the receive is armed, and nothing else is in flight.
    fn open(at: Key) -> Self {
        let mut hand = Self::connecting(at);
        hand.complete(Kind::Connect, at, 0);
        hand.complete(Kind::ConnectTimeout, at, -libc::ECANCELED);
        assert_eq!(hand.events().len(), 1);
        hand
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.0.poll_event()).collect()
    }
}

impl Drop for ByHand {
    /// The kernel never had the entries: nothing may be waited for.
    fn drop(&mut self) {
        self.0.set_fault(Some(Box::new(|| Some(libc::EBADR))));
    }
}

#[test]
fn c3_c14_r2_a_connect_may_end_with_any_number() {
    for errno in 1..=133 {
        let at = key(1);
        let mut hand = ByHand::connecting(at);
        hand.complete(Kind::Connect, at, -errno);
        hand.complete(Kind::ConnectTimeout, at, -libc::ECANCELED);
        assert!(hand.events().is_empty(), "not before the slot is clean");
        hand.end_all(at);
        match &hand.events()[..] {
            [Event::ConnectFailed { key, error }] => {
                assert_eq!((*key, error.kind()), (at, ErrorKind::Connect));
                assert_eq!(error.raw_os_error(), Some(errno));
            }
            other => panic!("{errno}: {other:?}"),
        }
        hand.0.assert_clean();
    }
}

#[test]
fn r2_a_step_before_the_connect_may_end_with_any_number() {
    for errno in [libc::ENOBUFS, libc::ENOMEM, libc::ENFILE, libc::EMFILE] {
        let at = key(1);
        let mut hand = ByHand::new();
        let address = ([127, 0, 0, 1], 1).into();
        hand.0.connect(at, address, &options(), CONNECT);
        hand.complete(Kind::Socket, at, -errno);
        hand.end_all(at);
        match &hand.events()[..] {
            [Event::ConnectFailed { error, .. }] => {
                assert_eq!(error.raw_os_error(), Some(errno));
            }
            other => panic!("{errno}: {other:?}"),
        }
        hand.0.assert_clean();
    }
}

#[test]
fn c11_a_connect_and_its_limit_have_one_outcome_in_every_order() {
    let (cancelled, late) = (-libc::ECANCELED, -libc::ETIME);
    // What the connect says, what its limit says, whether it is connected.
    let table = [
        (0, cancelled, true),
        (0, late, true),
        (0, -libc::ENOENT, true),
        (0, -libc::EALREADY, true),
        (cancelled, late, false),
        (-libc::EINTR, late, false),
        (-libc::EALREADY, late, false),
        (-libc::ECONNREFUSED, late, false),
        (-libc::ECONNREFUSED, cancelled, false),
    ];
    for (connect, limit, connected) in table {
        for limit_first in [false, true] {
            let at = key(1);
            let mut hand = ByHand::connecting(at);
            let mut ends = [(Kind::Connect, connect), (Kind::ConnectTimeout, limit)];
            if limit_first {
                ends.reverse();
            }
            for (kind, res) in ends {
                hand.complete(kind, at, res);
            }
            if connected {
                let events = hand.events();
                assert!(matches!(events[..], [Event::Connected { key }] if key == at));
                assert!(hand.0.is_watching(at));
                hand.0.close(at);
                hand.end_all(at);
                assert!(matches!(hand.events()[..], [Event::Closed { .. }]));
            } else {
                hand.end_all(at);
                let expected = match connect == -libc::ECONNREFUSED {
                    true => ErrorKind::Connect,
                    false => ErrorKind::ConnectTimeout,
                };
                match &hand.events()[..] {
                    [Event::ConnectFailed { error, .. }] => assert_eq!(error.kind(), expected),
                    other => panic!("{connect} {limit} {limit_first}: {other:?}"),
                }
            }
            hand.0.assert_clean();
        }
    }
}

#[test]
fn c11_k4_a_close_meets_the_connect_and_its_limit_in_every_order() {
    let cancelled = -libc::ECANCELED;
    for (connect, limit) in [
        (0, cancelled),
        (cancelled, -libc::ETIME),
        (cancelled, cancelled),
    ] {
        for close_at in 0..3 {
            let at = key(1);
            let mut hand = ByHand::connecting(at);
            let ends = [(Kind::Connect, connect), (Kind::ConnectTimeout, limit)];
            for (step, (kind, res)) in ends.into_iter().enumerate() {
                if step == close_at {
                    hand.0.close(at);
                }
                hand.complete(kind, at, res);
            }
            hand.0.close(at);
            hand.end_all(at);
            let ends = hand.events().into_iter();
            let ends = ends.filter(|event| matches!(event, Event::Closed { .. }));
            assert_eq!(ends.count(), 1, "{connect} {limit} {close_at}");
            hand.0.assert_clean();
        }
    }
}

#[test]
fn e13_e14_a_receive_may_end_with_any_number() {
    for errno in 1..=133 {
        let at = key(1);
        let mut hand = ByHand::open(at);
        hand.complete(Kind::Recv, at, -errno);
        let again = [libc::EINTR, libc::EAGAIN, libc::ENOBUFS];
        match &hand.events()[..] {
            [] => assert!(
                again.contains(&errno) || errno == libc::ECANCELED,
                "{errno}"
            ),
            [Event::Ended { how, .. }] => assert_eq!(*how, End::Reset(errno)),
            other => panic!("{errno}: {other:?}"),
        }
        hand.0.close(at);
        hand.end_all(at);
        assert!(matches!(hand.events()[..], [Event::Closed { .. }]));
    }
}

#[test]
fn k14_a_close_does_not_take_the_cancel_of_an_earlier_receive_for_that_of_the_last() {
    let at = key(1);
    let close = [(Kind::Cancel, -libc::ENOENT), (Kind::Close, 0)];
    for old in [0, -libc::ENOENT, -libc::EALREADY] {
        // When the old cancel reports: before the close does, between, after it.
        for when in 0..3 {
            let mut hand = ByHand::open(at);
            hand.0.at(at).unread = hand.0.config.recv_limit;
            hand.0.bound(at);
            // The cancelled receive reports and its cancel does not; reading arms another.
            hand.complete(Kind::Recv, at, -libc::ECANCELED);
            hand.0.at(at).unread = 0;
            hand.0.arm(at);
            assert!(hand.0.is_watching(at) && hand.0.ops.has(Kind::CancelRecv, at));
            hand.0.close(at);
            // The cancel by slot misses the new receive.
            let mut ends = close.to_vec();
            ends.insert(when, (Kind::CancelRecv, old));
            for (kind, res) in ends {
                hand.complete(kind, at, res);
            }
            let left = Kind::Recv.bit() | Kind::CancelRecv.bit();
            assert_eq!(hand.0.ops.outstanding(at), left, "{old} {when}");
            assert!(hand.events().is_empty(), "not before the slot is clean");
            // Stopped: nothing is cancelled again.
            hand.complete(Kind::CancelRecv, at, 0);
            assert_eq!(hand.0.ops.outstanding(at), Kind::Recv.bit());
            hand.complete(Kind::Recv, at, -libc::ECANCELED);
            assert!(matches!(hand.events()[..], [Event::Closed { .. }]));
            hand.0.assert_clean();
        }
    }
}

#[test]
fn d9_a_buffer_with_an_error_or_with_nothing_is_given_back_and_is_no_answer() {
    for transport in [Transport::Udp, Transport::Tcp] {
        for errno in [0, libc::ECONNREFUSED, libc::ECONNRESET] {
            let (mut hand, at) = ByHand::asking(transport, &[]);
            hand.complete(Kind::Connect, at, 0);
            hand.complete(Kind::Send, at, 8);
            hand.received(at, -errno, false);
            let failed = errno != 0 || transport == Transport::Tcp;
            match &hand.events()[..] {
                [] => assert!(!failed && hand.0.ops.has(Kind::Recv, at)),
                [Event::QueryFailed { errno: told, .. }] => assert!(failed && *told == errno),
                other => panic!("{transport:?} {errno}: {other:?}"),
            }
            hand.close_query(at);
        }
    }
}

#[test]
fn d38_a_chain_that_the_kernel_cut_behind_a_refused_port_goes_on_with_the_kernels_port() {
    let (mut hand, at) = ByHand::asking(Transport::Udp, &[4000, 4001]);
    hand.complete(Kind::Bind, at, -libc::EADDRINUSE);
    // The rest was taken by a later submission, and is no longer linked to the bind.
    hand.complete(Kind::Connect, at, 0);
    hand.complete(Kind::Send, at, 8);
    hand.received(at, 6, true);
    match &hand.events()[..] {
        [Event::QueryBytes { key, bytes, .. }] => assert_eq!((*key, bytes.len()), (at, 6)),
        other => panic!("{other:?}"),
    }
    assert_eq!(hand.0.ops.outstanding(at), Kind::Recv.bit());
    hand.complete(Kind::Recv, at, -libc::ECONNREFUSED);
    assert!(matches!(hand.events()[..], [Event::QueryFailed { .. }]));
    hand.close_query(at);
}

#[test]
fn c11_a_connect_whose_limit_the_kernel_cut_off_does_not_wait_without_one() {
    let at = key(1);
    let mut hand = ByHand::connecting(at);
    // Taken by a later submission, it has nothing to limit.
    hand.complete(Kind::ConnectTimeout, at, -libc::EINVAL);
    assert!(hand.0.ops.has(Kind::Connect, at) && hand.0.ops.has(Kind::Close, at));
    hand.end_all(at);
    match &hand.events()[..] {
        [Event::ConnectFailed { key, error }] => {
            assert_eq!((*key, error.raw_os_error()), (at, Some(libc::EINVAL)));
        }
        other => panic!("{other:?}"),
    }
    hand.0.assert_clean();
}
