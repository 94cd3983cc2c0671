//! What came back last may stay in the hand, and nobody can tell.

use std::time::Duration;

use super::super::Got;
use super::super::event::{CloseReason, ConnKey, EndpointKey, Event, Return};
use super::super::harness::{Harness, MS};
use super::super::settings::Settings;
use super::with;
use crate::balance::Balance;

/// A connection that is in the hand, if any may be.
fn in_hand(change: impl FnOnce(&mut Settings)) -> (Harness, EndpointKey, ConnKey) {
    let mut h = with(change);
    let ep = h.endpoint("a:1");
    let conn = h.open(ep);
    h.put(conn);
    assert_eq!(h.hit(ep), conn);
    h.put(conn);
    (h, ep, conn)
}

fn gauges(h: &Harness, ep: EndpointKey) -> (u32, u32) {
    (h.counts(ep).idle, h.counts(ep).in_use)
}

#[test]
fn what_is_in_the_hand_is_the_next_get_and_every_figure_is_exact() {
    let (mut h, ep, conn) = in_hand(|_| {});
    assert!(h.is_at_hand(ep));
    for uses in 3..10 {
        assert_eq!(gauges(&h, ep), (1, 0));
        assert_eq!(h.get(ep).unwrap(), Got::Ready { conn, reused: true });
        assert_eq!(gauges(&h, ep), (0, 1));
        assert_eq!((h.counts(ep).gets, h.counts(ep).reused), (uses, uses - 1));
        h.put(conn);
        assert!(h.is_at_hand(ep));
    }
    let before = h.counts(ep);
    h.policy.empty_hand();
    h.policy.check();
    assert_eq!(h.counts(ep), before);
    assert_eq!(h.policy.conns.get(conn.0).unwrap().total_uses, 9);
    assert_eq!(h.policy.oldest_idle(), Some((conn.0, h.now)));
}

#[test]
fn a_try_get_has_what_is_in_the_hand_too() {
    let (mut h, ep, conn) = in_hand(|_| {});
    assert_eq!(h.policy.try_get(h.now, ep), Some(conn));
    assert_eq!(h.policy.try_get(h.now, ep), None);
    assert_eq!((h.counts(ep).gets, gauges(&h, ep)), (3, (0, 1)));
}

#[test]
fn a_connection_is_used_as_often_as_it_may_and_no_more() {
    for most in 1..8 {
        let mut h = with(|s| s.max_connection_uses = most);
        let ep = h.endpoint("a:1");
        let conn = h.open(ep);
        for _ in 1..most {
            h.put(conn);
            assert_eq!(h.hit(ep), conn);
        }
        assert_eq!(h.close_reason(conn), None);
        h.put(conn);
        assert_eq!(h.close_reason(conn), Some(CloseReason::Uses), "{most}");
    }
}

#[test]
fn what_nobody_has_in_the_hand_closes_as_if_it_idled() {
    let told: [fn(EndpointKey, ConnKey, &Harness) -> Event; 3] = [
        |_, conn, _| Event::Broken {
            conn,
            reason: CloseReason::PeerClosed,
        },
        |endpoint, _, h| Event::Demand {
            endpoint,
            since: Some(h.now),
        },
        |_, _, _| Event::Drain,
    ];
    let reasons = [
        CloseReason::PeerClosed,
        CloseReason::Demand,
        CloseReason::Drained,
    ];
    for (event, reason) in told.into_iter().zip(reasons) {
        let (mut h, ep, conn) = in_hand(|_| {});
        h.event(event(ep, conn, &h));
        assert_eq!(h.close_reason(conn), Some(reason));
        let (mut h, ep, conn) = in_hand(|_| {});
        assert_eq!(h.hit(ep), conn);
        h.event(event(ep, conn, &h));
        assert_eq!(h.close_reason(conn), None, "somebody has it");
        h.put(conn);
        assert_eq!(h.close_reason(conn), Some(reason));
    }
    let (mut h, _, conn) = in_hand(|_| {});
    let since = Some(h.now);
    h.event(Event::TotalDemand { since });
    assert_eq!(h.close_reason(conn), Some(CloseReason::Demand));
    let (mut h, ep, conn) = in_hand(|_| {});
    h.policy.clear_endpoint(h.now, ep);
    h.pump();
    assert_eq!(h.close_reason(conn), Some(CloseReason::Requested));
}

#[test]
fn it_idles_from_its_return_whatever_finds_it_out() {
    let (mut h, ep, conn) = in_hand(|_| {});
    let since = h.now;
    let ends = since.plus(h.policy.settings.max_idle_time);
    assert!(h.policy.poll_timeout().is_some_and(|due| due <= ends));
    assert_eq!(h.policy.idle_deadline(), Some((conn.0, ends)));
    assert_eq!(h.hit(ep), conn);
    h.put(conn);
    h.now = h.now.plus(MS);
    let other = h.endpoint("b:1");
    assert!(!h.is_at_hand(ep), "another endpoint is made known");
    h.wait(other);
    assert_eq!(h.policy.oldest_idle(), Some((conn.0, since)));
}

#[test]
fn at_another_moment_it_is_no_more_than_idle() {
    let (mut h, ep, conn) = in_hand(|s| s.max_idle_time = MS * 10);
    h.now = h.now.plus(MS * 10);
    let Got::Waiting(waiter) = h.get(ep).unwrap() else {
        panic!("it idled too long");
    };
    assert_eq!(h.close_reason(conn), Some(CloseReason::IdleTime));
    h.answer_all();
    assert!(h.granted(waiter).is_some_and(|it| it != conn));
}

#[test]
fn who_waits_is_served_before_the_hand() {
    let (mut h, ep, conn) = in_hand(|_| {});
    h.limit = 1;
    assert_eq!(h.hit(ep), conn);
    let waiter = h.wait(ep);
    h.put(conn);
    assert_eq!(h.granted(waiter), Some(conn));
    assert_eq!(gauges(&h, ep), (0, 1));
}

#[test]
fn one_that_is_not_returned_cleanly_does_not_come_into_the_hand() {
    let (mut h, ep, conn) = in_hand(|_| {});
    assert_eq!(h.hit(ep), conn);
    h.put_as(conn, Return::Discard(CloseReason::Unread));
    assert!(!h.is_at_hand(ep));
    assert_eq!(h.close_reason(conn), Some(CloseReason::Unread));
    assert_eq!(h.counts(ep).reused, 2);
}

#[test]
fn where_a_get_does_more_than_count_nothing_stays_in_the_hand() {
    let at_hand = |(h, ep, _): (Harness, EndpointKey, ConnKey)| h.is_at_hand(ep);
    assert!(at_hand(in_hand(|_| {})));
    assert!(!at_hand(in_hand(|s| s.tells_reuse = true)));
    assert!(!with(|s| s.min_idle = 1).policy.is_quiet);
    assert!(!with(|s| s.max_idle_time = Duration::ZERO).policy.is_quiet);
    assert!(!at_hand(in_hand(|s| s.max_connection_uses = 3)));
    let mut h = with(|_| {});
    h.capacity = 2;
    let ep = h.endpoint("a:1");
    let shared = h.open(ep);
    h.put(shared);
    assert_eq!(h.hit(ep), shared);
    h.put(shared);
    assert!(!h.is_at_hand(ep));
    h.capacity = 1;
    let timed = h.endpoint("b:1");
    h.policy.set_balance(timed, Balance::PowerOfTwo);
    let conn = h.open(timed);
    h.put(conn);
    assert_eq!(h.hit(timed), conn);
    h.put(conn);
    assert!(!h.is_at_hand(timed), "the time of each use counts");
}
