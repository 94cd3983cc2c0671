//! When connections are asked for their health.

use std::time::Duration;

use super::super::Got;
use super::super::event::{Action, CloseReason, ConnKey, EndpointKey, Event, Hook, Return};
use super::super::harness::{Harness, MS};
use super::with;

fn is_check(action: &Action) -> bool {
    matches!(action, Action::CheckHealth { .. })
}

/// An endpoint with two connections that idled so long that their health is in doubt; the second
/// is the newest.
fn doubtful() -> (Harness, EndpointKey, [ConnKey; 2]) {
    let mut h = with(|s| s.health_check = true);
    let ep = h.endpoint("a:1");
    let conns = [h.open(ep), h.open(ep)];
    conns.iter().for_each(|conn| h.put(*conn));
    h.pass(MS * 501);
    (h, ep, conns)
}

#[test]
fn a_try_get_asks_for_the_health_of_the_newest_for_the_next_caller() {
    let (mut h, ep, [_, newest]) = doubtful();
    let gets = h.counts(ep).gets;
    assert_eq!(h.policy.try_get(h.now, ep), None);
    h.pump();
    assert_eq!((h.logged(is_check), h.counts(ep).gets), (1, gets));
    h.answer_all();
    assert_eq!(h.policy.try_get(h.now, ep), Some(newest));
    assert_eq!(h.counts(ep).gets, gets + 1);
}

#[test]
fn a_try_get_behind_a_waiter_asks_for_nothing() {
    let (mut h, ep, _) = doubtful();
    h.wait(ep);
    assert_eq!(h.logged(is_check), 1);
    assert_eq!(h.policy.try_get(h.now, ep), None);
    h.pump();
    assert_eq!(h.logged(is_check), 1, "one per waiter");
}

#[test]
fn an_endpoint_that_cannot_tell_is_not_asked() {
    let (mut h, ep, [_, newest]) = doubtful();
    h.policy.skip_health_checks(ep);
    assert_eq!(h.hit(ep), newest);
}

#[test]
fn the_health_is_not_in_doubt_until_the_time_is_over() {
    let mut h = with(|s| s.health_check = true);
    let ep = h.endpoint("a:1");
    let conn = h.open(ep);
    h.put(conn);
    h.pass(MS * 500);
    assert_eq!(h.hit(ep), conn);
}

#[test]
fn an_answer_after_the_end_of_the_lifetime_comes_too_late() {
    let mut h = with(|s| {
        s.health_check = true;
        s.max_idle_time = Duration::from_secs(1000);
        s.max_connection_lifetime = Duration::from_secs(10);
    });
    let ep = h.endpoint("a:1");
    let conn = h.open(ep);
    h.put(conn);
    h.pass(MS * 9000);
    let waiter = h.wait(ep);
    let check = h.asked.pop_front().unwrap();
    h.pass(MS * 1000);
    h.answer(&check);
    assert_eq!(h.close_reason(conn), Some(CloseReason::Lifetime));
    assert_eq!(h.granted(waiter), None);
}

#[test]
fn r11_a_connection_that_could_not_be_taken_was_not_used() {
    for how in [Return::Unwatched, Return::Discard(CloseReason::Unwatched)] {
        let mut h = with(|s| {
            (s.notify, s.tells_reuse) = (true, true);
            s.max_connection_uses = 2;
        });
        let ep = h.endpoint("a:1");
        let conn = h.open(ep);
        h.put(conn);
        h.log.clear();
        let before = h.counts(ep);
        h.pass(MS * 100);
        // The last use that it may have.
        let got = h.policy.get(h.now, ep).unwrap();
        assert_eq!(got, Got::Ready { conn, reused: true });
        h.policy.not_taken(h.now, conn, how);
        h.pump();
        let after = h.counts(ep);
        assert_eq!((after.gets, after.reused), (before.gets, before.reused));
        assert_eq!((after.in_use, after.idle), (0, 0));
        let told = |it: &Action| {
            matches!(
                it,
                Action::Notify {
                    hook: Hook::Reused,
                    ..
                }
            )
        };
        assert_eq!(h.logged(told), 0);
        if how == Return::Unwatched {
            assert_eq!(after.checking, 1);
            h.answer_all();
            assert_eq!((h.counts(ep).idle, h.close_reason(conn)), (1, None));
            assert_eq!(h.hit(ep), conn);
            h.put(conn);
            assert_eq!(h.close_reason(conn), Some(CloseReason::Uses));
        } else {
            assert_eq!(h.close_reason(conn), Some(CloseReason::Unwatched));
        }
    }
}

#[test]
fn r11_one_that_opens_unwatched_is_looked_at_before_its_first_user_has_it() {
    let mut h = with(|_| {});
    let ep = h.endpoint("a:1");
    let waiter = h.wait(ep);
    let is_init = |it: &Action| matches!(it, Action::Initialise { .. });
    let Some(Action::Initialise { conn, .. }) = h.answer_until(is_init) else {
        panic!("nothing opens");
    };
    h.event(Event::Initialised {
        conn,
        capacity: 1,
        watched: false,
    });
    assert_eq!((h.counts(ep).checking, h.granted(waiter)), (1, None));
    h.answer_all();
    assert_eq!((h.counts(ep).created, h.granted(waiter)), (1, Some(conn)));
}
