//! Connections go to other cores.

use std::time::Duration;

use super::super::event::{Action, CloseReason, ConnKey, EndpointKey, Event};
use super::super::harness::{Harness, MS};
use super::with;
use crate::policy::Settings;

pub(super) fn moving(change: impl FnOnce(&mut Settings)) -> Harness {
    with(|settings| {
        settings.hand_over = true;
        change(settings);
    })
}

/// Long enough after the last get for the core not to be in use.
const QUIET: Duration = Duration::from_millis(200);

fn is_give(action: &Action) -> bool {
    matches!(action, Action::Give { .. })
}

fn demand(h: &mut Harness, endpoint: EndpointKey) {
    let since = Some(h.now);
    h.event(Event::Demand { endpoint, since });
}

/// So many idle connections of an endpoint that was not used lately, the oldest first.
fn idle(h: &mut Harness, count: usize) -> (EndpointKey, Vec<ConnKey>) {
    let ep = h.endpoint("a:1");
    let conns: Vec<_> = (0..count).map(|_| h.open(ep)).collect();
    conns.iter().for_each(|conn| h.put(*conn));
    h.pass(QUIET);
    (ep, conns)
}

#[test]
fn an_idle_connection_is_given_and_leaves_without_returning_its_permit() {
    let mut h = moving(|_| {});
    let (ep, conns) = idle(&mut h, 2);
    demand(&mut h, ep);
    let give = h.answer_until(is_give).unwrap();
    assert!(matches!(give, Action::Give { conn, .. } if conn == conns[0]));
    let counts = h.counts(ep);
    assert_eq!((counts.idle, counts.closing, h.held), (1, 1, 2));
    assert_eq!(h.hit(ep), conns[1], "the other one serves meanwhile");
    h.answer(&give);
    assert_eq!(h.close_reason(conns[0]), Some(CloseReason::HandedOver));
    h.answer_all();
    let counts = h.counts(ep);
    assert_eq!((counts.slots(), h.held, h.elsewhere), (1, 1, 1));
    assert_eq!((counts.handed_over, counts.closed), (1, 0));
    assert_eq!(h.logged(|a| matches!(a, Action::ReturnPermit { .. })), 0);
    let told = |a: &Action| matches!(a, Action::Notify { .. });
    assert_eq!(h.logged(told), 0, "nothing was closed");
}

#[test]
fn one_that_comes_back_is_looked_at_and_then_idle_again() {
    let mut h = moving(|_| {});
    let (ep, conns) = idle(&mut h, 1);
    demand(&mut h, ep);
    let give = h.answer_until(is_give).unwrap();
    h.refuse(&give);
    let waiter = h.wait(ep);
    assert_eq!(h.granted(waiter), None, "nobody has watched it");
    let look = h
        .answer_until(|a| matches!(a, Action::Look { .. }))
        .unwrap();
    h.answer(&look);
    assert_eq!(h.granted(waiter), Some(conns[0]));
    assert_eq!(h.counts(ep).handed_over, 0);
}

#[test]
fn e12_one_that_comes_back_was_idle_all_the_time() {
    let mut h = moving(|s| (s.max_idle_time, s.health_check) = (Duration::from_secs(1), false));
    let (ep, conns) = idle(&mut h, 1);
    for _ in 0..4 {
        demand(&mut h, ep);
        let give = h.answer_until(is_give).unwrap();
        h.refuse(&give);
        h.answer_all();
        assert_eq!((h.counts(ep).idle, h.close_reason(conns[0])), (1, None));
        h.pass(QUIET);
    }
    assert_eq!(h.close_reason(conns[0]), Some(CloseReason::IdleTime));
}

#[test]
fn e12_one_for_which_nothing_was_sent_is_where_it_was() {
    let mut h = moving(|s| s.max_idle_time = Duration::from_secs(1));
    let ep = h.endpoint("a:1");
    let conns = [h.open(ep), h.open(ep), h.open(ep)];
    for conn in conns {
        h.put(conn);
        h.pass(QUIET);
    }
    demand(&mut h, ep);
    let give = h.answer_until(is_give).unwrap();
    assert!(matches!(give, Action::Give { conn, .. } if conn == conns[0]));
    h.event(Event::GiveFailed {
        conn: conns[0],
        since: None,
        untouched: true,
    });
    assert_eq!(h.counts(ep).idle, 3);
    assert_eq!(h.logged(|a| matches!(a, Action::Look { .. })), 0);
    assert_eq!(h.hit(ep), conns[2], "the newest");
    h.pass(QUIET * 2);
    let ended = conns.map(|conn| h.close_reason(conn));
    assert_eq!(ended, [Some(CloseReason::IdleTime), None, None]);
}

#[test]
fn where_none_can_be_given_it_closes_for_the_permit() {
    let mut h = moving(|_| {});
    let (ep, conns) = idle(&mut h, 1);
    demand(&mut h, ep);
    h.answer_until(is_give).unwrap();
    let (conn, since) = (conns[0], Some(h.now));
    let untouched = true;
    h.event(Event::GiveFailed {
        conn,
        since,
        untouched,
    });
    assert_eq!(h.close_reason(conn), Some(CloseReason::Demand));
    h.answer_all();
    assert_eq!((h.held, h.counts(ep).closed), (0, 1));
}

#[test]
fn what_happens_to_one_that_is_being_given_decides_when_it_comes_back() {
    type Happens = fn(&mut Harness, EndpointKey, ConnKey);
    let ends: [(Happens, CloseReason); 5] = [
        (
            |h, _, conn| {
                let reason = CloseReason::PeerClosed;
                h.event(Event::Broken { conn, reason });
            },
            CloseReason::PeerClosed,
        ),
        (
            |h, ep, _| {
                h.policy.clear_endpoint(h.now, ep);
                h.pump();
            },
            CloseReason::Requested,
        ),
        (|h, _, _| h.event(Event::Drain), CloseReason::Drained),
        (
            |h, _, _| h.pass(Duration::from_secs(4_000)),
            CloseReason::Lifetime,
        ),
        (
            |h, _, _| {
                let there = ([127, 0, 0, 9], 80).into();
                h.targets = Some(vec![crate::target::Target::new(there)]);
                for _ in 0..2 {
                    h.pass(Duration::from_secs(60));
                    h.answer_all();
                }
            },
            CloseReason::AddressGone,
        ),
    ];
    for (end, reason) in ends {
        let mut h = moving(|_| {});
        let (ep, conns) = idle(&mut h, 1);
        demand(&mut h, ep);
        let give = h.answer_until(is_give).unwrap();
        end(&mut h, ep, conns[0]);
        let is_recall = |a: &Action| matches!(a, Action::Recall { conn, .. } if *conn == conns[0]);
        let by_itself = [CloseReason::PeerClosed, CloseReason::Lifetime].contains(&reason);
        assert_eq!(h.logged(is_recall), usize::from(!by_itself), "{reason:?}");
        assert_eq!(h.close_reason(conns[0]), None, "its answer is awaited");
        h.refuse(&give);
        assert_eq!(h.close_reason(conns[0]), Some(reason));
    }
}

#[test]
fn one_that_was_taken_is_gone_whatever_happened_meanwhile() {
    let mut h = moving(|_| {});
    let (ep, conns) = idle(&mut h, 1);
    demand(&mut h, ep);
    let give = h.answer_until(is_give).unwrap();
    h.event(Event::Drain);
    assert!(!h.policy.is_drained());
    h.answer(&give);
    assert_eq!(h.close_reason(conns[0]), Some(CloseReason::HandedOver));
    h.answer_all();
    assert!(h.policy.is_drained());
}

#[test]
fn x12_a_core_in_use_keeps_its_last_two_until_the_other_has_waited_longer_than_the_grace() {
    let mut h = moving(|_| {});
    let (ep, conns) = idle(&mut h, 3);
    let conn = h.hit(ep);
    h.put(conn);
    demand(&mut h, ep);
    assert_eq!(h.logged(is_give), 1, "one more than it keeps");
    demand(&mut h, ep);
    assert_eq!(h.logged(is_give), 1);
    let conn = h.hit(ep);
    h.put(conn);
    assert_eq!(h.logged(is_give), 1, "nor at a return");
    h.pass(MS * 50);
    assert_eq!(h.logged(is_give), 1);
    h.pass(MS);
    assert_eq!(h.logged(is_give), 2);
    assert!(h.counts(ep).idle == 1 && conns.len() == 3);
}

#[test]
fn x12_the_deadline_of_the_last_two_is_set_once() {
    let mut h = moving(|_| {});
    let (ep, _) = idle(&mut h, 2);
    let conn = h.hit(ep);
    h.put(conn);
    demand(&mut h, ep);
    let sets = h.policy.timer_changes();
    for _ in 0..5 {
        let conn = h.hit(ep);
        h.put(conn);
    }
    assert_eq!(
        h.policy.timer_changes(),
        sets,
        "a clean return sets no timer"
    );
}

#[test]
fn a_demand_that_ends_takes_none_of_the_last() {
    let mut h = moving(|_| {});
    let (ep, _) = idle(&mut h, 2);
    let conn = h.hit(ep);
    h.put(conn);
    demand(&mut h, ep);
    let since = None;
    h.event(Event::Demand {
        endpoint: ep,
        since,
    });
    h.pass(MS * 60);
    assert_eq!(h.logged(is_give), 0);
}

#[test]
fn a_connection_that_comes_back_goes_to_the_core_that_waited_longer() {
    let mut h = moving(|_| {});
    h.limit = 1;
    let ep = h.endpoint("a:1");
    let conn = h.open(ep);
    demand(&mut h, ep);
    h.pass(MS * 51);
    let ours = h.wait(ep);
    h.put(conn);
    assert_eq!((h.logged(is_give), h.granted(ours)), (1, None));
}

#[test]
fn what_many_may_share_and_what_stays_closes_instead() {
    for stays in [false, true] {
        let mut h = moving(|_| {});
        h.capacity = if stays { 1 } else { 2 };
        let (ep, conns) = idle(&mut h, 1);
        if stays {
            h.policy.never_hand_over(ep);
        }
        demand(&mut h, ep);
        assert_eq!(h.close_reason(conns[0]), Some(CloseReason::Demand));
    }
}

#[test]
fn a_core_that_ends_counts_what_was_taken_as_handed_over() {
    let mut h = moving(|_| {});
    let (ep, _) = idle(&mut h, 2);
    for _ in 0..2 {
        demand(&mut h, ep);
    }
    let give = h.answer_until(is_give).unwrap();
    h.answer(&give);
    h.policy.end();
    let counts = h.counts(ep);
    assert_eq!((counts.handed_over, counts.closed), (1, 1));
    assert_eq!(counts.closed_by(CloseReason::Drained), 1);
}
