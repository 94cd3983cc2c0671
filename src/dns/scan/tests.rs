//! Packets that are bent, and what walking them costs.

use proptest::prelude::*;

use super::*;

/// A response header with one question and `answers` answers, then the question `a.`.
fn packet(answers: u16, rest: &[u8]) -> Vec<u8> {
    let mut packet = vec![0, 1, 0x80, 0, 0, 1];
    packet.extend(answers.to_be_bytes());
    packet.extend([0; 4]);
    packet.extend([1, b'a', 0, 0, 1, 0, 1]);
    packet.extend(rest);
    packet
}

/// A record of `kind` without TTL.
fn record(name: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
    let mut record = name.to_vec();
    record.extend(kind.to_be_bytes());
    record.extend([0, 1, 0, 0, 0, 0]);
    record.extend((data.len() as u16).to_be_bytes());
    record.extend(data);
    record
}

fn pointer(to: usize) -> [u8; 2] {
    (0xc000 | to as u16).to_be_bytes()
}

#[test]
fn d11_a_malformed_packet_is_refused_for_what_is_wrong_with_it() {
    let here = packet(0, &[]).len();
    let long_name = [&[63; 64][..]; 4].concat();
    let table = [
        ("fine", packet(1, &record(&pointer(12), 1, &[1; 4])), None),
        ("empty", vec![], Some(Refusal::TooShort)),
        ("half a header", vec![0; 11], Some(Refusal::TooShort)),
        ("no question", vec![0; 12], Some(Refusal::Questions)),
        ("too long", vec![0; MAX_LEN + 1], Some(Refusal::TooLong)),
        ("d13 counts", packet(65535, &[]), Some(Refusal::Counts)),
        ("one missing", packet(1, &[]), Some(Refusal::Cut)),
        (
            "self pointer",
            packet(1, &record(&pointer(here), 1, &[])),
            Some(Refusal::Name),
        ),
        (
            "forward pointer",
            packet(1, &record(&pointer(here + 2), 1, &[])),
            Some(Refusal::Name),
        ),
        (
            "label kind 01",
            packet(1, &record(&[0x40, 0], 1, &[0; 9])),
            Some(Refusal::Name),
        ),
        (
            "label kind 10",
            packet(1, &record(&[0x80, 0], 1, &[0; 9])),
            Some(Refusal::Name),
        ),
        (
            "name of 256",
            packet(1, &record(&long_name, 1, &[])),
            Some(Refusal::Name),
        ),
        (
            "label past the end",
            packet(1, &[63; 20]),
            Some(Refusal::Cut),
        ),
        (
            "data past the end",
            packet(1, &[0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 9]),
            Some(Refusal::Cut),
        ),
        (
            "name past its data",
            packet(1, &[&record(&[0], 5, &[1])[..], b"a\0"].concat()),
            Some(Refusal::Cut),
        ),
        (
            "cname without data",
            packet(1, &record(&[0], 5, &[])),
            Some(Refusal::Cut),
        ),
    ];
    for (what, bytes, expected) in table {
        assert_eq!(scan(&bytes, 1).err(), expected, "{what}");
    }
}

/// Answers each of which has a name that hops through all before it.
fn bomb(records: u16) -> Vec<u8> {
    let mut bytes = packet(records, &[]);
    let mut last = HEADER_LEN;
    for _ in 0..records {
        let at = bytes.len();
        bytes.extend(record(&pointer(last), 1, &[]));
        last = at;
    }
    bytes
}

#[test]
fn d12_a_pointer_bomb_ends_at_the_budget() {
    let bomb_80 = bomb(80);
    let cost = scan(&bomb_80, 1).unwrap().cost;
    assert_eq!(cost.hops, 80 * 81 / 2);
    assert_eq!(scan(&bomb(129), 1), Err(Refusal::Budget));
    let bomb_300 = bomb(300);
    let mut walk = Walk::new(&bomb_300, 1);
    assert_eq!(walk.message(), Err(Refusal::Budget));
    assert!(
        walk.found.cost.hops <= MAX_HOPS + 1,
        "{:?}",
        walk.found.cost
    );
}

#[test]
fn d12_one_name_goes_through_128_pointers_at_most() {
    for (hops, expected) in [(128, None), (129, Some(Refusal::Budget))] {
        // In the data of one record, each pointer leads to the one before it.
        let start = packet(0, &[]).len() + 11;
        let mut chain = pointer(HEADER_LEN).to_vec();
        (0..hops - 2).for_each(|hop| chain.extend(pointer(start + 2 * hop)));
        let mut rest = record(&[0], 16, &chain);
        rest.extend(record(&pointer(start + 2 * (hops - 2)), 1, &[1; 4]));
        assert_eq!(scan(&packet(2, &rest), 1).err(), expected, "{hops}");
    }
}

#[test]
fn d12_many_chains_within_the_budget_of_one_name_end_at_that_of_the_message() {
    // A chain of 100 pointers in the data of one record, then 60 names that run through it.
    let mut chain = Vec::new();
    let start = packet(0, &[]).len() + 11;
    chain.extend(pointer(HEADER_LEN));
    for hop in 0..99 {
        chain.extend(pointer(start + 2 * hop));
    }
    let mut rest = record(&[0], 16, &chain);
    let entry = pointer(start + 198);
    for _ in 0..60 {
        rest.extend(record(&entry, 1, &[]));
    }
    assert_eq!(scan(&packet(61, &rest), 1), Err(Refusal::Budget));
}

#[test]
fn every_prefix_of_a_packet_is_refused() {
    let whole = packet(1, &record(&pointer(12), 5, &[1, b'b', 0xc0, 12]));
    assert!(scan(&whole, 1).is_ok());
    for len in 0..whole.len() {
        assert!(scan(&whole[..len], 1).is_err(), "{len}");
    }
}

#[test]
fn what_an_answer_needs_is_found_where_it_is() {
    let rest = [
        record(&pointer(12), 16, &[0; 4]),
        record(&pointer(12), 1, &[1; 4]),
        record(&pointer(12), 5, &pointer(12)),
        record(&pointer(12), 28, &[1; 16]),
    ];
    let bytes = packet(4, &rest.concat());
    let begins = |n: usize| packet(0, &rest[..n].concat()).len();
    let scanned = scan(&bytes, 1).unwrap();
    let address = At {
        owner: begins(1),
        ttl: 0,
        data: (begins(2) - 4, begins(2)),
    };
    assert_eq!(scanned.addresses, [address]);
    assert_eq!(scanned.answers, [begins(2) as u16]);
    assert_eq!(scan(&bytes, 28).unwrap().addresses[0].owner, begins(3));
    // Of another class it is nothing.
    let mut other = record(&pointer(12), 1, &[1; 4]);
    other[5] = 3;
    assert_eq!(scan(&packet(1, &other), 1).unwrap().addresses, []);
    // The name through the pointer.
    let all: Vec<&[u8]> = labels(&bytes, begins(1)).collect();
    assert_eq!(all, [b"a"]);
    assert_eq!(labels(&bytes, bytes.len()).next(), None);
}

#[test]
fn d12_the_decoder_sees_a_bounded_number_of_records() {
    for (records, expected) in [(1024, None), (1025, Some(Refusal::Budget))] {
        let rest = record(&[0], 5, &[0]).repeat(usize::from(records));
        assert_eq!(scan(&packet(records, &rest), 1).err(), expected);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_go_over_its_budget(
        counts in proptest::collection::vec(0u8..8, 6),
        bytes in proptest::collection::vec(
            prop_oneof![Just(0u8), Just(0xc0), Just(12), 0u8..64, any::<u8>()], 0..600),
    ) {
        let mut packet = vec![0, 0, 0x80, 0, 0, 1];
        packet.extend([0, counts[0], 0, counts[1], 0, counts[2]]);
        packet.extend(bytes);
        let mut walk = Walk::new(&packet, 1);
        let _ = walk.message();
        prop_assert!(walk.found.cost.hops <= MAX_HOPS + 1 && walk.found.cost.steps <= MAX_STEPS + 1);
    }
}
