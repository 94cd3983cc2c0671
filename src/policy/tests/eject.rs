//! Addresses that are out for all cores, and what brings them back.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::event::{Action, CloseReason, ConnKey, EndpointKey, Event, Return, Verdict};
use super::super::harness::{Harness, MS};
use super::{is_dial, with};
use crate::error::{Error, ErrorKind};

pub(super) const PROBE: Duration = Duration::from_millis(1500);

pub(super) fn address(last: u8) -> SocketAddr {
    ([127, 0, 0, last], 80).into()
}

/// So many addresses, and as many connections in use.
pub(super) fn open(addresses: u8, conns: usize) -> (Harness, EndpointKey, Vec<ConnKey>) {
    let mut h = with(|s| {
        s.max_connections = 64;
        s.max_idle_time = Duration::from_secs(3_000);
        s.max_connection_lifetime = Duration::from_secs(6_000);
    });
    h.addresses = addresses;
    h.ttl = Duration::from_secs(3_600);
    let ep = h.endpoint("a:1");
    let conns = (0..conns).map(|_| h.open(ep)).collect();
    (h, ep, conns)
}

/// Of four addresses, the given one is out, to be probed in 1.5 s.
pub(super) fn eject(h: &mut Harness, endpoint: EndpointKey, last: usize) {
    let mut out = vec![None; 4];
    out[last - 1] = Some(h.now.plus(PROBE));
    let out = out.into();
    h.event(Event::Ejected { endpoint, out });
}

fn restore(h: &mut Harness, endpoint: EndpointKey) {
    let out = [None; 4].into();
    h.event(Event::Ejected { endpoint, out });
}

/// What was reported since it was last taken.
pub(super) fn reports(h: &mut Harness) -> Vec<(SocketAddr, Verdict)> {
    let report = |action: Action| match action {
        Action::Report {
            address, verdict, ..
        } => Some((address, verdict)),
        _ => None,
    };
    std::mem::take(&mut h.log)
        .into_iter()
        .filter_map(report)
        .collect()
}

pub(super) fn dialed(action: &Action) -> (SocketAddr, Duration) {
    match action {
        Action::Dial {
            address, timeout, ..
        } => (*address, *timeout),
        other => panic!("{other:?}"),
    }
}

pub(super) fn probes(h: &Harness) -> usize {
    let probes = h.asked.iter();
    probes
        .filter(|it| matches!(it, Action::Probe { .. }))
        .count()
}

#[test]
fn c1_all_cores_are_told_of_a_connect_that_failed_and_not_of_what_failed_here() {
    let (mut h, ep, _) = open(2, 0);
    h.wait(ep);
    let dial = h.answer_until(is_dial).unwrap();
    let refused = dialed(&dial).0;
    h.refuse(&dial);
    assert_eq!(reports(&mut h), [(refused, Verdict::Failed)]);
    let Some(Action::Dial { conn, .. }) = h.answer_until(is_dial) else {
        panic!("the other one");
    };
    let error = Error::from_errno(ErrorKind::Connect, libc::EADDRNOTAVAIL);
    h.event(Event::ConnectFailed { conn, error });
    assert_eq!(reports(&mut h), []);
    let (mut h, ep, _) = open(1, 0);
    h.wait(ep);
    h.refuse_dials();
    assert_eq!(reports(&mut h), [], "there is nothing to choose");
}

#[test]
fn c2_an_address_that_lost_to_another_of_its_kind_is_reported() {
    let (mut h, ep, _) = open(2, 0);
    let mut silent = address(1);
    for expected in [0, 1] {
        h.wait(ep);
        let dial = h.answer_until(is_dial).unwrap();
        let to = dialed(&dial).0;
        if expected == 0 {
            silent = to;
        } else if to != silent {
            h.answer(&dial);
            h.answer_all();
            h.wait(ep);
            assert_eq!(dialed(&h.answer_until(is_dial).unwrap()).0, silent);
        }
        h.pass(MS * 250);
        h.answer_all();
        let news = [(silent, Verdict::Failed)];
        assert_eq!(reports(&mut h), news[..expected], "one packet may be lost");
        h.pass(MS * 400);
        h.asked.clear();
    }
}

#[test]
fn c15_an_address_that_is_out_is_dialed_after_all_others() {
    let (mut h, ep, _) = open(4, 4);
    eject(&mut h, ep, 2);
    h.pass(PROBE * 2);
    h.asked.clear();
    for _ in 0..6 {
        h.wait(ep);
        let dial = h.answer_until(is_dial).unwrap();
        assert_ne!(dialed(&dial).0, address(2));
        h.answer(&dial);
        h.answer_all();
    }
    h.wait(ep);
    for _ in 0..3 {
        let dial = h.answer_until(is_dial).unwrap();
        assert_ne!(dialed(&dial).0, address(2));
        h.refuse(&dial);
    }
    let last = h.answer_until(is_dial).unwrap();
    assert_eq!(dialed(&last).0, address(2), "rather that than no answer");
}

#[test]
fn c15_the_core_that_is_chosen_probes_though_nobody_opens_connections() {
    let (mut h, ep, conns) = open(4, 8);
    conns.iter().for_each(|conn| h.put(*conn));
    eject(&mut h, ep, 2);
    h.pass(PROBE - MS);
    assert_eq!(probes(&h), 0, "not yet");
    h.pass(MS * 51);
    assert_eq!(probes(&h), 1);
    h.log.clear();
    let dial = h.answer_until(is_dial).unwrap();
    assert_eq!(dialed(&dial), (address(2), PROBE), "no longer than a probe");
    h.answer(&dial);
    h.answer_all();
    assert_eq!(reports(&mut h), [(address(2), Verdict::Back)]);
    assert_eq!(h.policy.counts(ep).unwrap().live(), 9);
}

#[test]
fn c15_a_core_that_is_not_chosen_dials_nothing_and_asks_again_at_the_next_moment() {
    let (mut h, ep, conns) = open(4, 4);
    conns.iter().for_each(|conn| h.put(*conn));
    eject(&mut h, ep, 2);
    for _ in 0..3 {
        h.pass(PROBE + MS * 50);
        assert_eq!(probes(&h), 1);
        h.asked.clear();
        // Another core is the one.
        eject(&mut h, ep, 2);
        assert!(h.asked.is_empty());
    }
}

#[test]
fn c15_nobody_probes_for_an_endpoint_without_connections_and_waiters() {
    let (mut h, ep, conns) = open(4, 1);
    h.put_as(
        conns[0],
        super::super::event::Return::Discard(CloseReason::Failed),
    );
    h.answer_all();
    eject(&mut h, ep, 2);
    h.pass(PROBE * 4);
    assert_eq!(probes(&h), 0);
    h.open(ep);
    h.pass(MS * 50);
    assert_eq!(probes(&h), 1, "it is used again");
}

#[test]
fn c15_a_probe_that_fails_is_reported_and_its_permit_returns() {
    let (mut h, ep, conns) = open(4, 8);
    conns.iter().for_each(|conn| h.put(*conn));
    eject(&mut h, ep, 2);
    h.pass(PROBE + MS * 50);
    let held = h.held;
    h.log.clear();
    let dial = h.answer_until(is_dial).unwrap();
    h.refuse(&dial);
    h.answer_all();
    assert_eq!(reports(&mut h), [(address(2), Verdict::Failed)]);
    assert_eq!((h.held, h.counts(ep).connecting), (held, 0));
}

#[test]
fn c2_c15_a_probe_that_is_slow_gets_company_when_waiters_would_have_its_place() {
    let (mut h, ep, conns) = open(4, 2);
    h.put(conns[0]);
    eject(&mut h, ep, 2);
    h.pass(PROBE + MS * 50);
    h.answer_until(is_dial).unwrap();
    h.pass(MS * 1000);
    h.answer_all();
    assert_eq!(h.counts(ep).connecting, 1, "nobody waits for it");
    // Nothing is left for the waiter but the permit of the probe.
    h.limit = h.held;
    let waiters = [h.wait(ep), h.wait(ep)];
    h.answer_all();
    assert!(waiters.iter().all(|waiter| h.granted(*waiter).is_some()));
}

#[test]
fn c15_at_the_limit_one_connection_makes_way_for_a_probe_and_not_the_last() {
    for is_idle in [true, false] {
        let (mut h, ep, conns) = open(4, 4);
        h.limit = 4;
        if is_idle {
            conns.iter().for_each(|conn| h.put(*conn));
        }
        eject(&mut h, ep, 2);
        h.pass(PROBE + MS * 50);
        if !is_idle {
            h.answer_until(|_| false);
            h.put(conns[0]);
            h.put(conns[1]);
        }
        let dial = h.answer_until(is_dial).unwrap();
        assert_eq!(dialed(&dial).0, address(2));
        assert_eq!(h.counts(ep).closed_by(CloseReason::Rebalanced), 1);
    }
    let (mut h, ep, conns) = open(4, 1);
    h.limit = 1;
    h.put(conns[0]);
    eject(&mut h, ep, 2);
    h.pass(PROBE + MS * 50);
    h.answer_all();
    assert_eq!(h.counts(ep).live(), 1);
    assert_eq!(h.open(ep), conns[0]);
}

#[test]
fn c15_k1_at_the_limit_a_probe_has_the_permit_of_what_closed_for_it() {
    let (mut h, ep, conns) = open(4, 4);
    h.limit = 4;
    // Gets wait here, and longer elsewhere: a permit that is free would not come back.
    let waiter = h.wait(ep);
    h.answer_until(|_| false);
    eject(&mut h, ep, 2);
    h.pass(PROBE + MS * 50);
    h.answer_until(|_| false);
    h.log.clear();
    h.put(conns[0]);
    h.put(conns[1]);
    assert!(h.granted(waiter).is_some(), "one makes way, not both");
    let dial = h.answer_until(is_dial).expect("a probe");
    assert_eq!(dialed(&dial).0, address(2));
    assert_eq!(h.counts(ep).closed_by(CloseReason::Rebalanced), 1);
    let returned = |it: &Action| matches!(it, Action::ReturnPermit { .. });
    assert_eq!((h.logged(returned), h.held), (0, 4));
}

#[test]
fn c15_the_only_connection_of_a_core_makes_way_where_all_hold_several() {
    // Beside those of the first address, which is out, six or seven: nothing is to be evened out.
    for (others, closed) in [([3, 3, 1, 2], 0), ([3, 3, 1, 3], 1)] {
        let (mut h, ep, _) = open(4, 0);
        (h.limit, h.others) = (1, others.to_vec());
        let conn = h.open(ep);
        h.put(conn);
        eject(&mut h, ep, 1);
        h.pass(PROBE + MS * 50);
        h.answer_all();
        let made_way = h.counts(ep).closed_by(CloseReason::Rebalanced);
        assert_eq!(made_way, closed, "{others:?} elsewhere");
    }
}

#[test]
fn c15_what_another_core_found_out_ends_what_waits_to_be_probed() {
    let (mut h, ep, conns) = open(4, 4);
    h.limit = 4;
    eject(&mut h, ep, 2);
    h.pass(PROBE + MS * 50);
    h.answer_until(|_| false);
    assert!(h.queued.is_empty(), "a probe is no demand to other cores");
    restore(&mut h, ep);
    conns.iter().for_each(|conn| h.put(*conn));
    assert_eq!(h.counts(ep).live(), 4);
}

#[test]
fn c15_a_connection_that_dies_early_counts_and_one_that_was_used_does_not() {
    let broken = |h: &mut Harness, conn| {
        let reason = CloseReason::Reset;
        h.event(Event::Broken { conn, reason });
        reports(h)
    };
    let (mut h, ep, conns) = open(2, 2);
    conns.iter().for_each(|conn| h.put(*conn));
    h.log.clear();
    assert_eq!(broken(&mut h, conns[0]), [], "it was used");
    h.answer_all();
    // One that nobody came for.
    let unused = |h: &mut Harness| {
        h.policy.clear_endpoint(h.now, ep);
        h.answer_all();
        let waiter = h.wait(ep);
        let dial = h.answer_until(is_dial).unwrap();
        h.cancel(waiter);
        h.answer(&dial);
        h.answer_all();
        h.log.clear();
        match dial {
            Action::Dial { conn, address, .. } => (conn, address),
            _ => panic!("it is a dial"),
        }
    };
    let (conn, address) = unused(&mut h);
    assert_eq!(broken(&mut h, conn), [(address, Verdict::DiedEarly)]);
    h.pass(Duration::from_secs(5));
    h.answer_all();
    let (conn, _) = unused(&mut h);
    h.pass(Duration::from_secs(2));
    assert_eq!(broken(&mut h, conn), [], "its server waited long enough");
}

#[test]
fn c15_the_first_use_that_ends_well_proves_an_address_that_was_out_once() {
    let (mut h, ep, conns) = open(4, 4);
    eject(&mut h, ep, 1);
    eject(&mut h, ep, 2);
    restore(&mut h, ep);
    h.log.clear();
    conns.iter().for_each(|conn| h.put(*conn));
    let proved = reports(&mut h);
    assert_eq!(proved.len(), 2, "{proved:?}");
    assert!(proved.contains(&(address(1), Verdict::Works)));
    assert!(proved.contains(&(address(2), Verdict::Works)));
}

/// Connections by address.
fn spread(h: &Harness) -> Vec<u32> {
    h.list()
        .iter()
        .map(|target| h.policy.held_at(target.address))
        .collect()
}

/// Twelve idle connections at three of four addresses: the third is out.
fn without_the_third() -> (Harness, EndpointKey) {
    let (mut h, ep, _) = open(4, 0);
    h.addresses = 4;
    let waiters: Vec<_> = (0..12).map(|_| h.wait(ep)).collect();
    while let Some(action) = h.asked.pop_front() {
        match &action {
            Action::Dial { address: at, .. } if *at == address(3) => h.refuse(&action),
            _ => h.answer(&action),
        }
        h.grant_queued();
    }
    eject(&mut h, ep, 3);
    assert_eq!(spread(&h)[2], 0);
    for waiter in waiters {
        let conn = h.granted(waiter).unwrap();
        h.put(conn);
    }
    (h, ep)
}

#[test]
fn d25_c15_an_address_that_is_back_just_after_a_look_is_not_kept_waiting_for_the_next() {
    let (mut h, ep) = without_the_third();
    // It failed: 1 s later it is looked at how connections lie, and there is nothing to move.
    for _ in 0..101 {
        h.pass(MS * 10);
        h.answer_all();
    }
    restore(&mut h, ep);
    h.pass(MS * 100);
    h.answer_all();
    assert_eq!(spread(&h), [3; 4]);
}

#[test]
fn d25_c15_an_address_that_is_back_gets_its_share_without_another_answer() {
    let (mut h, ep) = without_the_third();
    restore(&mut h, ep);
    for _ in 0..8 {
        h.pass(Duration::from_secs(1));
        h.answer_all();
    }
    assert_eq!(spread(&h), [3; 4]);
    let closed = h.counts(ep).closed_by(CloseReason::Rebalanced);
    h.pass(Duration::from_secs(600));
    h.answer_all();
    assert_eq!(h.counts(ep).closed_by(CloseReason::Rebalanced), closed);
}

#[test]
fn d25_c15_a_core_whose_only_connection_is_elsewhere_at_one_look_looks_again() {
    let (mut h, ep, conns) = open(4, 1);
    eject(&mut h, ep, 3);
    restore(&mut h, ep);
    // Before the first look it has gone, its permit is another core's, and a waiter is left.
    h.put_as(conns[0], Return::Discard(CloseReason::Reset));
    h.answer_all();
    h.elsewhere = h.limit;
    let waiter = h.wait(ep);
    h.answer_all();
    h.pass(MS * 1_500);
    h.answer_all();
    assert_eq!(h.counts(ep).live(), 0);
    h.elsewhere = 0;
    h.answer_all();
    let conn = h.granted(waiter).unwrap();
    h.put(conn);
    // All cores have too many where it is: it moves within the looks that are left.
    h.others = spread(&h).iter().map(|own| own * 11).collect();
    h.pass(Duration::from_secs(5));
    h.answer_all();
    let moved = h.counts(ep).closed_by(CloseReason::Rebalanced);
    assert!(moved > 0, "{:?}", h.others);
}

#[test]
fn c10_after_an_outage_connections_are_even_without_another_answer() {
    let (mut h, ep, _) = open(4, 0);
    let waiters: Vec<_> = (0..16).map(|_| h.wait(ep)).collect();
    // Three of four are slow to return: too many for them to be out.
    let mut now = 0;
    while waiters.iter().any(|waiter| h.granted(*waiter).is_none()) {
        while let Some(action) = h.asked.pop_front() {
            match &action {
                Action::Dial { address: at, .. } if *at != address(1) => h.refuse(&action),
                _ => h.answer(&action),
            }
            h.grant_queued();
        }
        h.pass(MS * 100);
        now += 1;
        assert!(now < 100, "{:?}", spread(&h));
    }
    assert_eq!(spread(&h), [16, 0, 0, 0]);
    for waiter in waiters {
        let conn = h.granted(waiter).unwrap();
        h.put(conn);
    }
    for _ in 0..90 {
        h.pass(Duration::from_secs(1));
        h.answer_all();
    }
    assert_eq!(spread(&h), [4; 4]);
}
