//! A decoder believes a packet's counts, follows its pointers and reads every record, wanted or
//! not; a small packet can make it reserve much or work long. [`scan`] walks the packet first,
//! under budgets, and says where the records are that an answer needs; nobody looks at the others.
//! Addresses are many and simple, and are read where they lie: they never see the decoder.
//!
//! Promise: it never panics and never looks at more than [`MAX_HOPS`] pointers, [`MAX_STEPS`]
//! labels and records, [`MAX_TEXT`] bytes of names and [`MAX_VALUES`] parameters, whatever the
//! bytes; a packet that passes has exactly one question, whole records in the numbers that its
//! header says, and names that end; at most [`MAX_DECODED`] records are for the decoder. The budgets
//! are such that a message of 64 KiB costs less than 0.6 ms, and that 4000 addresses pass (the test
//! `bomb` has the figures).

/// The longest datagram that is looked at; queries announce less.
pub(super) const MAX_DATAGRAM: usize = 4096;
/// The longest message there is, over TCP.
const MAX_LEN: usize = 65_535;
/// The length of a header.
pub(super) const HEADER_LEN: usize = 12;

pub(super) const MAX_NAME_HOPS: u32 = 128;
pub(super) const MAX_HOPS: u32 = 4096;
/// A pointer and four labels in each of 4096 records.
pub(super) const MAX_STEPS: u32 = 28_672;
/// Records that the decoder reads: each of them costs as much as twenty addresses.
pub(super) const MAX_DECODED: usize = 1024;
/// Names of 60 bytes in each of 4000 records, and then some.
pub(super) const MAX_TEXT: usize = 256 * 1024;
const MAX_NAME_LEN: usize = 255;
/// A dozen in each of 64 records, and then some.
pub(super) const MAX_VALUES: u32 = 2048;
const A: u16 = 1;
const AAAA: u16 = 28;
/// Keys of service bindings.
const ALPN: u16 = 1;
const PORT: u16 = 3;
const NS: u16 = 2;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const OPT: u16 = 41;
/// A packet has one OPT record at most (RFC 6891 section 6.1.1).
const MAX_OPTS: u32 = 1;
const IN: u16 = 1;
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
    /// More than one OPT record.
    Options,
    /// More pointers, labels or other things than the budget.
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
    /// Service bindings, their parameters, and protocols in those.
    pub(super) values: u32,
}

/// Where the parts of an address record are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    pub(super) owner: usize,
    pub(super) ttl: u32,
    /// Its data; not longer than the packet.
    pub(super) data: (usize, usize),
}

/// A packet that may be read, by its parts that an answer may need. Each is in the packet's order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scanned {
    pub(super) cost: Cost,
    /// The high bits of the response code (RFC 6891 section 6.1.3).
    pub(super) high_code: u8,
    /// An HTTPS record has a port that is not of two bytes, which the decoder overlooks.
    pub(super) bent_port: bool,
    /// The authority section names servers.
    pub(super) names_servers: bool,
    /// Addresses of the wanted family.
    pub(super) addresses: Vec<At>,
    /// Where records for the decoder begin: aliases and what was wanted, in the answer section ...
    pub(super) answers: Vec<u16>,
    /// ... and those that say how long an absence lasts, in the authority section.
    pub(super) authorities: Vec<u16>,
}

/// Walks all of `bytes`, an answer to a question for records of type `wanted`.
pub(super) fn scan(bytes: &[u8], wanted: u16) -> Result<Scanned, Refusal> {
    let mut walk = Walk::new(bytes, wanted);
    walk.message()?;
    Ok(walk.found)
}

/// The labels of the name at `at` of a packet that was walked.
pub(super) fn labels(bytes: &[u8], mut at: usize) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        loop {
            let first = *bytes.get(at)?;
            match first >> 6 {
                3 => at = usize::from(u16::from_be_bytes([first & 0x3f, *bytes.get(at + 1)?])),
                _ if first == 0 => return None,
                _ => {
                    let label = at + 1;
                    at = label + usize::from(first);
                    return bytes.get(label..at);
                }
            }
        }
    })
}

struct Walk<'a> {
    bytes: &'a [u8],
    wanted: u16,
    opts: u32,
    found: Scanned,
}

/// Where the header has the numbers of answers, authority and additional records.
const SECTIONS: [usize; 3] = [6, 8, 10];

impl<'a> Walk<'a> {
    fn new(bytes: &'a [u8], wanted: u16) -> Self {
        Self {
            bytes,
            wanted,
            opts: 0,
            found: Scanned::default(),
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
        let mut counts = [0; SECTIONS.len()];
        for (count, at) in counts.iter_mut().zip(SECTIONS) {
            *count = usize::from(self.u16(at)?);
        }
        let records: usize = counts.into_iter().sum();
        if records > self.bytes.len() / MIN_RECORD_LEN {
            return Err(Refusal::Counts);
        }
        let mut at = self.name(HEADER_LEN)? + 4;
        for (section, count) in counts.into_iter().enumerate() {
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
    fn record(&mut self, at: usize, section: usize) -> Result<usize, Refusal> {
        self.step()?;
        let fixed = self.name(at)?;
        let (kind, class) = (self.u16(fixed)?, self.u16(fixed + 2)?);
        let data = fixed + 10;
        let end = data + usize::from(self.u16(fixed + 8)?);
        if end > self.bytes.len() {
            return Err(Refusal::Cut);
        }
        self.found.names_servers |= section == 1 && (kind, class) == (NS, IN);
        match section {
            0 if class == IN && kind == self.wanted && [A, AAAA].contains(&kind) => {
                let ttl = u32::from(self.u16(fixed + 4)?) << 16 | u32::from(self.u16(fixed + 6)?);
                self.found.addresses.push(At {
                    owner: at,
                    ttl,
                    data: (data, end),
                });
            }
            0 if class == IN && (kind == self.wanted || kind == CNAME) => {
                self.names_of_data(&names_in(kind), data, end)?;
                self.found.answers.push(at as u16);
            }
            1 if class == IN && kind == SOA => {
                self.names_of_data(&names_in(kind), data, end)?;
                self.found.authorities.push(at as u16);
            }
            2 if kind == OPT => {
                self.opts += 1;
                self.found.high_code = self.u8(fixed + 4)?;
            }
            _ => {}
        }
        if self.opts > MAX_OPTS {
            return Err(Refusal::Options);
        }
        if self.found.answers.len() + self.found.authorities.len() > MAX_DECODED {
            return Err(Refusal::Budget);
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
            let was_bent = self.found.bent_port;
            self.parameters(at, end)?;
            // Parameters of an alias are ignored (RFC 9460 section 2.4.2).
            self.found.bent_port &= was_bent || self.u16(data)? != 0;
        }
        Ok(())
    }

    /// Walks the parameters of a service binding (RFC 9460 section 2.2). Those that do not fit are
    /// left to the decoder.
    fn parameters(&mut self, mut at: usize, end: usize) -> Result<(), Refusal> {
        self.value()?;
        while at + 4 <= end {
            self.value()?;
            let (key, len) = (self.u16(at)?, usize::from(self.u16(at + 2)?));
            self.found.bent_port |= key == PORT && len != 2;
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
        self.found.cost.values += 1;
        if self.found.cost.values > MAX_VALUES {
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
                    self.found.cost.text += 1 + usize::from(label);
                    if len > MAX_NAME_LEN {
                        return Err(Refusal::Name);
                    }
                    if self.found.cost.text > MAX_TEXT {
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
                    self.found.cost.hops += 1;
                    if hops > MAX_NAME_HOPS || self.found.cost.hops > MAX_HOPS {
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
        self.found.cost.steps += 1;
        if self.found.cost.steps > MAX_STEPS {
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

/// The layout of the types that the decoder sees.
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
mod tests;
