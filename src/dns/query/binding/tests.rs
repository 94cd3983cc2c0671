//! HTTPS answers, with records that no zone should hold.

use std::net::IpAddr;

use super::super::tests::query_for;
use super::super::{Sending, Verdict, parse};
use crate::dns::lookup::Transport;
use crate::dns::record::{Binding, Kind, Records};

/// The answer to a query for `a.test` with an HTTPS record for each of `data`.
fn verdict(data: &[Vec<u8>]) -> Verdict {
    let query = query_for("a.test", Kind::Https).unwrap();
    let sending = Sending {
        id: 7,
        edns: false,
        transport: Transport::Udp,
    };
    let mut bytes = query.encode(sending);
    bytes[2] |= 0x80;
    bytes[7] = data.len() as u8;
    for data in data {
        bytes.extend([0xc0, 12, 0, 65, 0, 1, 0, 0, 0, 60]);
        bytes.extend((data.len() as u16).to_be_bytes());
        bytes.extend(data);
    }
    parse(&bytes, &query, sending, false)
}

/// The data of a record.
fn data(priority: u16, target: &[u8], params: &[(u16, &[u8])]) -> Vec<u8> {
    let mut data = priority.to_be_bytes().to_vec();
    data.extend(target);
    for (key, value) in params {
        data.extend(key.to_be_bytes());
        data.extend((value.len() as u16).to_be_bytes());
        data.extend(*value);
    }
    data
}

fn found(data: &[Vec<u8>]) -> Vec<Binding> {
    match verdict(data) {
        Verdict::Found {
            records: Records::Bindings(bindings),
            ttl: 60,
        } => bindings.to_vec(),
        verdict => panic!("{verdict:?}"),
    }
}

const ROOT: &[u8] = b"\0";
const B: &[u8] = b"\x01B\x04test\0";

#[test]
fn the_parameters_of_service_mode_are_read() {
    let params: [(u16, &[u8]); 6] = [
        (0, &[0, 1, 0, 3]),
        (1, b"\x02h2\x08http/1.1"),
        (2, b""),
        (3, &[0x20, 0xfb]),
        (4, &[192, 0, 2, 1, 0, 0, 0, 0]),
        (6, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
    ];
    let binding = Binding {
        priority: 1,
        target: Some("b.test".into()),
        port: Some(8443),
        alpn: vec!["h2".into(), "http/1.1".into()],
        no_default_alpn: true,
        hints: vec![IpAddr::from([192, 0, 2, 1]), "2001:db8::1".parse().unwrap()],
    };
    assert_eq!(found(&[data(1, B, &params)]), [binding]);
}

#[test]
fn an_alias_has_a_target_and_nothing_else() {
    let alias = |target| Binding {
        priority: 0,
        target,
        port: None,
        alpn: vec![],
        no_default_alpn: false,
        hints: vec![],
    };
    let name = Some("b.test".into());
    assert_eq!(found(&[data(0, B, &[(3, &[0, 0])])]), [alias(name)]);
    assert_eq!(found(&[data(0, ROOT, &[])]), [alias(None)]);
}

#[test]
fn d34_a_record_that_is_not_for_us_is_left_out_and_the_others_stay() {
    let good = || data(2, ROOT, &[]);
    let others: &[(&str, Vec<u8>)] = &[
        (
            "unknown mandatory key",
            data(1, B, &[(0, &[0, 99]), (99, b"x")]),
        ),
        ("mandatory ECH", data(1, B, &[(0, &[0, 5]), (5, &[0, 0])])),
        ("port 0", data(1, B, &[(3, &[0, 0])])),
        ("a target that is no host", data(1, b"\x03a b\0", &[])),
        (
            "a target that is an address",
            data(1, b"\x03127\x010\x010\x011\0", &[]),
        ),
        ("no alpn left", data(1, B, &[(2, b"")])),
        ("alpn with a line break", data(1, B, &[(1, b"\x02h\n")])),
    ];
    for (what, other) in others {
        let bindings = found(&[other.clone(), good()]);
        assert_eq!(bindings.len(), 1, "{what}");
        assert_eq!(bindings[0].priority, 2, "{what}");
        let alone = verdict(std::slice::from_ref(other));
        assert_eq!(alone, Verdict::NoData { ttl: Some(60) }, "{what}");
    }
}

#[test]
fn d34_one_malformed_record_drops_the_whole_set_and_never_fails_the_host() {
    let good = || data(2, ROOT, &[]);
    let malformed: &[(&str, Vec<u8>)] = &[
        (
            "keys out of order",
            data(1, B, &[(3, &[1, 0]), (1, b"\x02h2")]),
        ),
        ("a key twice", data(1, B, &[(3, &[1, 0]), (3, &[1, 0])])),
        ("mandatory without keys", data(1, B, &[(0, b"")])),
        (
            "mandatory key that is not there",
            data(1, B, &[(0, &[0, 3])]),
        ),
        ("mandatory lists itself", data(1, B, &[(0, &[0, 0])])),
        ("mandatory of half a key", data(1, B, &[(0, &[0])])),
        ("a port of one byte", data(1, B, &[(3, &[1])])),
        ("a port of three bytes", data(1, B, &[(3, &[1, 2, 3])])),
        ("alpn without protocols", data(1, B, &[(1, b"")])),
        ("alpn beyond its end", data(1, B, &[(1, b"\x09h2")])),
        ("alpn of no bytes", data(1, B, &[(1, b"\x00")])),
        (
            "no-default-alpn with a value",
            data(1, B, &[(1, b"\x02h2"), (2, b"x")]),
        ),
        ("no IPv4 hint", data(1, B, &[(4, b"")])),
        ("half an IPv4 hint", data(1, B, &[(4, &[192, 0])])),
        ("no IPv6 hint", data(1, B, &[(6, b"")])),
        ("half an IPv6 hint", data(1, B, &[(6, &[0x20, 1])])),
        (
            "half a parameter",
            [data(1, B, &[]), vec![0, 3, 0]].concat(),
        ),
        (
            "a value past the end",
            [data(1, B, &[]), vec![0, 3, 0, 9]].concat(),
        ),
    ];
    for (what, bad) in malformed {
        for set in [
            vec![bad.clone()],
            vec![good(), bad.clone()],
            vec![bad.clone(), good()],
        ] {
            assert!(matches!(verdict(&set), Verdict::NoData { .. }), "{what}");
        }
    }
}

#[test]
fn d36_no_more_than_64_records_are_kept_the_first_by_priority() {
    let records: Vec<Vec<u8>> = (1..=200).rev().map(|n| data(n, ROOT, &[])).collect();
    let priorities: Vec<u16> = found(&records).iter().map(|it| it.priority).collect();
    assert_eq!(priorities, (1..=64).collect::<Vec<u16>>());
}

#[test]
fn d36_the_same_64_records_are_kept_whatever_their_order() {
    let port = |n: u16| data(1, B, &[(3, &n.to_be_bytes())]);
    let mut records: Vec<Vec<u8>> = (1..=100).map(port).collect();
    let ports = |records: &[Vec<u8>]| {
        let found = found(records).into_iter().filter_map(|it| it.port);
        found.collect::<std::collections::BTreeSet<u16>>()
    };
    let kept = ports(&records);
    assert_eq!(kept.len(), 64);
    records.reverse();
    assert_eq!(ports(&records), kept);
}

#[test]
fn d34_a_bent_port_counts_in_service_mode_alone() {
    let bent: &[(u16, &[u8])] = &[(3, &[1, 2, 3])];
    assert_eq!(verdict(&[data(1, B, bent)]), Verdict::NoData { ttl: None });
    assert_eq!(found(&[data(0, B, bent)]), found(&[data(0, B, &[])]));
}
