//! Attempts that fail: rounds, pauses, and who is told.

use std::rc::Rc;
use std::time::Duration;

use super::super::event::{Action, CloseReason, ConnKey, Event, Return};
use super::super::harness::MS;
use super::{is_dial, with};
use crate::target::Target;

fn is_permit(action: &Action) -> bool {
    matches!(action, Action::AcquirePermit { .. })
}

fn is_resolve(action: &Action) -> bool {
    matches!(action, Action::Resolve { .. })
}

#[test]
fn a_round_that_fails_for_nobody_is_forgotten_after_its_pause() {
    let mut h = with(|s| s.connect_retry_count = 1);
    let ep = h.endpoint("a:1");
    let waiter = h.wait(ep);
    let dial = h.answer_until(is_dial).unwrap();
    h.cancel(waiter);
    h.refuse(&dial);
    h.pass(MS * 125);
    let waiter = h.wait(ep);
    h.refuse_dials();
    assert!(h.failure(waiter).is_none(), "its first round, not its last");
}

#[test]
fn a_round_that_fails_for_nobody_pauses_all_the_same() {
    let mut h = with(|_| {});
    let ep = h.endpoint("a:1");
    let waiter = h.wait(ep);
    let dial = h.answer_until(is_dial).unwrap();
    h.cancel(waiter);
    h.refuse(&dial);
    h.wait(ep);
    assert!(h.asked.is_empty());
}

#[test]
fn an_opening_that_nobody_wants_stops_at_an_address_that_fails() {
    let mut h = with(|_| {});
    h.addresses = 3;
    let ep = h.endpoint("a:1");
    let waiter = h.wait(ep);
    let dial = h.answer_until(is_dial).unwrap();
    h.cancel(waiter);
    h.refuse(&dial);
    assert_eq!((h.logged(is_dial), h.held), (1, 0));
    h.open(ep);
}

#[test]
fn a_pause_is_over_at_its_end() {
    let mut h = with(|_| {});
    let ep = h.endpoint("a:1");
    h.wait(ep);
    h.refuse_dials();
    // The get comes before the deadline of the same moment is handled.
    h.now = h.policy.poll_timeout().unwrap();
    h.wait(ep);
    assert!(h.asked.pop_front().is_some());
}

#[test]
fn a_pause_that_nobody_waits_for_sets_no_deadline() {
    let mut h = with(|_| {});
    let ep = h.endpoint("a:1");
    h.wait(ep);
    let resolve = h.asked.pop_front().unwrap();
    h.refuse(&resolve);
    assert_eq!(h.counts(ep).waiters, 0);
    assert_eq!(h.policy.poll_timeout(), None);
    assert_eq!(h.counts(ep).resolve_errors, 1);
}

#[test]
fn an_opening_without_a_slot_is_given_up_when_nobody_wants_it() {
    let mut h = with(|s| s.max_connections = 1);
    let (a, b) = (h.endpoint("a:1"), h.endpoint("b:1"));
    h.open(a);
    let waiter = h.wait(b);
    h.answer_all();
    assert_eq!(h.held, 2);
    h.cancel(waiter);
    assert_eq!(h.held, 1);
}

#[test]
fn addresses_are_used_until_they_expire() {
    let mut h = with(|_| {});
    let ep = h.endpoint("a:1");
    h.open(ep);
    h.pass(MS * 29_999);
    h.open(ep);
    assert_eq!(h.logged(is_resolve), 1);
    h.pass(MS);
    h.open(ep);
    assert_eq!(h.logged(is_resolve), 2);
}

#[test]
fn an_answer_that_expires_at_once_is_good_for_one_connection() {
    let mut h = with(|_| {});
    let ep = h.endpoint("a:1");
    h.wait(ep);
    h.wait(ep);
    h.asked.clear();
    h.event(Event::Resolved {
        endpoint: ep,
        targets: Rc::new([Target::new(([127, 0, 0, 1], 80).into())]),
        expires: h.now,
        is_fresh: true,
    });
    let permit = h.asked.pop_front().unwrap();
    assert!(is_permit(&permit));
    h.answer(&permit);
    assert!(h.asked.pop_front().is_some_and(|a| is_dial(&a)));
    assert!(h.asked.pop_front().is_some_and(|a| is_resolve(&a)));
}

#[test]
fn an_answer_without_addresses_is_a_failure() {
    let mut h = with(|_| {});
    let ep = h.endpoint("a:1");
    let waiter = h.wait(ep);
    h.event(Event::Resolved {
        endpoint: ep,
        targets: Rc::new([]),
        expires: h.now.plus(MS),
        is_fresh: true,
    });
    let text = h.failure(waiter).unwrap().to_string();
    assert_eq!(text, "the answer has no address, connecting to a:1");
}

#[test]
fn a_permit_beyond_what_may_connect_is_given_back() {
    let mut h = with(|s| s.max_connecting = 1);
    let ep = h.endpoint("a:1");
    h.wait(ep);
    h.wait(ep);
    h.answer_until(is_dial).unwrap();
    assert_eq!(h.logged(is_permit), 1);
    h.held += 1;
    h.event(Event::PermitGranted {
        endpoint: ep,
        held: Box::new([]),
    });
    assert_eq!((h.held, h.counts(ep).connecting), (1, 1));
}

#[test]
fn a_round_fails_those_who_had_come_before_it() {
    let mut h = with(|s| s.connect_retry_count = 0);
    let ep = h.endpoint("a:1");
    let early = h.wait(ep);
    let first = h.answer_until(is_dial).unwrap();
    let late = h.wait(ep);
    let second = h.answer_until(is_dial).unwrap();
    h.refuse(&first);
    assert!(h.failure(early).is_none(), "its other opening may succeed");
    h.refuse(&second);
    assert!(h.failure(early).is_some());
    assert!(h.failure(late).is_none());
}

#[test]
fn a_new_opening_after_one_was_given_up_begins_a_round() {
    let mut h = with(|s| s.connect_retry_count = 0);
    h.addresses = 2;
    let ep = h.endpoint("a:1");
    let waiter = h.wait(ep);
    let dial = h.answer_until(is_dial).unwrap();
    h.cancel(waiter);
    h.refuse(&dial);
    let waiter = h.wait(ep);
    h.refuse_dials();
    assert!(h.failure(waiter).is_some());
}

#[test]
fn a_slow_opening_of_the_last_round_does_not_hide_that_the_next_one_began() {
    let mut h = with(|s| s.connect_retry_count = 0);
    let ep = h.endpoint("a:1");
    let waiters = [h.wait(ep), h.wait(ep)];
    let first = h.answer_until(is_dial).unwrap();
    let slow = h.answer_until(is_dial).unwrap();
    h.refuse(&first);
    h.pass(MS * 125);
    let next = h.answer_until(is_dial).unwrap();
    h.refuse(&next);
    h.refuse(&slow);
    assert!(waiters.iter().all(|waiter| h.failure(*waiter).is_some()));
}

#[test]
fn openings_that_fail_together_are_one_round() {
    let mut h = with(|s| s.connect_retry_count = 1);
    let ep = h.endpoint("a:1");
    let waiters = [h.wait(ep), h.wait(ep)];
    let dials = [0, 1].map(|_| h.answer_until(is_dial).unwrap());
    dials.iter().for_each(|dial| h.refuse(dial));
    assert!(waiters.iter().all(|waiter| h.failure(*waiter).is_none()));
}

#[test]
fn a_failure_without_a_retry_speaks_of_none() {
    let mut h = with(|s| s.connect_retry_count = 0);
    let ep = h.endpoint("a:1");
    let waiter = h.wait(ep);
    h.refuse_dials();
    assert_eq!(
        h.failure(waiter).unwrap().to_string(),
        "connection refused (os error 111), connecting to tcp:127.0.0.1:80, connecting to a:1"
    );
}

#[test]
fn a_success_ends_the_pause_and_the_count_of_failures() {
    let mut h = with(|s| s.connect_retry_count = 1);
    let ep = h.endpoint("a:1");
    h.wait(ep);
    h.wait(ep);
    let dials = [0, 1].map(|_| h.answer_until(is_dial).unwrap());
    h.refuse(&dials[0]);
    h.answer(&dials[1]);
    let init = h.asked.pop_front().unwrap();
    h.asked.clear();
    h.answer(&init);
    assert!(
        h.asked.pop_front().is_some_and(|a| is_permit(&a)),
        "at once"
    );
    assert_eq!(h.counts(ep).created, 1);
    let next = h.policy.poll_timeout().unwrap();
    assert_eq!(next.since(h.now), h.policy.settings.get_timeout, "no pause");
}

#[test]
fn the_later_of_two_pauses_has_its_deadline_too() {
    let mut h = with(|s| s.min_idle = 1);
    let ep = h.endpoint("a:1");
    h.open(ep);
    let idle = h.policy.endpoints.get(ep.0).and_then(|b| b.idle.first());
    h.event(Event::Broken {
        conn: ConnKey(idle.unwrap()),
        reason: CloseReason::Reset,
    });
    h.answer_all();
    let waiter = h.wait(ep);
    h.refuse_dials();
    h.cancel(waiter);
    h.pass(MS * 125);
    h.answer_all();
    assert_eq!(
        h.counts(ep).idle,
        0,
        "nobody waits, and what nobody used broke"
    );
    h.pass(MS * 875);
    h.answer_all();
    assert_eq!(h.counts(ep).idle, 1);
}

#[test]
fn failures_before_a_success_do_not_count() {
    let mut h = with(|s| {
        s.connect_retry_count = 1;
        s.get_timeout = MS * 1_000;
    });
    // Of these answers none is refreshed.
    h.ttl = Duration::MAX;
    let ep = h.endpoint("a:1");
    h.wait(ep);
    h.refuse_dials();
    h.pass(MS * 125);
    h.answer_all();
    let conn = h.policy.conns.iter().map(|(key, _)| ConnKey(key)).next();
    h.put_as(conn.unwrap(), Return::Discard(CloseReason::Failed));
    h.answer_all();
    assert_eq!(h.policy.poll_timeout(), None);
    let waiter = h.wait(ep);
    let error = h
        .policy
        .endpoints
        .get(ep.0)
        .and_then(|b| b.last_error.clone());
    assert!(error.is_none(), "of the connects before");
    h.refuse_dials();
    assert!(h.failure(waiter).is_none(), "its first round, not its last");
}

#[test]
fn a_success_ends_the_round() {
    let mut h = with(|s| s.connect_retry_count = 0);
    let ep = h.endpoint("a:1");
    let early = h.wait(ep);
    let first = h.answer_until(is_dial).unwrap();
    let late = h.wait(ep);
    let second = h.answer_until(is_dial).unwrap();
    h.answer(&first);
    let init = h.asked.pop_front().unwrap();
    h.answer(&init);
    let conn = h.granted(early).unwrap();
    h.put_as(conn, Return::Discard(CloseReason::Failed));
    let close = h.asked.pop_front().unwrap();
    h.answer(&close);
    let later = h.wait(ep);
    let third = h.answer_until(is_dial).unwrap();
    h.refuse(&second);
    h.refuse(&third);
    assert!(h.failure(late).is_some() && h.failure(later).is_some());
}

#[test]
fn an_opening_of_an_old_round_that_fails_is_replaced_at_once() {
    for connects in [false, true] {
        let mut h = with(|_| {});
        let ep = h.endpoint("a:1");
        h.wait(ep);
        h.wait(ep);
        let first = h.answer_until(is_dial).unwrap();
        let slow = h.answer_until(is_dial).unwrap();
        h.refuse(&first);
        h.pass(MS * 125);
        h.answer_until(is_dial).unwrap();
        if connects {
            h.answer(&slow);
            let init = h.asked.pop_front().unwrap();
            h.refuse(&init);
            let close = h.asked.pop_front().unwrap();
            h.answer(&close);
        } else {
            h.refuse(&slow);
        }
        assert!(h.asked.pop_front().is_some_and(|a| is_permit(&a)));
    }
}

#[test]
fn a_connection_that_breaks_while_it_is_initialised_is_a_failed_attempt() {
    let mut h = with(|s| s.connect_retry_count = 0);
    let ep = h.endpoint("a:1");
    let waiter = h.wait(ep);
    let init = h.answer_until(|a| matches!(a, Action::Initialise { .. }));
    let conn = match init {
        Some(Action::Initialise { conn, .. }) => conn,
        _ => panic!("it was asked for"),
    };
    let reason = CloseReason::PeerClosed;
    h.event(Event::Broken { conn, reason });
    assert_eq!(h.close_reason(conn), Some(reason));
    h.answer_all();
    assert_eq!(
        h.failure(waiter).unwrap().to_string(),
        "the connection ended, initialising the connection to tcp:127.0.0.1:80, \
         connecting to a:1"
    );
}
