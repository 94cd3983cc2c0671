//! What becomes of endpoints, and of the pool when it ends.

use std::time::Duration;

use super::super::event::{Action, CloseReason, EndpointKey, Event, Return};
use super::super::harness::Harness;
use super::{is_dial, with};
use crate::error::ErrorKind;

#[test]
fn an_endpoint_is_forgotten_only_when_nothing_of_it_is_under_way() {
    let mut h = with(|_| {});
    let ep = h.endpoint("a:1");
    let waiter = h.wait(ep);
    let stays = |h: &mut Harness, why: &str| {
        h.policy.remove_endpoint(ep);
        assert!(h.policy.counts(ep).is_some(), "{why}");
    };
    stays(&mut h, "a get waits");
    h.cancel(waiter);
    stays(&mut h, "its name is asked for");
    let waiter = h.wait(ep);
    let permit = h.answer_until(|a| matches!(a, Action::AcquirePermit { .. }));
    h.cancel(waiter);
    stays(&mut h, "a permit is asked for");
    let waiter = h.wait(ep);
    h.answer(&permit.unwrap());
    let dial = h.answer_until(is_dial).unwrap();
    h.cancel(waiter);
    stays(&mut h, "it is dialed");
    h.answer(&dial);
    h.answer_all();
    stays(&mut h, "a connection is idle");
    h.policy.clear_endpoint(h.now, ep);
    h.pump();
    stays(&mut h, "a connection closes");
    h.answer_all();
    h.policy.remove_endpoint(ep);
    assert!(h.policy.counts(ep).is_none());
}

#[test]
fn an_endpoint_whose_permit_request_is_queued_is_not_forgotten() {
    let mut h = with(|_| {});
    h.limit = 0;
    let ep = h.endpoint("a:1");
    h.wait(ep);
    h.answer_all();
    h.pass(Duration::from_secs(4));
    assert_eq!((h.queued.len(), h.counts(ep).waiters), (1, 1));
    h.policy.remove_endpoint(ep);
    assert!(h.policy.counts(ep).is_some());
}

#[test]
fn an_endpoint_that_is_forgotten_replaced_or_drained_leaves_no_deadline() {
    let ends: [fn(&mut Harness, EndpointKey); 3] = [
        |h, ep| h.policy.remove_endpoint(ep),
        |h, _| {
            h.endpoint("b:1");
        },
        |h, _| h.event(Event::Drain),
    ];
    for end in ends {
        let mut h = with(|s| s.max_endpoints = 1);
        let ep = h.endpoint("a:1");
        let waiter = h.wait(ep);
        h.refuse_dials();
        h.cancel(waiter);
        assert!(h.policy.poll_timeout().is_some(), "the pause");
        end(&mut h, ep);
        assert_eq!(h.policy.poll_timeout(), None);
    }
}

#[test]
fn a_core_that_ends_counts_what_it_had_as_closed() {
    let mut h = with(|_| {});
    let ep = h.endpoint("a:1");
    let (_in_use, closing) = (h.open(ep), h.open(ep));
    h.put_as(closing, Return::Discard(CloseReason::Failed));
    h.wait(ep);
    h.answer_until(is_dial).unwrap();
    h.policy.end();
    let counts = h.counts(ep);
    assert_eq!((counts.slots(), counts.waiters), (0, 0));
    assert_eq!((counts.created, counts.closed), (2, 2));
    assert_eq!(counts.closed_by(CloseReason::Failed), 1);
    // The one in use and the one that was dialed; the other was closed for another reason before.
    assert_eq!(counts.closed_by(CloseReason::Drained), 2);
    let refused = h.policy.get(h.now, ep).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Draining);
}

#[test]
fn a_pool_is_drained_only_when_it_drains_and_every_answer_has_come() {
    let mut h = with(|_| {});
    assert!(!h.policy.is_drained(), "empty, but it takes gets");
    let ep = h.endpoint("a:1");
    h.wait(ep);
    let permit = h.answer_until(|a| matches!(a, Action::AcquirePermit { .. }));
    h.event(Event::Drain);
    assert!(!h.policy.is_drained(), "a permit may come");
    h.answer(&permit.unwrap());
    assert!(h.policy.is_drained());
    assert_eq!(h.held, 0);
}

#[test]
fn draining_takes_back_what_waits_for_a_permit_or_a_slot() {
    let mut h = with(|s| s.max_connections = 1);
    h.limit = 2;
    let [a, b, c] = ["a:1", "b:1", "c:1"].map(|label| h.endpoint(label));
    h.open(a);
    h.wait(b);
    h.wait(c);
    h.answer_all();
    // One waits for a slot with its permit, the other for a permit.
    assert_eq!((h.held, h.queued.len()), (2, 1));
    h.event(Event::Drain);
    assert_eq!((h.held, h.queued.len()), (1, 0));
}
