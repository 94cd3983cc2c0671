//! Which of several idle connections a get takes.

use super::super::event::{CloseReason, ConnKey, EndpointKey, Return};
use super::super::harness::{Harness, MS};
use super::with;
use crate::balance::Balance;

/// Connections over two addresses, all in use: those of the one, those of the other.
fn open(balance: Balance, count: usize) -> (Harness, EndpointKey, [Vec<ConnKey>; 2]) {
    let mut h = with(|s| s.max_connections = 16);
    h.addresses = 2;
    let endpoint = h.endpoint("db:80");
    h.policy.set_balance(endpoint, balance);
    let conns: Vec<ConnKey> = (0..count).map(|_| h.open(endpoint)).collect();
    let first = h.policy.address(conns[0]);
    let (one, other): (Vec<_>, Vec<_>) = conns
        .into_iter()
        .partition(|conn| h.policy.address(*conn) == first);
    assert_eq!((one.len(), other.len()), (count / 2, count / 2));
    (h, endpoint, [one, other])
}

#[test]
fn a_get_takes_an_idle_connection_to_the_less_busy_address() {
    let (mut h, endpoint, [a, b]) = open(Balance::LeastConnections, 6);
    // Two of the one address stay in use; its third is the newest idle one.
    for conn in [b[0], b[1], b[2], a[2]] {
        h.put(conn);
    }
    let taken: Vec<ConnKey> = (0..4).map(|_| h.hit(endpoint)).collect();
    // The third get finds both as busy as each other: the newest.
    assert_eq!(taken, [b[2], b[1], a[2], b[0]]);
}

#[test]
fn where_nothing_is_in_use_the_newest_goes_first() {
    let (mut h, endpoint, [a, b]) = open(Balance::LeastConnections, 4);
    for conn in [b[0], b[1], a[0], a[1]] {
        h.put(conn);
    }
    assert_eq!(h.hit(endpoint), a[1]);
}

/// Of the other address only one connection is left, which is idle, and then some of the one.
fn with_newer(newer: usize, pause: u32) -> (ConnKey, Vec<ConnKey>, ConnKey) {
    let (mut h, endpoint, [a, b]) = open(Balance::LeastConnections, 10);
    for conn in &b[1..] {
        h.put_as(*conn, Return::Discard(CloseReason::Failed));
    }
    h.put(b[0]);
    h.pass(MS * pause);
    a[..newer].iter().for_each(|conn| h.put(*conn));
    (h.hit(endpoint), a, b[0])
}

#[test]
fn a_get_looks_at_four_idle_connections() {
    let (taken, _, other) = with_newer(3, 0);
    assert_eq!(taken, other);
    let (taken, newer, _) = with_newer(4, 0);
    assert_eq!(taken, newer[3]);
}

#[test]
fn a_get_passes_nothing_over_for_a_connection_whose_health_is_in_doubt() {
    let (taken, _, other) = with_newer(2, 499);
    assert_eq!(taken, other);
    let (taken, newer, _) = with_newer(2, 501);
    assert_eq!(taken, newer[1]);
}

#[test]
fn a_slow_address_is_passed_over_when_both_are_in_use() {
    let (mut h, endpoint, [slow, fast]) = open(Balance::PowerOfTwo, 8);
    h.pass(MS);
    fast[1..].iter().for_each(|conn| h.put(*conn));
    h.pass(MS * 99);
    slow[1..].iter().for_each(|conn| h.put(*conn));
    let known: Vec<_> = h.policy.busy(h.now, endpoint).unwrap().collect();
    for (of, millis) in [(slow[0], 100), (fast[0], 1)] {
        let address = h.policy.address(of).unwrap();
        let (_, busy) = known.iter().find(|known| known.0 == address).unwrap();
        let shown = busy.latency.unwrap();
        // What came first has worn off a little since.
        assert!(shown <= MS * millis && shown >= MS * millis * 98 / 100);
        assert_eq!(busy.uses, 1);
    }
    assert_eq!(h.hit(endpoint), fast[3]);
}

#[test]
fn only_a_balance_that_needs_it_asks_how_busy_addresses_are() {
    for (balance, asks) in [
        (Balance::LeastConnections, false),
        (Balance::RoundRobin, false),
        (Balance::PowerOfTwo, true),
    ] {
        let (h, endpoint, _) = open(balance, 2);
        assert_eq!(h.policy.busy(h.now, endpoint).is_some(), asks);
    }
}
