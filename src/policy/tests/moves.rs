//! Connections move when a name has more addresses than before.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::event::{Action, CloseReason, ConnKey, EndpointKey, Event};
use super::super::harness::Harness;
use super::with;
use crate::target::Target;

const TTL: Duration = Duration::from_secs(30);

fn answers(h: &mut Harness, count: u8) {
    let target = |last| Target::new(([127, 0, 0, last], 80).into());
    h.targets = Some((1..=count).map(target).collect());
}

/// An endpoint with so many connections, in use, to so many addresses.
fn open(addresses: u8, conns: usize, limit: usize) -> (Harness, EndpointKey, Vec<ConnKey>) {
    let mut h = with(|s| {
        s.max_connections = 64;
        s.get_timeout = Duration::from_secs(600);
        s.max_idle_time = Duration::from_secs(3_000);
        s.max_connection_lifetime = Duration::from_secs(6_000);
    });
    h.limit = limit;
    answers(&mut h, addresses);
    let ep = h.endpoint("a:1");
    let conns = (0..conns).map(|_| h.open(ep)).collect();
    (h, ep, conns)
}

/// Connections by address, those included that are being closed.
fn spread(h: &Harness) -> BTreeMap<u8, u32> {
    let all = h.targets.iter().flatten();
    let last = |target: &Target| match target.address.ip() {
        std::net::IpAddr::V4(ip) => ip.octets()[3],
        ip => panic!("{ip}"),
    };
    all.map(|target| (last(target), h.policy.held_at(target.address)))
        .collect()
}

fn refresh(h: &mut Harness) {
    h.pass(TTL);
    h.answer_all();
}

#[test]
fn d25_idle_connections_move_to_new_addresses_within_one_answer() {
    let (mut h, ep, conns) = open(2, 8, 64);
    conns.iter().for_each(|conn| h.put(*conn));
    answers(&mut h, 4);
    h.pass(TTL);
    // One at a time, the new one first: there are never fewer than before.
    while let Some(action) = h.asked.pop_front() {
        h.answer(&action);
        let counts = h.counts(ep);
        assert!(counts.live() >= 8 && counts.slots() <= 10, "{counts:?}");
    }
    let spread = spread(&h);
    assert!(spread.values().all(|count| *count == 2), "{spread:?}");
    assert_eq!(h.counts(ep).closed_by(CloseReason::Rebalanced), 4);
    h.log.clear();
    refresh(&mut h);
    assert_eq!(
        h.counts(ep).closed_by(CloseReason::Rebalanced),
        4,
        "it rests"
    );
}

#[test]
fn d25_at_most_half_of_the_connections_move_per_answer() {
    let (mut h, ep, conns) = open(1, 8, 64);
    conns.iter().for_each(|conn| h.put(*conn));
    answers(&mut h, 8);
    refresh(&mut h);
    assert_eq!(h.counts(ep).closed_by(CloseReason::Rebalanced), 4);
    refresh(&mut h);
    let spread = spread(&h);
    assert!(spread.values().all(|count| *count == 1), "{spread:?}");
    assert_eq!((h.counts(ep).idle, h.held), (8, 8));
}

#[test]
fn d25_at_the_limit_one_idle_connection_closes_ahead_of_its_successor() {
    let (mut h, ep, conns) = open(1, 4, 4);
    conns.iter().for_each(|conn| h.put(*conn));
    answers(&mut h, 2);
    h.pass(TTL);
    while let Some(action) = h.asked.pop_front() {
        h.answer(&action);
        assert!(h.counts(ep).live() >= 3, "one at a time");
    }
    h.pass(Duration::from_secs(2));
    h.answer_all();
    let spread = spread(&h);
    assert_eq!(spread.values().copied().collect::<Vec<_>>(), [2, 2]);
    assert!(h.queued.is_empty());
}

#[test]
fn d25_at_the_limit_and_all_in_use_one_closes_when_it_comes_back() {
    let (mut h, ep, mut held) = open(1, 4, 4);
    for _ in 0..40 {
        h.wait(ep);
    }
    answers(&mut h, 2);
    refresh(&mut h);
    h.log.clear();
    for turn in 0..20 {
        let conn = held.remove(0);
        h.put(conn);
        assert!(h.counts(ep).live() >= 3, "turn {turn}: one at a time");
        h.answer_all();
        for action in h.log.drain(..) {
            assert!(!matches!(action, Action::Fail { .. }));
            if let Action::Grant { conn, .. } = action {
                held.push(conn);
            }
        }
        assert_eq!(held.len(), 4, "turn {turn}: a waiter more for each return");
    }
    let spread = spread(&h);
    assert_eq!(spread.values().copied().collect::<Vec<_>>(), [2, 2]);
    assert_eq!((h.held, h.counts(ep).waiters), (4, 20));
}

#[test]
fn d25_the_only_connection_is_not_closed_ahead() {
    let (mut h, ep, conns) = open(1, 1, 1);
    h.put(conns[0]);
    answers(&mut h, 2);
    for _ in 0..5 {
        refresh(&mut h);
        assert_eq!(h.counts(ep).live(), 1);
    }
    assert_eq!(h.close_reason(conns[0]), None);
}

#[test]
fn fewer_connections_than_addresses_move_by_chance_and_then_rest() {
    let mut moved = 0;
    for seed in 0..200 {
        let (mut h, ep, conns) = open(1, 1, 8);
        for _ in 0..seed {
            h.policy.rng.next();
        }
        h.put(conns[0]);
        answers(&mut h, 4);
        refresh(&mut h);
        let closed = h.counts(ep).closed_by(CloseReason::Rebalanced);
        assert_eq!(h.counts(ep).live(), 1);
        refresh(&mut h);
        assert_eq!(h.counts(ep).closed_by(CloseReason::Rebalanced), closed);
        moved += closed;
    }
    // Three of four addresses are new: with that chance the only connection moves.
    assert!((90..=180).contains(&moved), "{moved}");
}

#[test]
fn connections_move_by_weight_and_not_to_another_priority() {
    let (mut h, ep, conns) = open(1, 8, 64);
    conns.iter().for_each(|conn| h.put(*conn));
    let target = |last, priority, weight| Target {
        address: ([127, 0, 0, last], 80).into(),
        priority,
        group: 0,
        weight,
    };
    h.targets = Some(vec![target(1, 0, 1), target(2, 0, 3), target(3, 1, 9)]);
    refresh(&mut h);
    refresh(&mut h);
    let spread = spread(&h);
    assert_eq!(spread.values().copied().collect::<Vec<_>>(), [2, 6, 0]);
    assert_eq!(h.counts(ep).live(), 8);
}

#[test]
fn d25_where_the_other_cores_hold_what_this_one_lacks_nothing_is_moved_to_and_fro() {
    let (mut h, ep, conns) = open(1, 8, 64);
    conns.iter().for_each(|conn| h.put(*conn));
    answers(&mut h, 2);
    for answer in 1..=5 {
        h.pass(TTL);
        while let Some(action) = h.asked.pop_front() {
            if let Action::AcquirePermit { endpoint } = action {
                h.held += 1;
                // All of the other cores' connections go to the second address, and stay there.
                let first = ([127, 0, 0, 1], 80).into();
                let held = [h.policy.held_at(first), 100].into();
                h.event(Event::PermitGranted { endpoint, held });
            } else {
                h.answer(&action);
            }
        }
        let closed = h.counts(ep).closed_by(CloseReason::Rebalanced);
        assert!(closed <= answer, "{closed} after {answer} answers");
        assert_eq!(h.counts(ep).live(), 8);
    }
}
