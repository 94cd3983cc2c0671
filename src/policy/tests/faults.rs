//! Faults that last: outages, dead addresses, clocks that jump, limits at their ends.

use std::time::Duration;

use super::super::Got;
use super::super::event::{Action, CloseReason, Event};
use super::super::harness::MS;
use super::{is_dial, with};
use crate::error::{Error, ErrorKind};

/// The address that `dial` dials, by its last byte.
fn last_byte(dial: &Action) -> u8 {
    match dial {
        Action::Dial { address, .. } => match address.ip() {
            std::net::IpAddr::V4(ip) => ip.octets()[3],
            ip => panic!("{ip}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn c3_c14_whatever_the_number_the_next_address_is_tried_and_the_name_is_kept() {
    for errno in 1..=133 {
        let mut h = with(|_| {});
        h.addresses = 2;
        let ep = h.endpoint("a:1");
        let waiter = h.wait(ep);
        let dial = h.answer_until(is_dial).unwrap();
        let Action::Dial { conn, .. } = dial else {
            panic!("{dial:?}");
        };
        let error = Error::from_errno(ErrorKind::Connect, errno);
        h.event(Event::ConnectFailed { conn, error });
        let next = h.answer_until(is_dial).unwrap();
        assert_ne!(last_byte(&dial), last_byte(&next));
        h.answer(&next);
        h.answer_all();
        assert!(h.granted(waiter).is_some());
        assert_eq!(h.logged(|a| matches!(a, Action::Resolve { .. })), 1);
        assert_eq!(h.counts(ep).connect_errors, 1);
    }
}

#[test]
fn r1_r2_r3_what_this_host_lacks_says_nothing_of_the_address() {
    for errno in [99, 105, 12, 24, 23] {
        let mut h = with(|s| s.connect_retry_delay = MS);
        h.addresses = 2;
        let ep = h.endpoint("a:1");
        let waiter = h.wait(ep);
        let mut dialed = Vec::new();
        // Both addresses fail for want of something here; the round after that is not held back.
        for _ in 0..2 {
            let dial = h.answer_until(is_dial).unwrap();
            let Action::Dial { conn, .. } = dial else {
                panic!("{dial:?}");
            };
            dialed.push(last_byte(&dial));
            let error = Error::from_errno(ErrorKind::Connect, errno);
            h.event(Event::ConnectFailed { conn, error });
        }
        assert_ne!(dialed[0], dialed[1]);
        h.pass(MS * 2);
        // A peer that refuses is suspect, and comes last; these are not, so either may come first.
        let dial = h.answer_until(is_dial).unwrap();
        let Action::Dial { conn, .. } = dial else {
            panic!("{dial:?}");
        };
        h.event(Event::ConnectFailed {
            conn,
            error: crate::policy::harness::refused(),
        });
        let other = h.answer_until(is_dial).unwrap();
        assert_ne!(last_byte(&dial), last_byte(&other));
        h.answer(&other);
        h.answer_all();
        let conn = h.granted(waiter).unwrap();
        h.put(conn);
        // Only the one that refused is tried last now.
        let [first, second] = [h.hit(ep), h.open(ep)];
        let to = |conn| h.policy.address(conn).unwrap();
        assert_eq!(to(first), to(second), "errno {errno}");
    }
}

#[test]
fn r3_an_address_that_this_host_cannot_reach_comes_last_for_a_while() {
    // As an IPv6 address does on a host without one: the system says EADDRNOTAVAIL.
    let mut h = with(|_| {});
    h.addresses = 2;
    let ep = h.endpoint("a:1");
    let mut dials = [0; 2];
    for _ in 0..40 {
        let waiter = h.wait(ep);
        while let Some(dial) = h.answer_until(is_dial) {
            let Action::Dial { conn, .. } = dial else {
                panic!("{dial:?}");
            };
            let last = usize::from(last_byte(&dial) - 1);
            dials[last] += 1;
            match last {
                0 => h.event(Event::ConnectFailed {
                    conn,
                    error: Error::from_errno(ErrorKind::Connect, 99),
                }),
                _ => h.answer(&dial),
            }
        }
        let conn = h.granted(waiter).unwrap();
        h.put_as(
            conn,
            super::super::event::Return::Discard(CloseReason::Requested),
        );
        h.answer_all();
        h.pass(MS);
    }
    assert_eq!(dials[1], 40);
    assert!((1..=2).contains(&dials[0]), "{dials:?}");
}

#[test]
fn c10_an_outage_that_ends_with_many_waiting_brings_few_connects_at_once() {
    let mut h = with(|s| {
        s.max_connections = 64;
        s.max_connecting = 4;
        s.max_waiters = 400;
        s.connect_retry_count = 1000;
        s.get_timeout = Duration::from_secs(600);
    });
    let ep = h.endpoint("a:1");
    let waiters: Vec<_> = (0..400).map(|_| h.wait(ep)).collect();
    let before = h.now;
    while h.now.since(before) < Duration::from_secs(60) {
        h.refuse_dials();
        assert!(h.counts(ep).connecting <= 4);
        h.pass(MS * 100);
    }
    // A minute of doubling pauses: not more rounds than that, of four openings each.
    assert!(h.logged(is_dial) <= 4 * 16, "{}", h.logged(is_dial));
    h.log.clear();
    let mut served = 0;
    while served < waiters.len() {
        h.pass(MS * 100);
        while let Some(action) = h.asked.pop_front() {
            h.answer(&action);
            assert!(h.counts(ep).connecting <= 4);
        }
        let granted: Vec<_> = h.log.drain(..).collect();
        for action in granted {
            if let Action::Grant { conn, .. } = action {
                served += 1;
                h.put(conn);
            }
        }
    }
    assert_eq!(h.counts(ep).waiters, 0);
    assert!(h.counts(ep).created <= 64);
}

#[test]
fn c15_beside_a_dead_address_the_others_share_evenly_and_it_is_probed_seldom() {
    let mut h = with(|s| {
        s.max_connections = 64;
        s.max_connection_uses = 1;
    });
    h.addresses = 4;
    let ep = h.endpoint("a:1");
    let (mut dialed, mut opened) = ([0_u32; 5], [0_u32; 5]);
    // A quarter of an hour, a connection per second, each used once.
    for _ in 0..900 {
        let waiter = h.wait(ep);
        while let Some(dial) = h.answer_until(is_dial) {
            let at = usize::from(last_byte(&dial));
            dialed[at] += 1;
            if at == 1 {
                h.refuse(&dial);
            } else {
                opened[at] += 1;
                h.answer(&dial);
            }
        }
        let conn = h.granted(waiter).unwrap();
        h.put(conn);
        h.answer_all();
        h.log.clear();
        h.pass(MS * 1000);
    }
    let (least, most) = (opened[2..].iter().min(), opened[2..].iter().max());
    assert!(most.unwrap() - least.unwrap() < 900 / 3 / 5, "{opened:?}");
    assert!(dialed[1] > 30, "it is tried now and then: {dialed:?}");
    assert!(dialed[1] < 900 / 2, "and not each time: {dialed:?}");
}

#[test]
fn m3_after_a_jump_of_the_clock_what_waits_does_not_connect_all_at_once() {
    let mut h = with(|s| {
        s.max_connecting = 2;
        s.max_connections = 64;
        s.get_timeout = Duration::from_secs(600);
    });
    let ep = h.endpoint("a:1");
    for _ in 0..50 {
        h.wait(ep);
    }
    h.refuse_dials();
    h.log.clear();
    // A minute in one step: nothing on the way was handled at its moment.
    h.now = h.now.plus(Duration::from_secs(60));
    h.policy.handle_timeout(h.now);
    h.pump();
    let mut dials = 0;
    while h.answer_until(is_dial).is_some() {
        dials += 1;
    }
    assert!((1..=2).contains(&dials), "{dials} connects at once");
}

#[test]
fn m4_no_time_is_too_short_or_too_long() {
    for time in [Duration::from_nanos(1), MS, Duration::MAX] {
        let mut h = with(|s| {
            s.get_timeout = time;
            s.connect_timeout = time;
            s.connect_retry_delay = time;
            s.connect_retry_delay_max = time;
            s.max_idle_time = time;
            s.max_connection_lifetime = time;
            s.health_check_after = time;
            s.min_idle = 1;
        });
        let ep = h.endpoint("a:1");
        let waiter = h.wait(ep);
        h.refuse_dials();
        h.pass(time.min(MS));
        h.answer_all();
        let late = h.get(ep);
        h.answer_all();
        h.pass(time.min(MS * 10));
        h.answer_all();
        // Whatever the times are, each get ends at most once and the figures add up.
        let ends = h.logged(|a| matches!(a, Action::Grant { .. } | Action::Fail { .. }));
        assert!(ends <= 2, "{time:?}");
        h.cancel(waiter);
        if let Ok(Got::Waiting(waiter)) = late {
            h.cancel(waiter);
        }
        h.event(Event::Drain);
        h.answer_all();
    }
}

#[test]
fn m4_equal_deadlines_end_in_the_order_of_arrival() {
    let mut h = with(|_| {});
    let ep = h.endpoint("a:1");
    let waiters: Vec<_> = (0..10).map(|_| h.wait(ep)).collect();
    h.pass(Duration::from_secs(5));
    let failed = h.log.iter().filter_map(|action| match action {
        Action::Fail { waiter, .. } => Some(*waiter),
        _ => None,
    });
    assert_eq!(failed.collect::<Vec<_>>(), waiters);
}

#[test]
fn r19_very_many_deadlines_at_once_leave_room_for_what_else_comes() {
    let count = 1_500;
    let mut h = with(|s| {
        s.max_waiters = count;
        s.get_timeout = Duration::from_secs(5);
    });
    let ep = h.endpoint("a:1");
    let conn = h.open(ep);
    let waiters: Vec<_> = (0..count).map(|_| h.wait(ep)).collect();
    h.now = h.now.plus(Duration::from_secs(5));
    let mut turns = 0;
    while h.counts(ep).waiters > 0 {
        let before = h.log.len();
        h.policy.handle_timeout(h.now);
        h.pump();
        assert!(h.log.len() - before <= 200, "a turn has a bound");
        turns += 1;
        if turns == 1 {
            // What comes between two turns is taken in.
            let reason = CloseReason::Reset;
            h.event(Event::Broken { conn, reason });
            h.put(conn);
            assert_eq!(h.close_reason(conn), Some(reason));
        }
    }
    assert!(turns > 7);
    assert_eq!(h.counts(ep).get_timeouts as usize, waiters.len());
}
