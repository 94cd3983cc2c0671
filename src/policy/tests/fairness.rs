//! What is due to other cores, and to other endpoints of this one.

use super::super::event::{CloseReason, ConnKey, EndpointKey, Event};
use super::super::harness::{Harness, MS};
use super::with;
use crate::time::Tick;

fn demand(h: &mut Harness, endpoint: EndpointKey, since: Option<Tick>) {
    h.event(Event::Demand { endpoint, since });
}

fn renew(h: &mut Harness, endpoint: EndpointKey, since: Option<Tick>) {
    h.event(Event::DemandRenewed { endpoint, since });
}

/// One connection that two may share, and both do; no permit for another.
fn shared_by_two() -> (Harness, EndpointKey, ConnKey) {
    let mut h = with(|_| {});
    (h.limit, h.capacity) = (1, 2);
    let ep = h.endpoint("a:1");
    let conn = h.open(ep);
    assert_eq!(h.hit(ep), conn);
    (h, ep, conn)
}

#[test]
fn a_shared_connection_goes_to_a_core_that_has_waited_longer_than_the_grace() {
    let (mut h, ep, conn) = shared_by_two();
    let since = h.now;
    demand(&mut h, ep, Some(since));
    h.pass(MS * 50);
    h.put(conn);
    assert_eq!(h.hit(ep), conn, "within the grace it is shared on");
    h.pass(MS);
    h.put(conn);
    let waiter = h.wait(ep);
    h.put(conn);
    assert_eq!(h.close_reason(conn), Some(CloseReason::Demand));
    assert_eq!(h.granted(waiter), None);
}

#[test]
fn a_local_waiter_about_as_old_shares_the_connection_first() {
    let (mut h, ep, conn) = shared_by_two();
    let since = h.now;
    demand(&mut h, ep, Some(since));
    h.pass(MS * 50);
    let near = h.wait(ep);
    h.pass(MS);
    let far = h.wait(ep);
    h.put(conn);
    assert_eq!(h.granted(near), Some(conn));
    h.put(conn);
    assert_eq!(h.granted(far), None);
    h.put(conn);
    assert_eq!(h.close_reason(conn), Some(CloseReason::Demand));
}

#[test]
fn demand_told_late_takes_a_shared_connection_out_of_use_at_once() {
    let (mut h, ep, conn) = shared_by_two();
    h.put(conn);
    let since = h.now;
    h.pass(MS * 50);
    demand(&mut h, ep, Some(since));
    assert_eq!(h.hit(ep), conn, "within the grace");
    h.put(conn);
    h.pass(MS);
    demand(&mut h, ep, Some(since));
    h.wait(ep);
    h.put(conn);
    assert_eq!(h.close_reason(conn), Some(CloseReason::Demand));
}

#[test]
fn one_demand_takes_one_connection() {
    let mut h = with(|_| {});
    let ep = h.endpoint("a:1");
    let (a, b) = (h.open(ep), h.open(ep));
    let since = h.now;
    demand(&mut h, ep, Some(since));
    h.put(a);
    assert_eq!(h.close_reason(a), Some(CloseReason::Demand));
    h.put(b);
    assert_eq!(h.close_reason(b), None);
    demand(&mut h, ep, Some(since));
    assert_eq!(h.close_reason(b), Some(CloseReason::Demand));
    let c = h.open(ep);
    h.put(c);
    assert_eq!(h.close_reason(c), None);
}

#[test]
fn the_end_of_demand_takes_nothing() {
    let mut h = with(|_| {});
    let ep = h.endpoint("a:1");
    let (a, b) = (h.open(ep), h.open(ep));
    h.put(a);
    demand(&mut h, ep, None);
    let since = Some(h.now);
    renew(&mut h, ep, since);
    h.put(b);
    assert_eq!((h.close_reason(a), h.close_reason(b)), (None, None));
    assert_eq!((h.hit(ep), h.hit(ep)), (b, a));
    demand(&mut h, ep, since);
    renew(&mut h, ep, None);
    h.put(a);
    assert_eq!(h.close_reason(a), None);
}

#[test]
fn renewed_demand_is_as_old_as_its_new_oldest_waiter() {
    let mut h = with(|_| {});
    h.limit = 1;
    let ep = h.endpoint("a:1");
    let conn = h.open(ep);
    let since = Some(h.now);
    demand(&mut h, ep, since);
    h.pass(MS * 60);
    let waiter = h.wait(ep);
    let since = Some(h.now);
    renew(&mut h, ep, since);
    h.put(conn);
    assert_eq!(h.granted(waiter), Some(conn));
}

#[test]
fn a_slot_goes_to_another_endpoint_whose_waiter_is_older_than_the_grace() {
    let mut h = with(|s| s.max_connections = 1);
    let (a, b) = (h.endpoint("a:1"), h.endpoint("b:1"));
    let conn = h.open(a);
    let theirs = h.wait(b);
    h.answer_all();
    h.pass(MS * 50);
    let near = h.wait(a);
    h.answer_all();
    h.pass(MS);
    let far = h.wait(a);
    h.put(conn);
    assert_eq!(h.granted(near), Some(conn));
    h.put(conn);
    assert_eq!(h.close_reason(conn), Some(CloseReason::Evicted));
    assert_eq!((h.granted(far), h.granted(theirs)), (None, None));
    h.answer_all();
    assert!(h.granted(theirs).is_some());
}

#[test]
fn no_more_slots_are_given_up_than_other_endpoints_wait_for() {
    let mut h = with(|s| s.max_connections = 2);
    h.limit = 3;
    let (a, b) = (h.endpoint("a:1"), h.endpoint("b:1"));
    let conns = [h.open(a), h.open(a)];
    h.wait(b);
    h.answer_all();
    h.pass(MS * 51);
    let ours = h.wait(a);
    h.answer_all();
    h.put(conns[0]);
    assert_eq!(h.close_reason(conns[0]), Some(CloseReason::Evicted));
    h.put(conns[1]);
    assert_eq!(h.granted(ours), Some(conns[1]));
}

#[test]
fn a_slot_on_its_way_to_another_endpoint_is_not_given_up_twice() {
    let mut h = with(|s| s.max_connections = 2);
    let (a, b) = (h.endpoint("a:1"), h.endpoint("b:1"));
    let conns = [h.open(a), h.open(a)];
    h.wait(b);
    h.answer_all();
    h.pass(MS * 51);
    // It has a permit too, and waits for a slot behind the other endpoint.
    let ours = h.wait(a);
    h.answer_all();
    h.put(conns[0]);
    assert_eq!(h.close_reason(conns[0]), Some(CloseReason::Evicted));
    h.put(conns[1]);
    assert_eq!(h.granted(ours), Some(conns[1]));
}

#[test]
fn an_endpoint_that_waits_for_a_slot_keeps_its_own() {
    let mut h = with(|s| s.max_connections = 1);
    let a = h.endpoint("a:1");
    let conn = h.open(a);
    let waiters = [h.wait(a), h.wait(a)];
    h.answer_all();
    h.cancel(waiters[0]);
    h.pass(MS * 51);
    h.put(conn);
    assert_eq!(h.granted(waiters[1]), Some(conn));
}

/// Two connections that two may share each, and both do; no permit for another.
fn two_shared_by_two() -> (Harness, EndpointKey, [ConnKey; 2]) {
    let mut h = with(|_| {});
    (h.limit, h.capacity) = (2, 2);
    let ep = h.endpoint("a:1");
    let mut open = || {
        let conn = h.open(ep);
        assert_eq!(h.hit(ep), conn);
        conn
    };
    let conns = [open(), open()];
    (h, ep, conns)
}

#[test]
fn one_demand_takes_one_shared_connection_at_its_return() {
    let (mut h, ep, [a, b]) = two_shared_by_two();
    let since = h.now;
    demand(&mut h, ep, Some(since));
    h.pass(MS * 51);
    h.put(a);
    h.put(b);
    assert_eq!(h.hit(ep), b, "the other takes no more users");
    h.put(a);
    assert_eq!(h.close_reason(a), Some(CloseReason::Demand));
}

#[test]
fn one_demand_told_late_takes_one_shared_connection() {
    let (mut h, ep, [a, b]) = two_shared_by_two();
    let since = h.now;
    h.put(a);
    h.put(b);
    h.pass(MS * 51);
    demand(&mut h, ep, Some(since));
    assert_eq!(h.hit(ep), a, "the other takes no more users");
    h.put(a);
    assert_eq!(h.hit(ep), a);
    h.put(b);
    assert_eq!(h.close_reason(b), Some(CloseReason::Demand));
}
