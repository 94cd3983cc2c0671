//! A decoder believes a packet's counts, follows its pointers and reads every record, wanted or
//! not; a small packet can make it reserve much or work long. [`scan`] walks the packet first,
//! under budgets, and hides from the decoder what nobody asked for.
//!
//! Promise: it never panics and never looks at more than [`MAX_HOPS`] pointers, [`MAX_STEPS`]
//! labels and records, [`MAX_TEXT`] bytes of names and [`MAX_VALUES`] parameters, whatever the bytes; what it returns has
//! exactly one question, whole records in the numbers that its header says, names that end, and
//! no data to decode but that of the types that an answer needs.

use std::borrow::Cow;

/// The longest datagram that is looked at; queries announce less.
pub(super) const MAX_DATAGRAM: usize = 4096;
/// The longest message there is, over TCP.
const MAX_LEN: usize = 65_535;
/// The length of a header.
pub(super) const HEADER_LEN: usize = 12;

pub(super) const MAX_NAME_HOPS: u32 = 128;
pub(super) const MAX_HOPS: u32 = 4096;
/// Names of 127 labels in each of the records that fit, and then some.
pub(super) const MAX_STEPS: u32 = 65_536;
/// Names of 60 bytes in each of 4000 records, and then some.
pub(super) const MAX_TEXT: usize = 256 * 1024;
const MAX_NAME_LEN: usize = 255;
/// A dozen in each of 64 records, and then some.
pub(super) const MAX_VALUES: u32 = 2048;
/// Keys of service bindings.
const ALPN: u16 = 1;
const PORT: u16 = 3;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const OPT: u16 = 41;
const IN: u16 = 1;
/// A type for private use: the decoder copies its data and looks no further.
const HIDDEN: u16 = 65_280;
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
    /// Bytes of names.
    pub(super) text: usize,
    /// Parameters of service bindings, and protocols in them.
    pub(super) values: u32,
}

/// A packet that may be decoded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scanned<'a> {
    pub(super) bytes: Cow<'a, [u8]>,
    pub(super) cost: Cost,
    /// An HTTPS record has a port that is not of two bytes, which the decoder overlooks.
    pub(super) bent_port: bool,
}

/// Walks all of `bytes`, an answer to a question for records of type `wanted`.
pub(super) fn scan(bytes: &[u8], wanted: u16) -> Result<Scanned<'_>, Refusal> {
    let mut walk = Walk::new(bytes, wanted);
    walk.message()?;
    let mut bytes = Cow::Borrowed(bytes);
    if !walk.hidden.is_empty() {
        let bytes = bytes.to_mut();
        for at in walk.hidden {
            bytes[at..at + 2].copy_from_slice(&HIDDEN.to_be_bytes());
        }
    }
    Ok(Scanned {
        bytes,
        cost: walk.cost,
        bent_port: walk.bent_port,
    })
}

struct Walk<'a> {
    bytes: &'a [u8],
    wanted: u16,
    cost: Cost,
    bent_port: bool,
    /// Where the types of records are that the decoder shall not look at.
    hidden: Vec<usize>,
}

/// Where a record is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Answer,
    Authority,
    Additional,
}

impl<'a> Walk<'a> {
    fn new(bytes: &'a [u8], wanted: u16) -> Self {
        Self {
            bytes,
            wanted,
            cost: Cost::default(),
            bent_port: false,
            hidden: Vec::new(),
        }
    }

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
        let sections = [
            (Section::Answer, self.u16(6)?),
            (Section::Authority, self.u16(8)?),
            (Section::Additional, self.u16(10)?),
        ];
        let records: usize = sections.iter().map(|(_, count)| usize::from(*count)).sum();
        if records > self.bytes.len() / MIN_RECORD_LEN {
            return Err(Refusal::Counts);
        }
        let mut at = self.name(HEADER_LEN)? + 4;
        for (section, count) in sections {
            for _ in 0..count {
                at = self.record(at, section)?;
            }
        }
        if at > self.bytes.len() {
            return Err(Refusal::Cut);
        }
        Ok(())
    }

    /// Walks the record at `at`; returns where the next one begins.
    fn record(&mut self, at: usize, section: Section) -> Result<usize, Refusal> {
        self.step()?;
        let fixed = self.name(at)?;
        let (kind, class) = (self.u16(fixed)?, self.u16(fixed + 2)?);
        let data = fixed + 10;
        let end = data + usize::from(self.u16(fixed + 8)?);
        if end > self.bytes.len() {
            return Err(Refusal::Cut);
        }
        let is_needed = match section {
            Section::Answer => class == IN && (kind == self.wanted || kind == CNAME),
            Section::Authority => class == IN && kind == SOA,
            Section::Additional => kind == OPT,
        };
        match is_needed {
            true => self.names_of_data(&names_in(kind), data, end)?,
            false => self.hidden.push(fixed),
        }
        Ok(end)
    }

    /// Walks the names that the decoder will read in a record's data. Where they do not fit, the
    /// decoder gives up as well.
    fn names_of_data(&mut self, layout: &Layout, data: usize, end: usize) -> Result<(), Refusal> {
        if layout.names == 0 {
            return Ok(());
        }
        let mut at = data + layout.skip;
        for _ in 0..layout.names {
            at = self.name(at)?;
        }
        if at > end {
            return Err(Refusal::Cut);
        }
        if layout.parameters {
            self.parameters(at, end)?;
        }
        Ok(())
    }

    /// Walks the parameters of a service binding (RFC 9460 section 2.2). Those that do not fit are
    /// left to the decoder.
    fn parameters(&mut self, mut at: usize, end: usize) -> Result<(), Refusal> {
        while at + 4 <= end {
            self.value()?;
            let (key, len) = (self.u16(at)?, usize::from(self.u16(at + 2)?));
            self.bent_port |= key == PORT && len != 2;
            let after = at + 4 + len;
            if key == ALPN {
                let mut at = at + 4;
                while at < after.min(end) {
                    self.value()?;
                    at += 1 + usize::from(self.u8(at)?);
                }
            }
            at = after;
        }
        Ok(())
    }

    fn value(&mut self) -> Result<(), Refusal> {
        self.cost.values += 1;
        if self.cost.values > MAX_VALUES {
            return Err(Refusal::Budget);
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
                    self.cost.text += 1 + usize::from(label);
                    if len > MAX_NAME_LEN {
                        return Err(Refusal::Name);
                    }
                    if self.cost.text > MAX_TEXT {
                        return Err(Refusal::Budget);
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
    names: u32,
    /// Parameters after those.
    parameters: bool,
}

/// The layout of the types that are not hidden.
fn names_in(kind: u16) -> Layout {
    let (skip, names, parameters) = match kind {
        CNAME => (0, 1, false),
        SOA => (0, 2, false),
        // SRV
        33 => (6, 1, false),
        // HTTPS
        65 => (2, 1, true),
        _ => (0, 0, false),
    };
    Layout {
        skip,
        names,
        parameters,
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
            prop_assert!(walk.cost.hops <= MAX_HOPS + 1 && walk.cost.steps <= MAX_STEPS + 1);
        }
    }
}
