//! What a name server sends for a question: true, late, twice, cut, wrong or not at all.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::manner::{Break, Lie, Manner, Rcode};
use super::stream::Stream;
use super::zone::{add_addresses, response};
use super::{Asked, LIE, State, since_beginning};
use crate::machine::net::{self, NameServer, Peer};
use crate::machine::{Fault, Faults};
use crate::policy::Rng;
use crate::time::Tick;

/// How long a late answer takes at most: longer than any patience with one server.
const LATE: u64 = 3_000;
/// How long an answer waits behind what comes first: no packet is overtaken by a later one, unless a
/// fault delays it.
const BEHIND: Duration = Duration::from_millis(1);
/// How long lies may be kept, as they say.
const LIE_TTL: u32 = 3600;
/// What an answer of a fault is padded to: more than a question allows and a buffer holds.
const LONG: usize = 5_000;
/// Where a stream breaks off: in the length, behind it, in the answer.
const MIDDLES: [usize; 4] = [1, 2, 9, 30];

/// The name server as the machine sees it.
pub(super) struct Answers(pub(super) Rc<RefCell<State>>);

/// Messages to send, each after how long.
pub(super) struct Replies {
    pub(super) messages: Vec<(Duration, Vec<u8>)>,
    pub(super) pieces: Option<usize>,
    pub(super) breaks: Option<(usize, Break)>,
}

/// How a question came.
pub(super) struct Came<'a> {
    pub(super) rng: &'a mut Rng,
    pub(super) faults: &'a mut Faults,
    pub(super) now: Tick,
    /// `None` if in a stream.
    pub(super) port: Option<u16>,
}

impl NameServer for Answers {
    fn question(&mut self, asked: &mut net::Asked<'_>, bytes: &[u8]) {
        let came = Came {
            rng: asked.rng,
            faults: asked.faults,
            now: asked.now,
            port: Some(asked.from),
        };
        for (wait, message) in self.0.borrow_mut().replies(came, bytes).messages {
            asked.answer(wait, message);
        }
    }

    fn accept(&mut self) -> Box<dyn Peer> {
        Box::new(Stream::new(self.0.clone()))
    }
}

impl State {
    /// Everything that is to be sent for the question in `bytes`.
    pub(super) fn replies(&mut self, came: Came<'_>, bytes: &[u8]) -> Replies {
        let mut replies = Replies {
            messages: Vec::new(),
            pieces: None,
            breaks: None,
        };
        let Ok(question) = Message::from_vec(bytes) else {
            return replies;
        };
        let Some(query) = question.queries.first() else {
            return replies;
        };
        self.asked.push(Asked {
            at: since_beginning(came.now),
            name: query.name().to_ascii(),
            kind: query.query_type().into(),
            port: came.port,
            edns: question.edns.is_some(),
        });
        let mut manner = self.manner();
        let in_stream = came.port.is_none();
        disturb(&mut manner, came.rng, came.faults, in_stream, bytes);
        replies.pieces = manner.pieces;
        replies.breaks = manner.breaks;
        let messages = &mut replies.messages;
        let first = manner.first.iter().cloned();
        messages.extend(first.map(|bytes| (Duration::ZERO, bytes)));
        let lies = manner.lies.iter();
        let lies = lies.filter_map(|how| lie(&question, *how, came.rng)?.to_vec().ok());
        messages.extend(lies.map(|bytes| (Duration::ZERO, bytes)));
        if manner.silent {
            return replies;
        }
        let answer = self.answer(&question, &manner, in_stream);
        if !messages.is_empty() {
            manner.wait = manner.wait.max(BEHIND);
        }
        for _ in 0..1 + usize::from(manner.twice) {
            messages.push((manner.wait, answer.clone()));
        }
        replies
    }

    fn answer(&self, question: &Message, manner: &Manner, in_stream: bool) -> Vec<u8> {
        let old = manner.old.filter(|_| question.edns.is_some());
        if let Some(code) = old.or(manner.code) {
            return failure(question, code, manner.header, old.is_some());
        }
        let mut answer = self.zone.answer(question);
        if manner.cut && (!in_stream || manner.cut_in_streams) {
            answer = named_lie(question);
            answer.metadata.truncation = true;
        }
        if manner.lies.contains(&Lie::Owner) {
            // Records of another owner may come with the right ones; they answer nothing.
            let strays = stray(question).answers;
            answer.answers.extend(strays);
        }
        let mut bytes = answer.to_vec().unwrap_or_default();
        while bytes.len() < manner.at_least {
            let text = TXT::new(vec!["x".repeat(255)]);
            let name = Name::from_ascii("padding.test.").unwrap_or_default();
            let padding = Record::from_rdata(name, 0, RData::TXT(text));
            answer.additionals.push(padding);
            match answer.to_vec() {
                Ok(longer) if longer.len() > bytes.len() => bytes = longer,
                _ => break,
            }
        }
        bytes
    }
}

/// Adds what the world's faults do to a question.
fn disturb(manner: &mut Manner, rng: &mut Rng, faults: &mut Faults, stream: bool, bytes: &[u8]) {
    let mut hit = |fault| faults.hit(rng, fault);
    if hit(Fault::NameForged) {
        manner.lies.extend([Lie::Id; 3]);
    }
    if hit(Fault::NameOther) {
        manner.lies.extend([Lie::Name, Lie::Kind, Lie::Owner]);
    }
    if hit(Fault::NameShort) {
        manner.first.extend([Vec::new(), bytes[..7].to_vec()]);
    }
    let (fails, refuses) = (hit(Fault::NameFails), hit(Fault::NameUnwilling));
    let (header, old) = (hit(Fault::NameHeader), hit(Fault::NameOld));
    manner.twice |= hit(Fault::NameTwice);
    manner.cut |= hit(Fault::NameCut);
    manner.cut_in_streams |= stream && hit(Fault::NameCutInStream);
    manner.cut |= manner.cut_in_streams;
    let (late, bent) = (hit(Fault::NameLate), hit(Fault::NameBent));
    if !stream && hit(Fault::NameLong) {
        manner.at_least = LONG;
    }
    if stream && hit(Fault::NameInPieces) {
        manner.pieces = Some(1);
    }
    let breaks = stream && hit(Fault::NameBreaksOff);
    if fails || header {
        manner.code = Some(Rcode::ServFail);
        manner.header |= header;
    }
    if refuses {
        manner.code = Some(Rcode::Refused);
    }
    if old {
        let codes = [Rcode::FormErr, Rcode::NotImp, Rcode::BadVers];
        manner.old = Some(codes[rng.below(3) as usize]);
        manner.header |= rng.below(2) == 0;
    }
    if late {
        manner.wait += Duration::from_millis(1 + rng.below(LATE));
    }
    if bent {
        manner.first.push(bend(bytes, rng));
    }
    if breaks {
        let how = [Break::Stall, Break::End, Break::Reset][rng.below(3) as usize];
        let after = MIDDLES[rng.below(MIDDLES.len() as u64) as usize];
        manner.breaks = Some((after, how));
    }
}

/// The question, made a response and then bent: counts that are not true, a name that points at
/// itself, or bytes that were never a message.
fn bend(question: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = question.to_vec();
    let Some(header) = bytes.get_mut(..12) else {
        return bytes;
    };
    header[2] |= 0x80;
    match rng.below(3) {
        0 => header[4..].fill(0xFF),
        1 => {
            // The answer's owner is a pointer to itself.
            header[6..8].copy_from_slice(&[0, 1]);
            let at = bytes.len() as u16 | 0xC000;
            bytes.extend(at.to_be_bytes());
            bytes.extend([0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 203, 0, 113, 66]);
        }
        _ => bytes[12..]
            .iter_mut()
            .for_each(|byte| *byte = rng.below(256) as u8),
    }
    bytes
}

/// An answer that names [`LIE`].
fn named_lie(question: &Message) -> Message {
    let mut lie = response(question);
    if let Some(query) = question.queries.first() {
        let (owner, kind) = (query.name(), query.query_type());
        add_addresses(&mut lie, owner, kind, &[LIE], LIE_TTL);
    }
    lie
}

/// Only a record of somebody else's.
fn stray(question: &Message) -> Message {
    let mut stray = named_lie(question);
    for record in &mut stray.answers {
        record.name = Name::from_ascii("other.test.").unwrap_or_default();
    }
    stray
}

fn lie(question: &Message, how: Lie, rng: &mut Rng) -> Option<Message> {
    let mut lie = named_lie(question);
    let query = lie.queries.first_mut()?;
    match how {
        Lie::Id => {
            lie.metadata.id = rng.below(1 << 16) as u16;
            if lie.metadata.id == question.metadata.id {
                return None;
            }
        }
        Lie::Name => {
            let _ = query.set_name(Name::from_ascii("other.test.").ok()?);
        }
        Lie::Kind => {
            let other = match query.query_type() {
                RecordType::A => RecordType::AAAA,
                _ => RecordType::A,
            };
            let _ = query.set_query_type(other);
        }
        // It comes with the answer.
        Lie::Owner => return None,
    }
    Some(lie)
}

/// `code` instead of an answer.
fn failure(question: &Message, code: Rcode, header: bool, old: bool) -> Vec<u8> {
    let mut failure = response(question);
    failure.metadata.response_code = match code {
        Rcode::FormErr => ResponseCode::FormErr,
        Rcode::ServFail => ResponseCode::ServFail,
        Rcode::NotImp => ResponseCode::NotImp,
        Rcode::Refused => ResponseCode::Refused,
        Rcode::BadVers if question.edns.is_some() => ResponseCode::BADVERS,
        Rcode::BadVers => ResponseCode::FormErr,
    };
    let is_badvers = failure.metadata.response_code == ResponseCode::BADVERS;
    if old && !is_badvers {
        failure.edns = None;
    }
    if header && !is_badvers {
        failure.queries.clear();
        failure.edns = None;
    }
    failure.to_vec().unwrap_or_default()
}
