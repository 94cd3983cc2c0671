//! Who gets a connection, and how connections end.

use std::time::Duration;

use super::super::Got;
use super::super::event::{Action, CloseReason, ConnKey, EndpointKey, Event, Hook, Return};
use super::super::harness::{MS, refused};
use super::{is_dial, with};
use crate::error::ErrorKind;
use crate::slot::Key;

#[test]
fn a_hit_and_a_clean_return_push_no_action_and_set_no_timer() {
    let mut h = with(|_| {});
    let ep = h.endpoint("a:1");
    let conn = h.open(ep);
    h.put(conn);
    h.log.clear();
    let deadline = h.policy.poll_timeout();
    let timers = h.policy.timers.len();
    assert_eq!(h.get(ep).unwrap(), Got::Ready { conn, reused: true });
    h.put(conn);
    assert_eq!((h.log.len(), h.policy.timers.len()), (0, timers));
    assert_eq!(h.policy.poll_timeout(), deadline);
    assert_eq!((h.counts(ep).gets, h.counts(ep).reused), (2, 1));
}

#[test]
fn r11_one_that_is_not_watched_is_nobodys_until_it_was_looked_at() {
    for healthy in [true, false] {
        let mut h = with(|_| {});
        let ep = h.endpoint("a:1");
        let conn = h.open(ep);
        h.log.clear();
        h.put_as(conn, Return::Unwatched);
        assert_eq!(h.policy.try_get(h.now, ep), None);
        let waiter = h.wait(ep);
        assert_eq!((h.counts(ep).checking, h.logged(is_dial)), (1, 0));
        assert_eq!(h.granted(waiter), None);
        h.event(Event::HealthChecked { conn, healthy });
        match healthy {
            true => assert_eq!(h.granted(waiter), Some(conn)),
            false => assert_eq!(h.close_reason(conn), Some(CloseReason::Unwatched)),
        }
        h.answer_all();
        assert_eq!(h.counts(ep).in_use, 1);
    }
}

#[test]
fn the_newest_idle_connection_goes_first() {
    let mut h = with(|_| {});
    let ep = h.endpoint("a:1");
    let (a, b) = (h.open(ep), h.open(ep));
    h.put(b);
    h.put(a);
    assert_eq!(h.policy.try_get(h.now, ep), Some(a));
    assert_eq!(h.hit(ep), b);
    assert_eq!(h.policy.try_get(h.now, ep), None);
}

#[test]
fn waiters_are_served_in_the_order_of_arrival_and_each_ends_once() {
    let mut h = with(|_| {});
    h.limit = 1;
    let ep = h.endpoint("a:1");
    let conn = h.open(ep);
    let waiters = [h.wait(ep), h.wait(ep), h.wait(ep)];
    h.answer_all();
    h.cancel(waiters[1]);
    assert_eq!((h.counts(ep).cancelled, h.counts(ep).waiters), (1, 2));
    h.log.clear();
    h.put(conn);
    assert_eq!(h.granted(waiters[0]), Some(conn));
    h.put(conn);
    assert_eq!(h.granted(waiters[2]), Some(conn));
    h.cancel(waiters[2]);
    h.put(conn);
    h.pass(Duration::from_secs(10));
    let ends = h.logged(|a| matches!(a, Action::Grant { .. } | Action::Fail { .. }));
    assert_eq!(ends, 2);
}

#[test]
fn r16_too_many_waiters_are_refused_with_figures() {
    let mut h = with(|s| s.max_waiters = 1);
    let ep = h.endpoint("a:1");
    h.wait(ep);
    let error = h.get(ep).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert_eq!(error.exhaustion().unwrap().waiters, 1);
    let counts = h.counts(ep);
    assert_eq!((counts.gets, counts.waited, counts.refused), (2, 1, 1));
}

#[test]
fn a_get_that_waited_too_long_says_how_the_last_connect_failed() {
    let mut h = with(|s| s.connect_retry_count = 100);
    let ep = h.endpoint("a.test:80");
    let waiter = h.wait(ep);
    for _ in 0..100 {
        h.refuse_dials();
        h.pass(MS * 100);
    }
    assert_eq!(h.granted(waiter), None);
    let error = h.failure(waiter).unwrap();
    assert_eq!(error.kind(), ErrorKind::GetTimeout);
    let figures = error.exhaustion().unwrap();
    assert_eq!(figures.waited, Duration::from_secs(5));
    let last = figures.last_connect_error.as_deref().unwrap();
    assert!(
        last.starts_with("connection refused (os error 111)"),
        "{last}"
    );
    assert_eq!(h.counts(ep).get_timeouts, 1);
}

#[test]
fn a_shared_connection_serves_gets_while_in_use_up_to_its_capacity() {
    let mut h = with(|_| {});
    h.capacity = 3;
    let ep = h.endpoint("a:1");
    let conn = h.open(ep);
    assert_eq!((h.hit(ep), h.hit(ep)), (conn, conn));
    let other = h.open(ep);
    assert_ne!(conn, other);
    h.put(conn);
    h.put(conn);
    h.put(other);
    assert_eq!(h.hit(ep), conn, "in use before idle");
    h.put_as(conn, Return::Discard(CloseReason::Failed));
    assert_eq!(h.close_reason(conn), None, "one use is left");
    assert_eq!(h.hit(ep), other, "no new use after a discard");
    h.put(conn);
    assert_eq!(h.close_reason(conn), Some(CloseReason::Failed));
}

#[test]
fn foreign_demand_takes_the_oldest_idle_connection_or_the_next_return() {
    let mut h = with(|_| {});
    let ep = h.endpoint("a:1");
    let (a, b) = (h.open(ep), h.open(ep));
    let since = Some(h.now);
    h.put(a);
    h.event(Event::Demand {
        endpoint: ep,
        since,
    });
    assert_eq!(h.close_reason(a), Some(CloseReason::Demand));
    h.answer_all();
    h.event(Event::Demand {
        endpoint: ep,
        since,
    });
    h.put(b);
    assert_eq!(h.close_reason(b), Some(CloseReason::Demand));
}

#[test]
fn a_local_waiter_about_as_old_goes_before_foreign_demand() {
    let mut h = with(|_| {});
    h.limit = 1;
    let ep = h.endpoint("a:1");
    let conn = h.open(ep);
    let since = Some(h.now);
    h.event(Event::Demand {
        endpoint: ep,
        since,
    });
    h.pass(MS * 50);
    let near = h.wait(ep);
    h.pass(MS);
    let far = h.wait(ep);
    h.put(conn);
    assert_eq!(h.granted(near), Some(conn));
    h.put(conn);
    assert_eq!(h.granted(far), None);
    assert_eq!(h.close_reason(conn), Some(CloseReason::Demand));
}

#[test]
fn e12_connections_end_by_idle_time_lifetime_and_uses() {
    let mut h = with(|s| {
        s.max_connection_lifetime = Duration::from_secs(100);
        s.max_connection_uses = 3;
    });
    let ep = h.endpoint("a:1");
    let (a, b, c) = (h.open(ep), h.open(ep), h.open(ep));
    h.put(a);
    h.pass(Duration::from_millis(59_999));
    assert_eq!(h.close_reason(a), None);
    h.pass(MS);
    assert_eq!(h.close_reason(a), Some(CloseReason::IdleTime));
    h.pass(Duration::from_secs(40));
    assert_eq!(h.close_reason(b), None, "in use");
    h.put(b);
    assert_eq!(h.close_reason(b), Some(CloseReason::Lifetime));
    h.put(c);
    h.answer_all();
    let d = h.open(ep);
    h.put(d);
    h.hit(ep);
    h.put(d);
    h.hit(ep);
    h.put(d);
    assert_eq!(h.close_reason(d), Some(CloseReason::Uses));
}

#[test]
fn e12_what_idled_long_is_asked_for_its_health_before_it_is_handed_out() {
    let mut h = with(|s| s.health_check = true);
    let ep = h.endpoint("a:1");
    let (a, b) = (h.open(ep), h.open(ep));
    h.put(a);
    h.put(b);
    h.pass(MS * 501);
    let waiter = h.wait(ep);
    let check = h.asked.pop_front().unwrap();
    assert!(matches!(check, Action::CheckHealth { conn, .. } if conn == b));
    h.refuse(&check);
    assert_eq!(h.close_reason(b), Some(CloseReason::Unhealthy));
    h.answer_all();
    assert_eq!(h.granted(waiter), Some(a));
    assert_eq!(h.logged(is_dial), 2);
}

#[test]
fn e1_e3_a_broken_connection_is_closed_at_once_only_when_nobody_holds_it() {
    let mut h = with(|_| {});
    let ep = h.endpoint("a:1");
    let (a, b) = (h.open(ep), h.open(ep));
    h.put(a);
    let reason = CloseReason::PeerClosed;
    h.event(Event::Broken { conn: a, reason });
    h.event(Event::Broken { conn: b, reason });
    assert_eq!(h.close_reason(a), Some(reason));
    assert_eq!(h.close_reason(b), None);
    h.put(b);
    assert_eq!(h.close_reason(b), Some(reason));
    assert_eq!(h.counts(ep).closed_by(reason), 2);
}

#[test]
fn clearing_closes_idle_now_and_busy_at_return() {
    let mut h = with(|_| {});
    let ep = h.endpoint("a:1");
    let (a, b) = (h.open(ep), h.open(ep));
    h.put(a);
    h.policy.clear_endpoint(h.now, ep);
    h.pump();
    assert_eq!(h.close_reason(a), Some(CloseReason::Requested));
    h.put(b);
    assert_eq!(h.close_reason(b), Some(CloseReason::Requested));
}

#[test]
fn p1_draining_fails_waiters_closes_all_and_returns_every_permit() {
    let mut h = with(|_| {});
    h.limit = 3;
    let ep = h.endpoint("a:1");
    let (a, b) = (h.open(ep), h.open(ep));
    h.put(b);
    let (c, waiter) = (h.hit(ep), h.wait(ep));
    assert_eq!(c, b);
    let dial = h.answer_until(is_dial).unwrap();
    h.put(a);
    h.event(Event::Drain);
    assert_eq!(h.granted(waiter), Some(a));
    h.answer(&dial);
    h.answer_all();
    assert_eq!(h.get(ep).unwrap_err().kind(), ErrorKind::Draining);
    assert!(!h.policy.is_drained());
    h.put(a);
    h.put(c);
    h.answer_all();
    assert!(h.policy.is_drained());
    assert_eq!(h.held, 0);
}

#[test]
fn hooks_are_told_when_there_are_any() {
    let mut h = with(|s| (s.notify, s.tells_reuse) = (true, true));
    let ep = h.endpoint("a:1");
    let conn = h.open(ep);
    h.put(conn);
    h.hit(ep);
    h.put_as(conn, Return::Discard(CloseReason::Failed));
    h.answer_all();
    let told = h.log.iter().filter_map(|action| match action {
        Action::Notify { hook, .. } => Some(*hook),
        _ => None,
    });
    let closed = Hook::Closed(CloseReason::Failed);
    assert_eq!(
        told.collect::<Vec<_>>(),
        [Hook::Created, Hook::Reused, closed]
    );
}

#[test]
fn stale_keys_are_counted_and_change_nothing() {
    let mut h = with(|_| {});
    let conn = ConnKey(Key::new(3, 9));
    let endpoint = EndpointKey(Key::new(3, 9));
    h.event(Event::Connected { conn });
    h.event(Event::Closed { conn });
    h.event(Event::ConnectFailed {
        conn,
        error: refused(),
    });
    h.event(Event::PermitQueued { endpoint });
    h.put(conn);
    assert_eq!(h.policy.ignored_events(), 5);
    assert_eq!(h.get(endpoint).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(h.log.is_empty());
}

/// The end was on its way here when another core's wait made the pool close the connection.
#[test]
fn an_end_that_meets_a_close_is_no_stray_fact() {
    let mut h = with(|_| {});
    let ep = h.endpoint("a:1");
    let conn = h.open(ep);
    h.put(conn);
    let since = Some(h.now);
    let reason = CloseReason::Reset;
    let endpoint = ep;
    h.policy
        .handle_event(h.now, Event::Demand { endpoint, since });
    h.policy.handle_event(h.now, Event::Broken { conn, reason });
    h.pump();
    assert_eq!(h.close_reason(conn), Some(CloseReason::Demand));
    assert_eq!(h.logged(|a| matches!(a, Action::Close { .. })), 1);
    h.answer_all();
    assert_eq!(h.counts(ep).slots(), 0);
    assert_eq!(h.policy.ignored_events(), 0);
}

#[test]
fn a_full_table_of_endpoints_lets_go_of_the_least_lately_used_one_that_is_unused() {
    let mut h = with(|s| s.max_endpoints = 2);
    let a = h.endpoint("a:1");
    let b = h.endpoint("b:1");
    h.open(a);
    h.endpoint("c:1");
    assert!(h.policy.counts(a).is_some() && h.policy.counts(b).is_none());
    let c = h.endpoint("d:1");
    h.wait(c);
    let full = h.policy.add_endpoint(h.now, "e:1".into()).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Exhausted);
}

#[test]
fn a_get_makes_its_endpoint_the_latest_used() {
    let mut h = with(|s| s.max_endpoints = 2);
    let a = h.endpoint("a:1");
    h.pass(MS);
    let b = h.endpoint("b:1");
    h.pass(MS);
    let waiter = h.wait(a);
    h.cancel(waiter);
    h.answer_all();
    h.endpoint("c:1");
    assert!(h.policy.counts(a).is_some() && h.policy.counts(b).is_none());
}

#[test]
fn r19_one_call_handles_a_bounded_batch_of_deadlines() {
    let mut h = with(|_| {});
    let ep = h.endpoint("a:1");
    for _ in 0..100 {
        h.wait(ep);
    }
    h.now = h.now.plus(Duration::from_secs(5));
    h.policy.handle_timeout(h.now);
    h.pump();
    assert_eq!(h.counts(ep).waiters, 36);
    assert!(h.policy.poll_timeout().is_some_and(|next| next <= h.now));
}

#[test]
fn a_get_that_comes_before_the_timer_has_no_connection_idle_too_long() {
    let mut h = with(|s| s.health_check = false);
    let ep = h.endpoint("a:1");
    let (a, b) = (h.open(ep), h.open(ep));
    h.put(a);
    h.now = h.now.plus(Duration::from_secs(1));
    h.put(b);
    // The process stood still: nobody looked at the timers.
    h.now = h.now.plus(Duration::from_secs(59));
    assert_eq!(h.hit(ep), b);
    h.wait(ep);
    assert_eq!(h.close_reason(a), Some(CloseReason::IdleTime));
}

#[test]
fn a_wait_may_be_told_to_begin_later_than_its_get() {
    let mut h = with(|s| s.get_timeout = Duration::from_secs(5));
    let ep = h.endpoint("a:1");
    let waiter = h.wait(ep);
    h.now = h.now.plus(Duration::from_secs(60));
    h.policy.wait_from(h.now, waiter);
    h.pass(Duration::from_millis(4_999));
    assert!(h.failure(waiter).is_none());
    h.pass(MS);
    assert_eq!(h.failure(waiter).unwrap().kind(), ErrorKind::GetTimeout);
}

#[test]
fn since_when_the_oldest_waits_is_known() {
    let mut h = with(|_| {});
    let ep = h.endpoint("a:1");
    assert_eq!(h.policy.oldest_wait(ep), None);
    let (first, since) = (h.wait(ep), h.now);
    h.pass(MS * 7);
    h.wait(ep);
    assert_eq!(h.policy.oldest_wait(ep), Some(since));
    h.cancel(first);
    assert_eq!(h.policy.oldest_wait(ep), Some(h.now));
}

#[test]
fn there_is_work_until_every_action_was_polled() {
    let mut h = with(|_| {});
    let ep = h.endpoint("a:1");
    assert!(!h.policy.has_work());
    h.policy.get(h.now, ep).unwrap();
    assert!(h.policy.has_work());
    h.pump();
    assert!(!h.policy.has_work());
}

#[test]
fn the_first_use_of_a_connection_is_no_reuse() {
    let mut h = with(|s| (s.notify, s.tells_reuse) = (true, true));
    let ep = h.endpoint("a:1");
    let waiter = h.wait(ep);
    let dial = h.answer_until(is_dial).unwrap();
    h.cancel(waiter);
    h.answer(&dial);
    h.answer_all();
    h.hit(ep);
    let told = h.logged(|a| matches!(a, Action::Notify { .. }));
    assert_eq!((told, h.counts(ep).reused), (1, 0), "created, not reused");
}

#[test]
fn a_connection_whose_lifetime_is_over_is_not_handed_out() {
    let mut h = with(|s| {
        s.max_connection_lifetime = Duration::from_secs(10);
        s.get_timeout = Duration::from_secs(20);
    });
    let ep = h.endpoint("a:1");
    let conn = h.open(ep);
    h.put(conn);
    // The get comes before the deadline of the same moment is handled.
    h.now = h.policy.poll_timeout().unwrap();
    let waiter = h.wait(ep);
    assert_eq!(h.close_reason(conn), Some(CloseReason::Lifetime));
    h.answer_all();
    assert!(h.granted(waiter).is_some());
}

#[test]
fn a_lifetime_ends_an_idle_connection_at_once_and_one_in_use_at_its_return() {
    let mut h = with(|s| {
        s.max_connection_lifetime = Duration::from_secs(10);
        s.max_idle_time = Duration::from_secs(1000);
    });
    let ep = h.endpoint("a:1");
    let conn = h.open(ep);
    let end = h.policy.poll_timeout().unwrap();
    // Shortened by up to a fortieth.
    assert!(end.since(h.now) > Duration::from_millis(9_740));
    // It is given back before the deadline of the same moment is handled.
    h.now = end;
    h.put(conn);
    assert_eq!(h.close_reason(conn), Some(CloseReason::Lifetime));
    h.answer_all();
    let conn = h.open(ep);
    h.put(conn);
    h.pass(Duration::from_secs(10));
    assert_eq!(h.close_reason(conn), Some(CloseReason::Lifetime));
}

#[test]
fn a_get_that_waited_too_long_takes_its_permit_request_back() {
    let mut h = with(|_| {});
    h.limit = 0;
    let ep = h.endpoint("a:1");
    h.wait(ep);
    h.answer_all();
    assert_eq!(h.queued.len(), 1);
    h.pass(Duration::from_secs(5));
    assert_eq!((h.counts(ep).waiters, h.queued.len()), (0, 0));
}
