//! A decoder believes a packet's counts and follows its pointers; a small packet can make it
//! reserve much or walk long. [`scan`] walks the packet first, under budgets.
//!
//! Promise: it never panics and never looks at more than [`MAX_HOPS`] pointers and
//! [`MAX_STEPS`] labels and records, whatever the bytes; a packet that passes has exactly one
//! question, whole records in the numbers that its header says, and names that end.

/// The longest datagram that is looked at; queries announce less.
pub(super) const MAX_LEN: usize = 4096;
/// The length of a header.
pub(super) const HEADER_LEN: usize = 12;

const MAX_NAME_HOPS: u32 = 128;
const MAX_HOPS: u32 = 4096;
/// Names of 127 labels in each of the records that fit, and then some.
const MAX_STEPS: u32 = 65_536;
const MAX_NAME_LEN: usize = 255;
/// Root name, type, class, TTL and length.
const MIN_RECORD_LEN: usize = 11;

/// Why a packet is not decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Shorter than a header.
    TooShort,
    /// Longer than any answer that was asked for.
    TooLong,
    /// Not exactly one question.
    Questions,
    /// More records than the bytes could hold.
    Counts,
    /// A name, record or its data goes beyond the end.
    Cut,
    /// A label or name is too long, or of an unknown kind, or a pointer does not lead back.
    Name,
    /// More pointers or labels than the budget.
    Budget,
}

/// What the walk cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cost {
    /// Labels and records.
    pub(super) steps: u32,
    /// Compression pointers.
    pub(super) hops: u32,
}

/// Walks all of `bytes`.
pub(super) fn scan(bytes: &[u8]) -> Result<Cost, Refusal> {
    let mut walk = Walk {
        bytes,
        cost: Cost::default(),
    };
    walk.message().map(|()| walk.cost)
}

struct Walk<'a> {
    bytes: &'a [u8],
    cost: Cost,
}

impl Walk<'_> {
    fn message(&mut self) -> Result<(), Refusal> {
        if self.bytes.len() < HEADER_LEN {
            return Err(Refusal::TooShort);
        }
        if self.bytes.len() > MAX_LEN {
            return Err(Refusal::TooLong);
        }
        if self.u16(4)? != 1 {
            return Err(Refusal::Questions);
        }
        let mut records = 0;
        for section in [6, 8, 10] {
            records += usize::from(self.u16(section)?);
        }
        if records > self.bytes.len() / MIN_RECORD_LEN {
            return Err(Refusal::Counts);
        }
        let mut at = self.name(HEADER_LEN)? + 4;
        for _ in 0..records {
            at = self.record(at)?;
        }
        if at > self.bytes.len() {
            return Err(Refusal::Cut);
        }
        Ok(())
    }

    /// Walks the record at `at`; returns where the next one begins.
    fn record(&mut self, at: usize) -> Result<usize, Refusal> {
        self.step()?;
        let fixed = self.name(at)?;
        let kind = self.u16(fixed)?;
        let data = fixed + 10;
        let end = data + usize::from(self.u16(fixed + 8)?);
        if end > self.bytes.len() {
            return Err(Refusal::Cut);
        }
        self.names_of_data(&names_in(kind), data, end)?;
        Ok(end)
    }

    /// Walks the names that the decoder will read in a record's data. Where they do not fit, the
    /// decoder gives up as well.
    fn names_of_data(&mut self, layout: &Layout, data: usize, end: usize) -> Result<(), Refusal> {
        if layout.names == 0 {
            return Ok(());
        }
        let mut at = data + layout.skip;
        for _ in 0..layout.strings {
            at += 1 + usize::from(self.u8(at)?);
        }
        for _ in 0..layout.names {
            at = self.name(at)?;
        }
        if at > end {
            return Err(Refusal::Cut);
        }
        Ok(())
    }

    /// Walks the name at `start`, pointers included; returns where what follows it begins.
    fn name(&mut self, start: usize) -> Result<usize, Refusal> {
        let (mut at, mut run) = (start, start);
        let mut after = None;
        let (mut len, mut hops) = (1, 0);
        loop {
            self.step()?;
            let label = self.u8(at)?;
            match label >> 6 {
                0 if label == 0 => return Ok(after.unwrap_or(at + 1)),
                0 => {
                    len += 1 + usize::from(label);
                    if len > MAX_NAME_LEN {
                        return Err(Refusal::Name);
                    }
                    at += 1 + usize::from(label);
                }
                3 => {
                    let target = usize::from(self.u16(at)? & 0x3fff);
                    // Strictly before the labels that led here: so no name can go round.
                    if target >= run {
                        return Err(Refusal::Name);
                    }
                    hops += 1;
                    self.cost.hops += 1;
                    if hops > MAX_NAME_HOPS || self.cost.hops > MAX_HOPS {
                        return Err(Refusal::Budget);
                    }
                    after.get_or_insert(at + 2);
                    (at, run) = (target, target);
                }
                _ => return Err(Refusal::Name),
            }
        }
    }

    fn step(&mut self) -> Result<(), Refusal> {
        self.cost.steps += 1;
        if self.cost.steps > MAX_STEPS {
            return Err(Refusal::Budget);
        }
        Ok(())
    }

    fn u8(&self, at: usize) -> Result<u8, Refusal> {
        self.bytes.get(at).copied().ok_or(Refusal::Cut)
    }

    fn u16(&self, at: usize) -> Result<u16, Refusal> {
        Ok(u16::from_be_bytes([self.u8(at)?, self.u8(at + 1)?]))
    }
}

/// Where names are in the data of a record.
#[derive(Default)]
struct Layout {
    /// Bytes before them.
    skip: usize,
    /// Counted strings after those.
    strings: u32,
    names: u32,
}

/// The layout of every type whose data the decoder reads names in.
fn names_in(kind: u16) -> Layout {
    let (skip, strings, names) = match kind {
        // NS, CNAME, PTR, DNAME, TSIG, ANAME
        2 | 5 | 12 | 39 | 250 | 65305 => (0, 0, 1),
        // SOA
        6 => (0, 0, 2),
        // MX, SVCB, HTTPS
        15 | 64 | 65 => (2, 0, 1),
        // SRV
        33 => (6, 0, 1),
        // NAPTR
        35 => (4, 3, 1),
        _ => (0, 0, 0),
    };
    Layout {
        skip,
        strings,
        names,
    }
}

#[cfg(test)]
mod tests {
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
            assert_eq!(scan(&bytes).err(), expected, "{what}");
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
        let cost = scan(&bomb(80)).unwrap();
        assert_eq!(cost.hops, 80 * 81 / 2);
        assert_eq!(scan(&bomb(129)), Err(Refusal::Budget));
        let mut walk = Walk {
            bytes: &bomb(300),
            cost: Cost::default(),
        };
        assert_eq!(walk.message(), Err(Refusal::Budget));
        assert!(walk.cost.hops <= MAX_HOPS + 1, "{:?}", walk.cost);
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
        assert_eq!(scan(&packet(61, &rest)), Err(Refusal::Budget));
    }

    #[test]
    fn every_prefix_of_a_packet_is_refused() {
        let whole = packet(1, &record(&pointer(12), 5, &[1, b'b', 0xc0, 12]));
        assert!(scan(&whole).is_ok());
        for len in 0..whole.len() {
            assert!(scan(&whole[..len]).is_err(), "{len}");
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
            let mut walk = Walk { bytes: &packet, cost: Cost::default() };
            let _ = walk.message();
            prop_assert!(walk.cost.hops <= MAX_HOPS + 1 && walk.cost.steps <= MAX_STEPS + 1);
        }
    }
}
