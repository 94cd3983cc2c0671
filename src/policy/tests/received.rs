//! Connections come from other cores.

use std::time::Duration;

use super::super::event::{Action, CloseReason, ConnKey, EndpointKey, Event, Received, Return};
use super::super::harness::{Harness, MS};
use super::handover::moving;
use crate::error::ErrorKind;
use crate::time::Tick;

/// A waiter whose request for a permit is queued, and the slot for another core's connection.
fn expecting(h: &mut Harness) -> (EndpointKey, ConnKey) {
    (h.limit, h.elsewhere) = (1, 1);
    let ep = h.endpoint("a:1");
    h.wait(ep);
    h.answer_all();
    let (of, slot) = h.open_slots[0];
    assert_eq!(of, ep);
    (ep, slot)
}

fn parcel(h: &Harness) -> Received {
    Received {
        address: ([127, 0, 0, 1], 80).into(),
        capacity: 1,
        total_uses: 3,
        idle_since: h.now,
        opened: h.now,
        deadline: h.now.plus(Duration::from_secs(60)),
    }
}

#[test]
fn what_another_core_gives_serves_the_oldest_waiter() {
    let mut h = moving(|_| {});
    let (ep, slot) = expecting(&mut h);
    assert_eq!(h.counts(ep).slots(), 0, "a slot is no connection");
    let what = parcel(&h);
    assert!(h.receive((ep, slot), what));
    assert_eq!(h.counts(ep).waiters, 1, "nobody has watched it yet");
    h.answer_all();
    let counts = h.counts(ep);
    assert_eq!((counts.waiters, counts.in_use, counts.received), (0, 1, 1));
    assert_eq!((counts.created, h.held, h.elsewhere), (0, 1, 0));
    let grant = |a: &Action| matches!(a, Action::Grant { conn, reused: true, .. } if *conn == slot);
    assert_eq!(h.logged(grant), 1);
    h.put_as(slot, Return::Discard(CloseReason::Failed));
    h.answer_all();
    assert_eq!((h.counts(ep).closed, h.held), (1, 0));
}

#[test]
fn one_that_ended_on_its_way_is_closed_and_the_waiter_waits_on() {
    let mut h = moving(|_| {});
    let (ep, slot) = expecting(&mut h);
    let what = parcel(&h);
    h.receive((ep, slot), what);
    let look = h
        .answer_until(|a| matches!(a, Action::Look { .. }))
        .unwrap();
    h.refuse(&look);
    assert_eq!(h.close_reason(slot), Some(CloseReason::Unwatched));
    h.answer_all();
    assert_eq!(h.counts(ep).in_use, 1, "another was opened with its permit");
}

#[test]
fn one_that_idled_for_long_is_asked_for_its_health_first() {
    let mut h = moving(|s| s.health_check = true);
    let (ep, slot) = expecting(&mut h);
    let long_ago = Tick::from_nanos(h.now.as_nanos() - 600_000_000);
    let what = Received {
        idle_since: long_ago,
        ..parcel(&h)
    };
    h.receive((ep, slot), what);
    let check = h
        .answer_until(|a| matches!(a, Action::CheckHealth { .. }))
        .unwrap();
    assert_eq!(h.counts(ep).waiters, 1);
    h.answer(&check);
    assert_eq!(h.counts(ep).in_use, 1);
}

#[test]
fn the_end_of_its_life_comes_with_it() {
    let mut h = moving(|s| s.max_idle_time = Duration::from_secs(600));
    let (ep, slot) = expecting(&mut h);
    let what = parcel(&h);
    h.receive((ep, slot), what);
    h.answer_all();
    h.put(slot);
    h.pass(Duration::from_secs(61));
    assert_eq!(h.close_reason(slot), Some(CloseReason::Lifetime));
}

#[test]
fn x11_who_waits_no_more_wants_no_slot() {
    let mut h = moving(|_| {});
    let (ep, slot) = expecting(&mut h);
    h.pass(Duration::from_secs(6));
    assert_eq!(h.counts(ep).get_timeouts, 1);
    assert!(h.open_slots.is_empty() && h.queued.is_empty());
    let what = parcel(&h);
    assert!(!h.policy.takes(slot, &what), "one that was on its way");
    h.policy
        .handle_event(h.now, Event::Received { conn: slot, what });
    assert_eq!(h.policy.ignored_events(), 1);
    h.answer_all();
    assert!(!h.policy.takes(slot, &what));
    h.policy.remove_endpoint(ep);
    assert!(h.policy.counts(ep).is_none());
}

#[test]
fn an_endpoint_whose_slot_is_not_free_yet_is_not_forgotten() {
    let mut h = moving(|_| {});
    let (ep, _) = expecting(&mut h);
    h.pass(Duration::from_secs(6));
    h.policy.remove_endpoint(ep);
    assert!(h.policy.counts(ep).is_some());
}

#[test]
fn a_permit_that_comes_first_is_used_and_the_slot_given_up() {
    let mut h = moving(|s| s.max_connections = 1);
    let (ep, slot) = expecting(&mut h);
    h.elsewhere = 0;
    h.answer_all();
    let what = parcel(&h);
    assert!(!h.policy.takes(slot, &what));
    let counts = h.counts(ep);
    assert_eq!((counts.in_use, counts.created, h.held), (1, 1, 1));
}

#[test]
fn openings_that_wait_for_a_slot_come_first() {
    let mut h = moving(|s| s.max_connections = 1);
    let (_, _) = expecting(&mut h);
    h.limit = 2;
    let other = h.endpoint("b:1");
    h.queued.clear();
    let waiter = h.wait(other);
    h.answer_all();
    assert!(h.granted(waiter).is_some());
}

#[test]
fn x8_an_opening_does_not_wait_for_a_slot_that_another_core_sends_to() {
    let mut h = moving(|s| s.max_connections = 2);
    h.limit = 3;
    let busy = h.endpoint("c:1");
    let conn = h.open(busy);
    h.put(conn);
    h.elsewhere = 2;
    let ep = h.endpoint("a:1");
    h.wait(ep);
    h.answer_all();
    let (_, slot) = h.open_slots[0];
    h.limit = 4;
    h.queued.clear();
    let parked = h.endpoint("b:1");
    let waiter = h.wait(parked);
    let unexpect = h.answer_until(|a| matches!(a, Action::Unexpect { .. }));
    assert!(unexpect.is_some() && h.close_reason(conn).is_none());
    h.policy.slot_is_claimed(slot);
    h.pump();
    assert_eq!(h.close_reason(conn), Some(CloseReason::Evicted));
    h.answer_all();
    assert!(h.granted(waiter).is_some());
}

#[test]
fn x11_what_was_opened_before_the_core_was_cleared_is_not_taken() {
    for is_older in [true, false] {
        let mut h = moving(|_| {});
        let (ep, slot) = expecting(&mut h);
        let before = parcel(&h);
        h.pass(MS);
        h.policy.clear_endpoint(h.now, ep);
        h.pump();
        h.pass(MS);
        let what = if is_older { before } else { parcel(&h) };
        assert_eq!(h.receive((ep, slot), what), !is_older);
        h.answer_all();
        assert_eq!(h.counts(ep).in_use, u32::from(!is_older));
        assert!(h.open_slots.is_empty(), "no other is tried by this request");
    }
}

#[test]
fn d25_one_to_an_address_that_is_gone_here_is_not_taken_nor_another() {
    let mut h = moving(|_| {});
    let (ep, slot) = expecting(&mut h);
    let what = Received {
        address: ([127, 0, 0, 9], 80).into(),
        ..parcel(&h)
    };
    assert!(!h.receive((ep, slot), what));
    h.answer_all();
    assert!(h.open_slots.is_empty());
    assert_eq!((h.queued.len(), h.counts(ep).waiters), (1, 1));
}

#[test]
fn a_slot_that_cannot_be_kept_or_is_given_back_may_be_chosen_again() {
    let mut h = moving(|_| {});
    let (ep, conn) = expecting(&mut h);
    h.open_slots.clear();
    h.event(Event::Closed { conn });
    assert_eq!(h.open_slots.len(), 1);
    assert_ne!(h.open_slots[0], (ep, conn));
}

#[test]
fn nothing_is_expected_where_connections_stay_or_nobody_waits() {
    let mut h = moving(|_| {});
    (h.limit, h.elsewhere) = (1, 1);
    let ep = h.endpoint("a:1");
    h.policy.never_hand_over(ep);
    h.wait(ep);
    h.answer_all();
    assert_eq!((h.open_slots.len(), h.queued.len()), (0, 1));
}

#[test]
fn draining_gives_the_slot_up() {
    let mut h = moving(|_| {});
    let (ep, slot) = expecting(&mut h);
    let waiter = h.wait(ep);
    h.event(Event::Drain);
    assert_eq!(h.failure(waiter).unwrap().kind(), ErrorKind::Draining);
    assert!(h.open_slots.is_empty() && !h.policy.is_drained());
    h.event(Event::Closed { conn: slot });
    assert!(h.policy.is_drained());
}

#[test]
fn e12_one_that_is_received_was_idle_before() {
    let mut h = moving(|s| s.max_idle_time = Duration::from_secs(1));
    let (ep, slot) = expecting(&mut h);
    let what = parcel(&h);
    h.receive((ep, slot), what);
    h.pass(Duration::from_secs(6));
    assert_eq!(h.counts(ep).get_timeouts, 1, "nobody has looked yet");
    h.answer_all();
    assert_eq!(h.close_reason(slot), None);
    h.pass(Duration::ZERO);
    assert_eq!(h.close_reason(slot), Some(CloseReason::IdleTime));
}
