//! SRV and HTTPS records, and the user's own resolver.

use super::*;
use crate::dns::record::{Binding, Service};

fn services(list: &[(u16, u16, &str)]) -> Records {
    let service = |(priority, port, target): &(u16, u16, &str)| Service {
        priority: *priority,
        weight: 1,
        port: *port,
        target: (*target != ".").then(|| (*target).into()),
    };
    Records::Services(list.iter().map(service).collect())
}

#[test]
fn d35_targets_of_a_service_are_resolved_together_and_keep_their_ports() {
    let mut play = Play::begin("_db._tcp.test", Via::Srv, "");
    assert_eq!(play.asked(), "Srv _db._tcp.test");
    let records = services(&[(1, 7001, "a.test"), (2, 7002, "b.test"), (2, 0, "c.test")]);
    play.tell(10, "Srv _db._tcp.test", found(records, ms(10)));
    assert_eq!(play.asked(), "A a.test, A b.test, Aaaa a.test, Aaaa b.test");
    for name in ["a.test", "b.test"] {
        play.tell(20, &format!("Aaaa {name}"), nodata());
        assert!(play.done.is_none());
        play.tell(20, &format!("A {name}"), found(ips(&["192.0.2.1"]), ms(20)));
    }
    assert_eq!(play.targets(), "1/192.0.2.1:7001 2/192.0.2.1:7002");
}

#[test]
fn d35_a_target_that_fails_leaves_the_others() {
    let mut play = Play::begin("_db._tcp.test", Via::Srv, "");
    let records = services(&[(1, 7001, "a.test"), (1, 7002, "b.test")]);
    play.tell(10, "Srv _db._tcp.test", found(records, ms(10)));
    for kind in ["A", "Aaaa"] {
        play.tell(20, &format!("{kind} a.test"), failed());
    }
    play.tell(30, "A b.test", found(ips(&["192.0.2.1"]), ms(30)));
    play.tell(31, "Aaaa b.test", nodata());
    let outcome = play.outcome();
    assert!(!outcome.is_complete);
    assert_eq!(
        outcome.addresses.iter().map(Vec::len).collect::<Vec<_>>(),
        [0, 1]
    );
    assert_eq!(outcome.expires, ms(1_031));
}

#[test]
fn d37_d35_targets_that_were_not_there_before_are_waited_for() {
    let mut play = Play::begin("_db._tcp.test", Via::Srv, "");
    let records = services(&[(1, 7001, "a.test")]);
    play.tell(10, "Srv _db._tcp.test", found(records, ms(10)));
    for kind in ["A", "Aaaa"] {
        play.tell_asked(10, &format!("{kind} a.test"), Some(Old::Absent));
    }
    play.time(10);
    play.time(1_800);
    assert!(play.done.is_none());
    assert_eq!(play.due(), Some(ms(5_000)));
    play.tell(2_000, "Aaaa a.test", nodata());
    play.tell(2_000, "A a.test", found(ips(&["192.0.2.1"]), ms(2_000)));
    assert_eq!(play.targets(), "1/192.0.2.1:7001");
}

#[test]
fn d35_the_root_as_target_is_an_error_of_its_own() {
    let mut play = Play::begin("_db._tcp.test", Via::Srv, "");
    play.tell(
        10,
        "Srv _db._tcp.test",
        found(services(&[(0, 0, ".")]), ms(10)),
    );
    assert_eq!(
        play.done.take().unwrap().unwrap_err().kind(),
        ErrorKind::NoService
    );
}

#[test]
fn a_service_that_has_no_records_says_so() {
    let mut play = Play::begin("_db._tcp.test", Via::Srv, "");
    play.tell(10, "Srv _db._tcp.test", nodata());
    assert!(play.error().starts_with("no SRV records (NODATA from"));
}

fn binding(priority: u16, target: Option<&str>, port: Option<u16>, hints: &[&str]) -> Binding {
    Binding {
        priority,
        target: target.map(Into::into),
        port,
        alpn: Vec::new(),
        no_default_alpn: false,
        hints: hints.iter().map(|it| it.parse().unwrap()).collect(),
    }
}

#[test]
fn https_records_are_asked_for_with_the_addresses() {
    let mut play = Play::begin("a.test", Via::Https, "");
    assert_eq!(play.asked(), "A a.test, Aaaa a.test, Https a.test");
    let records = Records::Bindings([binding(1, None, Some(8443), &[])].into());
    play.tell(10, "Https a.test", found(records, ms(10)));
    play.tell(10, "Aaaa a.test", nodata());
    play.tell(10, "A a.test", found(ips(&["192.0.2.1"]), ms(10)));
    assert_eq!(play.targets(), "0/192.0.2.1:8443 1/192.0.2.1:443");
    assert_eq!(play.asked(), "");
}

#[test]
fn d34_without_usable_https_records_the_host_is_its_addresses() {
    for nothing in [nodata(), failed()] {
        let is_complete = matches!(nothing, Known::NoData { .. });
        let mut play = Play::begin("a.test", Via::Https, "");
        play.tell(10, "A a.test", found(ips(&["192.0.2.1"]), ms(10)));
        play.tell(10, "Aaaa a.test", nodata());
        play.tell(20, "Https a.test", nothing);
        let outcome = play.done.as_ref().unwrap().as_ref().unwrap();
        assert_eq!(outcome.is_complete, is_complete);
        assert_eq!(play.targets(), "0/192.0.2.1:443");
    }
    // Or when they are late.
    let mut play = Play::begin("a.test", Via::Https, "");
    play.tell(10, "Aaaa a.test", nodata());
    play.tell(10, "A a.test", found(ips(&["192.0.2.1"]), ms(10)));
    play.time(59);
    assert!(play.done.is_none());
    play.time(60);
    assert_eq!(play.targets(), "0/192.0.2.1:443");
}

#[test]
fn d34_aliases_are_followed_eight_times_and_no_further() {
    let mut play = Play::begin("n0.test", Via::Https, "");
    for n in 0..20 {
        let asked = play.asked();
        if !asked.contains("Https") {
            assert_eq!(n, 9, "asked: {asked}");
            break;
        }
        let next = format!("n{}.test", n + 1);
        let records = Records::Bindings([binding(0, Some(&next), None, &[])].into());
        play.tell(10, &format!("Https n{n}.test"), found(records, ms(10)));
    }
    for n in 0..=8 {
        for kind in ["A", "Aaaa"] {
            let records = ips(if kind == "A" {
                &["192.0.2.1"]
            } else {
                &["2001:db8::1"]
            });
            play.tell(20, &format!("{kind} n{n}.test"), found(records, ms(20)));
        }
    }
    assert!(play.done.is_some());
}

#[test]
fn hints_serve_until_the_addresses_are_known() {
    let records = || Records::Bindings([binding(1, Some("b.test"), None, &["192.0.2.9"])].into());
    let mut play = Play::begin("a.test", Via::Https, "");
    play.tell(10, "Https a.test", found(records(), ms(10)));
    play.time(60);
    let outcome = play.done.as_ref().unwrap().as_ref().unwrap();
    assert!(!outcome.is_complete);
    assert!(play.targets().starts_with("0/192.0.2.9:443"));

    let mut play = Play::begin("a.test", Via::Https, "");
    play.tell(10, "Https a.test", found(records(), ms(10)));
    for name in ["a.test", "b.test"] {
        play.tell(20, &format!("Aaaa {name}"), nodata());
        play.tell(20, &format!("A {name}"), found(ips(&["192.0.2.1"]), ms(20)));
    }
    assert_eq!(play.targets(), "0/192.0.2.1:443 1/192.0.2.1:443");
}

#[test]
fn the_users_own_resolver_is_asked_one_question() {
    use crate::resolver::Answered;
    let wanted = Wanted {
        host: "shard".into(),
        is_absolute: false,
        via: Via::Address,
        port: 80,
        is_given: true,
    };
    let sources = Arc::new(Sources::of_config(ResolverConfig::default()));
    let mut resolution = Resolution::new(ms(0), wanted, sources, ms(5_000), 7);
    let Some(Want::Ask(question)) = resolution.poll_want() else {
        panic!("nothing asked");
    };
    let answered = Answered::new(Duration::from_secs(60))
        .with_address([192, 0, 2, 1].into())
        .with_target(([192, 0, 2, 2], 5433).into(), 1, 10);
    let known = found(Records::Given(Arc::new(answered)), ms(1));
    resolution.handle_known(ms(1), &question, known);
    let Some(Want::Done(Ok(outcome))) = resolution.poll_want() else {
        panic!("not done");
    };
    let ports: Vec<_> = outcome
        .places
        .iter()
        .map(|it| (it.port, it.priority))
        .collect();
    assert_eq!(ports, [(80, 0), (5433, 1)]);
    assert_eq!(outcome.whence, Whence::Given);
}

fn old_records(records: Records) -> Option<Old> {
    Some(Old::Found {
        records,
        server: server(),
    })
}

#[test]
fn i11_places_of_old_records_are_old_whatever_comes_meanwhile() {
    let mut play = Play::begin("_db._tcp.test", Via::Srv, "");
    let records = services(&[(1, 7001, "a.test")]);
    play.tell_asked(0, "Srv _db._tcp.test", old_records(records));
    play.time(1_800);
    assert_eq!(play.asked(), "A a.test, Aaaa a.test, Srv _db._tcp.test");
    let moved = services(&[(1, 7001, "b.test")]);
    play.tell(1_900, "Srv _db._tcp.test", found(moved, ms(1_900)));
    play.tell(1_950, "Aaaa a.test", nodata());
    play.tell(1_950, "A a.test", found(ips(&["192.0.2.1"]), ms(1_950)));
    let outcome = play.outcome();
    assert!(outcome.is_stale && !outcome.is_complete);
    assert!(outcome.expires <= ms(2_950), "{:?}", outcome.expires);
    assert_eq!(outcome.whence, Whence::Stale(server()));
}

#[test]
fn d33_hints_of_old_records_came_from_a_server_and_are_marked() {
    let mut play = Play::begin("a.test", Via::Https, "");
    let records = Records::Bindings([binding(1, Some("b.test"), None, &["192.0.2.9"])].into());
    play.tell_asked(0, "Https a.test", old_records(records));
    play.time(1_800);
    play.time(1_850);
    let outcome = play.outcome();
    assert_eq!(
        outcome.whence,
        Whence::Stale(server()),
        "what is taken for the hosts file is not held against the deny list"
    );
    assert!(outcome.is_stale && !outcome.is_complete);
}

#[test]
fn i11_an_alias_holds_as_long_as_each_of_its_links() {
    let mut play = Play::begin("a.test", Via::Https, "");
    let alias = Records::Bindings([binding(0, Some("b.test"), None, &[])].into());
    let short = Known::Found {
        records: alias,
        server: server(),
        learned: ms(10),
        refresh: ms(4_000),
        expires: ms(5_000),
    };
    play.tell(10, "Https a.test", short);
    play.tell(20, "Https b.test", nodata());
    for name in ["a.test", "b.test"] {
        play.tell(20, &format!("Aaaa {name}"), nodata());
        play.tell(20, &format!("A {name}"), found(ips(&["192.0.2.1"]), ms(20)));
    }
    let outcome = play.outcome();
    assert_eq!((outcome.refresh, outcome.expires), (ms(4_000), ms(5_000)));
}
