//! What a core keeps idle beyond what it needs.

use std::time::Duration;

use super::super::Got;
use super::super::event::{Action, CloseReason, ConnKey, EndpointKey, Event};
use super::super::harness::{Harness, MS};
use super::with;
use crate::time::Tick;

const LOOK: Duration = Duration::from_secs(5);

/// A core with so many idle connections, all of which were in use at once just now.
fn after_burst(h: &mut Harness, count: usize) -> (EndpointKey, Vec<ConnKey>) {
    let ep = h.endpoint("a:1");
    let all: Vec<_> = (0..count).map(|_| any(h, ep)).collect();
    for conn in &all {
        h.put(*conn);
        h.pass(MS);
    }
    (ep, all)
}

fn any(h: &mut Harness, ep: EndpointKey) -> ConnKey {
    match h.get(ep).unwrap() {
        Got::Ready { conn, .. } => conn,
        Got::Waiting(waiter) => {
            h.answer_all();
            h.granted(waiter).unwrap()
        }
    }
}

fn shrinking(min_idle: usize) -> Harness {
    with(|s| {
        s.max_connections = 16;
        s.min_idle = min_idle;
        s.shrink_interval = LOOK;
        s.health_check = false;
    })
}

/// Live connections after each of the next looks.
fn looks(h: &mut Harness, ep: EndpointKey, count: usize) -> Vec<u32> {
    let look = |_| {
        h.pass(LOOK);
        h.answer_all();
        h.counts(ep).live()
    };
    (0..count).map(look).collect()
}

#[test]
fn half_of_what_was_not_needed_closes_with_each_look_and_the_last_one_stays() {
    let mut h = shrinking(0);
    let (ep, _) = after_burst(&mut h, 8);
    // The estimate is 8, then 4, 2 and 1: what is above it goes by half.
    assert_eq!(looks(&mut h, ep, 6), [8, 6, 4, 2, 1, 1]);
    assert_eq!(h.counts(ep).closed_by(CloseReason::Surplus), 7);
    assert_eq!(h.counts(ep).closed, 7);
    assert_eq!(h.held, 1);
    h.pass(Duration::from_secs(60));
    assert_eq!(h.counts(ep).closed_by(CloseReason::IdleTime), 1);
}

#[test]
fn what_is_needed_again_and_again_stays() {
    let mut h = shrinking(0);
    let (ep, _) = after_burst(&mut h, 6);
    let busy = |h: &mut Harness| {
        let used: Vec<_> = (0..4).map(|_| h.hit(ep)).collect();
        h.pass(MS);
        for conn in used {
            h.put(conn);
        }
        h.pass(LOOK - MS);
        h.answer_all();
        h.counts(ep).live()
    };
    let live: Vec<_> = (0..8).map(|_| busy(&mut h)).collect();
    assert_eq!(live.first(), Some(&6));
    assert_eq!(live[3..], [4; 5], "{live:?}");
    assert_eq!(h.logged(|a| matches!(a, Action::Dial { .. })), 6);
}

#[test]
fn what_is_in_use_counts_as_needed_however_long() {
    let mut h = shrinking(0);
    let ep = h.endpoint("a:1");
    let used: Vec<_> = (0..4).map(|_| h.open(ep)).collect();
    assert_eq!(looks(&mut h, ep, 5), [4; 5]);
    for conn in used {
        h.put(conn);
    }
    assert_eq!(
        looks(&mut h, ep, 1),
        [4],
        "they were in use since the last look"
    );
}

#[test]
fn min_idle_stays_beside_what_is_in_use() {
    let mut h = shrinking(3);
    let (ep, _) = after_burst(&mut h, 8);
    let in_use = h.hit(ep);
    let live = looks(&mut h, ep, 8);
    assert_eq!(live.last(), Some(&4), "{live:?}");
    h.put(in_use);
    assert_eq!(h.counts(ep).connecting, 0, "what closes is not opened anew");
}

#[test]
fn the_longest_idle_ones_go_first() {
    let mut h = shrinking(0);
    let (ep, all) = after_burst(&mut h, 4);
    looks(&mut h, ep, 2);
    let gone: Vec<_> = all
        .iter()
        .filter(|c| h.close_reason(**c).is_some())
        .collect();
    assert_eq!(gone, [&all[0]]);
}

#[test]
fn addresses_stay_even_while_it_shrinks() {
    let mut h = shrinking(0);
    h.addresses = 4;
    let (ep, _) = after_burst(&mut h, 12);
    for _ in 0..6 {
        looks(&mut h, ep, 1);
        let held = h
            .list()
            .iter()
            .map(|it| h.policy.held_at(it.address))
            .collect::<Vec<_>>();
        let (most, least) = (held.iter().max().unwrap(), held.iter().min().unwrap());
        assert!(most - least <= 1, "{held:?}");
    }
    assert_eq!(h.counts(ep).live(), 1);
}

#[test]
fn nothing_to_let_go_of_is_no_deadline() {
    let mut h = shrinking(0);
    let next = |h: &Harness, ep: EndpointKey| {
        let bucket = h.policy.endpoints.get(ep.0).unwrap();
        (bucket.need.look_at(), bucket.timer)
    };
    let (ep, _) = after_burst(&mut h, 2);
    assert_ne!(next(&h, ep).0, Tick::ZERO);
    looks(&mut h, ep, 4);
    assert_eq!(h.counts(ep).live(), 1);
    assert_eq!(next(&h, ep).0, Tick::ZERO);
    // The next one brings it back.
    let (one, other) = (h.hit(ep), h.open(ep));
    h.put(one);
    h.put(other);
    let (look_at, timer) = next(&h, ep);
    assert!(look_at > h.now && timer <= look_at);
    h.event(Event::Drain);
    assert_eq!(next(&h, ep).1, Tick::NEVER);
}

#[test]
fn without_an_interval_nothing_goes_before_its_time() {
    let mut h = with(|s| {
        s.max_connections = 16;
        s.shrink_interval = Duration::ZERO;
    });
    let (ep, _) = after_burst(&mut h, 8);
    h.pass(Duration::from_secs(50));
    assert_eq!(h.counts(ep).live(), 8);
}
