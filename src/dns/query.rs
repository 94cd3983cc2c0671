//! Anyone can send a datagram that claims to be the answer. [`parse`] believes one only if it
//! repeats what was asked, passes the budgets, decodes as a whole, and leads from the name asked
//! to the addresses by records that belong together.
//!
//! Promise: a packet that is not an answer to this very query is [`Verdict::Ignore`], whatever
//! else is wrong with it; no packet makes it panic; records of another owner, type or class are
//! never used.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::MAX_ADDRESSES;
use super::scan::{HEADER_LEN, scan};
use crate::error::{Error, ErrorKind, Result};

/// What queries say that they can receive (DNS flag day 2020).
pub(super) const MAX_PAYLOAD: u16 = 1232;

const MAX_NAME_LEN: usize = 253;
const MAX_CHAIN: usize = 16;
/// BADVERS; the decoder calls code 16 by its other name (RFC 6891 section 9, RFC 8945).
const BAD_VERSION: ResponseCode = ResponseCode::BADSIG;

/// The kind of address asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// One name and one kind of address.
#[derive(Debug, Clone)]
pub(super) struct Question {
    name: Name,
    family: Family,
    /// As it is in packets: name, type, class.
    wire: Vec<u8>,
}

/// What a datagram means for the query that waits for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// At least one address; the TTL is the least on the way to them.
    Answer { addresses: Vec<IpAddr>, ttl: u32 },
    /// The name has no usable address of this family. Without a TTL, it must not be kept.
    NoData { ttl: Option<u32> },
    /// There is no such name. Without a TTL, it must not be kept.
    NxDomain { ttl: Option<u32> },
    /// The answer did not fit into a datagram.
    Truncated,
    /// The server may not know EDNS: ask it again without.
    RetryPlain,
    /// The server cannot or will not answer: ask another.
    Refused(&'static str),
    /// Not an answer to this query: keep waiting.
    Ignore(&'static str),
}

impl Question {
    /// Asks for addresses of `host`, taken as absolute.
    pub(super) fn new(host: &str, family: Family) -> Result<Self> {
        let text = host.strip_suffix('.').unwrap_or(host);
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if text.is_empty() || text.len() > MAX_NAME_LEN || !text.bytes().all(is_allowed) {
            return Err(bad_name(host));
        }
        let mut name = Name::from_ascii(text).map_err(|_| bad_name(host))?;
        name.set_fqdn(true);
        let mut wire = Vec::with_capacity(text.len() + 6);
        for label in name.iter() {
            wire.push(label.len() as u8);
            wire.extend_from_slice(label);
        }
        wire.push(0);
        wire.extend(u16::from(family.record_type()).to_be_bytes());
        wire.extend(u16::from(DNSClass::IN).to_be_bytes());
        Ok(Self { name, family, wire })
    }

    /// The datagram that asks.
    pub(super) fn encode(&self, id: u16, edns: bool) -> Result<Vec<u8>> {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(self.name.clone(), self.family.record_type()));
        if edns {
            let mut edns = Edns::new();
            edns.set_max_payload(MAX_PAYLOAD).set_version(0);
            message.set_edns(edns);
        }
        message
            .to_vec()
            .map_err(|error| Error::from_source(ErrorKind::InvalidInput, error))
    }

    /// Whether `bytes` repeat the question. The first name of a packet cannot be compressed, and
    /// the lengths of labels are no letters, so that it can be compared as it is.
    fn is_repeated_in(&self, bytes: &[u8]) -> bool {
        let Some(theirs) = bytes.get(HEADER_LEN..HEADER_LEN + self.wire.len()) else {
            return false;
        };
        let name_len = self.wire.len() - 4;
        theirs[..name_len].eq_ignore_ascii_case(&self.wire[..name_len])
            && theirs[name_len..] == self.wire[name_len..]
    }
}

impl Family {
    fn record_type(self) -> RecordType {
        match self {
            Self::V4 => RecordType::A,
            Self::V6 => RecordType::AAAA,
        }
    }
}

fn bad_name(host: &str) -> Error {
    let message = "not a host name that can be asked for";
    Error::new(ErrorKind::InvalidInput, message).context(format!("resolving {host}"))
}

/// Judges a datagram from the server that `question` was sent to with `id`. `cut` says that the
/// datagram was longer than `bytes`.
pub(super) fn parse(bytes: &[u8], question: &Question, id: u16, edns: bool, cut: bool) -> Verdict {
    let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
        return Verdict::Ignore("shorter than a header");
    };
    if u16::from_be_bytes([header[0], header[1]]) != id {
        return Verdict::Ignore("another id");
    }
    let (is_response, opcode) = (header[2] & 0x80 != 0, (header[2] >> 3) & 0xf);
    if !is_response || opcode != 0 {
        return Verdict::Ignore("not a response to a query");
    }
    if u16::from_be_bytes([header[4], header[5]]) == 0 {
        // Some servers answer what they do not understand with nothing but a header. It is never
        // an answer, only a reason to ask otherwise.
        let code = ResponseCode::from(0, header[3] & 0xf);
        return refusal(code, edns).unwrap_or(Verdict::Ignore("no question"));
    }
    if !question.is_repeated_in(bytes) {
        return Verdict::Ignore("another question");
    }
    if cut || header[2] & 0x02 != 0 {
        return Verdict::Truncated;
    }
    if scan(bytes).is_err() {
        return Verdict::Ignore("malformed");
    }
    let Ok(message) = Message::from_vec(bytes) else {
        return Verdict::Ignore("does not decode");
    };
    judge(&message, question, edns)
}

/// What a code that carries no answer asks for.
fn refusal(code: ResponseCode, edns: bool) -> Option<Verdict> {
    let verdict = match code {
        ResponseCode::FormErr | ResponseCode::NotImp | BAD_VERSION if edns => Verdict::RetryPlain,
        ResponseCode::NoError | ResponseCode::NXDomain => return None,
        ResponseCode::FormErr => Verdict::Refused("FORMERR"),
        ResponseCode::ServFail => Verdict::Refused("SERVFAIL"),
        ResponseCode::NotImp => Verdict::Refused("NOTIMP"),
        ResponseCode::Refused => Verdict::Refused("REFUSED"),
        _ => Verdict::Refused("an unexpected response code"),
    };
    Some(verdict)
}

/// Reads a decoded response to `question`.
fn judge(message: &Message, question: &Question, edns: bool) -> Verdict {
    let code = message.metadata.response_code;
    if let Some(verdict) = refusal(code, edns) {
        return verdict;
    }
    if code == ResponseCode::NXDomain {
        let ttl = negative_ttl(message);
        return Verdict::NxDomain { ttl };
    }
    let (mut target, mut ttl) = (&question.name, u32::MAX);
    for _ in 0..=MAX_CHAIN {
        let owned = owned_by(&message.answers, target);
        let (addresses, least) = addresses(owned, question.family);
        if let Some(least) = least {
            if addresses.is_empty() {
                return Verdict::NoData {
                    ttl: Some(ttl.min(least)),
                };
            }
            let ttl = ttl.min(least);
            return Verdict::Answer { addresses, ttl };
        }
        let alias = owned_by(&message.answers, target).find_map(|record| match &record.data {
            RData::CNAME(to) => Some((&to.0, record.ttl)),
            _ => None,
        });
        let Some((next, link_ttl)) = alias else {
            let ttl = negative_ttl(message).map(|negative| negative.min(ttl));
            return Verdict::NoData { ttl };
        };
        target = next;
        ttl = ttl.min(link_ttl);
    }
    Verdict::Refused("a chain of aliases without an end")
}

fn owned_by<'a>(records: &'a [Record], owner: &'a Name) -> impl Iterator<Item = &'a Record> {
    records
        .iter()
        .filter(move |record| record.dns_class == DNSClass::IN && record.name == *owner)
}

/// The usable addresses among `records`, each once, and the least TTL of all of the family.
fn addresses<'a>(
    records: impl Iterator<Item = &'a Record>,
    family: Family,
) -> (Vec<IpAddr>, Option<u32>) {
    let (mut addresses, mut least) = (Vec::new(), None);
    for record in records.filter(|record| record.record_type() == family.record_type()) {
        let Some(address) = record.data.ip_addr() else {
            continue;
        };
        least = Some(least.unwrap_or(u32::MAX).min(record.ttl));
        if is_usable(address) && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    (keep_some(addresses), least)
}

/// Whether a connection to the address could mean what the name's owner may mean.
fn is_usable(address: IpAddr) -> bool {
    let address = address.to_canonical();
    let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !address.is_unspecified() && !address.is_multicast() && !is_broadcast
}

/// At most [`MAX_ADDRESSES`], and the same ones whatever the order in which they came.
pub(super) fn keep_some(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    if addresses.len() > MAX_ADDRESSES {
        addresses.sort_by_key(|address| (spread(address), *address));
        addresses.truncate(MAX_ADDRESSES);
    }
    addresses
}

/// FNV-1a: the same in every process.
fn spread(address: &IpAddr) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let start = 0xcbf2_9ce4_8422_2325;
    match address {
        IpAddr::V4(v4) => v4.octets().iter().fold(start, mix),
        IpAddr::V6(v6) => v6.octets().iter().fold(start, mix),
    }
}

/// How long an absence may be kept (RFC 2308).
fn negative_ttl(message: &Message) -> Option<u32> {
    let soa = message.authorities.iter().filter_map(|record| {
        let RData::SOA(soa) = &record.data else {
            return None;
        };
        (record.dns_class == DNSClass::IN).then(|| record.ttl.min(soa.minimum))
    });
    soa.min()
}

#[cfg(test)]
mod tests;
