//! Who probes an address that is out, and how long a probe may take.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::super::event::{Action, CloseReason, ConnKey, EndpointKey, Event, Verdict};
use super::super::harness::{Harness, MS, refused};
use super::eject::{PROBE, address, dialed, eject, open, probes, reports};
use super::is_dial;
use crate::time::Tick;

#[test]
fn c15_who_was_chosen_and_had_no_permit_does_not_probe_when_others_have_been_chosen_since() {
    let (mut h, ep, conns) = open(4, 4);
    h.limit = 4;
    eject(&mut h, ep, 2);
    h.pass(PROBE + MS * 50);
    assert_eq!(probes(&h), 1);
    // All of its connections are in use.
    h.answer_all();
    for _ in 0..20 {
        eject(&mut h, ep, 2);
        h.pass(PROBE + MS * 50);
        assert_eq!(probes(&h), 1, "it asks again each time");
        h.asked.clear();
    }
    eject(&mut h, ep, 2);
    h.put(conns[0]);
    assert!(h.answer_until(is_dial).is_none());
    assert_eq!(h.counts(ep).live(), 4);
}

#[test]
fn c15_under_load_at_the_limit_an_address_that_takes_300_ms_comes_back() {
    let (mut h, ep, conns) = open(4, 8);
    h.limit = 8;
    eject(&mut h, ep, 2);
    for _ in 0..4 {
        h.wait(ep);
    }
    h.pass(PROBE + MS * 50);
    h.answer_all();
    h.put(conns[0]);
    let probe = h.answer_until(is_dial).expect("one closes for it");
    assert_eq!(dialed(&probe).0, address(2));
    let Action::Dial { conn, .. } = probe else {
        panic!("it is a dial");
    };
    for _ in 0..6 {
        h.pass(MS * 50);
        let cut = |it: &Action| matches!(it, Action::Close { conn: it, .. } if *it == conn);
        assert!(h.answer_until(cut).is_none(), "waiters have seven others");
    }
    reports(&mut h);
    h.event(Event::Connected { conn });
    h.answer_all();
    assert_eq!(reports(&mut h), [(address(2), Verdict::Back)]);
}

#[test]
fn c12_c15_a_probe_has_its_time_for_all_of_its_opening() {
    let (mut h, ep, conns) = open(4, 8);
    conns.into_iter().for_each(|conn| h.put(conn));
    eject(&mut h, ep, 2);
    h.pass(PROBE + MS * 50);
    let dial = h.answer_until(is_dial).unwrap();
    h.answer(&dial);
    let init = h.answer_until(|it| matches!(it, Action::Initialise { .. }));
    let Some(Action::Initialise { timeout, .. }) = init else {
        panic!("it is connected");
    };
    assert!(timeout <= PROBE, "{timeout:?}");
}

/// Some of the addresses are silent and out, and this core is chosen each time. At the limit.
struct Silent {
    h: Harness,
    ep: EndpointKey,
    silent: BTreeSet<SocketAddr>,
    out: Vec<Option<Tick>>,
    dialing: Vec<(Tick, ConnKey)>,
    dialed: Vec<SocketAddr>,
}

impl Silent {
    /// So many addresses, of which `silent` are, and as many connections, in use, as the limit allows.
    fn new(addresses: u8, silent: &[u8], limit: usize) -> (Self, Vec<ConnKey>) {
        let (mut h, ep, conns) = open(addresses, limit);
        h.limit = limit;
        let is_out = |last: u8| silent.contains(&last).then(|| h.now.plus(PROBE));
        let mut all = Self {
            ep,
            silent: silent.iter().copied().map(address).collect(),
            out: (1..=addresses).map(is_out).collect(),
            dialing: Vec::new(),
            dialed: Vec::new(),
            h,
        };
        all.tell();
        (all, conns)
    }

    fn tell(&mut self) {
        let (endpoint, out) = (self.ep, self.out.clone().into());
        self.h.event(Event::Ejected { endpoint, out });
    }

    /// 10 ms pass.
    fn step(&mut self) {
        self.h.pass(MS * 10);
        self.answer();
        let now = self.h.now;
        let due = self.dialing.extract_if(.., |it| it.0 <= now);
        for (_, conn) in due.collect::<Vec<_>>() {
            let error = refused();
            self.h.event(Event::ConnectFailed { conn, error });
            self.h.grant_queued();
        }
        self.answer();
    }

    fn answer(&mut self) {
        while let Some(action) = self.h.asked.pop_front() {
            match &action {
                Action::Probe { address: at, .. } => {
                    let mut all = (1..).map(address);
                    let place = all.position(|it| it == *at).unwrap();
                    self.out[place] = Some(self.h.now.plus(PROBE + MS * 100));
                    self.tell();
                    self.h.answer(&action);
                }
                Action::Dial {
                    conn,
                    timeout,
                    address,
                    ..
                } if self.silent.contains(address) => {
                    self.dialing.push((self.h.now.plus(*timeout), *conn));
                    self.dialed.push(*address);
                }
                Action::Close { conn, .. } => {
                    self.dialing.retain(|it| it.1 != *conn);
                    self.h.answer(&action);
                }
                _ => self.h.answer(&action),
            }
            self.h.grant_queued();
        }
    }
}

#[test]
fn c15_at_the_limit_one_in_eight_connections_makes_way_for_probes() {
    let (mut all, conns) = Silent::new(16, &[1, 2, 3, 4, 5, 6, 7, 8], 8);
    conns.into_iter().for_each(|conn| all.h.put(conn));
    let mut dialing = 0;
    for _ in 0..2_000 {
        all.step();
        let counts = all.h.counts(all.ep);
        assert!(counts.idle >= 7 && counts.connecting <= 1, "{counts:?}");
        dialing += counts.connecting;
    }
    assert!(dialing > 1_000, "there are always some to be probed");
    let dialed: BTreeSet<_> = all.dialed.into_iter().collect();
    assert_eq!(dialed.len(), 8, "each has its turn");
}

#[test]
fn c15_a_probe_that_begins_late_is_not_the_last() {
    for late in [0, 500, 1000] {
        let (mut all, mut conns) = Silent::new(4, &[2], 4);
        let first = all.out[1];
        while all.out[1] == first {
            all.step();
        }
        // It is chosen, and all of its connections are in use for a while.
        (0..late / 10).for_each(|_| all.step());
        all.h.put(conns.remove(0));
        for _ in 0..3_000 {
            all.step();
            all.h.put(conns.remove(0));
            all.answer();
            conns.push(all.h.hit(all.ep));
        }
        let probes = all.dialed.len();
        assert!(
            (15..=20).contains(&probes),
            "{probes} in 30 s, {late} ms late"
        );
    }
}

#[test]
fn c15_who_is_chosen_again_before_its_close_is_done_closes_no_more() {
    let (mut all, conns) = Silent::new(16, &[1, 2, 3, 4, 5, 6, 7, 8], 8);
    conns.into_iter().for_each(|conn| all.h.put(conn));
    for last in 1..=8 {
        let (endpoint, held) = (all.ep, vec![1; 16].into());
        let address = address(last);
        all.h.event(Event::Probe {
            endpoint,
            address,
            held,
        });
        let closes = |it: &Action| matches!(it, Action::Close { .. });
        if let Some(close) = all.h.answer_until(closes) {
            all.h.asked.push_back(close);
        }
    }
    assert_eq!(all.h.counts(all.ep).closing, 1);
}

#[test]
fn c1_a_server_that_refuses_one_more_keeps_the_connections_that_it_has() {
    let (mut h, ep, conns) = open(4, 12);
    for _ in 0..4 {
        h.wait(ep);
    }
    while let Some(action) = h.asked.pop_front() {
        match &action {
            Action::Dial { address: at, .. } if *at == address(2) => h.refuse(&action),
            _ => h.answer(&action),
        }
        h.grant_queued();
    }
    eject(&mut h, ep, 2);
    conns.into_iter().for_each(|conn| h.put(conn));
    for _ in 0..10 {
        h.pass(Duration::from_secs(1));
        eject(&mut h, ep, 2);
        h.answer_all();
    }
    assert_eq!(h.counts(ep).closed_by(CloseReason::Rebalanced), 0);
    assert_eq!(h.policy.held_at(address(2)), 3);
}
