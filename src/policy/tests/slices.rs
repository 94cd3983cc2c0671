//! Many addresses, many cores: what a core works on, and how many connects go to one address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::super::event::{Action, CloseReason, EndpointKey, Event, Return};
use super::super::harness::Harness;
use super::{is_dial, with};
use crate::target::Target;

/// The harness of one of many cores, without other targets than these.
fn core(number: u32, targets: &[Target]) -> (Harness, EndpointKey) {
    let mut h = with(|s| {
        s.core = number;
        s.max_connections = 64;
        s.max_connecting = 64;
    });
    h.targets = Some(targets.to_vec());
    let ep = h.endpoint("a:1");
    (h, ep)
}

fn targets(count: u16) -> Vec<Target> {
    let address = |at: u16| SocketAddr::from(([10, 0, (at >> 8) as u8, at as u8], 80));
    (0..count).map(|at| Target::new(address(at))).collect()
}

/// Opens one connection, to where all cores hold the fewest, and returns whereto.
fn open(
    h: &mut Harness,
    ep: EndpointKey,
    held: &mut BTreeMap<SocketAddr, u32>,
    order: &[Target],
) -> SocketAddr {
    h.wait(ep);
    h.answer_until(|it| matches!(it, Action::AcquirePermit { .. }));
    h.held += 1;
    let all = order.iter().map(|it| held.get(&it.address).copied());
    let held_there = all.map(Option::unwrap_or_default).collect();
    h.event(Event::PermitGranted {
        endpoint: ep,
        held: held_there,
    });
    let dial = h.answer_until(is_dial).unwrap();
    h.answer(&dial);
    h.answer_all();
    let Action::Dial { address, .. } = dial else {
        panic!("it is a dial");
    };
    *held.entry(address).or_default() += 1;
    address
}

/// The figures of `docs/cores.md`.
#[test]
fn d26_128_cores_and_1000_addresses_are_no_128000_connections() {
    const EACH: u32 = 8;
    let all = targets(1000);
    let (mut held, mut pairs) = (BTreeMap::new(), BTreeSet::new());
    let mut widest = 0;
    for number in 0..128 {
        let (mut h, ep) = core(number, &all);
        h.limit = 10_000;
        let mut own = BTreeSet::new();
        // Three generations of connections: what a core works on shows over time.
        for _ in 0..3 {
            let there: Vec<_> = (0..EACH)
                .map(|_| open(&mut h, ep, &mut held, &all))
                .collect();
            own.extend(there.iter().copied());
            let used = h.granted_conns();
            if number + 1 < 128 {
                for conn in used {
                    h.put_as(conn, Return::Discard(CloseReason::Failed));
                }
                h.answer_all();
            }
            for address in there {
                *held.get_mut(&address).unwrap() -= 1;
            }
        }
        for address in own.iter().take(EACH as usize) {
            *held.entry(*address).or_default() += 1;
        }
        widest = widest.max(own.len());
        pairs.extend(own.into_iter().map(|address| (number, address)));
    }
    let used = held.values().filter(|count| **count > 0).count();
    let most = held.values().max().unwrap();
    assert!(widest <= 12, "{widest}");
    let pairs = pairs.len();
    assert!((1_200..=1_350).contains(&pairs), "{pairs} pairs");
    assert!(used >= 600 && *most <= 4, "{used} addresses, {most}");
}

#[test]
fn a_core_that_has_more_to_do_works_on_more_addresses() {
    let all = targets(64);
    let (mut h, ep) = core(5, &all);
    let mut held = BTreeMap::new();
    let there: BTreeSet<_> = (0..40).map(|_| open(&mut h, ep, &mut held, &all)).collect();
    assert!(there.len() > 30, "{}", there.len());
}

#[test]
fn c1_a_core_leaves_its_slice_when_all_of_it_fails() {
    let all = targets(64);
    let (mut h, ep) = core(0, &all);
    h.wait(ep);
    let mut tried = BTreeSet::new();
    for _ in 0..13 {
        let Some(Action::Dial { address, conn, .. }) = h.answer_until(is_dial) else {
            panic!("it goes on");
        };
        tried.insert(address);
        let error = super::super::harness::refused();
        h.event(Event::ConnectFailed { conn, error });
    }
    assert_eq!(tried.len(), 13);
    let outside = all.iter().position(|it| !tried.contains(&it.address));
    assert!(outside.is_some());
}

#[test]
fn c10_no_more_connects_than_allowed_are_under_way_to_one_address() {
    let mut h = with(|s| {
        s.max_connections = 64;
        s.max_connecting = 64;
        s.max_waiters = 64;
        s.max_connecting_per_address = 3;
    });
    h.addresses = 2;
    let ep = h.endpoint("a:1");
    let waiters: Vec<_> = (0..20).map(|_| h.wait(ep)).collect();
    let mut dials: Vec<_> = std::iter::from_fn(|| h.answer_until(is_dial)).collect();
    assert_eq!(dials.len(), 6, "three to each of two");
    assert_eq!(h.held, 6, "no permit is kept for what may not begin");
    // Each that ends makes room for one.
    let mut served = 0;
    while let Some(dial) = dials.pop() {
        h.answer(&dial);
        served += 1;
        dials.extend(std::iter::from_fn(|| h.answer_until(is_dial)));
        assert!(dials.len() <= 6);
    }
    assert_eq!(served, 20);
    assert!(waiters.iter().all(|waiter| h.granted(*waiter).is_some()));
}

#[test]
fn c10_a_connect_that_fails_makes_room_too() {
    let mut h = with(|s| s.max_connecting_per_address = 1);
    h.addresses = 2;
    let ep = h.endpoint("a:1");
    let waiters = [h.wait(ep), h.wait(ep), h.wait(ep)];
    let dials = [0, 1].map(|_| h.answer_until(is_dial).unwrap());
    assert!(h.answer_until(is_dial).is_none());
    h.refuse(&dials[0]);
    h.answer(&dials[1]);
    h.answer_all();
    h.pass(std::time::Duration::from_secs(2));
    h.answer_all();
    assert!(waiters.iter().all(|waiter| h.granted(*waiter).is_some()));
}

#[test]
fn d25_of_many_addresses_a_new_one_of_the_slice_gets_its_part_of_what_all_hold() {
    for count in [11, 12, 16, 32] {
        let all = targets(count + 1);
        let (mut h, ep) = core(0, &all[1..]);
        h.others = vec![20; usize::from(count)];
        let waiters: Vec<_> = (0..24).map(|_| h.wait(ep)).collect();
        h.answer_all();
        for waiter in waiters {
            let conn = h.granted(waiter).unwrap();
            h.put(conn);
        }
        // It is the first of the slice of core 0.
        h.targets = Some(all.clone());
        h.others.insert(0, 0);
        h.policy
            .handle_event(h.now, Event::NamesChanged { endpoint: ep });
        for _ in 0..10 {
            h.pass(std::time::Duration::from_secs(1));
            h.answer_all();
        }
        assert!(h.policy.held_at(all[0].address) > 0, "{count} addresses");
        let moved = h.counts(ep).closed_by(CloseReason::Rebalanced);
        assert!((1..=12).contains(&moved), "{moved} of 24");
    }
}
