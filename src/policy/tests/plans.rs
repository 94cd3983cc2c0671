//! Plans and pauses that have lost what they were for, or found it.

use std::time::Duration;

use super::super::event::{Action, CloseReason, ConnKey, EndpointKey, Event};
use super::super::harness::{Harness, MS};
use super::{is_dial, with};
use crate::target::Target;

/// Sixteen idle connections at a backup, when what comes before it is named; its first connect.
fn moving_back() -> (Harness, EndpointKey, Vec<ConnKey>, Action) {
    let target = |last: u8, priority| Target {
        priority,
        ..Target::new(([127, 0, 0, last], 80).into())
    };
    let mut h = with(|s| s.max_connections = 64);
    h.targets = Some(vec![target(2, 1)]);
    let ep = h.endpoint("a:1");
    let conns: Vec<_> = (0..16).map(|_| h.open(ep)).collect();
    conns.iter().for_each(|conn| h.put(*conn));
    h.targets = Some(vec![target(2, 1), target(1, 0)]);
    h.event(Event::NamesChanged { endpoint: ep });
    h.pass(Duration::from_secs(1));
    let first = h.answer_until(is_dial).expect("the first successor");
    (h, ep, conns, first)
}

#[test]
fn d35_what_was_to_move_back_is_cleared_too() {
    let (mut h, ep, _, first) = moving_back();
    h.policy.clear_endpoint(h.now, ep);
    h.pump();
    h.answer(&first);
    h.answer_all();
    assert!(h.counts(ep).live() <= 1, "{:?}", h.counts(ep));
}

#[test]
fn d35_what_ends_at_the_backup_is_not_moved_any_more() {
    let (mut h, ep, conns, first) = moving_back();
    for conn in conns {
        let reason = CloseReason::PeerClosed;
        h.event(Event::Broken { conn, reason });
    }
    h.answer(&first);
    h.answer_all();
    assert!(h.counts(ep).live() <= 2, "{:?}", h.counts(ep));
}

/// `min_idle` is 2, and other cores have held the permits for two minutes.
fn without_permits() -> (Harness, EndpointKey) {
    let mut h = with(|s| {
        s.max_connections = 64;
        s.min_idle = 2;
        s.max_idle_time = Duration::from_secs(3_000);
        s.max_connection_lifetime = Duration::from_secs(6_000);
    });
    h.ttl = Duration::from_secs(36_000);
    (h.limit, h.elsewhere) = (4, 3);
    let ep = h.endpoint("a:1");
    h.open(ep);
    h.log.clear();
    for _ in 0..1_200 {
        h.pass(MS * 100);
        h.answer_all();
    }
    (h, ep)
}

fn warm_after(h: &mut Harness, ep: EndpointKey) -> Duration {
    let since = h.now;
    while h.counts(ep).idle < 2 {
        h.pass(MS * 100);
        h.answer_all();
        assert!(h.now.since(since) < Duration::from_secs(60), "never");
    }
    h.now.since(since)
}

#[test]
fn x12_min_idle_asks_ever_more_seldom_at_the_limit_and_is_there_soon_after() {
    let (mut h, ep) = without_permits();
    let asked = h.logged(|it| matches!(it, Action::AcquirePermit { .. }));
    assert!((10..=20).contains(&asked), "{asked} in 120 s");
    h.elsewhere = 0;
    assert!(warm_after(&mut h, ep) <= Duration::from_secs(8));
    let (mut h, ep) = without_permits();
    h.elsewhere = 0;
    h.wait(ep);
    h.answer_all();
    assert!(warm_after(&mut h, ep) <= Duration::from_secs(1));
}
