//! How the next connection comes about.

use std::time::Duration;

use super::super::event::{Action, CloseReason, ConnKey, Event};
use super::super::harness::MS;
use super::{is_dial, with};
use crate::error::ErrorKind;

#[test]
fn a_miss_resolves_takes_a_permit_dials_initialises_and_grants() {
    let mut h = with(|_| {});
    let ep = h.endpoint("a.test:80");
    let waiter = h.wait(ep);
    assert!(matches!(h.asked.front(), Some(Action::Resolve { .. })));
    h.answer_all();
    let conn = h.granted(waiter).unwrap();
    assert_eq!(h.policy.endpoint_of(conn), Some(ep));
    assert_eq!(h.policy.address(conn), Some(([127, 0, 0, 1], 80).into()));
    let kinds = h.logged(|a| matches!(a, Action::Resolve { .. } | Action::AcquirePermit { .. }));
    assert_eq!(kinds, 2);
    assert_eq!((h.counts(ep).in_use, h.counts(ep).created), (1, 1));
    assert!(h.policy.poll_timeout().is_some() && !h.policy.has_work());
}

#[test]
fn k4_k5_a_cancelled_get_leaves_its_connect_to_the_pool() {
    let mut h = with(|_| {});
    let ep = h.endpoint("a:1");
    let waiter = h.wait(ep);
    let dial = h.answer_until(is_dial).unwrap();
    h.cancel(waiter);
    h.answer(&dial);
    h.answer_all();
    assert_eq!(h.counts(ep).idle, 1);
    h.hit(ep);
}

#[test]
fn k1_demand_that_vanished_takes_the_permit_request_back() {
    let mut h = with(|_| {});
    h.limit = 1;
    let (a, b) = (h.endpoint("a:1"), h.endpoint("b:1"));
    h.open(a);
    let waiter = h.wait(b);
    h.answer_all();
    assert_eq!(h.queued.len(), 1);
    h.cancel(waiter);
    assert_eq!(h.queued.len(), 0);
    // A permit that is granted all the same is given back.
    h.held += 1;
    h.limit = 2;
    h.event(Event::PermitGranted {
        endpoint: b,
        held: Box::new([]),
    });
    assert_eq!(h.held, 1);
}

#[test]
fn c5_c10_no_more_is_opened_than_waiters_need_and_settings_allow() {
    let mut h = with(|s| s.max_connecting = 2);
    let ep = h.endpoint("a:1");
    for _ in 0..5 {
        h.wait(ep);
    }
    let mut dials = Vec::new();
    while let Some(dial) = h.answer_until(is_dial) {
        dials.push(dial);
    }
    assert_eq!((dials.len(), h.counts(ep).connecting), (2, 2));
    dials.iter().for_each(|dial| h.answer(dial));
    h.answer_all();
    assert_eq!((h.counts(ep).created, h.counts(ep).waiters), (5, 0));
}

#[test]
fn c1_the_other_addresses_are_tried_at_once_with_the_same_permit() {
    let mut h = with(|_| {});
    h.addresses = 3;
    let ep = h.endpoint("a:1");
    let waiter = h.wait(ep);
    for _ in 0..2 {
        let dial = h.answer_until(is_dial).unwrap();
        h.refuse(&dial);
    }
    h.answer_all();
    assert!(h.granted(waiter).is_some());
    assert_eq!(h.logged(is_dial), 3);
    assert_eq!(h.logged(|a| matches!(a, Action::AcquirePermit { .. })), 1);
    assert_eq!(h.logged(|a| matches!(a, Action::ReturnPermit { .. })), 0);
    assert_eq!(h.counts(ep).connect_errors, 2);
}

#[test]
fn after_the_last_round_the_waiters_get_the_whole_story() {
    let mut h = with(|s| s.connect_retry_count = 3);
    let ep = h.endpoint("localhost:80");
    let waiter = h.wait(ep);
    for _ in 0..40 {
        h.refuse_dials();
        h.pass(MS * 25);
    }
    assert_eq!(h.logged(is_dial), 4);
    assert_eq!(
        h.failure(waiter).unwrap().to_string(),
        "connection refused (os error 111), connecting to tcp:127.0.0.1:80, \
         connecting to localhost:80, after 3 retry attempts"
    );
    assert_eq!((h.held, h.counts(ep).failed), (0, 1));
}

#[test]
fn a_get_after_the_last_round_began_is_not_failed_by_it() {
    let mut h = with(|s| s.connect_retry_count = 0);
    let ep = h.endpoint("a:1");
    let early = h.wait(ep);
    let dial = h.answer_until(is_dial).unwrap();
    let late = h.wait(ep);
    h.refuse(&dial);
    h.refuse_dials();
    assert!(h.failure(early).is_some());
    assert!(h.failure(late).is_none());
    h.pass(MS * 125);
    h.answer_all();
    assert!(h.granted(late).is_some());
}

#[test]
fn waiters_are_not_failed_while_a_connection_lives() {
    let mut h = with(|s| s.connect_retry_count = 0);
    let ep = h.endpoint("a:1");
    let conn = h.open(ep);
    let waiter = h.wait(ep);
    h.refuse_dials();
    assert!(h.failure(waiter).is_none());
    h.put(conn);
    assert_eq!(h.granted(waiter), Some(conn));
}

#[test]
fn c6_c10_a_pause_is_no_hot_loop() {
    let mut h = with(|_| {});
    let ep = h.endpoint("a:1");
    h.wait(ep);
    h.refuse_dials();
    for _ in 0..50 {
        h.wait(ep);
    }
    h.refuse_dials();
    assert_eq!(h.logged(is_dial), 1);
}

#[test]
fn a_failed_resolution_fails_the_waiters_unless_old_addresses_are_known() {
    let mut h = with(|_| {});
    let ep = h.endpoint("a:1");
    let waiter = h.wait(ep);
    let resolve = h.asked.pop_front().unwrap();
    h.refuse(&resolve);
    let text = h.failure(waiter).unwrap().to_string();
    assert_eq!(text, "no such name, connecting to a:1");
    h.pass(MS * 200);
    h.open(ep);
    h.pass(Duration::from_secs(40));
    let waiter = h.wait(ep);
    let resolve = h.asked.pop_front().unwrap();
    assert!(matches!(resolve, Action::Resolve { .. }));
    h.refuse(&resolve);
    h.answer_all();
    assert!(h.granted(waiter).is_some());
}

#[test]
fn c6_a_failed_init_closes_and_returns_the_permit_only_after_closed() {
    let mut h = with(|s| s.connect_retry_count = 0);
    let ep = h.endpoint("a:1");
    let waiter = h.wait(ep);
    let init = h.answer_until(|a| matches!(a, Action::Initialise { .. }));
    h.refuse(&init.unwrap());
    assert_eq!((h.held, h.counts(ep).closing), (1, 1));
    assert!(h.failure(waiter).is_none());
    let close = h.asked.pop_front().unwrap();
    h.answer(&close);
    assert_eq!(h.held, 0);
    let text = h.failure(waiter).unwrap().to_string();
    assert!(text.starts_with("bad greeting, initialising"), "{text}");
}

#[test]
fn r1_r13_a_full_table_evicts_the_longest_idle_connection_of_another_endpoint() {
    let mut h = with(|s| s.max_connections = 2);
    let (a, b) = (h.endpoint("a:1"), h.endpoint("b:1"));
    let (old, new) = (h.open(a), h.open(a));
    h.put(old);
    h.put(new);
    let waiter = h.wait(b);
    let close = h
        .answer_until(|a| matches!(a, Action::Close { .. }))
        .unwrap();
    assert_eq!(h.close_reason(old), Some(CloseReason::Evicted));
    assert_eq!(h.logged(is_dial), 2, "not before the slot is free");
    h.answer(&close);
    h.answer_all();
    assert!(h.granted(waiter).is_some());
    assert_eq!(h.close_reason(new), None);
}

#[test]
fn r1_r13_a_full_table_in_use_makes_the_opening_wait_for_any_return() {
    let mut h = with(|s| s.max_connections = 1);
    let (a, b) = (h.endpoint("a:1"), h.endpoint("b:1"));
    let conn = h.open(a);
    let waiter = h.wait(b);
    h.answer_all();
    assert_eq!((h.granted(waiter), h.held), (None, 2));
    h.put(conn);
    h.answer_all();
    assert!(h.granted(waiter).is_some());
}

#[test]
fn min_idle_is_kept_while_the_endpoint_is_used_and_without_queueing_for_permits() {
    let mut h = with(|s| s.min_idle = 2);
    h.limit = 3;
    let ep = h.endpoint("a:1");
    let conn = h.open(ep);
    assert_eq!(h.counts(ep).idle, 2);
    h.hit(ep);
    h.answer_all();
    assert_eq!((h.counts(ep).idle, h.queued.len()), (1, 0));
    h.put(conn);
    h.pass(Duration::from_secs(70));
    h.answer_all();
    h.pass(Duration::from_secs(70));
    h.answer_all();
    assert_eq!(h.counts(ep).idle, 0);
}

#[test]
fn a_get_during_a_pause_is_served_when_the_pause_is_over() {
    let mut h = with(|_| {});
    let ep = h.endpoint("a:1");
    h.wait(ep);
    let resolve = h.asked.pop_front().unwrap();
    h.refuse(&resolve);
    let waiter = h.wait(ep);
    assert!(h.asked.is_empty(), "not before the pause is over");
    h.pass(MS * 125);
    h.answer_all();
    assert!(h.granted(waiter).is_some());
}

#[test]
fn a_pause_that_ends_unwanted_is_forgotten() {
    let mut h = with(|s| s.connect_retry_count = 1);
    let ep = h.endpoint("a:1");
    let waiter = h.wait(ep);
    h.refuse_dials();
    h.cancel(waiter);
    h.pass(MS * 125);
    let waiter = h.wait(ep);
    h.refuse_dials();
    assert!(h.failure(waiter).is_none(), "its first round, not its last");
    h.pass(MS * 125);
    h.refuse_dials();
    let text = h.failure(waiter).unwrap().to_string();
    assert!(text.ends_with("after 1 retry attempts"), "{text}");
}

#[test]
fn min_idle_opens_nothing_for_an_endpoint_that_nobody_asked_for() {
    let mut h = with(|s| s.min_idle = 1);
    let ep = h.endpoint("a:1");
    h.policy.clear_endpoint(h.now, ep);
    h.pump();
    assert!(h.asked.is_empty());
}

#[test]
fn what_is_warmed_up_has_min_idle_connections_before_the_first_get() {
    let mut h = with(|s| s.min_idle = 3);
    let ep = h.endpoint("a:1");
    h.policy.warm_up(h.now, ep);
    h.pump();
    assert!(h.policy.is_warm(h.now, ep).is_none());
    h.answer_all();
    assert!(h.policy.is_warm(h.now, ep).unwrap().is_ok());
    assert_eq!((h.counts(ep).idle, h.counts(ep).created), (3, 3));
    h.hit(ep);
    // Not for ever, if nobody comes.
    let mut h = with(|s| s.min_idle = 3);
    let ep = h.endpoint("a:1");
    h.policy.warm_up(h.now, ep);
    h.pump();
    h.answer_all();
    h.pass(Duration::from_secs(60));
    h.answer_all();
    assert_eq!(h.counts(ep).slots(), 0);
}

#[test]
fn x12_warming_up_takes_what_the_limit_leaves_and_ends() {
    let mut h = with(|s| s.min_idle = 3);
    h.limit = 2;
    let ep = h.endpoint("a:1");
    h.policy.warm_up(h.now, ep);
    h.pump();
    h.answer_all();
    assert_eq!(h.counts(ep).idle, 2);
    assert!(h.policy.is_warm(h.now, ep).unwrap().is_ok());
    assert!(h.queued.is_empty(), "no other core gives one up for that");
}

#[test]
fn c1_d1_warming_up_says_why_it_failed() {
    let mut h = with(|s| (s.min_idle, s.connect_retry_count) = (1, 1));
    let ep = h.endpoint("a:1");
    h.policy.warm_up(h.now, ep);
    h.pump();
    for _ in 0..2 {
        assert!(h.policy.is_warm(h.now, ep).is_none());
        h.refuse_dials();
        h.pass(Duration::from_secs(1));
    }
    let error = h.policy.is_warm(h.now, ep).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    let ep = h.endpoint("b:1");
    h.policy.warm_up(h.now, ep);
    h.pump();
    let question = h.answer_until(|a| matches!(a, Action::Resolve { endpoint } if *endpoint == ep));
    h.refuse(&question.unwrap());
    let error = h.policy.is_warm(h.now, ep).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Resolve);
    h.event(Event::Drain);
    let error = h.policy.is_warm(h.now, ep).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Draining);
}

/// Many gets at once while connections are slow to open and quick to use: those that come back serve
/// who waits, and what is no longer needed is not begun.
#[test]
fn connects_under_way_are_never_more_than_gets_that_wait() {
    let mut h = with(|s| (s.max_connections, s.max_connecting) = (64, 4));
    let ep = h.endpoint("a:1");
    let waiters: Vec<_> = (0..50).map(|_| h.wait(ep)).collect();
    let mut served = Vec::new();
    while served.len() < waiters.len() {
        // One connect is done, and everybody who has a connection gives it back.
        let dial = h.answer_until(is_dial);
        if let Some(dial) = &dial {
            h.answer(dial);
        }
        let init = h.answer_until(|a| matches!(a, Action::Initialise { .. }));
        if let Some(init) = &init {
            h.answer(init);
        }
        loop {
            let granted = waiters.iter().filter(|it| !served.contains(*it));
            let next = granted.copied().find_map(|it| Some((it, h.granted(it)?)));
            let Some((waiter, conn)) = next else { break };
            served.push(waiter);
            let counts = h.counts(ep);
            assert!(counts.connecting <= counts.waiters + 4, "{counts:?}");
            h.put(conn);
        }
    }
    let counts = h.counts(ep);
    assert!(
        counts.created + u64::from(counts.connecting) <= 5,
        "{counts:?}"
    );
}

#[test]
fn min_idle_ends_when_the_last_get_is_as_long_ago_as_a_connection_may_idle() {
    let mut h = with(|s| s.min_idle = 1);
    let ep = h.endpoint("a:1");
    let conn = h.open(ep);
    h.put(conn);
    assert_eq!(h.counts(ep).idle, 2);
    h.pass(Duration::from_secs(60));
    h.answer_all();
    assert_eq!(h.counts(ep).slots(), 0);
}

#[test]
fn min_idle_that_finds_no_permit_asks_again_after_a_second() {
    let mut h = with(|s| s.min_idle = 1);
    h.limit = 2;
    let ep = h.endpoint("a:1");
    h.open(ep);
    h.hit(ep);
    h.answer_all();
    assert_eq!((h.queued.len(), h.counts(ep).slots()), (0, 2));
    h.limit = 3;
    h.pass(MS * 999);
    h.answer_all();
    assert_eq!(h.counts(ep).slots(), 2);
    h.pass(MS);
    h.answer_all();
    assert_eq!(h.counts(ep).idle, 1);
}

#[test]
fn min_idle_asks_again_at_the_end_of_its_pause() {
    let mut h = with(|s| s.min_idle = 1);
    h.limit = 1;
    let ep = h.endpoint("a:1");
    h.open(ep);
    h.limit = 2;
    // An event comes before the deadline of the same moment is handled.
    h.now = h.now.plus(MS * 1_000);
    h.policy.clear_endpoint(h.now, ep);
    h.pump();
    h.answer_all();
    assert_eq!(h.counts(ep).idle, 1);
}

#[test]
fn min_idle_resolves_again_after_a_failure_though_nobody_waits() {
    let mut h = with(|s| s.min_idle = 1);
    let ep = h.endpoint("a:1");
    h.wait(ep);
    let resolve = h.asked.pop_front().unwrap();
    h.refuse(&resolve);
    assert_eq!(h.counts(ep).waiters, 0);
    h.pass(MS * 125);
    h.answer_all();
    assert_eq!(h.counts(ep).idle, 1);
}

#[test]
fn min_idle_is_reached_one_by_one_and_again_after_every_hit() {
    let mut h = with(|s| {
        s.min_idle = 3;
        s.max_connecting = 1;
    });
    let ep = h.endpoint("a:1");
    h.open(ep);
    assert_eq!((h.counts(ep).idle, h.counts(ep).in_use), (3, 1));
    h.hit(ep);
    h.answer_all();
    assert_eq!((h.counts(ep).idle, h.counts(ep).in_use), (3, 2));
}

#[test]
fn min_idle_is_kept_for_as_long_after_every_kind_of_get() {
    for waits in [true, false] {
        let mut h = with(|s| {
            s.min_idle = 1;
            s.health_check = false;
        });
        let ep = h.endpoint("a:1");
        let conn = h.open(ep);
        h.put(conn);
        h.pass(Duration::from_secs(59));
        if waits {
            h.hit(ep);
        } else {
            assert!(h.policy.try_get(h.now, ep).is_some());
            h.pump();
        }
        h.pass(Duration::from_secs(1));
        h.answer_all();
        assert_eq!((h.counts(ep).idle, h.counts(ep).in_use), (1, 1));
    }
}

#[test]
fn what_breaks_before_its_first_use_is_replaced_after_a_second() {
    let mut h = with(|s| s.min_idle = 1);
    let ep = h.endpoint("a:1");
    h.open(ep);
    let idle = h.policy.endpoints.get(ep.0).and_then(|b| b.idle.first());
    h.event(Event::Broken {
        conn: ConnKey(idle.unwrap()),
        reason: CloseReason::Reset,
    });
    h.answer_all();
    h.pass(MS * 999);
    h.answer_all();
    assert_eq!(h.counts(ep).idle, 0);
    h.pass(MS);
    h.answer_all();
    assert_eq!(h.counts(ep).idle, 1);
}
