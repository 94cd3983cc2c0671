//! Happy Eyeballs: when the next address is tried beside a slow one, and what becomes of the rest.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::event::{Action, CloseReason, ConnKey, EndpointKey, Event, WaiterKey};
use super::super::harness::{Harness, MS};
use super::super::settings::{ATTEMPT_DELAY, ATTEMPT_FLOOR};
use super::{is_dial, with};
use crate::target::Target;

/// Where a dial goes, and which connection it makes.
pub(super) fn dialed(dial: &Action) -> (ConnKey, SocketAddr) {
    match dial {
        Action::Dial { conn, address, .. } => (*conn, *address),
        other => panic!("{other:?}"),
    }
}

fn is_permit(action: &Action) -> bool {
    matches!(action, Action::AcquirePermit { .. })
}

fn is_close(action: &Action) -> bool {
    matches!(action, Action::Close { .. })
}

/// The next dial after everything before it was answered well.
pub(super) fn dial(h: &mut Harness) -> Option<Action> {
    h.answer_until(is_dial)
}

pub(super) fn v6(last: u16) -> SocketAddr {
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, last], 80).into()
}

pub(super) fn v4(last: u8) -> SocketAddr {
    ([192, 0, 2, last], 80).into()
}

pub(super) fn target(address: SocketAddr, group: u16) -> Target {
    Target {
        group,
        ..Target::new(address)
    }
}

/// An endpoint of so many addresses, one get that waits, and its first dial, which is not answered.
pub(super) fn slow(h: &mut Harness, addresses: u8) -> (EndpointKey, WaiterKey, Action) {
    h.addresses = addresses;
    let ep = h.endpoint("a:1");
    let waiter = h.wait(ep);
    let first = dial(h).unwrap();
    (ep, waiter, first)
}

#[test]
fn c2_a_black_hole_costs_250_ms_and_not_the_time_to_connect() {
    let mut h = with(|_| {});
    let (ep, waiter, first) = slow(&mut h, 2);
    h.pass(ATTEMPT_DELAY - Duration::from_nanos(1));
    assert!(h.asked.is_empty(), "not a moment before");
    h.pass(Duration::from_nanos(1));
    let second = dial(&mut h).unwrap();
    assert_ne!(dialed(&first).1, dialed(&second).1);
    assert_eq!((h.held, h.counts(ep).connecting), (2, 2), "its own permit");
    h.answer(&second);
    h.answer_until(is_close).unwrap();
    let conn = h.granted(waiter).unwrap();
    assert_eq!(conn, dialed(&second).0);
    let lost = dialed(&first).0;
    assert_eq!(h.close_reason(lost), Some(CloseReason::ConnectCancelled));
    assert_eq!((h.counts(ep).closing, h.held), (1, 2));
    h.event(Event::Closed { conn: lost });
    let counts = h.counts(ep);
    assert_eq!((counts.slots(), h.held), (1, 1), "the loser is gone");
    assert_eq!(counts.closed_by(CloseReason::ConnectCancelled), 1);
    assert_eq!(
        (counts.connect_errors, counts.created, counts.closed),
        (0, 1, 0)
    );
    // Who comes next is not sent there.
    h.wait(ep);
    assert_eq!(dialed(&dial(&mut h).unwrap()).1, dialed(&second).1);
}

#[test]
fn c2_attempts_begin_at_0_250_and_500_ms() {
    let mut h = with(|_| {});
    let (_, _, first) = slow(&mut h, 4);
    let begun = h.now;
    let mut all = vec![dialed(&first).1];
    for number in 1..4 {
        h.pass(ATTEMPT_DELAY - MS);
        assert!(h.asked.is_empty());
        h.pass(MS);
        let next = dial(&mut h).unwrap();
        assert_eq!(h.now.since(begun), ATTEMPT_DELAY * number);
        all.push(dialed(&next).1);
    }
    all.sort();
    all.dedup();
    assert_eq!((all.len(), h.held), (4, 4), "each address once");
    h.pass(ATTEMPT_DELAY * 4);
    assert!(dial(&mut h).is_none(), "there is no other");
}

#[test]
fn c1_after_a_refusal_the_next_begins_at_once_and_the_delay_anew() {
    let mut h = with(|_| {});
    let (_, _, first) = slow(&mut h, 3);
    h.pass(MS * 100);
    h.refuse(&first);
    let second = dial(&mut h).unwrap();
    h.pass(ATTEMPT_DELAY - MS);
    assert!(
        h.asked.is_empty(),
        "the delay counts from the newest attempt"
    );
    h.pass(MS);
    let third = dial(&mut h).unwrap();
    h.refuse(&second);
    h.answer(&third);
    h.answer_all();
    assert_eq!(h.logged(is_dial), 3);
}

#[test]
fn c1_m7_what_fails_beside_a_young_attempt_is_replaced_10_ms_after_that_began() {
    let mut h = with(|_| {});
    let (ep, waiter, first) = slow(&mut h, 4);
    h.pass(ATTEMPT_DELAY);
    let second = dial(&mut h).unwrap();
    h.pass(MS * 4);
    h.refuse(&first);
    assert_eq!(h.held, 1, "its permit waits for nobody");
    h.pass(ATTEMPT_FLOOR - MS * 4 - Duration::from_nanos(1));
    assert!(h.asked.is_empty(), "two attempts within 10 ms");
    h.pass(Duration::from_nanos(1));
    let third = dial(&mut h).unwrap();
    // Both that are left fail at one moment: one successor, at once, is not beside another.
    h.pass(MS * 50);
    h.refuse(&second);
    let fourth = dial(&mut h).unwrap();
    h.refuse(&third);
    assert!(dial(&mut h).is_none());
    h.answer(&fourth);
    h.answer_all();
    assert!(h.granted(waiter).is_some());
    assert_eq!((h.counts(ep).connect_errors, h.held), (3, 1));
}

#[test]
fn m7_a_timer_that_is_late_brings_one_attempt_and_no_burst() {
    let mut h = with(|_| {});
    let (_, _, _) = slow(&mut h, 4);
    h.now = h.now.plus(Duration::from_secs(2));
    h.policy.handle_timeout(h.now);
    h.pump();
    assert!(dial(&mut h).is_some());
    assert!(dial(&mut h).is_none());
    h.pass(ATTEMPT_DELAY - MS);
    assert!(h.asked.is_empty());
    h.pass(MS);
    assert!(dial(&mut h).is_some());
}

#[test]
fn c4_a_loser_that_completes_after_all_is_counted_once_and_kept_by_nobody() {
    let mut h = with(|_| {});
    let (ep, waiter, first) = slow(&mut h, 2);
    h.pass(ATTEMPT_DELAY);
    let second = dial(&mut h).unwrap();
    h.answer(&second);
    let init = h.asked.pop_front().unwrap();
    h.answer(&init);
    assert!(h.granted(waiter).is_some());
    let ignored = h.policy.ignored_events();
    // Its success was on its way when it was given up.
    h.answer(&first);
    assert_eq!(h.policy.ignored_events(), ignored + 1);
    h.answer_all();
    let counts = h.counts(ep);
    assert_eq!((counts.created, counts.slots(), h.held), (1, 1, 1));
    assert_eq!(counts.closed_by(CloseReason::ConnectCancelled), 1);
}

#[test]
fn c4_a_loser_that_a_waiter_needs_goes_on_and_serves_it() {
    let mut h = with(|s| s.max_connecting = 2);
    let (ep, waiter, first) = slow(&mut h, 2);
    h.pass(ATTEMPT_DELAY);
    let second = dial(&mut h).unwrap();
    let other = h.wait(ep);
    assert!(dial(&mut h).is_none(), "no more may connect at once");
    h.answer(&second);
    let init = h.asked.pop_front().unwrap();
    h.answer(&init);
    assert!(h.granted(waiter).is_some());
    assert_eq!(h.close_reason(dialed(&first).0), None);
    h.answer(&first);
    h.answer_all();
    assert_eq!(h.granted(other), Some(dialed(&first).0));
    assert_eq!(h.counts(ep).closed_by(CloseReason::ConnectCancelled), 0);
}

#[test]
fn c4_a_loser_whose_last_waiter_leaves_is_cancelled_then() {
    let mut h = with(|s| s.max_connecting = 2);
    let (ep, _, first) = slow(&mut h, 2);
    h.pass(ATTEMPT_DELAY);
    let second = dial(&mut h).unwrap();
    let other = h.wait(ep);
    h.answer(&second);
    h.answer_all();
    h.cancel(other);
    let reason = h.close_reason(dialed(&first).0);
    assert_eq!(reason, Some(CloseReason::ConnectCancelled));
    h.answer_all();
    assert_eq!((h.counts(ep).slots(), h.held), (1, 1));
}

#[test]
fn two_that_are_ready_before_anybody_looks_are_both_kept() {
    let mut h = with(|_| {});
    let (ep, waiter, first) = slow(&mut h, 2);
    h.pass(ATTEMPT_DELAY);
    let second = dial(&mut h).unwrap();
    h.cancel(waiter);
    h.answer(&first);
    h.answer(&second);
    // Nobody waits; the first that is ready makes the other a loser, unless that is ready too.
    let inits = [h.asked.pop_front().unwrap(), h.asked.pop_front().unwrap()];
    h.answer(&inits[0]);
    h.answer(&inits[1]);
    h.answer_all();
    assert_eq!((h.counts(ep).idle, h.held), (1, 1));
}

#[test]
fn c2_at_the_limit_the_older_attempt_makes_way_with_its_permit() {
    for full in ["permits", "slots", "connects"] {
        let mut h = with(|s| {
            s.max_connections = if full == "slots" { 1 } else { 8 };
            s.max_connecting = if full == "connects" { 1 } else { 4 };
        });
        h.limit = if full == "permits" { 1 } else { 8 };
        let (ep, waiter, first) = slow(&mut h, 2);
        h.pass(ATTEMPT_DELAY);
        let close = h.answer_until(is_close).unwrap();
        let lost = dialed(&first).0;
        assert_eq!(
            h.close_reason(lost),
            Some(CloseReason::ConnectCancelled),
            "{full}"
        );
        assert_eq!(
            (h.logged(is_dial), h.held),
            (1, 1),
            "{full}: it is not gone yet"
        );
        assert!(h.queued.is_empty(), "{full}: nobody waits for a permit");
        h.answer(&close);
        let second = dial(&mut h).unwrap();
        assert_ne!(dialed(&first).1, dialed(&second).1);
        h.answer(&second);
        h.answer_all();
        assert!(h.granted(waiter).is_some(), "{full}");
        assert_eq!((h.counts(ep).slots(), h.held), (1, 1), "{full}");
        assert_eq!(h.counts(ep).connect_errors, 0);
    }
}

#[test]
fn c2_at_the_limit_a_slow_address_gets_a_second_try_without_hurry() {
    let mut h = with(|s| s.connect_timeout = Duration::from_secs(2));
    h.limit = 1;
    let (ep, waiter, first) = slow(&mut h, 2);
    h.pass(ATTEMPT_DELAY);
    let second = dial(&mut h).unwrap();
    h.pass(ATTEMPT_DELAY * 2);
    assert!(
        h.asked.is_empty(),
        "nothing is left to be tried in its place"
    );
    h.refuse(&second);
    let again = dial(&mut h).unwrap();
    assert_eq!(dialed(&again).1, dialed(&first).1);
    h.pass(Duration::from_secs(1));
    assert!(h.asked.is_empty(), "it may take its time");
    h.answer(&again);
    h.answer_all();
    assert!(h.granted(waiter).is_some());
    assert_eq!((h.counts(ep).connect_errors, h.held), (1, 1));
}

#[test]
fn c2_a_young_attempt_is_not_cut_for_want_of_a_permit() {
    let mut h = with(|_| {});
    h.limit = 2;
    let (_, _, first) = slow(&mut h, 3);
    h.pass(ATTEMPT_DELAY);
    let second = dial(&mut h).unwrap();
    h.pass(MS);
    h.refuse(&first);
    h.limit = 1;
    h.pass(ATTEMPT_FLOOR);
    assert!(h.answer_until(is_close).is_none(), "it is 11 ms old");
    assert_eq!(h.close_reason(dialed(&second).0), None);
    h.pass(ATTEMPT_DELAY - ATTEMPT_FLOOR - MS);
    assert!(h.answer_until(is_close).is_some());
}

#[test]
fn c7_the_other_family_is_tried_second_and_a_broken_one_is_remembered() {
    let mut h = with(|s| s.max_connection_uses = 1);
    let preferred = (1..=4).map(|last| target(v6(last), 0));
    let others = (1..=2).map(|last| target(v4(last), 1));
    h.targets = Some(preferred.chain(others).collect());
    let ep = h.endpoint("a:1");
    let (mut slow_ones, begun) = (0, h.now);
    // A connection every 50 ms for ten seconds, over a path that swallows IPv6.
    while h.now.since(begun) < Duration::from_secs(10) {
        let waiter = h.wait(ep);
        let asked = h.now;
        let first = dial(&mut h).unwrap();
        if dialed(&first).1.is_ipv6() {
            slow_ones += 1;
            h.pass(ATTEMPT_DELAY);
            let second = dial(&mut h).unwrap();
            assert!(dialed(&second).1.is_ipv4(), "the other family is next");
            h.answer(&second);
        } else {
            h.answer(&first);
        }
        h.answer_all();
        assert!(h.now.since(asked) <= ATTEMPT_DELAY);
        let conn = h.granted(waiter).unwrap();
        h.put(conn);
        h.answer_all();
        h.log.clear();
        h.pass(MS * 50);
    }
    // One probe each time that the pause, 1.2 s a quarter more or less, is over.
    assert!((5..=16).contains(&slow_ones), "{slow_ones}");
}

#[test]
fn c12_who_accepts_and_says_nothing_has_250_ms_more_and_no_longer() {
    let mut h = with(|_| {});
    let (ep, waiter, first) = slow(&mut h, 2);
    h.pass(MS * 100);
    h.answer(&first);
    let init = h.asked.pop_front().unwrap();
    assert!(matches!(init, Action::Initialise { .. }));
    h.pass(ATTEMPT_DELAY - MS);
    assert!(h.asked.is_empty(), "it counts from the connect");
    h.pass(MS);
    let second = dial(&mut h).unwrap();
    h.answer(&second);
    assert_eq!(h.granted(waiter), None, "a connect alone wins nothing");
    h.answer_all();
    assert_eq!(h.granted(waiter), Some(dialed(&second).0));
    let reason = h.close_reason(dialed(&first).0);
    assert_eq!(reason, Some(CloseReason::ConnectCancelled));
    assert_eq!((h.counts(ep).slots(), h.held), (1, 1));
}

#[test]
fn a_name_with_one_address_has_no_race() {
    let mut h = with(|s| s.get_timeout = Duration::from_secs(60));
    let (ep, waiter, first) = slow(&mut h, 1);
    h.pass(Duration::from_secs(2));
    assert!(h.asked.is_empty());
    assert_eq!((h.held, h.logged(is_permit)), (1, 1));
    h.answer(&first);
    h.answer_all();
    assert!(h.granted(waiter).is_some());
    assert_eq!(h.counts(ep).closed_by(CloseReason::ConnectCancelled), 0);
}

#[test]
fn k4_nobody_races_for_nobody_but_for_the_next_who_comes() {
    let mut h = with(|_| {});
    let (ep, waiter, _) = slow(&mut h, 2);
    h.cancel(waiter);
    h.pass(MS * 400);
    assert!(h.asked.is_empty(), "nobody waits");
    h.wait(ep);
    assert!(dial(&mut h).is_some(), "the first attempt is overdue");
}

/// An endpoint of three addresses with an attempt at each, and the dials.
fn three(h: &mut Harness) -> (EndpointKey, WaiterKey, Vec<Action>) {
    let (ep, waiter, first) = slow(h, 3);
    let mut dials = vec![first];
    for _ in 0..2 {
        h.pass(ATTEMPT_DELAY);
        dials.extend(dial(h));
    }
    assert_eq!((h.held, h.counts(ep).connecting), (3, 3));
    (ep, waiter, dials)
}

#[test]
fn k6_a_get_dropped_with_three_attempts_leaves_one_connection_and_no_count() {
    let mut h = with(|_| {});
    let (ep, waiter, dials) = three(&mut h);
    h.cancel(waiter);
    h.pass(ATTEMPT_DELAY * 2);
    assert!(h.asked.is_empty(), "no fourth for nobody");
    h.answer(&dials[1]);
    h.answer_all();
    let counts = h.counts(ep);
    assert_eq!((counts.idle, counts.slots(), h.held), (1, 1, 1));
    assert_eq!(counts.closed_by(CloseReason::ConnectCancelled), 2);
}

#[test]
fn k6_a_drain_ends_all_attempts_and_counts_each_down() {
    let mut h = with(|_| {});
    let (ep, waiter, _) = three(&mut h);
    h.event(Event::Drain);
    assert!(h.failure(waiter).is_some());
    h.answer_all();
    assert_eq!((h.held, h.counts(ep).slots()), (0, 0));
    assert_eq!(h.counts(ep).closed_by(CloseReason::Drained), 3);
    assert!(h.policy.is_drained() && h.policy.poll_timeout().is_none());
}

#[test]
fn c2_when_all_addresses_are_silent_the_waiters_hear_of_the_last() {
    let mut h = with(|s| s.connect_retry_count = 0);
    h.limit = 2;
    let (_, waiter, first) = slow(&mut h, 3);
    let mut dials = vec![first];
    for _ in 0..2 {
        h.pass(ATTEMPT_DELAY);
        while let Some(dial) = dial(&mut h) {
            dials.push(dial);
        }
    }
    assert_eq!(dials.len(), 3);
    // The first was cut: the others fail, and then it has its second try.
    dials[1..].iter().for_each(|dial| h.refuse(dial));
    let again = dial(&mut h).unwrap();
    assert!(h.failure(waiter).is_none());
    h.refuse(&again);
    h.refuse_dials();
    assert!(h.failure(waiter).is_some());
    assert_eq!(h.held, 0);
}

#[test]
fn c2_an_opening_too_many_does_not_keep_a_waiter_from_the_next_address() {
    let mut h = with(|_| {});
    h.targets = Some(vec![target(v6(1), 0), target(v4(1), 1)]);
    let ep = h.endpoint("a:1");
    let (waiter, other) = (h.wait(ep), h.wait(ep));
    let first = [dial(&mut h).unwrap(), dial(&mut h).unwrap()];
    assert!(first.iter().all(|it| dialed(it).1 == v6(1)));
    // One waiter leaves; its opening stays, of use to the other.
    h.cancel(other);
    h.pass(ATTEMPT_DELAY);
    let second = dial(&mut h).expect("an attempt beside the slow one");
    assert_eq!(dialed(&second).1, v4(1));
    assert!(dial(&mut h).is_none(), "for one waiter, one of them");
    h.answer(&second);
    h.answer_all();
    assert!(h.granted(waiter).is_some());
}
