//! The names of a world, and the name servers that know them: they answer, late or twice or
//! wrongly as the world's faults say.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::machine::Fault;
use crate::machine::net::{Asked, NameServer};

/// What forged answers say. Nobody may ever dial it.
pub(super) const FORGED: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 66));
/// How long a negative answer may be kept.
const NEGATIVE: u32 = 5;

/// The names that all name servers know.
#[derive(Clone, Default)]
pub(super) struct Zone(Rc<RefCell<BTreeMap<String, Entry>>>);

#[derive(Clone)]
struct Entry {
    addresses: Vec<IpAddr>,
    ttl: u32,
    /// The first label of the name that this one is another name for.
    alias: Option<Vec<u8>>,
}

impl Zone {
    pub(super) fn set(&self, name: &str, addresses: &[IpAddr], ttl: Duration) {
        let ttl = u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX);
        let addresses = addresses.to_vec();
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let entry = Entry {
            addresses,
            ttl,
            alias: None,
        };
        self.0.borrow_mut().insert(name, entry);
    }

    /// Makes a known name an alias of the one with this label under `test.`.
    pub(super) fn set_alias(&self, name: &str, label: &[u8]) {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if let Some(entry) = self.0.borrow_mut().get_mut(&name) {
            entry.alias = Some(label.to_vec());
        }
    }

    fn find(&self, name: &Name) -> Option<Entry> {
        let text = name.to_ascii();
        let text = text.trim_end_matches('.').to_ascii_lowercase();
        self.0.borrow().get(&text).cloned()
    }
}

/// A name server of the world.
pub(super) struct Answers {
    pub(super) zone: Zone,
}

impl NameServer for Answers {
    fn question(&mut self, asked: &mut Asked<'_>, bytes: &[u8]) {
        let Ok(question) = Message::from_vec(bytes) else {
            return;
        };
        let at_once = Duration::ZERO;
        let mut hit = |fault| asked.faults.hit(asked.rng, fault);
        let (forged, other, short) = (
            hit(Fault::NameForged),
            hit(Fault::NameOther),
            hit(Fault::NameShort),
        );
        let (fails, twice) = (hit(Fault::NameFails), hit(Fault::NameTwice));
        if forged {
            let mut lie = answer(&question, Some(&[FORGED]), 3600);
            for _ in 0..3 {
                lie.metadata.id = asked.rng.below(1 << 16) as u16;
                if lie.metadata.id != question.metadata.id {
                    send(asked, at_once, &lie);
                }
            }
        }
        if other {
            let mut lie = answer(&question, Some(&[FORGED]), 3600);
            if let (Some(query), Ok(name)) =
                (lie.queries.first_mut(), Name::from_ascii("other.test."))
            {
                query.set_name(name);
                send(asked, at_once, &lie);
            }
        }
        if short {
            asked.answer(at_once, Vec::new());
            asked.answer(at_once, bytes.iter().copied().take(7).collect());
        }
        if fails {
            let mut failed = answer(&question, Some(&[]), 0);
            failed.metadata.response_code = ResponseCode::ServFail;
            return send(asked, at_once, &failed);
        }
        let found = question
            .queries
            .first()
            .and_then(|it| self.zone.find(it.name()));
        let mut truth = match &found {
            Some(entry) => alias(answer(&question, Some(&entry.addresses), entry.ttl), entry),
            None => answer(&question, None, NEGATIVE),
        };
        if let (true, Ok(stranger)) = (other && found.is_some(), Name::from_ascii("other.test.")) {
            // Records of another owner may come with the right ones; they answer nothing.
            let lie = answer(&question, Some(&[FORGED]), 3600).answers.into_iter();
            truth.answers.extend(lie.map(|mut record| {
                record.name = stranger.clone();
                record
            }));
        }
        for _ in 0..1 + u32::from(twice) {
            send(asked, at_once, &truth);
        }
    }
}

fn send(asked: &mut Asked<'_>, wait: Duration, message: &Message) {
    if let Ok(bytes) = message.to_vec() {
        asked.answer(wait, bytes);
    }
}

/// The answer by way of the alias, if the name is one.
fn alias(mut answer: Message, entry: &Entry) -> Message {
    let target = entry.alias.as_deref();
    let target = target.and_then(|label| Name::from_labels([label, b"test"]).ok());
    let (Some(target), Some(query)) = (target, answer.queries.first()) else {
        return answer;
    };
    let data = RData::CNAME(CNAME(target.clone()));
    let first = Record::from_rdata(query.name().clone(), entry.ttl, data);
    for record in &mut answer.answers {
        record.name = target.clone();
    }
    answer.answers.insert(0, first);
    answer
}

/// The answer to `question`: these addresses, as far as they are of the kind asked for, or that
/// there is no such name.
fn answer(question: &Message, addresses: Option<&[IpAddr]>, ttl: u32) -> Message {
    let mut message = question.clone();
    message.metadata.message_type = MessageType::Response;
    message.metadata.recursion_available = true;
    message.additionals.clear();
    let Some(query) = question.queries.first() else {
        return message;
    };
    let name = query.name().clone();
    for address in addresses.unwrap_or_default() {
        let data = match (address, query.query_type()) {
            (IpAddr::V4(v4), RecordType::A) => RData::A(A(*v4)),
            (IpAddr::V6(v6), RecordType::AAAA) => RData::AAAA(AAAA(*v6)),
            _ => continue,
        };
        message
            .answers
            .push(Record::from_rdata(name.clone(), ttl, data));
    }
    if addresses.is_none() {
        message.metadata.response_code = ResponseCode::NXDomain;
    }
    if message.answers.is_empty() {
        let zone = Name::from_ascii("test.").unwrap_or_default();
        let soa = SOA::new(zone.clone(), zone.clone(), 1, 1, 1, 1, NEGATIVE);
        message
            .authorities
            .push(Record::from_rdata(zone, NEGATIVE, RData::SOA(soa)));
    }
    message
}
