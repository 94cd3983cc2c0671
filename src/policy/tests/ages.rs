//! What has been idle longest goes first, whatever was used meanwhile.

use super::super::event::{CloseReason, Event};
use super::super::harness::MS;
use super::with;

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
