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
fn d25_at_most_half_of_the_connections_move_per_second() {
    let (mut h, ep, conns) = open(1, 8, 64);
    conns.iter().for_each(|conn| h.put(*conn));
    answers(&mut h, 8);
    refresh(&mut h);
    assert_eq!(h.counts(ep).closed_by(CloseReason::Rebalanced), 4);
    h.pass(Duration::from_millis(999));
    h.answer_all();
    assert_eq!(h.counts(ep).closed_by(CloseReason::Rebalanced), 4);
    // What one answer has begun does not wait for the next.
    h.pass(Duration::from_millis(1));
    h.answer_all();
    let spread = spread(&h);
    assert!(spread.values().all(|count| *count == 1), "{spread:?}");
    assert_eq!((h.counts(ep).idle, h.held), (8, 8));
}

#[test]
fn d25_what_is_left_when_nobody_lacks_a_whole_one_moves_too() {
    let (mut h, ep, conns) = open(1, 15, 64);
    conns.iter().for_each(|conn| h.put(*conn));
    answers(&mut h, 8);
    for _ in 0..3 {
        refresh(&mut h);
    }
    let spread = spread(&h);
    assert!(
        spread.values().all(|count| (1..=2).contains(count)),
        "{spread:?}"
    );
    let closed = h.counts(ep).closed_by(CloseReason::Rebalanced);
    refresh(&mut h);
    assert_eq!(
        h.counts(ep).closed_by(CloseReason::Rebalanced),
        closed,
        "it rests"
    );
}

#[test]
fn d25_at_the_limit_and_all_in_use_those_of_the_fullest_address_close() {
    let (mut h, ep, mut held) = open(1, 15, 15);
    for _ in 0..200 {
        h.wait(ep);
    }
    answers(&mut h, 8);
    for _ in 0..3 {
        refresh(&mut h);
        h.log.clear();
        // Each connection comes back twice.
        for _ in 0..30 {
            h.put(held.remove(0));
            h.answer_all();
            held.extend(h.log.drain(..).filter_map(|action| match action {
                Action::Grant { conn, .. } => Some(conn),
                _ => None,
            }));
        }
    }
    let spread = spread(&h);
    assert!(
        spread.values().all(|count| (1..=2).contains(count)),
        "{spread:?}"
    );
    assert_eq!((held.len(), h.held), (15, 15));
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

/// One of eight cores with a connection each, of which four are to each of two addresses, when the
/// name has four.
fn one_of_eight(seed: u64) -> (Harness, EndpointKey) {
    let (mut h, ep, conns) = open(1, 1, 1);
    for _ in 0..seed {
        h.policy.rng.next();
    }
    h.put(conns[0]);
    answers(&mut h, 4);
    h.others = vec![3, 4];
    (h, ep)
}

#[test]
fn d25_the_only_connection_of_a_core_moves_as_often_as_the_others_do() {
    let mut moved = 0;
    for seed in 0..200 {
        let (mut h, ep) = one_of_eight(seed);
        refresh(&mut h);
        moved += h.counts(ep).closed_by(CloseReason::Rebalanced);
        h.others = vec![2, 2, 2, 1];
        h.pass(Duration::from_secs(2));
        h.wait(ep);
        h.answer_all();
        assert_eq!((h.counts(ep).live(), h.held), (1, 1), "there is one again");
    }
    assert!((75..=125).contains(&moved), "half of them: {moved}");
}

#[test]
fn d25_where_all_cores_together_are_even_nothing_moves() {
    for seed in 0..20 {
        let (mut h, ep) = one_of_eight(seed);
        h.others = vec![1, 2, 2, 2];
        refresh(&mut h);
        assert_eq!(h.counts(ep).closed, 0);
    }
}

#[test]
fn d25_a_plan_goes_on_though_what_closed_ahead_serves_another_core() {
    let (mut h, ep, conns) = open(1, 8, 8);
    conns.iter().for_each(|conn| h.put(*conn));
    answers(&mut h, 2);
    for _ in 0..6 {
        h.pass(TTL);
        while let Some(action) = h.asked.pop_front() {
            h.answer(&action);
            // Each permit that is freed is taken elsewhere, for the second address.
            h.elsewhere = 8 - h.held;
            h.others = vec![0, h.elsewhere as u32];
        }
    }
    let closed = h.counts(ep).closed_by(CloseReason::Rebalanced);
    assert_eq!((closed, h.counts(ep).live(), h.elsewhere), (4, 4, 4));
}

#[test]
fn d25_a_core_whose_waiters_are_younger_moves_all_that_it_has_too_many_within_one_answer() {
    let (mut h, ep, mut held) = open(1, 8, 8);
    for _ in 0..40 {
        h.wait(ep);
    }
    answers(&mut h, 2);
    h.pass(TTL);
    let mut turns = 0;
    while turns < 20 {
        while let Some(action) = h.asked.pop_front() {
            match action {
                Action::Close { conn, .. } => {
                    h.event(Event::Closed { conn });
                    // It goes to an older waiter elsewhere, for the second address.
                    h.elsewhere += 1;
                    h.grant_queued();
                }
                other => h.answer(&other),
            }
            h.others = vec![0, h.elsewhere as u32];
        }
        h.put(held.remove(0));
        held.extend(h.granted_conns());
        turns += 1;
    }
    let closed = h.counts(ep).closed_by(CloseReason::Rebalanced);
    assert_eq!((closed, h.counts(ep).live(), h.elsewhere), (4, 4, 4));
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
