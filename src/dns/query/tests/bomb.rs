//! The largest messages there are, made to cost as much as they can.

use std::time::Instant;

use super::*;
use crate::dns::scan::{Cost, MAX_HOPS, MAX_STEPS, MAX_TEXT, MAX_VALUES};

const LARGEST: usize = 65_535;

/// A message under construction that answers the query for `kind`.
struct Bomb {
    what: &'static str,
    kind: Kind,
    bytes: Vec<u8>,
    counts: [u16; 3],
}

impl Bomb {
    fn new(what: &'static str, kind: Kind) -> Self {
        let mut bytes = query(kind).encode(sending(false));
        bytes[2] |= 0x80;
        Self {
            what,
            kind,
            bytes,
            counts: [0; 3],
        }
    }

    /// Adds a record to `section`; `false` if there is no room.
    fn add(&mut self, section: usize, owner: &[u8], wire: u16, data: &[u8]) -> bool {
        let len = owner.len() + 10 + data.len();
        if self.bytes.len() + len > LARGEST || self.counts[section] == u16::MAX {
            return false;
        }
        self.bytes.extend(owner);
        self.bytes.extend(wire.to_be_bytes());
        self.bytes.extend([0, 1, 0, 0, 0, 60]);
        self.bytes.extend((data.len() as u16).to_be_bytes());
        self.bytes.extend(data);
        self.counts[section] += 1;
        true
    }

    /// Adds a record while there is room, at most `most`.
    fn fill(mut self, most: usize, mut record: impl FnMut(usize, &mut Self) -> bool) -> Self {
        let mut added = 0;
        while added < most && record(added, &mut self) {
            added += 1;
        }
        self
    }

    fn finish(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for (at, count) in [6, 8, 10].into_iter().zip(self.counts) {
            bytes[at..at + 2].copy_from_slice(&count.to_be_bytes());
        }
        bytes
    }
}

fn pointer(to: usize) -> [u8; 2] {
    (0xc000 | to as u16).to_be_bytes()
}

/// A name of as many labels as there can be, or of as few.
fn long_name(label: usize) -> Vec<u8> {
    let mut name = Vec::new();
    while name.len() + 1 + label <= 254 {
        name.push(label as u8);
        name.extend(vec![b'a'; label]);
    }
    name.push(0);
    name
}

fn bombs() -> Vec<Bomb> {
    let all = usize::MAX;
    let address = |n: usize| (0x0a00_0000 + n as u32).to_be_bytes();
    let mut bombs = Vec::new();
    let mut last = HEADER_LEN;
    bombs.push(
        Bomb::new("a chain of pointers", Kind::A).fill(all, |n, bomb| {
            let at = bomb.bytes.len();
            let added = bomb.add(0, &pointer(last), 1, &address(n));
            last = at;
            added
        }),
    );
    for (what, most) in [("names through 128 pointers", all), ("32 of those", 31)] {
        let mut chain = Bomb::new(what, Kind::A);
        let start = chain.bytes.len() + 11;
        let mut hops = pointer(HEADER_LEN).to_vec();
        (0..126).for_each(|hop| hops.extend(pointer(start + 2 * hop)));
        chain.add(0, &[0], 16, &hops);
        let entry = pointer(start + 2 * 126);
        bombs.push(chain.fill(most, |n, bomb| bomb.add(0, &entry, 1, &address(n))));
    }
    bombs.extend(long_names());
    let of_question = pointer(HEADER_LEN);
    bombs.push(
        Bomb::new("4000 addresses", Kind::A)
            .fill(4000, |n, bomb| bomb.add(0, &of_question, 1, &address(n))),
    );
    bombs.push(
        Bomb::new("addresses of the root", Kind::A)
            .fill(all, |n, bomb| bomb.add(0, &[0], 1, &address(n))),
    );
    bombs.push(Bomb::new("4000 services", Kind::Srv).fill(4000, |n, bomb| {
        let data = [&[0, 1, 0, 1], &(n as u16).to_be_bytes()[..], &of_question].concat();
        bomb.add(0, &of_question, 33, &data)
    }));
    // CSYNC holds sets of types, which the decoder would build.
    let windows: Vec<u8> = (0..1800)
        .flat_map(|n| [&[n as u8, 32][..], &[0xff; 32]].concat())
        .collect();
    for (what, wire) in [("sets of types", 62), ("strings of no bytes", 16)] {
        let data = match wire {
            62 => [&[0; 6], &windows[..]].concat(),
            _ => vec![0; 65_000],
        };
        bombs.push(Bomb::new(what, Kind::A).fill(1, |_, bomb| bomb.add(2, &[0], wire, &data)));
    }
    bombs.push(
        Bomb::new("the smallest records", Kind::A).fill(all, |_, bomb| bomb.add(2, &[0], 99, &[0])),
    );
    bombs.push(
        Bomb::new("aliases", Kind::A).fill(all, |_, bomb| bomb.add(0, &[0], 5, &of_question)),
    );
    bombs
        .push(Bomb::new("options", Kind::A).fill(1, |_, bomb| bomb.add(2, &[0], 41, &[0; 65_000])));
    for most in [64, 5000] {
        let hidden = |n: usize, bomb: &mut Bomb| bomb.add(0, &[0], 99, &[n as u8]);
        let mut bomb = Bomb::new("strays before an address", Kind::A).fill(most, hidden);
        bomb.add(0, &of_question, 1, &address(1));
        bombs.push(bomb);
    }
    bombs.extend(mixtures());
    bombs.extend(bindings());
    bombs
}

/// As much as each of two budgets lets pass.
fn mixtures() -> Vec<Bomb> {
    let all = usize::MAX;
    let address = |n: usize| (0x0a00_0000 + n as u32).to_be_bytes();
    let mut bombs = Vec::new();
    for (label, most) in [(1, 8), (1, 145), (2, 210), (62, 500), (62, 1000)] {
        let mut bomb = Bomb::new("long names and the root's addresses", Kind::A);
        let at = bomb.bytes.len() + 11;
        bomb.add(0, &[0], 16, &long_name(label));
        let bomb = bomb.fill(most, |n, bomb| bomb.add(0, &pointer(at), 1, &address(n)));
        bombs.push(bomb.fill(4000 - most, |n, bomb| bomb.add(0, &[0], 1, &address(n))));
    }
    // Everything that the decoder reads, up to its bound, and addresses beside it.
    for (kind, wire, section, data) in [
        (Kind::A, 5, 0, vec![0]),
        (Kind::A, 6, 1, vec![0; 22]),
        (Kind::Srv, 33, 0, vec![0, 1, 0, 1, 0, 1, 0]),
    ] {
        let what = "records for the decoder and the root's addresses";
        let bomb = Bomb::new(what, kind).fill(1024, |_, bomb| bomb.add(section, &[0], wire, &data));
        bombs.push(bomb.fill(all, |n, bomb| {
            section == 0 && bomb.add(0, &[0], 1, &address(n))
        }));
    }
    bombs
}

/// Records that point at names of the longest kind.
fn long_names() -> Vec<Bomb> {
    let all = usize::MAX;
    let address = |n: usize| (0x0a00_0000 + n as u32).to_be_bytes();
    let mut bombs = Vec::new();
    for (label, most) in [(1, all), (1, 490), (62, all), (62, 1000)] {
        for (kind, wire, data) in [
            (Kind::A, 1, vec![]),
            (Kind::Srv, 33, vec![0, 1, 0, 1, 0, 1]),
            (Kind::A, 6, vec![]),
        ] {
            let mut bomb = Bomb::new("long names", kind);
            let at = bomb.bytes.len() + 11;
            bomb.add(0, &[0], 16, &long_name(label));
            let name = pointer(at);
            let most = if wire == 1 { most } else { most / 2 };
            bombs.push(bomb.fill(most, |n, bomb| {
                let data = match wire {
                    1 => address(n).to_vec(),
                    6 => [&name[..], &name, &[0; 20]].concat(),
                    _ => [&data[..], &name].concat(),
                };
                let section = usize::from(wire == 6);
                bomb.add(section, &name, wire, &data)
            }));
        }
    }
    bombs
}

/// HTTPS records of one parameter each that is as large as it can be.
fn bindings() -> Vec<Bomb> {
    let of_question = pointer(HEADER_LEN);
    let value = |key: u16, value: &[u8]| {
        let len = (value.len() as u16).to_be_bytes();
        [&key.to_be_bytes()[..], &len, value].concat()
    };
    let keys: Vec<u8> = (7..12_000u16).flat_map(|key| value(key, &[])).collect();
    let named: Vec<u8> = (7..6_000u16).flat_map(u16::to_be_bytes).collect();
    let alpn = [1, b'a'].repeat(32_000);
    let hints: Vec<u8> = (0..16_000u32)
        .flat_map(|n| (0x0aff_ffff - n).to_be_bytes())
        .collect();
    let table = [
        ("protocols", value(1, &alpn)),
        ("1000 protocols", value(1, &alpn[..2000])),
        ("hints", value(4, &hints)),
        ("keys", keys.clone()),
        ("mandatory keys", [value(0, &named), keys].concat()),
        ("IPv6 hints", value(6, &hints)),
    ];
    let mut bombs = Vec::new();
    for (what, parameters) in table {
        let data = [&[0, 1, 0][..], &parameters].concat();
        let bomb = Bomb::new(what, Kind::Https);
        bombs.push(bomb.fill(1, |_, bomb| bomb.add(0, &of_question, 65, &data)));
    }
    for most in [1000, 4000] {
        let bomb = Bomb::new("bindings", Kind::Https);
        bombs.push(bomb.fill(most, |n, bomb| {
            let data = [&(n as u16 + 1).to_be_bytes()[..], &[0]].concat();
            bomb.add(0, &of_question, 65, &data)
        }));
    }
    bombs
}

/// What a packet that passed has cost.
pub(super) fn assert_bounded(cost: Cost, what: &str) {
    let Cost {
        steps,
        hops,
        text,
        values,
    } = cost;
    assert!(steps <= MAX_STEPS && hops <= MAX_HOPS, "{what}");
    assert!(text <= MAX_TEXT && values <= MAX_VALUES, "{what}");
}

/// The time is printed and not asserted:
/// `cargo test --release --lib dns::query::tests::bomb -- --nocapture`
#[test]
fn d12_s1_no_message_of_64_kib_costs_more_than_its_budget() {
    let mut refused = 0;
    for bomb in bombs() {
        let bytes = bomb.finish();
        let wanted = record_type(bomb.kind).into();
        let scanned = scan(&bytes, wanted);
        let cost = scanned.as_ref().map(|it| it.cost).unwrap_or_default();
        assert_bounded(cost, bomb.what);
        refused += u32::from(scanned.is_err());
        let query = query(bomb.kind);
        let mut best = u128::MAX;
        let mut verdict = String::new();
        for _ in 0..10 {
            let start = Instant::now();
            let judged = parse(&bytes, &query, over_tcp(), false);
            best = best.min(start.elapsed().as_nanos());
            verdict = format!("{judged:?}").chars().take(30).collect();
        }
        println!(
            "{best:>9} ns, {} bytes, {cost:?}: {}: {verdict}",
            bytes.len(),
            bomb.what
        );
    }
    assert!(refused >= 8, "{refused}");
}

#[test]
fn d36_s17_an_answer_of_4000_addresses_is_64_of_them() {
    let bomb = bombs()
        .into_iter()
        .find(|bomb| bomb.what == "4000 addresses");
    let bytes = bomb.unwrap().finish();
    assert_eq!(bytes.len(), 34 + 4000 * 16);
    let Verdict::Found {
        records: Records::Addresses(kept),
        ttl: 60,
    } = parse(&bytes, &query(Kind::A), over_tcp(), false)
    else {
        panic!("not an answer");
    };
    assert_eq!(kept.len(), MAX_ADDRESSES);
}
