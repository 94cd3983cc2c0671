//! What names are asked of has changed: what is known of addresses is asked for again.

use std::time::Duration;

use super::super::event::{Action, EndpointKey, Event};
use super::super::harness::{Harness, MS};
use super::super::settings::REFRESH_FLOOR;
use super::with;
use crate::target::Target;

const DAY: Duration = Duration::from_secs(86_400);

fn is_resolve(action: &Action) -> bool {
    matches!(action, Action::Resolve { .. })
}

/// An endpoint with a connection in use, whose addresses are good for a day.
fn known() -> (Harness, EndpointKey) {
    let mut h = with(|s| {
        s.max_idle_time = DAY;
        s.max_connection_lifetime = DAY;
    });
    h.ttl = DAY;
    let ep = h.endpoint("a:1");
    h.open(ep);
    h.pass(Duration::from_secs(60));
    assert!(h.asked.is_empty());
    h.log.clear();
    (h, ep)
}

fn change(h: &mut Harness, endpoint: EndpointKey) {
    h.event(Event::NamesChanged { endpoint });
}

#[test]
fn d30_a_name_in_use_is_asked_for_again_within_a_second_and_serves_meanwhile() {
    let (mut h, ep) = known();
    change(&mut h, ep);
    assert!(h.asked.is_empty(), "not all names at one moment");
    // Who wants a connection meanwhile does not wait for the answer.
    h.wait(ep);
    let first = h.asked.pop_front().unwrap();
    assert!(matches!(first, Action::AcquirePermit { .. }));
    h.answer(&first);
    h.answer_all();
    h.pass(REFRESH_FLOOR);
    assert_eq!(h.logged(is_resolve), 1);
    let last = ([127, 0, 0, 9], 80).into();
    h.targets = Some(vec![Target::new(last)]);
    h.answer_all();
    let conn = h.hit(ep);
    assert_eq!(h.policy.address(conn), Some(last), "it moved");
    h.pass(DAY / 2);
    assert_eq!(h.logged(is_resolve), 1, "once");
}

#[test]
fn d30_names_are_not_all_asked_for_at_the_same_moment() {
    let (mut h, ep) = known();
    let mut waits = Vec::new();
    for _ in 0..10 {
        h.pass(REFRESH_FLOOR * 2);
        h.log.clear();
        change(&mut h, ep);
        let begun = h.now;
        while h.asked.is_empty() {
            h.pass(MS);
        }
        waits.push(h.now.since(begun));
        h.answer_all();
    }
    assert!(waits.iter().all(|wait| *wait <= REFRESH_FLOOR + MS));
    waits.sort();
    waits.dedup();
    assert!(waits.len() > 5, "{waits:?}");
}

#[test]
fn d23_d30_many_changes_are_asked_for_once_a_second_at_most() {
    let (mut h, ep) = known();
    for _ in 0..100 {
        change(&mut h, ep);
        h.pass(MS * 100);
        h.answer_all();
    }
    let asked = h.logged(is_resolve);
    assert!((8..=11).contains(&asked), "{asked} in 10 s");
}

#[test]
fn d30_an_answer_that_was_under_way_is_followed_by_another() {
    let (mut h, ep) = known();
    for fails in [false, true] {
        change(&mut h, ep);
        h.pass(REFRESH_FLOOR);
        let question = h.asked.pop_front().unwrap();
        assert!(is_resolve(&question));
        change(&mut h, ep);
        assert!(h.asked.is_empty(), "one question at a time");
        match fails {
            true => h.refuse(&question),
            false => h.answer(&question),
        }
        h.log.clear();
        h.pass(REFRESH_FLOOR);
        assert_eq!(h.logged(is_resolve), 1);
        h.answer_all();
        h.pass(Duration::from_secs(60));
        assert_eq!(h.logged(is_resolve), 1);
    }
}

#[test]
fn d30_what_nobody_uses_is_asked_for_when_somebody_does() {
    let (mut h, ep) = known();
    h.policy.clear_endpoint(h.now, ep);
    h.pump();
    let conn = crate::policy::event::ConnKey(crate::slot::Key::new(0, 0));
    h.put(conn);
    h.answer_all();
    assert_eq!(h.counts(ep).slots(), 0);
    change(&mut h, ep);
    h.pass(REFRESH_FLOOR * 10);
    assert_eq!(h.logged(is_resolve), 0, "for nobody");
    h.wait(ep);
    let first = h.asked.pop_front().unwrap();
    assert!(is_resolve(&first), "{first:?}");
    h.answer(&first);
}

#[test]
fn d30_a_name_of_which_nothing_is_known_is_left_alone() {
    let mut h = with(|_| {});
    let ep = h.endpoint("a:1");
    change(&mut h, ep);
    assert_eq!(h.policy.poll_timeout(), None);
    let waiter = h.wait(ep);
    change(&mut h, ep);
    h.answer_all();
    assert!(h.granted(waiter).is_some());
    let gone = EndpointKey(crate::slot::Key::new(3, 9));
    let ignored = h.policy.ignored_events();
    change(&mut h, gone);
    assert_eq!(h.policy.ignored_events(), ignored + 1);
}

#[test]
fn d30_who_needs_an_address_while_the_question_is_under_way_uses_a_known_one() {
    let (mut h, ep) = known();
    change(&mut h, ep);
    h.pass(REFRESH_FLOOR);
    assert_eq!(h.logged(is_resolve), 1);
    // No name server answers.
    h.wait(ep);
    assert_eq!(h.logged(is_resolve), 1);
    let asked: Vec<_> = h.asked.iter().collect();
    assert!(
        asked
            .iter()
            .any(|it| matches!(it, Action::AcquirePermit { .. })),
        "{asked:?}"
    );
}
