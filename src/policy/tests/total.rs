//! What is due to those who wait for a permit of the whole process.

use super::super::event::{CloseReason, Event};
use super::super::harness::{Harness, MS};
use super::with;
use crate::time::Tick;

fn demand(h: &mut Harness, since: Option<Tick>) {
    h.event(Event::TotalDemand { since });
}

#[test]
fn x12_one_demand_takes_the_connection_that_was_idle_longest_whatever_its_endpoint() {
    let mut h = with(|_| {});
    let (one, two) = (h.endpoint("a:1"), h.endpoint("b:1"));
    let (a, b, c) = (h.open(one), h.open(two), h.open(two));
    for conn in [b, a, c] {
        h.put(conn);
        h.pass(MS);
    }
    let since = h.now;
    demand(&mut h, Some(since));
    assert_eq!(h.close_reason(b), Some(CloseReason::Demand));
    assert_eq!((h.close_reason(a), h.close_reason(c)), (None, None));
    demand(&mut h, Some(since));
    assert_eq!(h.close_reason(a), Some(CloseReason::Demand));
    demand(&mut h, None);
    assert_eq!(h.close_reason(c), None);
}

#[test]
fn where_nothing_is_idle_the_next_that_comes_free_makes_way() {
    let mut h = with(|_| {});
    let (one, two) = (h.endpoint("a:1"), h.endpoint("b:1"));
    let (a, b) = (h.open(one), h.open(two));
    let since = h.now;
    demand(&mut h, Some(since));
    h.put(b);
    assert_eq!(h.close_reason(b), Some(CloseReason::Demand));
    h.put(a);
    assert_eq!(h.close_reason(a), None);
}

#[test]
fn a_local_waiter_about_as_old_is_served_first() {
    let mut h = with(|_| {});
    h.limit = 1;
    let ep = h.endpoint("a:1");
    let conn = h.open(ep);
    let since = h.now;
    demand(&mut h, Some(since));
    h.pass(MS * 50);
    let near = h.wait(ep);
    h.pass(MS);
    let far = h.wait(ep);
    h.put(conn);
    assert_eq!(h.granted(near), Some(conn));
    h.put(conn);
    assert_eq!(h.close_reason(conn), Some(CloseReason::Demand));
    assert_eq!(h.granted(far), None);
}

#[test]
fn a_demand_that_is_over_or_younger_now_takes_nothing_more() {
    let mut h = with(|_| {});
    h.limit = 1;
    let ep = h.endpoint("a:1");
    let conn = h.open(ep);
    let since = h.now;
    demand(&mut h, Some(since));
    h.pass(MS * 51);
    let waiter = h.wait(ep);
    let since = Some(h.now);
    h.event(Event::TotalDemandRenewed { since });
    h.put(conn);
    assert_eq!(h.granted(waiter), Some(conn));
    h.event(Event::TotalDemandRenewed { since: None });
    h.put(conn);
    assert_eq!(h.close_reason(conn), None);
    // What has been met is not renewed.
    h.event(Event::TotalDemandRenewed { since });
    assert_eq!(h.hit(ep), conn);
    h.put(conn);
    assert_eq!(h.close_reason(conn), None);
}
