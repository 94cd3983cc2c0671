//! How often a core looks how connections lie, and what it tries again because of it.

use std::time::Duration;

use super::super::event::{Action, CloseReason, Event};
use super::super::harness::{Harness, MS};
use super::eject::{address, open};
use super::is_dial;
use crate::error::{Error, ErrorKind};

#[test]
fn c1_c15_after_one_failure_a_core_looks_a_few_times_and_not_for_ever() {
    let (mut h, ep, conns) = open(4, 3);
    h.others = vec![8; 4];
    let waiter = h.wait(ep);
    let dial = h.answer_until(is_dial).unwrap();
    h.refuse(&dial);
    h.answer_all();
    h.put(h.granted(waiter).unwrap());
    conns.into_iter().for_each(|conn| h.put(conn));
    h.log.clear();
    h.pass(Duration::from_secs(600));
    h.answer_all();
    let looks = h.logged(|it| matches!(it, Action::Survey { .. }));
    assert!((1..=8).contains(&looks), "{looks}");
}

/// Dials to the third, new address and connections closed in two minutes, where this host cannot
/// reach it and all permits are in use.
fn moved_in_vain(others: [u32; 3]) -> (usize, u64) {
    let (mut h, ep, conns) = open(2, 8);
    conns.into_iter().for_each(|conn| h.put(conn));
    (h.limit, h.others, h.addresses) = (8, others.to_vec(), 3);
    h.policy
        .handle_event(h.now, Event::NamesChanged { endpoint: ep });
    let mut dials = 0;
    for _ in 0..1200 {
        h.pass(MS * 100);
        dials += answer_without_ports(&mut h);
    }
    assert_eq!(h.counts(ep).live(), 8);
    (dials, h.counts(ep).closed_by(CloseReason::Rebalanced))
}

fn answer_without_ports(h: &mut Harness) -> usize {
    let mut dials = 0;
    while let Some(action) = h.asked.pop_front() {
        match &action {
            Action::Dial {
                conn, address: at, ..
            } if *at == address(3) => {
                dials += 1;
                let error = Error::from_errno(ErrorKind::Connect, libc::EADDRNOTAVAIL);
                h.event(Event::ConnectFailed { conn: *conn, error });
                h.grant_queued();
            }
            _ => h.answer(&action),
        }
    }
    dials
}

#[test]
fn c9_what_this_core_cannot_reach_is_tried_ever_more_seldom_though_others_hold_some() {
    for others in [[4, 4, 0], [4, 4, 1]] {
        let (dials, closed) = moved_in_vain(others);
        assert!((1..=10).contains(&dials), "{dials} dials");
        assert!(closed <= 10, "{closed} good connections closed");
    }
}

/// Whether the third address, new to two, refuses or cannot be reached from here, and for how many dials.
/// Returns how long after the last of them, when other cores hold connections there, it is dialed again.
fn dialed_again(fails: usize, fail: impl Fn(&mut Harness, &Action)) -> Duration {
    let (mut h, ep, conns) = open(2, 8);
    conns.into_iter().for_each(|conn| h.put(conn));
    (h.others, h.addresses) = (vec![4, 4, 0], 3);
    h.event(Event::NamesChanged { endpoint: ep });
    let (mut dials, mut since) = (0, h.now);
    for _ in 0..3_000 {
        h.pass(MS * 100);
        while let Some(action) = h.asked.pop_front() {
            if !matches!(&action, Action::Dial { address: at, .. } if *at == address(3)) {
                h.answer(&action);
            } else if dials == fails {
                return h.now.since(since);
            } else {
                dials += 1;
                since = h.now;
                fail(&mut h, &action);
            }
        }
        if dials == fails && h.others[2] == 0 {
            h.others[2] = 4;
            h.pass(Duration::from_secs(1));
            h.event(Event::NamesChanged { endpoint: ep });
        }
    }
    panic!("it is dialed no more after {dials} times");
}

#[test]
fn c1_c9_what_failed_here_is_tried_at_once_when_others_have_connections_there() {
    let unreachable = |h: &mut Harness, action: &Action| {
        let Action::Dial { conn, .. } = action else {
            panic!("it is a dial");
        };
        let error = Error::from_errno(ErrorKind::Connect, libc::EADDRNOTAVAIL);
        h.event(Event::ConnectFailed { conn: *conn, error });
        h.grant_queued();
    };
    let refuses = |h: &mut Harness, action: &Action| h.refuse(action);
    // By then the pause is half a minute.
    assert!(dialed_again(9, unreachable) < Duration::from_secs(4));
    assert!(dialed_again(9, refuses) < Duration::from_secs(4));
}

#[test]
fn c9_what_this_host_could_not_reach_is_looked_at_again_without_an_answer() {
    let (mut h, ep, conns) = open(2, 8);
    conns.into_iter().for_each(|conn| h.put(conn));
    (h.others, h.addresses) = (vec![4, 4, 0], 3);
    h.event(Event::NamesChanged { endpoint: ep });
    let mut dials = [0; 3];
    for second in 0..300 {
        for _ in 0..10 {
            h.pass(MS * 100);
            dials[second / 100] += answer_without_ports(&mut h);
        }
    }
    assert!(dials[0] <= 12, "{dials:?}");
    assert!(
        dials[1..].iter().all(|it| (2..=5).contains(it)),
        "{dials:?}"
    );
}
