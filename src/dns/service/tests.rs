use proptest::prelude::*;

use super::*;

fn service(priority: u16, weight: u16, port: u16, target: &str) -> Service {
    Service {
        priority,
        weight,
        port,
        target: (target != ".").then(|| target.into()),
    }
}

fn binding(priority: u16, target: &str) -> Binding {
    Binding {
        priority,
        target: (target != ".").then(|| target.into()),
        port: None,
        alpn: Vec::new(),
        no_default_alpn: false,
        hints: Vec::new(),
    }
}

/// `host:port priority weight`, one word a place.
fn shown(places: &[Place]) -> Vec<String> {
    let show = |place: &Place| {
        let Place {
            host,
            port,
            priority,
            weight,
            ..
        } = place;
        format!("{host}:{port} {priority} {weight}")
    };
    places.iter().map(show).collect()
}

fn done(step: Step) -> Vec<String> {
    match step {
        Step::Done(places) => shown(&places),
        Step::Ask => panic!("asks for more"),
    }
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn no_chance(_: usize) -> usize {
    0
}

#[test]
fn d35_priorities_come_first_and_weights_go_with_them() {
    let records = [
        service(20, 0, 6379, "c.test"),
        service(10, 0, 6379, "z.test"),
        service(10, 30, 6380, "b.test"),
        service(10, 60, 6379, "a.test"),
        service(10, 5, 6379, "a.test"),
        service(20, 9, 6379, "a.test"),
        service(0, 1, 0, "never.test"),
        service(0, 1, 80, "."),
    ];
    let mut expected = vec!["a.test:6379 10 60", "b.test:6380 10 30", "z.test:6379 10 0"];
    expected.push("c.test:6379 20 0");
    assert_eq!(shown(&services(&records).unwrap()), expected);
    let mut turned = records;
    turned.reverse();
    assert_eq!(shown(&services(&turned).unwrap()), expected);
}

#[test]
fn d35_a_root_target_alone_is_an_error_of_its_own_kind() {
    let error = services(&[service(0, 0, 0, ".")]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoService);
    assert_eq!(
        error.to_string(),
        "the service is not available: its SRV record has the target \".\""
    );
}

#[test]
fn d35_records_without_a_port_or_a_target_are_an_error_and_never_a_place() {
    let useless = [service(0, 0, 0, "a.test"), service(1, 0, 80, ".")];
    for records in [&useless[..], &useless[..1], &[]] {
        let error = services(records).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Resolve);
        assert_eq!(
            error.to_string(),
            "none of the SRV records has a target and a port"
        );
    }
}

#[test]
fn d35_a_service_of_thousands_of_records_is_cut_in_the_same_way_each_time() {
    let mut records: Vec<_> = (0..4000)
        .map(|n| service(n % 3, n, 80, &format!("h{n}.test")))
        .collect();
    let places = services(&records).unwrap();
    assert_eq!(places.len(), MAX_PLACES);
    assert!(places.iter().all(|place| place.priority == 0));
    records.rotate_left(1234);
    assert_eq!(services(&records).unwrap(), places);
}

#[test]
fn d34_service_mode_is_tried_by_priority_with_the_host_itself_last() {
    let mut first = binding(1, ".");
    first.port = Some(8443);
    first.hints = ips(&["192.0.2.1"]);
    let records = [
        binding(7, "b.test"),
        first,
        binding(7, "a.test"),
        binding(9, "own.test"),
    ];
    let mut chain = Chain::new("own.test");
    let Step::Done(places) = chain.found(&records, |n| n - 1) else {
        panic!("asks for more");
    };
    let expected = [
        "own.test:8443 0 1",
        "b.test:443 1 1",
        "a.test:443 1 1",
        "own.test:443 2 1",
    ];
    assert_eq!(shown(&places), expected);
    assert_eq!(places[0].hints, ips(&["192.0.2.1"]));
    // The other chance turns the equal ones.
    let other = done(Chain::new("own.test").found(&records, no_chance));
    assert_ne!(other[1..3], expected[1..3]);
    assert_eq!((&*other[0], &*other[3]), (expected[0], expected[3]));
}

#[test]
fn d34_aliases_are_followed_and_what_stands_beside_one_is_ignored() {
    let mut chain = Chain::new("own.test");
    let records = [binding(1, "ignored.test"), binding(0, "a.test")];
    assert_eq!(chain.found(&records, no_chance), Step::Ask);
    assert_eq!(&**chain.name(), "a.test");
    let places = done(chain.found(&[binding(3, ".")], no_chance));
    assert_eq!(places, ["a.test:443 0 1", "own.test:443 2 1"]);
    // Without records of its own, the alias counts all the same.
    assert_eq!(
        done(chain.nothing()),
        ["a.test:443 0 1", "own.test:443 1 1"]
    );
    // Of several aliases one is taken.
    let aliases = [binding(0, "a.test"), binding(0, "b.test")];
    let mut chain = Chain::new("own.test");
    assert_eq!(chain.found(&aliases, |n| n - 1), Step::Ask);
    assert_eq!(&**chain.name(), "b.test");
}

#[test]
fn d34_a_loop_or_a_long_row_of_aliases_ends_with_the_host_itself() {
    let mut chain = Chain::new("own.test");
    assert_eq!(chain.found(&[binding(0, "a.test")], no_chance), Step::Ask);
    let places = done(chain.found(&[binding(0, "own.test")], no_chance));
    assert_eq!(places, ["a.test:443 0 1", "own.test:443 1 1"]);

    let mut chain = Chain::new("n0.test");
    for hop in 1..=MAX_HOPS {
        let alias = [binding(0, &format!("n{hop}.test"))];
        assert_eq!(chain.found(&alias, no_chance), Step::Ask);
    }
    let places = done(chain.found(&[binding(0, "n9.test")], no_chance));
    assert_eq!(places, ["n8.test:443 0 1", "n0.test:443 1 1"]);
}

#[test]
fn d34_records_that_lead_nowhere_over_tcp_leave_the_host_itself() {
    let mut quic = binding(1, "q.test");
    (quic.alpn, quic.no_default_alpn) = (vec!["h3".into(), "h3-29".into()], true);
    let mut no_port = binding(1, "p.test");
    no_port.port = Some(0);
    for records in [&[quic.clone(), no_port][..], &[binding(0, ".")], &[]] {
        let places = done(Chain::new("own.test").found(records, no_chance));
        assert_eq!(places, ["own.test:443 0 1"]);
    }
    // HTTP/1.1 goes without saying, unless it is taken back.
    let mut both = quic.clone();
    both.no_default_alpn = false;
    quic.alpn.push("h2".into());
    for record in [both, quic] {
        let places = done(Chain::new("own.test").found(&[record], no_chance));
        assert_eq!(places, ["q.test:443 0 1", "own.test:443 1 1"]);
    }
}

/// All of them equally good.
fn equal(ips: &[IpAddr]) -> Vec<Ranked> {
    let ranked = |ip: &IpAddr| Ranked { ip: *ip, group: 0 };
    ips.iter().map(ranked).collect()
}

#[test]
fn c7_d35_a_place_has_its_whole_weight_in_each_group_of_its_addresses() {
    let records = [service(1, 60, 80, "a.test"), service(1, 40, 81, "b.test")];
    let places = services(&records).unwrap();
    let a = equal(&ips(&["192.0.2.1"]));
    let mut b = equal(&ips(&["2001:db8::1", "192.0.2.2", "192.0.2.3"]));
    (b[1].group, b[2].group) = (1, 1);
    let found = targets(&places, &[a, b]);
    let shown: Vec<_> = found.iter().map(|it| (it.group, it.weight)).collect();
    assert_eq!(shown, [(0, 120), (0, 80), (1, 40), (1, 40)]);
    assert!(found.iter().all(|it| it.priority == 1));
}

#[test]
fn weights_are_divided_among_the_addresses_of_a_place() {
    let records = [
        service(1, 30, 80, "a.test"),
        service(1, 10, 81, "b.test"),
        service(1, 0, 82, "c.test"),
    ];
    let places = services(&records).unwrap();
    let (a, b, c) = (
        ips(&["192.0.2.1", "::1", "192.0.2.2"]),
        ips(&["192.0.2.4", "192.0.2.5"]),
        ips(&["192.0.2.1"]),
    );
    let found = targets(&places, &[equal(&a), equal(&b), equal(&c)]);
    let weights: Vec<_> = found.iter().map(|target| target.weight).collect();
    assert_eq!(weights, [60, 60, 60, 30, 30, 0]);
    assert_eq!(found[3].address, "192.0.2.4:81".parse().unwrap());
    // An address of two places belongs to the first.
    let found = targets(&places[..2], &[equal(&a[1..]), equal(&a[2..])]);
    let ports: Vec<_> = found.iter().map(|target| target.address.port()).collect();
    assert_eq!(ports, [80, 80, 81]);
    // One address each: as in the records.
    let found = targets(&places, &[equal(&a[..1]), equal(&b[..1]), equal(&[])]);
    let weights: Vec<_> = found.iter().map(|target| target.weight).collect();
    assert_eq!(weights, [30, 10]);
}

#[test]
fn d36_every_place_gives_its_first_addresses_when_there_are_too_many() {
    let records: Vec<_> = (0..32)
        .map(|n| service(n, 0, 80, &format!("h{n:02}.test")))
        .collect();
    let places = services(&records).unwrap();
    let of: Vec<Vec<IpAddr>> = (0..32)
        .map(|n| (0..64).map(|m| IpAddr::from([10, 0, n, m])).collect())
        .collect();
    let of: Vec<_> = of.iter().map(|of| equal(of)).collect();
    let found = targets(&places, &of);
    assert_eq!(found.len(), MAX_ADDRESSES);
    assert!(
        found
            .iter()
            .zip(0..)
            .all(|(target, n)| target.priority == n / 2)
    );
}

fn any_place() -> impl Strategy<Value = (Place, Vec<IpAddr>)> {
    let ip = (0_u8..20).prop_map(|last| IpAddr::from([192, 0, 2, last]));
    let ips = proptest::collection::vec(ip, 0..70);
    (0_u16..3, any::<u16>(), 1_u16..4, ips).prop_map(|(priority, weight, port, ips)| {
        let host = format!("h{port}.test").into();
        let place = Place {
            host,
            port,
            priority,
            weight,
            hints: Vec::new(),
        };
        (place, ips)
    })
}

proptest! {
    #[test]
    fn d35_no_records_lead_to_port_0_or_to_more_than_is_kept(
        records in proptest::collection::vec((0_u16..3, any::<u16>(), 0_u16..3, 0_u8..40), 0..80)
    ) {
        let name = |n| match n { 0 => ".".to_owned(), n => format!("h{n}.test") };
        let records: Vec<_> = records.into_iter().map(|(p, w, port, n)| service(p, w, port, &name(n))).collect();
        let Ok(places) = services(&records) else { return Ok(()) };
        prop_assert!((1..=MAX_PLACES).contains(&places.len()));
        prop_assert!(places.iter().all(|place| place.port != 0));
        prop_assert!(places.is_sorted_by_key(|place| place.priority));
    }

    #[test]
    fn targets_are_few_distinct_and_weighed(
        given in proptest::collection::vec(any_place(), 0..40)
    ) {
        let places: Vec<Place> = given.iter().map(|(place, _)| place.clone()).collect();
        let of: Vec<_> = given.iter().map(|(_, ips)| equal(ips)).collect();
        let found = targets(&places, &of);
        prop_assert!(found.len() <= MAX_ADDRESSES);
        let mut addresses: Vec<_> = found.iter().map(|target| target.address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        prop_assert_eq!(addresses.len(), found.len());
        prop_assert!(found.is_empty() == of.iter().all(Vec::is_empty));
    }
}
