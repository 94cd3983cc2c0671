//! Where there is no room for a further attempt: what is cut short, and when.

use std::time::Duration;

use super::super::event::CloseReason;
use super::super::harness::MS;
use super::super::settings::ATTEMPT_DELAY;
use super::race::{dial, dialed, slow, target, v4, v6};
use super::{is_dial, with};

#[test]
fn c2_at_the_limit_a_connection_that_takes_its_time_to_initialise_is_not_cut_at_once() {
    for full in ["permits", "connects"] {
        let mut h = with(|s| s.max_connecting = if full == "connects" { 1 } else { 4 });
        h.limit = if full == "permits" { 1 } else { 8 };
        let (ep, waiter, first) = slow(&mut h, 4);
        h.pass(MS * 150);
        h.answer(&first);
        let init = h.asked.pop_front().unwrap();
        // Three round trips of a far server's handshake.
        h.pass(MS * 450);
        h.answer_all();
        assert_eq!(h.close_reason(dialed(&first).0), None, "{full}");
        h.answer(&init);
        assert!(h.granted(waiter).is_some(), "{full}");
        assert_eq!(h.counts(ep).closed_by(CloseReason::ConnectCancelled), 0);
    }
}

#[test]
fn c12_at_the_limit_a_server_that_is_silent_after_tcp_makes_way_within_a_second() {
    let mut h = with(|_| {});
    h.limit = 1;
    let (_, _, first) = slow(&mut h, 2);
    h.answer(&first);
    h.asked.pop_front().unwrap();
    h.pass(ATTEMPT_DELAY * 4);
    while let Some(action) = h.asked.pop_front() {
        h.answer(&action);
        h.pass(Duration::ZERO);
        if h.logged(is_dial) == 2 {
            break;
        }
    }
    let reason = h.close_reason(dialed(&first).0);
    assert_eq!(reason, Some(CloseReason::ConnectCancelled));
    assert_eq!(h.logged(is_dial), 2);
}

#[test]
fn c2_at_the_limit_each_cut_gives_the_next_attempt_longer() {
    let mut h = with(|s| s.connect_timeout = Duration::from_secs(4));
    h.limit = 1;
    let (_, waiter, _) = slow(&mut h, 8);
    // Every address is fine, and 600 ms away.
    let (begun, mut last) = (h.now, h.now);
    let mut dial_under_way = None;
    while h.granted(waiter).is_none() && h.now.since(begun) < Duration::from_secs(4) {
        h.pass(MS * 10);
        while let Some(action) = h.asked.pop_front() {
            if is_dial(&action) {
                (dial_under_way, last) = (Some(action), h.now);
            } else {
                h.answer(&action);
            }
        }
        if h.now.since(last) >= MS * 600
            && let Some(action) = dial_under_way.take()
        {
            h.answer(&action);
            h.answer_all();
        }
    }
    assert!(h.granted(waiter).is_some());
    assert!(h.logged(is_dial) <= 3, "{} dials", h.logged(is_dial));
}

#[test]
fn c7_a_broken_family_costs_less_and_less_often_however_seldom_one_connects() {
    let mut h = with(|s| s.max_connection_uses = 1);
    h.targets = Some(vec![target(v6(1), 0), target(v4(1), 1)]);
    let ep = h.endpoint("a:1");
    let mut slow_ones = 0;
    for _ in 0..60 {
        let waiter = h.wait(ep);
        let first = dial(&mut h).unwrap();
        if dialed(&first).1.is_ipv6() {
            slow_ones += 1;
            h.pass(ATTEMPT_DELAY);
            let second = dial(&mut h).unwrap();
            h.answer(&second);
        } else {
            h.answer(&first);
        }
        h.answer_all();
        let conn = h.granted(waiter).unwrap();
        h.put(conn);
        h.answer_all();
        h.pass(Duration::from_secs(2));
    }
    assert!(slow_ones <= 10, "{slow_ones} of 60 were slow");
}
