//! What has been idle longest goes first, whatever was used meanwhile.

use super::super::event::{CloseReason, Event};
use super::super::harness::MS;
use super::with;
use crate::time::Tick;

#[test]
fn what_was_used_meanwhile_is_not_the_oldest_any_more() {
    let mut h = with(|_| {});
    let (a, b) = (h.endpoint("a:1"), h.endpoint("b:1"));
    let (used, unused) = (h.open(a), h.open(b));
    h.put(used);
    h.now = h.now.plus(MS);
    h.put(unused);
    assert_eq!(h.policy.oldest_idle().map(|it| it.0), Some(used.0));
    h.now = h.now.plus(MS);
    assert_eq!(h.hit(a), used);
    assert_eq!(h.policy.oldest_idle().map(|it| it.0), Some(unused.0));
    h.put(used);
    h.policy.check();
    let since = Some(h.now);
    h.event(Event::TotalDemand { since });
    assert_eq!(h.close_reason(unused), Some(CloseReason::Demand));
    assert_eq!(h.close_reason(used), None);
    assert_eq!(h.policy.oldest_idle(), Some((used.0, h.now)));
}

#[test]
fn an_endpoint_that_is_forgotten_is_in_no_order() {
    let mut h = with(|_| {});
    let a = h.endpoint("a:1");
    let conn = h.open(a);
    h.put(conn);
    h.policy.clear_endpoint(h.now, a);
    h.pump();
    h.answer_all();
    h.policy.remove_endpoint(a);
    h.policy.check();
    assert_eq!(h.policy.oldest_idle(), None);
    let b = h.endpoint("b:1");
    let conn = h.open(b);
    h.put(conn);
    assert_eq!(h.policy.oldest_idle(), Some((conn.0, h.now)));
}

#[test]
fn notes_that_earlier_ones_replaced_are_let_go_of() {
    let mut h = with(|s| s.max_endpoints = 2);
    let (a, b) = (h.endpoint("a:1"), h.endpoint("b:1"));
    let (of_a, of_b) = (h.open(a), h.open(b));
    h.now = h.now.plus(1000 * MS);
    let came_back = h.now;
    h.put(of_b);
    h.now = h.now.plus(MS);
    h.put(of_a);
    for before in 0..1000 {
        h.policy
            .note_age(a, Tick::from_nanos(came_back.as_nanos() - before));
        h.policy.check();
    }
    assert_eq!(h.policy.oldest_idle(), Some((of_b.0, came_back)));
    h.policy.check();
    assert_eq!(h.hit(b), of_b);
    assert_eq!(h.policy.oldest_idle(), Some((of_a.0, h.now)));
    h.policy.check();
}
