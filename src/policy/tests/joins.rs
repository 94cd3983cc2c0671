//! An answer comes while a connection is being opened: its race has other addresses now.

use std::time::Duration;

use super::super::event::{Action, EndpointKey, Event};
use super::super::harness::Harness;
use super::super::settings::{ATTEMPT_DELAY, REFRESH_FLOOR};
use super::race::{dial, dialed, v4};
use super::with;
use crate::target::Target;

/// A get that waits for an address that swallows packets.
fn slow() -> (Harness, EndpointKey) {
    let mut h = with(|s| s.connect_timeout = Duration::from_secs(10));
    h.targets = Some(vec![Target::new(v4(1))]);
    let ep = h.endpoint("a:1");
    h.wait(ep);
    assert_eq!(dialed(&dial(&mut h).unwrap()).1, v4(1));
    (h, ep)
}

/// What names are asked of has changed, and they name these.
fn answer(h: &mut Harness, endpoint: EndpointKey, targets: &[Target]) {
    h.event(Event::NamesChanged { endpoint });
    h.pass(REFRESH_FLOOR);
    let is_resolve = |it: &Action| matches!(it, Action::Resolve { .. });
    let at = h.asked.iter().position(is_resolve).expect("a question");
    h.targets = Some(targets.to_vec());
    h.asked.remove(at);
    h.event(h.resolved(endpoint));
}

#[test]
fn c2_d30_an_address_that_is_named_meanwhile_joins_the_race() {
    let (mut h, ep) = slow();
    answer(&mut h, ep, &[Target::new(v4(1))]);
    h.pass(ATTEMPT_DELAY);
    assert!(dial(&mut h).is_none(), "there is no other");
    answer(&mut h, ep, &[Target::new(v4(1)), Target::new(v4(2))]);
    h.pass(Duration::ZERO);
    let second = dial(&mut h).expect("an attempt beside the slow one");
    assert_eq!(dialed(&second).1, v4(2));
}

#[test]
fn d25_an_address_that_was_gone_and_is_named_again_comes_before_its_backup() {
    let (mut h, ep) = slow();
    let backup = |last| Target {
        priority: 1,
        ..Target::new(v4(last))
    };
    answer(&mut h, ep, &[backup(2), backup(3)]);
    answer(&mut h, ep, &[backup(2), backup(3)]);
    let is_close = |it: &Action| matches!(it, Action::Close { .. });
    let close = h.asked.iter().position(is_close).expect("it is gone");
    let Some(Action::Close { conn, .. }) = h.asked.remove(close) else {
        panic!("a close was there");
    };
    h.asked.clear();
    answer(&mut h, ep, &[Target::new(v4(1)), backup(2), backup(3)]);
    h.asked.clear();
    h.event(Event::Closed { conn });
    h.pass(ATTEMPT_DELAY);
    let next = dial(&mut h).expect("the race goes on");
    assert_eq!(dialed(&next).1, v4(1));
}
