//! Anyone can send a packet that claims to be the answer. [`parse`] believes one only if it
//! repeats what was asked, passes the budgets, decodes as a whole, and leads from the name asked
//! to the records by links that belong together ([`records`]).
//!
//! Promise: a packet that does not repeat the id and the question never ends a query, whatever
//! else is in it; no packet makes it panic; records of another owner, type or class are never
//! used.
//!
//! The order of the checks is that of RFC 5452 and of what went wrong elsewhere: whose packet it
//! is (the socket is connected, so the kernel checks the source), what of it is there, id, kind of
//! message, question; only then its content. No cookie is sent, so none is expected.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{DNSClass, Name, RecordType};

use self::packet::{Bent, Packet};
use super::lookup::Transport;
use super::record::{Kind, Question, Records};
use super::scan::{HEADER_LEN, MAX_DATAGRAM, Scanned, scan};
use crate::error::{Error, ErrorKind, Result};
use crate::policy::Rng;

mod binding;
mod packet;
mod records;

/// What queries say that they can receive: 1232 bytes (DNS flag day 2020), in an OPT record
/// (RFC 6891 section 6.1.2) of version 0 without options.
const OPT: [u8; 11] = [0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0];
/// RD and AD in the two bytes of flags.
const RECURSION_DESIRED: u8 = 0x01;
const AUTHENTIC: u8 = 0x20;

const MAX_NAME_LEN: usize = 253;
/// BADVERS; the decoder calls code 16 by its other name (RFC 6891 section 9, RFC 8945).
const BAD_VERSION: ResponseCode = ResponseCode::BADSIG;

/// A question as packets have it.
#[derive(Debug, Clone)]
pub(super) struct Query {
    name: Name,
    kind: Kind,
    /// Name, type, class.
    wire: Vec<u8>,
    /// The case of the letters is part of what must be repeated (0x20).
    is_case_exact: bool,
    /// The server is asked whether it validated (RFC 6840 section 5.7).
    asks_for_ad: bool,
}

/// How a query is sent, and so how it must be answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sending {
    pub(super) id: u16,
    pub(super) edns: bool,
    pub(super) transport: Transport,
}

/// What a packet means for the query that waits for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The TTL is the least on the way to the records.
    Found { records: Records, ttl: u32 },
    /// The name has no usable record of this type. Without a TTL, it must not be kept.
    NoData { ttl: Option<u32> },
    /// There is no such name. Without a TTL, it must not be kept.
    NxDomain { ttl: Option<u32> },
    /// The answer did not fit.
    Truncated,
    /// The server may not know EDNS: ask it again without.
    RetryPlain,
    /// The server cannot or will not answer: ask another.
    Refused(&'static str),
    /// Not with this query's id or letters. On a socket that only the server may write to, somebody
    /// guesses.
    Foreign,
    /// It is to this query, and says nothing.
    Malformed(&'static str),
    /// It is not an answer to this query.
    Ignore(&'static str),
}

impl Query {
    /// What `question` is in packets. `case` gives each letter its case.
    pub(super) fn new(
        question: &Question,
        mut case: Option<&mut Rng>,
        asks_for_ad: bool,
    ) -> Result<Self> {
        let host = &*question.name;
        let text = host.strip_suffix('.').unwrap_or(host);
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if text.is_empty() || text.len() > MAX_NAME_LEN || !text.bytes().all(is_allowed) {
            return Err(bad_name(host));
        }
        let is_case_exact = case.is_some();
        let text: String = match &mut case {
            Some(rng) => text.chars().map(|letter| any_case(letter, rng)).collect(),
            None => text.to_owned(),
        };
        let mut name = Name::from_ascii(&text).map_err(|_| bad_name(host))?;
        name.set_fqdn(true);
        let mut wire = Vec::with_capacity(text.len() + 6);
        for label in name.iter() {
            wire.push(label.len() as u8);
            wire.extend_from_slice(label);
        }
        wire.push(0);
        wire.extend(u16::from(record_type(question.kind)).to_be_bytes());
        wire.extend(u16::from(DNSClass::IN).to_be_bytes());
        Ok(Self {
            name,
            kind: question.kind,
            wire,
            is_case_exact,
            asks_for_ad,
        })
    }

    /// The bytes that ask; over TCP with their length before them.
    pub(super) fn encode(&self, sending: Sending) -> Vec<u8> {
        let len = HEADER_LEN + self.wire.len() + if sending.edns { OPT.len() } else { 0 };
        let mut bytes = Vec::with_capacity(2 + len);
        if sending.transport == Transport::Tcp {
            bytes.extend((len as u16).to_be_bytes());
        }
        bytes.extend(sending.id.to_be_bytes());
        bytes.extend([
            RECURSION_DESIRED,
            if self.asks_for_ad { AUTHENTIC } else { 0 },
        ]);
        bytes.extend([0, 1, 0, 0, 0, 0, 0, u8::from(sending.edns)]);
        bytes.extend(&self.wire);
        if sending.edns {
            bytes.extend(OPT);
        }
        bytes
    }

    /// Whether `bytes` repeat the question, and whether in its letters. The first name of a packet
    /// cannot be compressed, and the lengths of labels are no letters, so that it can be compared
    /// as it is.
    fn repeated_in(&self, bytes: &[u8]) -> Repeated {
        let theirs = bytes.get(HEADER_LEN..HEADER_LEN + self.wire.len());
        match theirs {
            Some(theirs) if theirs == self.wire => Repeated::Exactly,
            Some(theirs) => {
                let (name, rest) = theirs.split_at(self.wire.len() - 4);
                let (own, own_rest) = self.wire.split_at(self.wire.len() - 4);
                match name.eq_ignore_ascii_case(own) && rest == own_rest {
                    true => Repeated::InOtherCase,
                    false => Repeated::No,
                }
            }
            None => Repeated::No,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeated {
    Exactly,
    InOtherCase,
    No,
}

fn any_case(letter: char, rng: &mut Rng) -> char {
    match rng.below(2) {
        0 => letter.to_ascii_lowercase(),
        _ => letter.to_ascii_uppercase(),
    }
}

fn record_type(kind: Kind) -> RecordType {
    match kind {
        Kind::A => RecordType::A,
        Kind::Aaaa => RecordType::AAAA,
        Kind::Srv => RecordType::SRV,
        Kind::Https => RecordType::HTTPS,
    }
}

fn bad_name(host: &str) -> Error {
    let message = "not a host name that can be asked for";
    Error::new(ErrorKind::InvalidInput, message).context(format!("resolving {host}"))
}

/// Judges a packet from the server that `query` was sent to. `cut` says that the packet was longer
/// than `bytes`.
pub(super) fn parse(bytes: &[u8], query: &Query, sending: Sending, cut: bool) -> Verdict {
    let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
        return Verdict::Ignore("shorter than a header");
    };
    if u16::from_be_bytes([header[0], header[1]]) != sending.id {
        return Verdict::Foreign;
    }
    let (is_response, opcode) = (header[2] & 0x80 != 0, (header[2] >> 3) & 0xf);
    if !is_response || opcode != 0 {
        return Verdict::Ignore("not a response to a query");
    }
    let code = ResponseCode::from(0, header[3] & 0xf);
    if u16::from_be_bytes([header[4], header[5]]) == 0 {
        // Some servers answer what they do not understand with nothing but a header. It is never
        // an answer, only a reason to ask otherwise.
        return refusal(code, sending.edns).unwrap_or(Verdict::Malformed("no question"));
    }
    match query.repeated_in(bytes) {
        Repeated::Exactly => {}
        // An own connection is proof enough.
        Repeated::InOtherCase if !query.is_case_exact || sending.transport == Transport::Tcp => {}
        Repeated::InOtherCase => return Verdict::Foreign,
        Repeated::No => return Verdict::Ignore("another question"),
    }
    if let Some(verdict) = refusal(code, sending.edns) {
        return verdict;
    }
    let is_oversized = sending.transport == Transport::Udp && bytes.len() > MAX_DATAGRAM;
    if cut || header[2] & 0x02 != 0 || is_oversized {
        return Verdict::Truncated;
    }
    let Ok(scanned) = scan(bytes, record_type(query.kind).into()) else {
        return Verdict::Malformed("it is bent or a bomb");
    };
    let code = ResponseCode::from(scanned.high_code, header[3] & 0xf);
    if let Some(verdict) = refusal(code, sending.edns) {
        return verdict;
    }
    // One malformed record is enough. With the whole set dropped, the host is as it would be without
    // (RFC 9460 section 2.2).
    match Packet::read(bytes, &scanned, query.kind, code) {
        Err(_) if query.kind == Kind::Https => Verdict::NoData { ttl: None },
        Ok(_) if query.kind == Kind::Https && scanned.bent_port => Verdict::NoData { ttl: None },
        Err(Bent) => Verdict::Malformed("it does not decode"),
        Ok(packet) => match records::judge(&packet, query) {
            Verdict::NoData { ttl: None } if is_referral(header, &scanned) => {
                Verdict::Refused("a referral")
            }
            verdict => verdict,
        },
    }
}

/// Whether the packet names servers that may know, and its sender neither is one of those nor asks
/// them. With a SOA it would be an answer (RFC 2308 section 2.2).
fn is_referral(header: &[u8; HEADER_LEN], scanned: &Scanned) -> bool {
    let is_authoritative = header[2] & 0x04 != 0;
    let asks_others = header[3] & 0x80 != 0;
    scanned.names_servers && !is_authoritative && !asks_others
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
        BAD_VERSION => Verdict::Refused("BADVERS"),
        _ => Verdict::Refused("an unexpected response code"),
    };
    Some(verdict)
}

#[cfg(test)]
mod tests;
