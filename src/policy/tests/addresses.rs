//! Which address is dialed, and how many connections are.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::event::{Action, CloseReason, EndpointKey, Event, Return};
use super::super::harness::{Harness, MS};
use super::{is_dial, with};

fn address(last: u8) -> SocketAddr {
    ([127, 0, 0, last], 80).into()
}

/// The dial that a permit leads to, granted while all cores hold `held`.
fn dial(h: &mut Harness, endpoint: EndpointKey, held: [u32; 2]) -> (Action, SocketAddr) {
    let permit = h.answer_until(|a| matches!(a, Action::AcquirePermit { .. }));
    assert!(permit.is_some());
    h.held += 1;
    let held = held.into();
    h.event(Event::PermitGranted { endpoint, held });
    let dial = h.answer_until(is_dial).unwrap();
    match dial {
        Action::Dial { address, .. } => (dial, address),
        _ => panic!("it is a dial"),
    }
}

#[test]
fn the_address_where_all_cores_hold_the_fewest_is_dialed() {
    let mut h = with(|_| {});
    h.addresses = 2;
    let ep = h.endpoint("a:1");
    for (held, last) in [([5, 4], 2), ([4, 5], 1)] {
        h.wait(ep);
        let (action, dialed) = dial(&mut h, ep, held);
        assert_eq!(dialed, address(last));
        h.answer(&action);
        h.answer_all();
    }
}

#[test]
fn an_address_that_failed_is_avoided_until_it_has_served_again() {
    let mut h = with(|_| {});
    h.addresses = 2;
    let ep = h.endpoint("a:1");
    h.wait(ep);
    let (action, dialed) = dial(&mut h, ep, [0, 9]);
    assert_eq!(dialed, address(1));
    h.refuse(&action);
    h.answer_all();
    h.wait(ep);
    let (action, dialed) = dial(&mut h, ep, [0, 9]);
    assert_eq!(dialed, address(2), "the other has failed lately");
    h.answer(&action);
    h.answer_all();
    h.pass(MS * 900);
    h.wait(ep);
    h.wait(ep);
    let (probe, dialed) = dial(&mut h, ep, [0, 9]);
    assert_eq!(dialed, address(1), "its pause is over");
    let (other, dialed) = dial(&mut h, ep, [0, 9]);
    assert_eq!(dialed, address(2), "one probe at a time");
    h.answer(&probe);
    h.answer(&other);
    h.answer_all();
    h.wait(ep);
    h.wait(ep);
    for _ in 0..2 {
        let (_, dialed) = dial(&mut h, ep, [0, 9]);
        assert_eq!(dialed, address(1), "it has served");
    }
}

#[test]
fn one_connection_is_opened_for_as_many_waiters_as_may_share_it() {
    let mut h = with(|_| {});
    h.capacity = 3;
    let ep = h.endpoint("a:1");
    let conn = h.open(ep);
    assert_eq!((h.hit(ep), h.hit(ep)), (conn, conn));
    let waiters = [0; 4].map(|_| h.wait(ep));
    let dials = [0, 1].map(|_| h.answer_until(is_dial).unwrap());
    assert!(h.answer_until(is_dial).is_none(), "two are enough for four");
    dials.iter().for_each(|dial| h.answer(dial));
    h.answer_all();
    assert!(waiters.iter().all(|waiter| h.granted(*waiter).is_some()));
}

#[test]
fn a_slot_that_a_failed_connect_leaves_goes_to_the_opening_that_waits_for_one() {
    let mut h = with(|s| s.max_connections = 1);
    let (a, b) = (h.endpoint("a:1"), h.endpoint("b:1"));
    h.wait(a);
    let dial = h.answer_until(is_dial).unwrap();
    let waiter = h.wait(b);
    h.answer_all();
    h.refuse(&dial);
    h.answer_all();
    assert!(h.granted(waiter).is_some());
}

#[test]
fn the_pause_after_failed_resolutions_doubles_until_one_succeeds() {
    let mut h = with(|s| s.get_timeout = Duration::from_secs(60));
    let ep = h.endpoint("a:1");
    let pause = |h: &mut Harness| {
        h.wait(ep);
        let resolve = h.asked.pop_front().unwrap();
        assert!(matches!(resolve, Action::Resolve { .. }));
        h.refuse(&resolve);
        let begun = h.now;
        let waiter = h.wait(ep);
        h.now = h.policy.poll_timeout().unwrap();
        h.cancel(waiter);
        h.now.since(begun)
    };
    let pauses = [pause(&mut h), pause(&mut h), pause(&mut h)];
    // 100, 200 and 400 ms, a quarter more or less.
    assert!(pauses[0] < MS * 130 && pauses[2] > MS * 290, "{pauses:?}");
    let conn = h.open(ep);
    h.put_as(conn, Return::Discard(CloseReason::Failed));
    h.answer_all();
    h.pass(MS * 30_000);
    // The old addresses stay good for the length of the pause.
    h.wait(ep);
    let resolve = h.asked.pop_front().unwrap();
    assert!(matches!(resolve, Action::Resolve { .. }));
    h.refuse(&resolve);
    h.answer_all();
    h.pass(MS * 130);
    h.wait(ep);
    let resolve = h.asked.pop_front().unwrap();
    assert!(matches!(resolve, Action::Resolve { .. }), "{resolve:?}");
}

#[test]
fn old_addresses_serve_everybody_until_the_name_is_asked_for_again() {
    let mut h = with(|_| {});
    let ep = h.endpoint("a:1");
    h.open(ep);
    h.pass(MS * 30_000);
    let waiters = [h.wait(ep), h.wait(ep)];
    let resolve = h.asked.pop_front().unwrap();
    h.refuse(&resolve);
    h.answer_all();
    assert!(waiters.iter().all(|waiter| h.granted(*waiter).is_some()));
    assert_eq!(h.logged(|a| matches!(a, Action::Resolve { .. })), 2);
}

#[test]
fn a_failure_without_a_pause_leaves_old_addresses_good_for_one_connection() {
    let mut h = with(|s| s.connect_retry_delay = Duration::ZERO);
    let ep = h.endpoint("a:1");
    h.open(ep);
    h.pass(MS * 30_000);
    let waiter = h.wait(ep);
    let resolve = h.asked.pop_front().unwrap();
    h.refuse(&resolve);
    h.answer_all();
    assert!(h.granted(waiter).is_some());
    assert_eq!(h.logged(|a| matches!(a, Action::Resolve { .. })), 2);
}

#[test]
fn a_get_that_waited_too_long_says_how_the_last_resolution_failed() {
    let mut h = with(|s| s.get_timeout = MS * 20);
    let ep = h.endpoint("a:1");
    h.wait(ep);
    let resolve = h.asked.pop_front().unwrap();
    h.refuse(&resolve);
    let waiter = h.wait(ep);
    h.pass(MS * 20);
    let error = h.failure(waiter).unwrap();
    let last = error.exhaustion().unwrap().last_connect_error.as_deref();
    assert_eq!(last, Some("no such name, connecting to a:1"));
}
