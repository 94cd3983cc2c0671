//! A name's addresses change: when the name is asked for again, and what becomes of connections.

use std::time::Duration;

use super::super::event::{Action, CloseReason, ConnKey, EndpointKey, Event, Return};
use super::super::harness::{Harness, MS};
use super::{is_dial, with};
use crate::target::Target;

const TTL: Duration = Duration::from_secs(30);

fn is_resolve(action: &Action) -> bool {
    matches!(action, Action::Resolve { .. })
}

fn address(last: u8) -> std::net::SocketAddr {
    ([127, 0, 0, last], 80).into()
}

/// From now on answers name these.
fn answers(h: &mut Harness, lasts: &[u8]) {
    let targets = lasts.iter().map(|last| Target::new(address(*last)));
    h.targets = Some(targets.collect());
}

/// Time passes until the name is asked for again, and everything is answered.
fn refresh(h: &mut Harness) {
    h.pass(TTL);
    h.answer_all();
}

fn to(h: &Harness, conn: ConnKey) -> u8 {
    match h.policy.address(conn).map(|address| address.ip()) {
        Some(std::net::IpAddr::V4(ip)) => ip.octets()[3],
        other => panic!("{other:?}"),
    }
}

/// A name with two addresses, a connection to each, in use; the first is to address 1.
fn two() -> (Harness, EndpointKey, [ConnKey; 2]) {
    let mut h = with(|s| {
        s.max_idle_time = Duration::from_secs(3_000);
        s.health_check = false;
    });
    answers(&mut h, &[1, 2]);
    let ep = h.endpoint("a:1");
    let (one, other) = (h.open(ep), h.open(ep));
    let conns = if to(&h, one) == 1 {
        [one, other]
    } else {
        [other, one]
    };
    assert_eq!([to(&h, conns[0]), to(&h, conns[1])], [1, 2]);
    h.log.clear();
    (h, ep, conns)
}

#[test]
fn d25_a_name_in_use_is_asked_for_again_when_its_answer_expires() {
    let (mut h, _, _) = two();
    for _ in 0..3 {
        h.log.clear();
        h.pass(TTL - MS);
        assert_eq!(h.logged(is_resolve), 0);
        h.pass(MS);
        assert_eq!(h.logged(is_resolve), 1);
        h.pass(TTL * 2);
        assert_eq!(h.logged(is_resolve), 1, "one question at a time");
        h.answer_all();
    }
}

#[test]
fn a_name_that_nobody_uses_is_not_asked_for() {
    let (mut h, ep, conns) = two();
    conns
        .iter()
        .for_each(|conn| h.put_as(*conn, Return::Discard(CloseReason::Failed)));
    h.answer_all();
    h.pass(TTL * 10);
    assert_eq!(h.logged(is_resolve), 0);
    assert_eq!(h.policy.poll_timeout(), None);
    // Used again, it is kept up to date again.
    h.open(ep);
    assert_eq!(h.logged(is_resolve), 1);
    h.pass(TTL);
    assert_eq!(h.logged(is_resolve), 2);
}

#[test]
fn an_answer_that_came_to_nobody_is_kept_up_to_date_once_it_is_used() {
    let mut h = with(|_| {});
    let ep = h.endpoint("a:1");
    let waiter = h.wait(ep);
    let resolve = h.asked.pop_front().unwrap();
    h.cancel(waiter);
    h.answer(&resolve);
    h.answer_all();
    h.pass(TTL * 2);
    // It has expired unused, and is good for one connection.
    h.open(ep);
    h.log.clear();
    h.pass(Duration::from_secs(1));
    assert_eq!(h.logged(is_resolve), 1);
}

#[test]
fn d23_a_name_is_not_asked_for_more_than_once_per_second() {
    let (mut h, ep, conns) = two();
    h.ttl = Duration::ZERO;
    refresh(&mut h);
    h.put(conns[0]);
    let conn = h.hit(ep);
    h.put(conn);
    // From now on it is used all the time.
    h.pass(MS * 4_000);
    h.answer_all();
    h.log.clear();
    for _ in 0..80 {
        h.pass(MS * 100);
        h.answer_all();
        let conn = h.hit(ep);
        h.put(conn);
    }
    assert_eq!(h.logged(is_resolve), 8);
}

#[test]
fn a_name_that_is_hardly_used_is_hardly_asked_for() {
    let (mut h, _, _) = two();
    let hour = Duration::from_secs(3_600);
    h.log.clear();
    for _ in 0..120 {
        h.pass(TTL);
        h.answer_all();
    }
    let asked = h.logged(is_resolve);
    assert!((20..60).contains(&asked), "{asked} times in the first hour");
    h.pass(hour);
    h.answer_all();
    h.log.clear();
    for _ in 0..3 {
        h.pass(hour);
        h.answer_all();
    }
    assert!(
        h.logged(is_resolve) >= 3,
        "but for as long as it has connections"
    );
}

#[test]
fn d25_after_a_failure_the_old_addresses_serve_and_the_pauses_are_bounded() {
    let (mut h, ep, conns) = two();
    h.pass(TTL);
    h.log.clear();
    for _ in 0..60 {
        while let Some(action) = h.asked.pop_front() {
            assert!(is_resolve(&action));
            h.refuse(&action);
        }
        h.pass(Duration::from_secs(1));
    }
    assert!(
        (5..=60).contains(&h.logged(is_resolve)),
        "{}",
        h.logged(is_resolve)
    );
    conns.iter().for_each(|conn| h.put(*conn));
    assert_eq!(
        (h.counts(ep).idle, h.counts(ep).resolve_errors >= 5),
        (2, true)
    );
    // They are still good for new ones.
    h.hit(ep);
    h.hit(ep);
    let waiter = h.wait(ep);
    while let Some(action) = h.asked.pop_front() {
        if is_resolve(&action) {
            h.refuse(&action)
        } else {
            h.answer(&action)
        }
    }
    assert!(h.granted(waiter).is_some());
}

#[test]
fn d25_an_address_gone_from_two_answers_loses_idle_ones_now_and_busy_ones_later() {
    let (mut h, ep, [gone, _]) = two();
    let more = [h.open(ep), h.open(ep)];
    let idle = more.into_iter().find(|conn| to(&h, *conn) == 1).unwrap();
    h.put(idle);
    answers(&mut h, &[2]);
    refresh(&mut h);
    assert_eq!(h.close_reason(idle), None, "one answer is not enough");
    refresh(&mut h);
    assert_eq!(h.close_reason(idle), Some(CloseReason::AddressGone));
    assert_eq!(h.close_reason(gone), None, "it is in use");
    h.put(gone);
    assert_eq!(h.close_reason(gone), Some(CloseReason::AddressGone));
    h.answer_all();
    for _ in 0..4 {
        let conn = h.open(ep);
        assert_eq!(to(&h, conn), 2);
    }
    assert_eq!(h.counts(ep).closed_by(CloseReason::AddressGone), 2);
}

#[test]
fn d25_a_missing_address_is_used_only_if_no_other_works() {
    let (mut h, ep, _) = two();
    answers(&mut h, &[2]);
    refresh(&mut h);
    h.wait(ep);
    let first = h.answer_until(is_dial).unwrap();
    assert!(matches!(first, Action::Dial { address: to, .. } if to == address(2)));
    h.refuse(&first);
    let second = h.answer_until(is_dial).unwrap();
    assert!(matches!(second, Action::Dial { address: to, .. } if to == address(1)));
}

#[test]
fn d25_only_two_answers_in_a_row_count() {
    let (mut h, ep, [gone, _]) = two();
    h.put(gone);
    for _ in 0..4 {
        answers(&mut h, &[2]);
        refresh(&mut h);
        answers(&mut h, &[2, 1]);
        refresh(&mut h);
    }
    assert_eq!(h.counts(ep).closed_by(CloseReason::AddressGone), 0);
}

#[test]
fn d25_d28_d37_a_stale_or_partial_answer_removes_nothing() {
    let (mut h, ep, [kept, _]) = two();
    h.put(kept);
    h.is_fresh = false;
    answers(&mut h, &[2]);
    for _ in 0..5 {
        refresh(&mut h);
    }
    assert_eq!(h.close_reason(kept), None);
    assert_eq!(h.counts(ep).closed_by(CloseReason::AddressGone), 0);
    // Nor does it make one that is missing any more so.
    h.is_fresh = true;
    refresh(&mut h);
    h.is_fresh = false;
    answers(&mut h, &[2]);
    h.pass(TTL - MS);
    assert_eq!(h.close_reason(kept), None);
}

#[test]
fn d28_an_answer_of_one_family_is_used_at_once_and_the_other_joins_it() {
    let mut h = with(|_| {});
    let v6: std::net::SocketAddr = ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 80).into();
    answers(&mut h, &[1]);
    (h.is_fresh, h.ttl) = (false, Duration::from_secs(1));
    let ep = h.endpoint("a:1");
    let conn = h.open(ep);
    assert_eq!(to(&h, conn), 1, "it does not wait for what does not come");
    let both = [v6, address(1)].map(Target::new);
    h.targets = Some(both.to_vec());
    (h.is_fresh, h.ttl) = (true, TTL);
    h.pass(Duration::from_secs(1));
    h.answer_all();
    h.open(ep);
    assert_eq!(h.policy.held_at(v6), 1);
    assert_eq!(h.counts(ep).closed_by(CloseReason::AddressGone), 0);
}

#[test]
fn d25_an_answer_without_an_address_removes_nothing() {
    let (mut h, ep, [kept, _]) = two();
    h.put(kept);
    h.targets = Some(Vec::new());
    for _ in 0..5 {
        refresh(&mut h);
    }
    assert_eq!(h.close_reason(kept), None);
    assert!(h.counts(ep).resolve_errors > 0);
}

#[test]
fn d25_one_answer_is_enough_when_no_other_comes_for_as_long_as_it_was_good() {
    let (mut h, ep, [gone, _]) = two();
    h.put(gone);
    answers(&mut h, &[2]);
    refresh(&mut h);
    // From now on nobody answers. When this one expires, the next has as long to come.
    h.pass(TTL);
    h.asked.clear();
    h.pass(TTL - MS);
    assert_eq!(h.close_reason(gone), None);
    h.pass(MS);
    assert_eq!(h.close_reason(gone), Some(CloseReason::AddressGone));
    assert_eq!(h.counts(ep).live(), 1, "the others stay");
}

#[test]
fn d25_an_address_that_comes_back_is_as_good_as_before() {
    let (mut h, ep, [gone, other]) = two();
    h.put_as(gone, Return::Discard(CloseReason::Failed));
    answers(&mut h, &[2]);
    refresh(&mut h);
    refresh(&mut h);
    answers(&mut h, &[2, 1]);
    h.put(other);
    refresh(&mut h);
    h.hit(ep);
    h.wait(ep);
    let dial = h.answer_until(is_dial).unwrap();
    assert!(matches!(dial, Action::Dial { address: to, .. } if to == address(1)));
}

#[test]
fn d25_a_connection_in_use_whose_address_comes_back_is_kept() {
    let (mut h, ep, [gone, other]) = two();
    answers(&mut h, &[2]);
    refresh(&mut h);
    refresh(&mut h);
    answers(&mut h, &[1, 2]);
    refresh(&mut h);
    h.put(gone);
    h.put(other);
    assert_eq!(h.close_reason(gone), None);
    assert_eq!(h.counts(ep).idle, 2);
}

#[test]
fn d25_a_connection_that_broke_meanwhile_is_not_kept_when_its_address_comes_back() {
    for is_broken in [true, false] {
        let (mut h, _, [gone, _]) = two();
        answers(&mut h, &[2]);
        refresh(&mut h);
        refresh(&mut h);
        let reason = CloseReason::Reset;
        if is_broken {
            h.event(Event::Broken { conn: gone, reason });
        }
        answers(&mut h, &[1, 2]);
        refresh(&mut h);
        h.put_as(
            gone,
            if is_broken {
                Return::Clean
            } else {
                Return::Discard(reason)
            },
        );
        assert_eq!(h.close_reason(gone), Some(reason));
    }
}

#[test]
fn d25_a_shared_connection_whose_address_comes_back_takes_users_again() {
    let mut h = with(|s| s.max_idle_time = Duration::from_secs(3_000));
    h.capacity = 2;
    answers(&mut h, &[1]);
    let ep = h.endpoint("a:1");
    let conn = h.open(ep);
    answers(&mut h, &[2]);
    refresh(&mut h);
    refresh(&mut h);
    answers(&mut h, &[1, 2]);
    refresh(&mut h);
    assert_eq!(h.hit(ep), conn);
}

#[test]
fn d25_what_is_on_its_way_to_an_address_that_goes_goes_elsewhere() {
    let mut h = with(|s| s.get_timeout = Duration::from_secs(600));
    answers(&mut h, &[1]);
    let ep = h.endpoint("a:1");
    let waiter = h.wait(ep);
    let lost = h.answer_until(is_dial).unwrap();
    answers(&mut h, &[2]);
    for _ in 0..2 {
        h.pass(TTL);
        let at = h.asked.iter().position(is_resolve).unwrap();
        let resolve = h.asked.remove(at).unwrap();
        h.answer(&resolve);
    }
    let Action::Dial { conn, .. } = lost else {
        panic!("{lost:?}");
    };
    assert_eq!(h.close_reason(conn), Some(CloseReason::AddressGone));
    h.answer_all();
    assert_eq!(to(&h, h.granted(waiter).unwrap()), 2);
    assert_eq!((h.counts(ep).connect_errors, h.held), (0, 1));
}

/// A connection in use to address 1, which was gone, and what happens before it is named again.
fn gone_and_back(capacity: u32, meanwhile: impl Fn(&mut Harness, ConnKey)) -> (Harness, ConnKey) {
    let mut h = with(|s| {
        s.max_idle_time = Duration::from_secs(3_000);
        s.health_check = false;
    });
    answers(&mut h, &[1]);
    h.capacity = capacity;
    let ep = h.endpoint("a:1");
    let conn = h.open(ep);
    for _ in 1..capacity {
        assert_eq!(h.hit(ep), conn);
    }
    answers(&mut h, &[2]);
    refresh(&mut h);
    refresh(&mut h);
    meanwhile(&mut h, conn);
    answers(&mut h, &[1, 2]);
    refresh(&mut h);
    (h, conn)
}

#[test]
fn d25_e1_a_connection_that_broke_while_its_address_was_gone_is_not_used_again() {
    let reason = CloseReason::PeerClosed;
    let broken = |h: &mut Harness, conn| h.event(Event::Broken { conn, reason });
    let (mut h, conn) = gone_and_back(1, broken);
    h.put(conn);
    assert_eq!(h.close_reason(conn), Some(reason));
}

#[test]
fn d25_a_connection_that_a_user_found_bad_while_its_address_was_gone_is_not_used_again() {
    let reason = CloseReason::Failed;
    let (mut h, conn) = gone_and_back(2, |h, conn| h.put_as(conn, Return::Discard(reason)));
    h.put(conn);
    assert_eq!(h.close_reason(conn), Some(reason));
}

#[test]
fn d25_a_connection_of_an_address_that_came_back_is_kept() {
    let (mut h, conn) = gone_and_back(1, |_, _| {});
    h.put(conn);
    assert_eq!(h.close_reason(conn), None);
}

#[test]
fn d23_d25_one_answer_without_an_address_is_not_enough_whatever_its_ttl() {
    let (mut h, _, conns) = two();
    h.ttl = Duration::ZERO;
    refresh(&mut h);
    h.put(conns[0]);
    answers(&mut h, &[2]);
    h.pass(Duration::from_secs(4));
    h.log.clear();
    h.answer_all();
    h.pass(MS * 900);
    assert_eq!(h.close_reason(conns[0]), None, "after one answer");
    answers(&mut h, &[1, 2]);
    for _ in 0..20 {
        h.pass(Duration::from_secs(1));
        h.answer_all();
    }
    assert_eq!(h.close_reason(conns[0]), None);
}
