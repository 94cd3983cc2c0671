//! Packets made by hand, good and bad, against the validation.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as WireQuery};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, SOA};
use hickory_proto::rr::{RData, Record};

use super::records::is_usable;
use super::*;
use crate::dns::MAX_ADDRESSES;
use crate::policy::Rng;

mod bomb;
mod chance;
mod oracle;
mod owners;

const ID: u16 = 0x1234;

/// The query for `host`, without chance.
pub(in crate::dns) fn query_for(host: &str, kind: Kind) -> Result<Query> {
    let name = host.into();
    Query::new(&Question { name, kind }, None, false)
}

fn query(kind: Kind) -> Query {
    query_for(WWW, kind).unwrap()
}

fn sending(edns: bool) -> Sending {
    Sending {
        id: ID,
        edns,
        transport: Transport::Udp,
    }
}

fn over_tcp() -> Sending {
    Sending {
        transport: Transport::Tcp,
        ..sending(true)
    }
}

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    name
}

fn a(owner: &str, ttl: u32, last: u8) -> Record {
    let data = RData::A(A(Ipv4Addr::new(192, 0, 2, last)));
    Record::from_rdata(name(owner), ttl, data)
}

fn alias(owner: &str, ttl: u32, to: &str) -> Record {
    Record::from_rdata(name(owner), ttl, RData::CNAME(CNAME(name(to))))
}

fn soa(ttl: u32, minimum: u32) -> Record {
    let data = SOA::new(name("ns.test"), name("admin.test"), 1, 2, 3, 4, minimum);
    Record::from_rdata(name("test"), ttl, RData::SOA(data))
}

fn response(answers: Vec<Record>) -> Message {
    let mut message = Message::response(ID, OpCode::Query);
    message.add_query(WireQuery::query(name("www.example.test"), RecordType::A));
    message.add_answers(answers);
    message
}

fn verdict_of(bytes: &[u8]) -> Verdict {
    parse(bytes, &query(Kind::A), sending(true), false)
}

fn verdict(message: &Message) -> Verdict {
    verdict_of(&message.to_vec().unwrap())
}

fn answer(last: &[u8], ttl: u32) -> Verdict {
    let addresses = last.iter().map(|&last| IpAddr::from([192, 0, 2, last]));
    let records = Records::Addresses(addresses.collect());
    Verdict::Found { records, ttl }
}

const WWW: &str = "www.example.test";

#[test]
fn a_query_asks_one_question_with_edns_and_recursion() {
    let kinds = [Kind::A, Kind::Aaaa, Kind::Srv, Kind::Https];
    for kind in kinds {
        let query = query(kind);
        let bytes = query.encode(sending(true));
        let message = Message::from_vec(&bytes).unwrap();
        assert_eq!(message.metadata.id, ID);
        assert_eq!(message.metadata.message_type, MessageType::Query);
        assert_eq!(message.metadata.op_code, OpCode::Query);
        assert!(message.metadata.recursion_desired && !message.metadata.authentic_data);
        assert_eq!(message.queries.len(), 1);
        assert_eq!(message.queries[0].query_type(), record_type(kind));
        assert_eq!(message.queries[0].query_class(), DNSClass::IN);
        let edns = message.edns.as_ref().unwrap();
        assert_eq!((edns.max_payload(), edns.version()), (1232, 0));
        assert_eq!(message.to_vec().unwrap(), bytes);
        assert_eq!(query.repeated_in(&bytes), Repeated::Exactly);
        let plain = query.encode(sending(false));
        assert!(Message::from_vec(&plain).unwrap().edns.is_none());
        let framed = query.encode(over_tcp());
        assert_eq!(framed[..2], (bytes.len() as u16).to_be_bytes());
        assert_eq!(framed[2..], bytes);
    }
}

#[test]
fn a_query_asks_for_ad_only_where_it_is_trusted() {
    let name = WWW.into();
    let query = Query::new(
        &Question {
            name,
            kind: Kind::A,
        },
        None,
        true,
    )
    .unwrap();
    let message = Message::from_vec(&query.encode(sending(true))).unwrap();
    assert!(message.metadata.authentic_data);
}

#[test]
fn d8_letters_that_were_drawn_must_come_back_but_not_over_tcp() {
    let draw = |seed| {
        let name = WWW.into();
        let question = Question {
            name,
            kind: Kind::A,
        };
        Query::new(&question, Some(&mut Rng::new(seed)), false).unwrap()
    };
    let (drawn, other) = (draw(1), draw(2));
    assert_ne!(drawn.wire, other.wire);
    assert_ne!(drawn.wire, query(Kind::A).wire);
    let respond = |to: &Query| {
        let mut message = Message::from_vec(&to.encode(sending(false))).unwrap();
        message.metadata.message_type = MessageType::Response;
        message.add_answer(a(WWW, 60, 1));
        message.to_vec().unwrap()
    };
    let (right, wrong) = (respond(&drawn), respond(&other));
    assert_eq!(
        parse(&right, &drawn, sending(true), false),
        answer(&[1], 60)
    );
    assert_eq!(
        parse(&wrong, &drawn, sending(true), false),
        Verdict::Foreign
    );
    assert_eq!(parse(&wrong, &drawn, over_tcp(), false), answer(&[1], 60));
}

#[test]
fn a_host_that_no_packet_can_carry_is_refused() {
    let long = "a.".repeat(128);
    let label = "a".repeat(64);
    for host in [
        "", ".", "a..b", ".a", "a b", "a\\.b", "a\0b", "ä.test", &long, &label,
    ] {
        let error = query_for(host, Kind::A).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{host:?}");
    }
    for host in ["a", "a.", "_srv.a-b.test", &"a".repeat(63)] {
        query_for(host, Kind::A).unwrap();
    }
}

#[test]
fn d22_d24_answers_of_every_shape() {
    let nodata = |ttl| Verdict::NoData { ttl };
    let table = [
        ("one", vec![a(WWW, 60, 1)], answer(&[1], 60)),
        (
            "least ttl",
            vec![a(WWW, 60, 1), a(WWW, 7, 2)],
            answer(&[1, 2], 7),
        ),
        (
            "doubled",
            vec![a(WWW, 60, 1), a(WWW, 60, 1)],
            answer(&[1], 60),
        ),
        (
            "other case",
            vec![a("WWW.Example.TEST", 60, 1)],
            answer(&[1], 60),
        ),
        (
            "chain",
            vec![
                alias(WWW, 50, "b.test"),
                alias("b.test", 20, "c.test"),
                a("c.test", 90, 3),
            ],
            answer(&[3], 20),
        ),
        (
            "d24 chain in reverse order",
            vec![
                a("c.test", 90, 3),
                alias("b.test", 20, "c.test"),
                alias(WWW, 50, "b.test"),
            ],
            answer(&[3], 20),
        ),
        (
            "d24 stray owner",
            vec![
                a("evil.test", 60, 6),
                a(WWW, 60, 1),
                a("example.test", 60, 7),
            ],
            answer(&[1], 60),
        ),
        ("d24 only strays", vec![a("evil.test", 60, 6)], nodata(None)),
        (
            "d24 chain beside the address",
            vec![alias(WWW, 50, "b.test"), a("c.test", 9, 3)],
            nodata(None),
        ),
        (
            "d22 high bit of the ttl",
            vec![a(WWW, u32::MAX, 1)],
            answer(&[1], u32::MAX),
        ),
        ("d23 ttl zero", vec![a(WWW, 0, 1)], answer(&[1], 0)),
    ];
    for (what, records, expected) in table {
        assert_eq!(verdict(&response(records)), expected, "{what}");
    }
}

#[test]
fn d20_d21_a_referral_is_a_refusal_and_no_absence() {
    let server = RData::NS(NS(name("ns.test")));
    let mut message = response(vec![]);
    message.add_authority(Record::from_rdata(name("test"), 60, server));
    let referral = Verdict::Refused("a referral");
    assert_eq!(verdict(&message), referral);
    let mut chained = message.clone();
    chained.add_answer(alias(WWW, 60, "b.test"));
    assert_eq!(verdict(&chained), referral);
    let nodata = |ttl| Verdict::NoData { ttl };
    // Who knows the zone, asks for others or names the zone's SOA has answered.
    let mut own = message.clone();
    own.metadata.authoritative = true;
    assert_eq!(verdict(&own), nodata(None));
    let mut asked = message.clone();
    asked.metadata.recursion_available = true;
    assert_eq!(verdict(&asked), nodata(None));
    let mut closed = message.clone();
    closed.add_authority(soa(60, 30));
    assert_eq!(verdict(&closed), nodata(Some(30)));
    let mut absent = message.clone();
    absent.metadata.response_code = ResponseCode::NXDomain;
    assert_eq!(verdict(&absent), Verdict::NxDomain { ttl: None });
    message.add_answer(a(WWW, 60, 1));
    assert_eq!(verdict(&message), answer(&[1], 60));
}

#[test]
fn records_of_another_type_or_class_are_not_used() {
    let mut foreign = a(WWW, 60, 1);
    foreign.dns_class = DNSClass::CH;
    let v6 = Record::from_rdata(name(WWW), 60, RData::AAAA(AAAA(Ipv6Addr::LOCALHOST)));
    let message = response(vec![foreign, v6]);
    assert_eq!(verdict(&message), Verdict::NoData { ttl: None });
    let mut elsewhere = response(vec![]);
    elsewhere.add_authority(a(WWW, 60, 1));
    elsewhere.add_additional(a(WWW, 60, 1));
    assert_eq!(verdict(&elsewhere), Verdict::NoData { ttl: None });
}

#[test]
fn d33_addresses_that_mean_nobody_or_everybody_are_dropped() {
    let bad = [[0, 0, 0, 0], [224, 0, 0, 1], [255, 255, 255, 255]];
    let record = |octets: [u8; 4]| Record::from_rdata(name(WWW), 60, RData::A(A(octets.into())));
    let mut records: Vec<Record> = bad.into_iter().map(record).collect();
    assert_eq!(
        verdict(&response(records.clone())),
        Verdict::NoData { ttl: Some(60) }
    );
    records.push(a(WWW, 60, 1));
    assert_eq!(verdict(&response(records)), answer(&[1], 60));
    for text in ["::", "ff02::1", "::ffff:0.0.0.0", "::ffff:224.0.0.1"] {
        assert!(!is_usable(text.parse().unwrap()), "{text}");
    }
}

#[test]
fn d36_s17_the_same_64_addresses_are_kept_whatever_their_order() {
    let records: Vec<Record> = (0..100).map(|last| a(WWW, 60, last)).collect();
    let turned: Vec<Record> = records.iter().rev().cloned().collect();
    let found = verdict(&response(records));
    let Verdict::Found {
        records: Records::Addresses(addresses),
        ..
    } = &found
    else {
        panic!("no answer");
    };
    assert_eq!(addresses.len(), MAX_ADDRESSES);
    assert_eq!(verdict(&response(turned)), found);
}

#[test]
fn d21_d22_absence_is_kept_as_long_as_the_zone_says() {
    let mut elsewhere = soa(5, 60);
    elsewhere.name = name("other.test");
    for (code, of_name) in [
        (ResponseCode::NoError, false),
        (ResponseCode::NXDomain, true),
    ] {
        let mut message = response(vec![]);
        message.metadata.response_code = code;
        for (record, expected) in [
            (None, None),
            (Some(soa(300, 60)), Some(60)),
            (Some(soa(5, 60)), Some(5)),
            (Some(elsewhere.clone()), None),
            (Some(soa(u32::MAX, u32::MAX)), Some(u32::MAX)),
        ] {
            message.authorities = record.into_iter().collect();
            let verdict = verdict(&message);
            let ttl = expected;
            match of_name {
                true => assert_eq!(verdict, Verdict::NxDomain { ttl }),
                false => assert_eq!(verdict, Verdict::NoData { ttl }),
            }
        }
    }
}

#[test]
fn d8_s1_what_does_not_repeat_the_query_is_ignored() {
    let good = response(vec![a(WWW, 60, 1)]);
    let change = |change: &dyn Fn(&mut Message)| {
        let mut message = good.clone();
        change(&mut message);
        message.to_vec().unwrap()
    };
    let ask = |text: &str, kind, class| {
        let mut query = WireQuery::query(name(text), kind);
        query.set_query_class(class);
        change(&move |message: &mut Message| message.queries = vec![query.clone()])
    };
    let twice = change(&|message| {
        let query = message.queries[0].clone();
        message.add_query(query);
    });
    let table = [
        (
            "a query",
            change(&|message| message.metadata.message_type = MessageType::Query),
        ),
        (
            "another opcode",
            change(&|message| message.metadata.op_code = OpCode::Status),
        ),
        (
            "another name",
            ask("wwx.example.test", RecordType::A, DNSClass::IN),
        ),
        (
            "a longer name",
            ask("www.example.test.x", RecordType::A, DNSClass::IN),
        ),
        (
            "a shorter name",
            ask("www.example", RecordType::A, DNSClass::IN),
        ),
        ("another type", ask(WWW, RecordType::AAAA, DNSClass::IN)),
        ("another class", ask(WWW, RecordType::A, DNSClass::CH)),
        ("d9 nothing", vec![]),
        ("d9 half a header", good.to_vec().unwrap()[..11].to_vec()),
    ];
    for (what, bytes) in table {
        for sending in [sending(true), over_tcp()] {
            let verdict = parse(&bytes, &query(Kind::A), sending, false);
            assert!(matches!(verdict, Verdict::Ignore(_)), "{what}");
        }
    }
    let other_id = change(&|message| message.metadata.id = ID + 1);
    assert_eq!(verdict_of(&other_id), Verdict::Foreign);
    for bytes in [twice, change(&|message| message.queries.clear())] {
        assert!(matches!(verdict_of(&bytes), Verdict::Malformed(_)));
    }
    let shouted = ask("WWW.EXAMPLE.TEST", RecordType::A, DNSClass::IN);
    assert_eq!(verdict_of(&shouted), answer(&[1], 60));
}

#[test]
fn d10_d18_d20_codes_send_to_the_next_server_or_to_plain_dns() {
    let next = Verdict::Refused;
    let table = [
        (ResponseCode::FormErr, Verdict::RetryPlain, next("FORMERR")),
        (ResponseCode::NotImp, Verdict::RetryPlain, next("NOTIMP")),
        (ResponseCode::ServFail, next("SERVFAIL"), next("SERVFAIL")),
        (ResponseCode::Refused, next("REFUSED"), next("REFUSED")),
    ];
    for (code, with_edns, without) in table {
        let mut message = response(vec![a(WWW, 60, 1)]);
        message.metadata.response_code = code;
        let whole = message.to_vec().unwrap();
        let mut header = whole[..HEADER_LEN].to_vec();
        header[4..].fill(0);
        for bytes in [whole, header] {
            let parse = |edns| parse(&bytes, &query(Kind::A), sending(edns), false);
            assert_eq!(
                (parse(true), parse(false)),
                (with_edns.clone(), without.clone())
            );
        }
    }
    let mut message = response(vec![]);
    message.set_edns(Edns::new());
    message.metadata.response_code = ResponseCode::BADVERS;
    assert_eq!(verdict(&message), Verdict::RetryPlain);
}

#[test]
fn d14_d19_s1_a_cut_answer_is_never_an_answer() {
    let mut message = response(vec![a(WWW, 60, 1)]);
    let whole = message.to_vec().unwrap();
    assert_eq!(
        parse(&whole, &query(Kind::A), sending(true), true),
        Verdict::Truncated
    );
    message.metadata.truncation = true;
    assert_eq!(verdict(&message), Verdict::Truncated);
    // Whole, and larger than any that was asked for.
    let large = response((0..=255).map(|last| a(WWW, 60, last)).collect());
    let large = large.to_vec().unwrap();
    assert!(large.len() > MAX_DATAGRAM);
    assert_eq!(verdict_of(&large), Verdict::Truncated);
    let over_tcp = parse(&large, &query(Kind::A), over_tcp(), false);
    assert!(matches!(over_tcp, Verdict::Found { .. }));
}

#[test]
fn d9_d11_no_prefix_of_an_answer_is_an_answer() {
    let mut message = response(vec![alias(WWW, 50, "b.test"), a("b.test", 60, 1)]);
    message.add_authority(soa(1, 1));
    message.set_edns(Edns::new());
    let whole = message.to_vec().unwrap();
    assert_eq!(verdict_of(&whole), answer(&[1], 50));
    for len in 0..whole.len() {
        assert!(
            matches!(
                verdict_of(&whole[..len]),
                Verdict::Ignore(_) | Verdict::Malformed(_)
            ),
            "{len}"
        );
    }
    // Bytes after the last record are not part of the message.
    assert_eq!(
        verdict_of(&[&whole[..], b"more"].concat()),
        answer(&[1], 50)
    );
}

#[test]
fn d12_s1_a_pointer_bomb_is_ignored() {
    let mut bomb = response(vec![]).to_vec().unwrap();
    let mut last = HEADER_LEN;
    for _ in 0..200u16 {
        let at = bomb.len();
        bomb.extend((0xc000 | last as u16).to_be_bytes());
        bomb.extend([0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
        last = at;
    }
    bomb[6..8].copy_from_slice(&200u16.to_be_bytes());
    assert!(matches!(verdict_of(&bomb), Verdict::Malformed(_)));
}
