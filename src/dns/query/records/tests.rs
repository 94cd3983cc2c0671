//! SRV answers, and names out of records.

use hickory_proto::op::{Message, OpCode, Query as WireQuery};
use hickory_proto::rr::RecordType;
use hickory_proto::rr::rdata::{CNAME, SRV};

use super::super::tests::query_for;
use super::super::{Sending, parse};
use super::*;
use crate::dns::lookup::Transport;

const SERVICE: &str = "_db._tcp.a.test";

fn name(text: &str) -> Name {
    let labels = text.split('.').filter(|label| !label.is_empty());
    let mut name = Name::from_labels(labels.map(str::as_bytes)).unwrap();
    name.set_fqdn(true);
    name
}

fn srv(priority: u16, weight: u16, port: u16, target: &str) -> Record {
    let data = SRV::new(priority, weight, port, name(target));
    Record::from_rdata(name(SERVICE), 60, RData::SRV(data))
}

fn verdict(records: Vec<Record>) -> Verdict {
    let sending = Sending {
        id: 1,
        edns: false,
        transport: Transport::Tcp,
    };
    let mut message = Message::response(sending.id, OpCode::Query);
    message.add_query(WireQuery::query(name(SERVICE), RecordType::SRV));
    message.add_answers(records);
    let query = query_for(SERVICE, Kind::Srv).unwrap();
    parse(&message.to_vec().unwrap(), &query, sending, false)
}

fn service(priority: u16, weight: u16, port: u16, target: Option<&str>) -> Service {
    let target = target.map(Into::into);
    Service {
        priority,
        weight,
        port,
        target,
    }
}

fn found(services: Vec<Service>) -> Verdict {
    let records = Records::Services(services.into());
    Verdict::Found { records, ttl: 60 }
}

#[test]
fn d35_services_are_sorted_once_each_and_without_what_cannot_be_dialled() {
    let records = vec![
        srv(2, 0, 6380, "B.test"),
        srv(1, 5, 6379, "a.test"),
        srv(1, 5, 6379, "a.test"),
        srv(0, 0, 0, "c.test"),
        srv(0, 0, 1, "127.0.0.1"),
        srv(0, 0, 1, "a b.test"),
    ];
    let expected = vec![
        service(1, 5, 6379, Some("a.test")),
        service(2, 0, 6380, Some("b.test")),
    ];
    assert_eq!(verdict(records), found(expected));
    let nothing = verdict(vec![srv(0, 0, 0, "c.test")]);
    assert_eq!(nothing, Verdict::NoData { ttl: Some(60) });
}

#[test]
fn d35_the_root_says_that_there_is_no_service() {
    let expected = vec![service(0, 0, 0, None)];
    assert_eq!(verdict(vec![srv(0, 0, 0, ".")]), found(expected));
}

#[test]
fn d24_the_alias_of_a_service_is_followed_and_its_ttl_counts() {
    let alias = RData::CNAME(CNAME(name("_db._tcp.b.test")));
    let alias = Record::from_rdata(name(SERVICE), 5, alias);
    let mut there = srv(1, 1, 1, "a.test");
    there.name = name("_db._tcp.b.test");
    let mut stray = srv(1, 1, 2, "evil.test");
    stray.name = name("_db._tcp.evil.test");
    let records = Records::Services(vec![service(1, 1, 1, Some("a.test"))].into());
    let expected = Verdict::Found { records, ttl: 5 };
    assert_eq!(verdict(vec![stray, alias, there]), expected);
}

#[test]
fn d36_no_more_than_64_services_are_kept_the_same_ones_in_any_order() {
    let records: Vec<Record> = (1..=500).map(|n| srv(n, 1, n, "a.test")).collect();
    let turned = records.iter().rev().cloned().collect();
    let expected: Vec<Service> = (1..=64).map(|n| service(n, 1, n, Some("a.test"))).collect();
    assert_eq!(verdict(records), found(expected.clone()));
    assert_eq!(verdict(turned), found(expected));
}

#[test]
fn a_name_out_of_a_record_is_a_host_or_nothing() {
    let table = [
        ("A-b_C.test", Some(Some("a-b_c.test"))),
        (".", Some(None)),
        ("a\0.test", None),
        ("a\n.test", None),
        ("a\\.test", None),
        ("a b.test", None),
        ("ä.test", None),
        ("192.0.2.1", None),
        ("a.0x7f", None),
    ];
    for (text, expected) in table {
        let host = host_name(&name(text));
        let expected = expected.map(|host| host.map(Into::into));
        assert_eq!(host, expected, "{text}");
    }
}

#[test]
fn d36_the_same_64_of_4000_addresses_are_kept_in_any_order() {
    let addresses = || (0..4000u32).map(|n| IpAddr::from((0xc612_0000 + n).to_be_bytes()));
    let kept = keep_some(addresses());
    assert_eq!(kept.len(), MAX_ADDRESSES);
    assert_eq!(keep_some(addresses().rev().chain(addresses())), kept);
    // Few stay as they came.
    let few: Vec<IpAddr> = addresses().rev().take(64).collect();
    assert_eq!(keep_some(few.iter().copied()), few);
}

#[test]
fn d24_the_work_for_aliases_is_bounded() {
    let alias = |n: usize| {
        let to = RData::CNAME(CNAME(name(&format!("n{}.test", n + 1))));
        Record::from_rdata(name(&format!("n{n}.test")), 60, to)
    };
    let start = name("n0.test");
    let chain = |links| (0..links).map(alias).collect::<Vec<_>>();
    let end = name("n16.test");
    assert_eq!(follow(&chain(16), &start), Some((&end, 60)));
    assert_eq!(follow(&chain(17), &start), None);
    // Too many to look at, though none of them matters.
    assert_eq!(
        follow(&chain(MAX_ALIASES), &end).map(|(_, ttl)| ttl),
        Some(60)
    );
    assert_eq!(follow(&chain(MAX_ALIASES + 1), &name("x.test")), None);
}
