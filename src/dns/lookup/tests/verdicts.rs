//! What an answer means for the lookup, and what is none.

use super::*;
use crate::dns::record::Records;

#[test]
fn d8_d9_d11_d13_what_is_no_answer_changes_nothing() {
    let mut world = World::new(ONE);
    let to = world.asked();
    let timeout = world.lookup.poll_timeout();
    let other = |change: &dyn Fn(&mut Message)| {
        response(&to, |message| {
            add_address(message, 60);
            change(message);
        })
    };
    let good = other(&|_| {});
    let mut counts = good.clone();
    counts[6..8].fill(0xff);
    let mut questions = good.clone();
    questions[4..6].fill(0xff);
    let mut loops = good.clone();
    let pointer = loops.len() - 16;
    loops[pointer..pointer + 2].copy_from_slice(&(0xc000 | pointer as u16).to_be_bytes());
    let packets = [
        ("d9 nothing", vec![]),
        ("d9 one byte", vec![1]),
        ("d9 eleven bytes", good[..11].to_vec()),
        ("d8 a query", to.message.to_vec().unwrap()),
        (
            "d8 another name",
            other(&|message| {
                let name = Name::from_ascii("b.test.").unwrap();
                message.queries[0].set_name(name);
            }),
        ),
        (
            "d8 another type",
            other(&|message| {
                message.queries[0].set_query_type(RecordType::AAAA);
            }),
        ),
        (
            "d8 another class",
            other(&|message| {
                message.queries[0].set_query_class(hickory_proto::rr::DNSClass::CH);
            }),
        ),
        ("d11 half of it", good[..good.len() - 3].to_vec()),
        ("d11 a pointer to itself", loops),
        ("d13 65535 answers", counts),
        ("d13 65535 questions", questions),
    ];
    for (what, packet) in packets {
        world.bytes(&to, &packet, false);
        assert!(world.done.is_none(), "{what}");
        assert_eq!((world.sends.len(), world.closed), (1, 0), "{what}");
        assert_eq!(world.lookup.poll_timeout(), timeout, "{what}");
    }
    world.bytes(&to, &good, false);
    assert_eq!(world.found(), 60);
}

#[test]
fn d8_letters_in_another_case_are_a_guess_where_they_were_drawn() {
    let mut config = config(ONE);
    config.randomize_case = true;
    let mut world = World::with(&config, Kind::A, Health::new());
    let to = world.asked();
    let lower = |message: &mut Message| {
        let name = message.queries[0].name().to_lowercase();
        message.queries[0].set_name(name);
        add_address(message, 60);
    };
    world.reply(&to, lower);
    assert!(world.done.is_none(), "accepted");
    let over_tcp = world.asked();
    assert_eq!(over_tcp.transport, Transport::Tcp);
    world.reply(&over_tcp, lower);
    assert_eq!(world.found(), 60);
}

#[test]
fn d10_a_bare_header_is_a_reason_to_go_on_and_never_an_answer() {
    for code in [2u8, 5] {
        let mut world = World::new(TWO);
        let to = world.asked();
        let mut header = response(&to, |_| {})[..12].to_vec();
        header[3] = header[3] & 0xf0 | code;
        header[4..].fill(0);
        world.bytes(&to, &header, false);
        assert!(world.done.is_none());
        assert_eq!(world.asked().server.to_string(), SECOND);
        assert_eq!(world.now, Tick::ZERO);
    }
    for code in [0u8, 3] {
        let mut world = World::new(TWO);
        let to = world.asked();
        let mut header = response(&to, |_| {})[..12].to_vec();
        header[3] = header[3] & 0xf0 | code;
        header[4..].fill(0);
        world.bytes(&to, &header, false);
        assert!(world.done.is_none());
        assert_eq!(world.asked().query, to.query);
    }
}

#[test]
fn d18_a_server_that_refuses_edns_is_asked_plainly_and_that_is_remembered() {
    let codes = [
        ResponseCode::FormErr,
        ResponseCode::NotImp,
        ResponseCode::BADVERS,
    ];
    for code in codes {
        let mut world = World::new(TWO);
        let to = world.asked();
        assert!(to.message.edns.is_some());
        world.reply(&to, |message| {
            if code == ResponseCode::BADVERS {
                message.set_edns(hickory_proto::op::Edns::new());
            }
            message.metadata.response_code = code;
        });
        let plain = world.asked();
        assert_eq!(plain.server.to_string(), FIRST);
        assert!(plain.message.edns.is_none());
        world.answer(60);
        assert_eq!(world.found(), 60);
        // That server, for a while; the other one never.
        let mut next = World::with(&config(TWO), Kind::A, world.health);
        assert!(next.asked().message.edns.is_none());
        next.wait();
        assert_eq!(next.asked().server.to_string(), SECOND);
        assert!(next.asked().message.edns.is_some());
        let later = at_millis(15 * 60 * 1000);
        let deadline = later.plus(Duration::from_secs(5));
        let question = question(Kind::A);
        let mut health = next.health;
        health.answered(&config(TWO).servers, FIRST.parse().unwrap(), None);
        let lookup = Lookup::new(later, &question, &config(TWO), &health, deadline, 1);
        assert!(
            World::of(lookup.unwrap(), health)
                .asked()
                .message
                .edns
                .is_some()
        );
    }
}

#[test]
fn d18_a_server_that_refuses_plain_questions_too_is_not_asked_for_ever_nor_remembered() {
    let mut world = World::new(ONE);
    world.code(ResponseCode::FormErr);
    world.code(ResponseCode::FormErr);
    assert_eq!(
        world.error(),
        "server refused (FORMERR from 192.0.2.1:53), resolving a.test"
    );
    assert_eq!(world.sends.len(), 2);
    let next = World::with(&config(ONE), Kind::A, world.health);
    assert!(next.asked().message.edns.is_some());
}

#[test]
fn d18_an_answer_to_a_question_with_edns_takes_it_from_nobody() {
    let mut world = World::new(ONE);
    world.answer(60);
    let next = World::with(&config(ONE), Kind::A, world.health);
    assert!(next.asked().message.edns.is_some());
}

#[test]
fn d21_no_data_of_one_type_is_not_the_absence_of_the_name() {
    for kind in [Kind::A, Kind::Aaaa] {
        let mut world = World::with(&config(TWO), kind, Health::new());
        let to = world.asked();
        world.reply(&to, |message| add_soa(message, 60));
        match &world.done {
            Some(Answer::NoData {
                ttl: Some(ttl),
                server,
            }) => {
                assert_eq!(ttl.as_secs(), 60);
                assert_eq!(server.to_string(), FIRST);
            }
            done => panic!("{done:?}"),
        }
    }
}

#[test]
fn d22_absence_without_a_soa_must_not_be_kept_and_no_ttl_overflows() {
    let absent = |ttl: Option<u32>| {
        let mut world = World::new(ONE);
        let to = world.asked();
        world.reply(&to, |message| {
            message.metadata.response_code = ResponseCode::NXDomain;
            if let Some(ttl) = ttl {
                add_soa(message, ttl);
            }
        });
        match world.done {
            Some(Answer::NxDomain { ttl, .. }) => ttl.map(|ttl| ttl.as_secs()),
            done => panic!("{done:?}"),
        }
    };
    assert_eq!(absent(None), None);
    assert_eq!(absent(Some(60)), Some(60));
    assert_eq!(absent(Some(u32::MAX)), Some(u64::from(u32::MAX)));
}

#[test]
fn d23_a_ttl_of_zero_stays_zero() {
    let mut world = World::new(ONE);
    world.answer(0);
    assert_eq!(world.found(), 0);
}

#[test]
fn d24_a_chain_without_an_end_leads_to_the_next_server_and_then_to_an_error() {
    let mut world = World::new(TWO);
    for _ in 0..2 {
        let to = world.asked();
        world.reply(&to, |message| {
            let owner = message.queries[0].name().clone();
            let itself = RData::CNAME(hickory_proto::rr::rdata::CNAME(owner.clone()));
            message.add_answer(Record::from_rdata(owner, 60, itself));
        });
    }
    assert_eq!(
        world.error(),
        "server refused (a chain of aliases without an end from 192.0.2.2:53), after server \
         refused (a chain of aliases without an end from 192.0.2.1:53), resolving a.test"
    );
}

#[test]
fn d28_silence_for_one_family_does_not_touch_the_other() {
    let config = config(ONE);
    let mut v6 = World::with(&config, Kind::Aaaa, Health::new());
    let mut v4 = World::with(&config, Kind::A, Health::new());
    v4.answer(60);
    assert_eq!((v4.found(), v4.now), (60, Tick::ZERO));
    assert!(v6.done.is_none());
    v6.wait_for_the_end();
    assert!(
        matches!(v6.done, Some(Answer::Failed(_))),
        "silence is not absence"
    );
}

#[test]
fn d29_answers_exchanged_between_the_families_are_dropped_though_their_ids_are_the_same() {
    let config = config(ONE);
    let mut v6 = World::with(&config, Kind::Aaaa, Health::new());
    let mut v4 = World::with(&config, Kind::A, Health::new());
    let (to_v6, to_v4) = (v6.asked(), v4.asked());
    assert_eq!(to_v6.message.metadata.id, to_v4.message.metadata.id);
    let for_v6 = response(&to_v6, |message| add_address(message, 60));
    let for_v4 = response(&to_v4, |message| add_address(message, 60));
    v6.bytes(&to_v6, &for_v4, false);
    v4.bytes(&to_v4, &for_v6, false);
    assert!(v6.done.is_none() && v4.done.is_none(), "assigned crosswise");
    v6.bytes(&to_v6, &for_v6, false);
    v4.bytes(&to_v4, &for_v4, false);
    assert_eq!(v4.found(), 60);
    assert!(matches!(
        v6.done,
        Some(Answer::Found { records: Records::Addresses(a), .. }) if a[0].is_ipv6()
    ));
}

#[test]
fn d34_a_malformed_https_record_says_that_there_is_none() {
    let mut world = World::with(&config(ONE), Kind::Https, Health::new());
    let to = world.asked();
    let mut bytes = response(&to, |_| {});
    bytes[7] = 1;
    // Priority 1, the root, and half a parameter.
    bytes.extend([0xc0, 12, 0, 65, 0, 1, 0, 0, 0, 60, 0, 5, 0, 1, 0, 0, 1]);
    world.bytes(&to, &bytes, false);
    assert!(matches!(world.done, Some(Answer::NoData { ttl: None, .. })));
}

#[test]
fn each_kind_is_asked_for_by_its_type_and_named_in_errors() {
    let table = [
        (Kind::A, RecordType::A, "resolving a.test"),
        (Kind::Aaaa, RecordType::AAAA, "resolving a.test"),
        (Kind::Srv, RecordType::SRV, "resolving SRV of a.test"),
        (Kind::Https, RecordType::HTTPS, "resolving HTTPS of a.test"),
    ];
    for (kind, wire, text) in table {
        let mut world = World::with(&config(ONE), kind, Health::new());
        assert_eq!(world.asked().message.queries[0].query_type(), wire);
        world.code(ResponseCode::Refused);
        assert!(world.error().ends_with(text), "{}", world.error());
    }
}

#[test]
fn ad_is_asked_for_only_if_trusted_and_changes_no_answer() {
    for trusted in [false, true] {
        let mut config = config(ONE);
        config.trust_ad = trusted;
        let mut world = World::with(&config, Kind::A, Health::new());
        let to = world.asked();
        assert_eq!(to.message.metadata.authentic_data, trusted);
        world.reply(&to, |message| {
            message.metadata.authentic_data = true;
            add_address(message, 60);
        });
        assert_eq!(world.found(), 60);
    }
}
