//! What all name servers of a world know, and the true answers that follow from it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NULL, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// How long a negative answer may be kept, in seconds.
const NEGATIVE: u32 = 5;
/// Other names that an answer goes through.
const MOST_LINKS: usize = 64;

/// The names that all name servers know.
#[derive(Clone, Default)]
pub(in crate::sim) struct Zone(Rc<RefCell<BTreeMap<String, Entry>>>);

#[derive(Clone, Default)]
struct Entry {
    addresses: Vec<IpAddr>,
    ttl: u32,
    /// The first label of the name that this one is another name for.
    alias: Option<Vec<u8>>,
    /// The name that this one is another name for, which has its own records.
    link: Option<(Name, u32)>,
    others: Vec<(RData, u32)>,
}

fn key(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn seconds(ttl: Duration) -> u32 {
    u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX)
}

impl Zone {
    fn change(&self, name: &str, change: impl FnOnce(&mut Entry)) {
        change(self.0.borrow_mut().entry(key(name)).or_default());
    }

    pub(in crate::sim) fn set(&self, name: &str, addresses: &[IpAddr], ttl: Duration) {
        self.change(name, |entry| {
            entry.addresses = addresses.to_vec();
            entry.ttl = seconds(ttl);
            entry.alias = None;
            entry.link = None;
        });
    }

    /// Makes a known name an alias of the one with this label under `test.`.
    pub(in crate::sim) fn set_alias(&self, name: &str, label: &[u8]) {
        if let Some(entry) = self.0.borrow_mut().get_mut(&key(name)) {
            entry.alias = Some(label.to_vec());
        }
    }

    /// Makes a name another name for `target`, which answers for itself.
    pub(in crate::sim) fn set_link(&self, name: &str, target: Name, ttl: Duration) {
        self.change(name, |entry| entry.link = Some((target, seconds(ttl))));
    }

    /// The name has this SRV record as well.
    pub(in crate::sim) fn add_srv(&self, name: &str, record: SRV, ttl: Duration) {
        let record = (RData::SRV(record), seconds(ttl));
        self.change(name, |entry| entry.others.push(record));
    }

    /// The name has this record as well, of any type.
    pub(in crate::sim) fn add_record(&self, name: &str, kind: u16, data: &[u8], ttl: Duration) {
        let data = RData::Unknown {
            code: RecordType::from(kind),
            rdata: NULL::with(data.to_vec()),
        };
        self.change(name, |entry| entry.others.push((data, seconds(ttl))));
    }

    pub(in crate::sim) fn remove(&self, name: &str) {
        self.0.borrow_mut().remove(&key(name));
    }

    fn find(&self, name: &Name) -> Option<Entry> {
        self.0.borrow().get(&key(&name.to_ascii())).cloned()
    }

    /// The true answer to `question`.
    pub(super) fn answer(&self, question: &Message) -> Message {
        let mut answer = response(question);
        let Some(query) = question.queries.first() else {
            return answer;
        };
        let (mut owner, kind) = (query.name().clone(), query.query_type());
        let mut entry = self.find(&owner);
        for _ in 0..MOST_LINKS {
            let Some((target, ttl)) = entry.as_ref().and_then(|it| it.link.clone()) else {
                break;
            };
            let data = RData::CNAME(CNAME(target.clone()));
            answer.answers.push(Record::from_rdata(owner, ttl, data));
            owner = target;
            entry = self.find(&owner);
        }
        let Some(entry) = entry else {
            answer.metadata.response_code = ResponseCode::NXDomain;
            add_soa(&mut answer);
            return answer;
        };
        let target = entry.alias.as_deref();
        if let Some(target) = target.and_then(|it| Name::from_labels([it, b"test"]).ok()) {
            let data = RData::CNAME(CNAME(target.clone()));
            let link = Record::from_rdata(owner, entry.ttl, data);
            answer.answers.push(link);
            owner = target;
        }
        let links = answer.answers.len();
        add_addresses(&mut answer, &owner, kind, &entry.addresses, entry.ttl);
        let others = entry
            .others
            .iter()
            .filter(|(it, _)| it.record_type() == kind);
        let others = others.map(|(it, ttl)| Record::from_rdata(owner.clone(), *ttl, it.clone()));
        answer.answers.extend(others);
        if answer.answers.len() == links {
            add_soa(&mut answer);
        }
        answer
    }
}

/// An answer to `question` with nothing in it.
pub(super) fn response(question: &Message) -> Message {
    let mut message = question.clone();
    message.metadata.message_type = MessageType::Response;
    message.metadata.recursion_available = true;
    message.additionals.clear();
    message
}

/// Adds those of the addresses that are of the kind asked for.
pub(super) fn add_addresses(
    message: &mut Message,
    owner: &Name,
    kind: RecordType,
    addresses: &[IpAddr],
    ttl: u32,
) {
    for address in addresses {
        let data = match (address, kind) {
            (IpAddr::V4(v4), RecordType::A) => RData::A(A(*v4)),
            (IpAddr::V6(v6), RecordType::AAAA) => RData::AAAA(AAAA(*v6)),
            _ => continue,
        };
        let record = Record::from_rdata(owner.clone(), ttl, data);
        message.answers.push(record);
    }
}

fn add_soa(message: &mut Message) {
    let zone = Name::from_ascii("test.").unwrap_or_default();
    let soa = SOA::new(zone.clone(), zone.clone(), 1, 1, 1, 1, NEGATIVE);
    let record = Record::from_rdata(zone, NEGATIVE, RData::SOA(soa));
    message.authorities.push(record);
}
