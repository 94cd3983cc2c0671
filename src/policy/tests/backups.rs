//! Connections at a backup move back when what comes before it is good again.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::super::event::{Action, CloseReason, ConnKey, EndpointKey, Event, Return};
use super::super::harness::{Harness, MS};
use super::super::settings::{ATTEMPT_DELAY, REFRESH_FLOOR};
use super::race::{dial, dialed, v4, v6};
use super::{is_dial, with};
use crate::error::{Error, ErrorKind};
use crate::target::Target;

const SECOND: Duration = Duration::from_secs(1);

fn target(last: u8, priority: u16) -> Target {
    Target {
        priority,
        ..Target::new(v4(last))
    }
}

/// A place where dials to some addresses are refused, and those to others never answered.
#[derive(Default)]
struct Net {
    down: BTreeSet<SocketAddr>,
    silent: BTreeSet<SocketAddr>,
}

impl Net {
    /// Answers what is asked, until nothing is but what is never answered.
    fn answer(&self, h: &mut Harness) {
        let mut unanswered = Vec::new();
        while let Some(action) = h.asked.pop_front() {
            match &action {
                Action::Dial { address, .. } if self.silent.contains(address) => {
                    unanswered.push(action);
                }
                Action::Dial { address, .. } if self.down.contains(address) => h.refuse(&action),
                _ => h.answer(&action),
            }
        }
        h.asked.extend(unanswered);
    }

    /// Time passes, and everything is answered at its moment.
    fn pass(&self, h: &mut Harness, time: Duration) {
        let end = h.now.plus(time);
        while let Some(next) = h.policy.poll_timeout().filter(|next| *next <= end) {
            h.pass(next.since(h.now));
            self.answer(h);
        }
        h.pass(end.since(h.now));
        self.answer(h);
    }
}

/// An endpoint with so many connections in use at the backup, because 192.0.2.1 refuses.
fn at_backup(targets: &[Target], conns: usize) -> (Harness, Net, EndpointKey, Vec<ConnKey>) {
    let mut h = with(|s| {
        s.max_connections = 64;
        s.get_timeout = SECOND * 600;
        s.max_idle_time = SECOND * 50_000;
        s.max_connection_lifetime = SECOND * 60_000;
        s.health_check = false;
    });
    h.ttl = SECOND * 40_000;
    h.targets = Some(targets.to_vec());
    let first = targets.iter().filter(|it| it.priority == 0);
    let net = Net {
        down: first.map(|it| it.address).collect(),
        ..Net::default()
    };
    let ep = h.endpoint("a:1");
    let waiters: Vec<_> = (0..conns).map(|_| h.wait(ep)).collect();
    net.answer(&mut h);
    net.pass(&mut h, MS * 20);
    let conns = waiters.iter().map(|waiter| h.granted(*waiter).unwrap());
    let conns: Vec<_> = conns.collect();
    assert!(h.counts(ep).live() as usize == conns.len());
    h.log.clear();
    (h, net, ep, conns)
}

fn dials_to(h: &Harness, address: SocketAddr) -> usize {
    h.logged(|action| matches!(action, Action::Dial { address: to, .. } if *to == address))
}

fn rebalanced(h: &Harness, ep: EndpointKey) -> u64 {
    h.counts(ep).closed_by(CloseReason::Rebalanced)
}

#[test]
fn c10_d35_connections_move_back_half_of_them_a_second_and_one_at_a_time() {
    let (mut h, mut net, ep, conns) = at_backup(&[target(1, 0), target(2, 1)], 8);
    conns.iter().for_each(|conn| h.put(*conn));
    net.down.clear();
    let mut seen = Vec::new();
    for _ in 0..50 {
        net.pass(&mut h, MS * 100);
        seen.push(h.policy.held_at(v4(1)));
        assert_eq!(h.counts(ep).live(), 8);
    }
    seen.dedup();
    assert_eq!(seen, [0, 4, 8], "half of all at a time");
    assert_eq!(h.counts(ep).connect_errors, 1, "none but the first");
    assert_eq!((rebalanced(&h, ep), h.held), (8, 8));
    assert_eq!(h.logged(is_dial), 8, "it rests");
    assert_eq!(h.logged(|a| matches!(a, Action::Resolve { .. })), 0);
}

#[test]
fn c1_c10_d35_a_backup_is_left_alone_while_one_connect_now_and_then_looks_at_the_first() {
    let (mut h, net, ep, conns) = at_backup(&[target(1, 0), target(2, 1)], 4);
    conns.iter().for_each(|conn| h.put(*conn));
    let mut moments = Vec::new();
    for _ in 0..6_000 {
        net.pass(&mut h, MS * 100);
        assert_eq!((h.counts(ep).live(), h.held), (4, 4));
        moments.resize(dials_to(&h, v4(1)), h.now);
    }
    assert_eq!(dials_to(&h, v4(2)), 0, "for its own sake it opens nothing");
    assert_eq!(rebalanced(&h, ep), 0);
    // Ten minutes: pauses that double, then some 30 s each.
    assert!((20..=35).contains(&moments.len()), "{}", moments.len());
    let last: Vec<_> = moments.windows(2).map(|it| it[1].since(it[0])).collect();
    let last = &last[12..];
    assert!(last.iter().all(|it| *it > SECOND * 22), "{last:?}");
    assert!(last.iter().all(|it| *it < SECOND * 39), "{last:?}");
    assert_eq!(h.policy.ignored_events(), 0);
}

#[test]
fn c2_d35_a_silent_first_address_gets_no_rival_and_keeps_nobody_waiting() {
    let (mut h, mut net, ep, conns) = at_backup(&[target(1, 0), target(2, 1)], 2);
    h.put(conns[0]);
    (net.silent, net.down) = (net.down, BTreeSet::new());
    while dials_to(&h, v4(1)) == 0 {
        net.pass(&mut h, MS);
    }
    net.pass(&mut h, ATTEMPT_DELAY * 2);
    assert_eq!(h.logged(is_dial), 1, "nobody waits: it has time");
    assert_eq!((h.counts(ep).connecting, h.held), (1, 3));
    // One more than is idle: it is served by the backup at once.
    h.hit(ep);
    let waiter = h.wait(ep);
    net.answer(&mut h);
    assert!(h.granted(waiter).is_some());
    assert_eq!(dials_to(&h, v4(2)), 1);
    assert_eq!(h.counts(ep).connecting, 0, "and the silent one has lost");
}

#[test]
fn d35_a_get_beside_a_young_probe_is_served_by_the_backup() {
    let (mut h, mut net, ep, _conns) = at_backup(&[target(1, 0), target(2, 1)], 2);
    (net.silent, net.down) = (net.down, BTreeSet::new());
    while dials_to(&h, v4(1)) == 0 {
        net.pass(&mut h, MS);
    }
    let waiter = h.wait(ep);
    net.answer(&mut h);
    assert!(h.granted(waiter).is_some(), "without the attempt delay");
    assert_eq!((dials_to(&h, v4(1)), dials_to(&h, v4(2))), (1, 1));
}

#[test]
fn d35_what_is_in_use_closes_at_its_return_when_its_successor_is_there() {
    let (mut h, mut net, ep, conns) = at_backup(&[target(1, 0), target(2, 1)], 4);
    net.down.clear();
    for _ in 0..100 {
        net.pass(&mut h, MS * 100);
        // One successor for each, and no more however long they stay in use.
        assert!(h.counts(ep).live() <= 8);
    }
    assert_eq!((h.policy.held_at(v4(1)), rebalanced(&h, ep)), (4, 0));
    conns.iter().for_each(|conn| h.put(*conn));
    net.answer(&mut h);
    assert_eq!(rebalanced(&h, ep), 4);
    assert_eq!((h.counts(ep).idle, h.held), (4, 4));
}

#[test]
fn c10_d35_what_was_to_close_at_its_return_stays_if_the_first_fails_again() {
    let (mut h, mut net, ep, conns) = at_backup(&[target(1, 0), target(2, 1)], 2);
    net.down.clear();
    while h.policy.held_at(v4(1)) < 2 {
        net.pass(&mut h, MS * 100);
    }
    // The server goes again, and is found out to be gone.
    net.down.insert(v4(1));
    let back = [h.hit(ep), h.hit(ep)];
    for conn in back {
        h.put_as(conn, Return::Discard(CloseReason::Reset));
    }
    let waiter = h.wait(ep);
    net.answer(&mut h);
    let more = h.granted(waiter).unwrap();
    assert_eq!(h.policy.address(more), Some(v4(2)));
    conns.iter().for_each(|conn| h.put(*conn));
    net.answer(&mut h);
    assert_eq!((rebalanced(&h, ep), h.counts(ep).idle), (0, 2));
    let again = h.hit(ep);
    h.put_as(again, Return::Discard(CloseReason::Failed));
    assert_eq!(h.close_reason(again), Some(CloseReason::Failed));
}

#[test]
fn d35_what_its_user_found_bad_is_not_kept_though_it_was_to_close_for_the_balance_alone() {
    let (mut h, mut net, ep, conns) = at_backup(&[target(1, 0), target(2, 1)], 1);
    net.down.clear();
    net.pass(&mut h, SECOND * 5);
    assert_eq!(h.counts(ep).live(), 2);
    net.down.insert(v4(1));
    let back = h.hit(ep);
    h.put_as(back, Return::Discard(CloseReason::Reset));
    net.answer(&mut h);
    h.put_as(conns[0], Return::Discard(CloseReason::Failed));
    assert_eq!(h.close_reason(conns[0]), Some(CloseReason::Failed));
}

#[test]
fn d35_the_last_connection_at_a_backup_is_replaced_whatever_the_shares() {
    let first: Vec<_> = (1..4).map(|last| target(last, 0)).collect();
    let all = [&first[..], &[target(9, 1)]].concat();
    let (mut h, mut net, ep, conns) = at_backup(&all, 1);
    h.put(conns[0]);
    net.down.clear();
    net.pass(&mut h, SECOND * 5);
    assert_eq!((h.policy.held_at(v4(9)), h.counts(ep).live()), (0, 1));
    assert_eq!(rebalanced(&h, ep), 1);
}

#[test]
fn d35_many_first_addresses_take_back_half_at_a_time_too() {
    let first: Vec<_> = (1..9).map(|last| target(last, 0)).collect();
    let all = [&first[..], &[target(9, 1)]].concat();
    let (mut h, mut net, ep, conns) = at_backup(&all, 8);
    conns.iter().for_each(|conn| h.put(*conn));
    net.down.clear();
    net.pass(&mut h, SECOND * 3);
    let spread: Vec<_> = (1..10).map(|last| h.policy.held_at(v4(last))).collect();
    // Each was refused once, and is good again after a pause of its own.
    assert_eq!(spread[..8].iter().sum::<u32>(), 8);
    assert!(spread.iter().all(|count| *count <= 2), "{spread:?}");
    assert_eq!(spread[8], 0);
    assert_eq!(rebalanced(&h, ep), 8);
}

#[test]
fn d35_of_three_priorities_the_best_that_works_is_used() {
    let all = [target(1, 0), target(2, 1), target(3, 2)];
    let (mut h, mut net, ep, conns) = at_backup(&all, 0);
    assert!(conns.is_empty());
    net.down.insert(v4(2));
    let waiters = [h.wait(ep), h.wait(ep)];
    net.answer(&mut h);
    net.pass(&mut h, MS * 20);
    for waiter in waiters {
        let conn = h.granted(waiter).unwrap();
        assert_eq!(h.policy.address(conn), Some(v4(3)));
        h.put(conn);
    }
    net.down.remove(&v4(2));
    net.pass(&mut h, SECOND * 60);
    let held = [1, 2, 3].map(|last| h.policy.held_at(v4(last)));
    assert_eq!(held, [0, 2, 0]);
    net.down.clear();
    net.pass(&mut h, SECOND * 60);
    assert_eq!([1, 2, 3].map(|last| h.policy.held_at(v4(last))), [2, 0, 0]);
    assert_eq!(h.counts(ep).live(), 2);
}

#[test]
fn d35_at_the_limit_one_idle_connection_at_the_backup_closes_ahead() {
    let (mut h, mut net, ep, conns) = at_backup(&[target(1, 0), target(2, 1)], 4);
    conns.iter().for_each(|conn| h.put(*conn));
    h.limit = 4;
    net.down.clear();
    for _ in 0..200 {
        net.pass(&mut h, MS * 100);
        assert!(h.counts(ep).live() >= 3, "one at a time");
    }
    assert_eq!((h.policy.held_at(v4(1)), h.policy.held_at(v4(2))), (4, 0));
    assert!(h.queued.is_empty());
}

#[test]
fn d35_connections_of_the_second_family_and_of_plain_names_are_not_looked_at() {
    let all = [
        Target::new(v6(1)),
        Target {
            group: 1,
            ..target(1, 0)
        },
    ];
    let (mut h, mut net, _, _) = at_backup(&all, 0);
    net.down = BTreeSet::from([v6(1)]);
    let ep = h.endpoint("b:1");
    let waiter = h.wait(ep);
    net.answer(&mut h);
    h.put(h.granted(waiter).unwrap());
    h.log.clear();
    net.down.clear();
    net.pass(&mut h, SECOND * 600);
    assert_eq!(h.logged(is_dial), 0);
}

#[test]
fn d35_a_backup_without_connections_is_no_reason_to_dial() {
    let (mut h, net, ep, conns) = at_backup(&[target(1, 0), target(2, 1)], 1);
    h.put_as(conns[0], Return::Discard(CloseReason::Failed));
    net.answer(&mut h);
    h.log.clear();
    net.pass(&mut h, SECOND * 600);
    assert_eq!((h.logged(is_dial), h.counts(ep).slots()), (0, 0));
}

#[test]
fn c2_d35_the_other_family_of_the_first_priority_is_dialed_before_a_backup() {
    let mut h = with(|_| {});
    h.targets = Some(vec![
        Target::new(v6(1)),
        Target {
            group: 1,
            ..target(1, 0)
        },
        target(2, 1),
    ]);
    let ep = h.endpoint("a:1");
    h.wait(ep);
    let mut order = Vec::new();
    while let Some(next) = dial(&mut h) {
        order.push(dialed(&next).1);
        h.pass(ATTEMPT_DELAY);
    }
    assert_eq!(order, [v6(1), v4(1), v4(2)]);
}

#[test]
fn c7_d35_a_backup_that_wins_is_no_verdict_on_the_family_of_the_first() {
    let mut h = with(|s| s.connect_timeout = MS * 400);
    h.targets = Some(vec![Target::new(v6(1)), target(2, 1)]);
    h.ttl = SECOND * 2;
    let net = Net {
        silent: BTreeSet::from([v6(1)]),
        ..Net::default()
    };
    let ep = h.endpoint("a:1");
    let waiter = h.wait(ep);
    net.answer(&mut h);
    net.pass(&mut h, ATTEMPT_DELAY);
    let conn = h.granted(waiter).unwrap();
    assert_eq!(h.policy.address(conn), Some(v4(2)));
    h.put(conn);
    // Another address of that family, which never failed, is good from the next answer on.
    h.targets = Some(vec![Target::new(v6(7)), target(2, 1)]);
    net.pass(&mut h, SECOND * 3);
    assert_eq!((h.policy.held_at(v6(7)), h.policy.held_at(v4(2))), (1, 0));
}

#[test]
fn d35_no_more_than_once_a_second_however_often_the_first_comes_and_goes() {
    let (mut h, mut net, ep, conns) = at_backup(&[target(1, 0), target(2, 1)], 8);
    conns.iter().for_each(|conn| h.put(*conn));
    let begun = h.now;
    for turn in 0..1_000 {
        match turn % 7 {
            0 => net.down.insert(v4(1)),
            3 => net.down.remove(&v4(1)),
            _ => false,
        };
        net.pass(&mut h, MS * 50);
        let plans = h.now.since(begun).as_secs() / REFRESH_FLOOR.as_secs() + 1;
        assert!(dials_to(&h, v4(1)) as u64 <= plans * 8);
        assert!((7..=16).contains(&h.counts(ep).live()));
    }
}

/// Time passes, and each dial to 192.0.2.1 ends well after 300 ms. Returns how many connections there
/// were at most.
fn pass_slowly(h: &mut Harness, net: &mut Net, ep: EndpointKey, time: Duration) -> u32 {
    net.silent.insert(v4(1));
    let mut most = 0;
    let mut under_way = Vec::new();
    let end = h.now.plus(time);
    while h.now < end {
        net.pass(h, MS * 10);
        let begun = h.asked.drain(..);
        under_way.extend(begun.map(|dial| (h.now.plus(MS * 300), dial)));
        let now = h.now;
        for (_, dial) in under_way.extract_if(.., |(at, _)| *at <= now) {
            h.answer(&dial);
        }
        net.answer(h);
        most = most.max(h.counts(ep).live());
    }
    most
}

#[test]
fn c2_d35_a_first_address_that_is_slow_but_works_takes_one_after_the_other() {
    for are_idle in [true, false] {
        let (mut h, mut net, ep, conns) = at_backup(&[target(1, 0), target(2, 1)], 4);
        if are_idle {
            conns.iter().for_each(|conn| h.put(*conn));
        }
        net.down.clear();
        let most = pass_slowly(&mut h, &mut net, ep, SECOND * 60);
        conns
            .iter()
            .filter(|_| !are_idle)
            .for_each(|conn| h.put(*conn));
        net.answer(&mut h);
        assert!(most <= if are_idle { 5 } else { 8 }, "{most} at once");
        assert_eq!(h.policy.held_at(v4(2)), 0, "idle: {are_idle}");
        assert_eq!(dials_to(&h, v4(1)), 4, "each is moved once");
        assert_eq!(dials_to(&h, v4(2)), 0);
    }
}

#[test]
fn c9_d35_what_this_host_cannot_reach_is_tried_ever_more_seldom() {
    let (mut h, mut net, _ep, conns) = at_backup(&[target(1, 0), target(2, 1)], 2);
    conns.iter().for_each(|conn| h.put(*conn));
    let first = v4(1);
    (net.silent, net.down) = (net.down, BTreeSet::new());
    let end = h.now.plus(SECOND * 600);
    while h.now < end {
        net.pass(&mut h, MS * 100);
        for action in std::mem::take(&mut h.asked) {
            if let Action::Dial { conn, .. } = action {
                let error = Error::from_errno(ErrorKind::Connect, libc::EADDRNOTAVAIL);
                h.event(Event::ConnectFailed { conn, error });
            }
        }
    }
    let dials = dials_to(&h, first);
    assert!((15..=35).contains(&dials), "{dials} in ten minutes");
}

#[test]
fn d35_a_connection_that_stays_after_all_is_watched_again() {
    let (mut h, mut net, ep, conns) = at_backup(&[target(1, 0), target(2, 1)], 1);
    net.down.clear();
    net.pass(&mut h, SECOND * 5);
    assert_eq!(h.counts(ep).live(), 2, "its successor is there");
    let successor = h.hit(ep);
    h.put_as(successor, Return::Discard(CloseReason::Reset));
    net.answer(&mut h);
    h.put(conns[0]);
    net.answer(&mut h);
    assert_eq!(h.policy.held_at(v4(2)), 1, "it is all there is");
    net.pass(&mut h, SECOND * 60);
    assert_eq!((h.policy.held_at(v4(1)), h.policy.held_at(v4(2))), (1, 0));
}

#[test]
fn x12_d35_the_only_connection_at_the_limit_asks_for_a_permit_now_and_then() {
    let (mut h, mut net, ep, conns) = at_backup(&[target(1, 0), target(2, 1)], 1);
    h.put(conns[0]);
    h.limit = 1;
    net.down.clear();
    h.log.clear();
    net.pass(&mut h, SECOND * 600);
    let asked = h.logged(|action| matches!(action, Action::AcquirePermit { .. }));
    assert!((1..=40).contains(&asked), "{asked} in ten minutes");
    assert_eq!(h.counts(ep).live(), 1, "and it is not closed for a guess");
    h.limit = 2;
    net.pass(&mut h, SECOND * 60);
    assert_eq!((h.policy.held_at(v4(1)), h.policy.held_at(v4(2))), (1, 0));
}
