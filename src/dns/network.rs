//! Bytes, played as what the network does to a lookup. A fuzzer looks for bytes that break what a
//! lookup promises: no panic, an end by the deadline, three sends at most to each server over each
//! transport, one close for each send, and no record that does not belong to the question.
//!
//! The first byte says what is asked and how. Then come events: two bytes of kind and length, and
//! for an answer that many bytes. The id and the question of an answer are put right, unless its
//! kind says not to: nothing else would ever be looked at.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::Message;
use hickory_proto::rr::{DNSClass, Name, RData, Record};

use super::record::{Answer, Kind, Question, Records};
use super::{Action, Health, Lookup, QueryId, ResolverConfig, Transport};
use crate::time::Tick;

const HEADER_LEN: usize = 12;
const TOTAL: Duration = Duration::from_secs(5);

struct Open {
    query: QueryId,
    transport: Transport,
    /// The datagram that asked, without a length.
    bytes: Vec<u8>,
}

struct Play {
    kind: Kind,
    lookup: Lookup,
    health: Health,
    now: Tick,
    open: Vec<Open>,
    sends: Vec<(SocketAddr, Transport)>,
    closed: usize,
    /// The last message that was handed in, as a whole.
    last: Vec<u8>,
    done: bool,
}

/// Plays `bytes`; a broken promise panics.
pub(crate) fn play(bytes: &[u8]) {
    let Some((&flags, mut rest)) = bytes.split_first() else {
        return;
    };
    let mut play = Play::new(flags);
    while let [kind, len, after @ ..] = rest {
        let len = usize::from(kind & 0x1f) << 8 | usize::from(*len);
        let (packet, after) = after.split_at(len.min(after.len()));
        rest = after;
        play.event(kind >> 5, packet);
    }
    play.end();
}

impl Play {
    fn new(flags: u8) -> Self {
        let kind = match flags & 3 {
            0 => Kind::A,
            1 => Kind::Aaaa,
            2 => Kind::Srv,
            _ => Kind::Https,
        };
        let mut config = ResolverConfig::parse(b"nameserver 192.0.2.1\nnameserver 192.0.2.2");
        config.use_tcp = flags & 4 != 0;
        config.edns = flags & 8 == 0;
        config.randomize_case = flags & 16 != 0;
        config.rotate = flags & 32 != 0;
        let question = Question {
            name: "www.example.test".into(),
            kind,
        };
        let (now, health) = (Tick::ZERO, Health::new());
        let lookup = Lookup::new(now, &question, &config, &health, now.plus(TOTAL), 7);
        let mut play = Self {
            kind,
            lookup: lookup.expect("the name can be asked for"),
            health,
            now,
            open: Vec::new(),
            sends: Vec::new(),
            closed: 0,
            last: Vec::new(),
            done: false,
        };
        play.act();
        play
    }

    fn event(&mut self, kind: u8, packet: &[u8]) {
        let Some(to) = self.open.last() else {
            return self.wait();
        };
        let (query, transport) = (to.query, to.transport);
        match kind {
            0 => self.wait(),
            1 => {
                let errno = packet.first().map_or(0, |&errno| i32::from(errno));
                let health = &mut self.health;
                self.lookup.handle_failed(self.now, health, query, errno);
            }
            // As it is, also in pieces and cut.
            2 | 3 => {
                self.last = Vec::new();
                let cut = kind == 3;
                self.hand_in(query, packet, cut);
            }
            _ => {
                let message = answer(&to.bytes, packet);
                self.last.clone_from(&message);
                match transport {
                    Transport::Udp => self.hand_in(query, &message, false),
                    Transport::Tcp => {
                        let len = (message.len() as u16).to_be_bytes();
                        let size = if kind == 7 { 1 } else { 50 };
                        for piece in [&len[..], &message].concat().chunks(size) {
                            self.hand_in(query, piece, false);
                        }
                    }
                }
            }
        }
        self.act();
    }

    fn hand_in(&mut self, query: QueryId, bytes: &[u8], cut: bool) {
        let health = &mut self.health;
        self.lookup
            .handle_bytes(self.now, health, query, bytes, cut);
    }

    fn wait(&mut self) {
        if let Some(next) = self.lookup.poll_timeout() {
            assert!(next > self.now, "a timer in the past");
            self.now = next;
            self.lookup.handle_timeout(next, &mut self.health);
            self.act();
        }
    }

    fn end(&mut self) {
        for _ in 0..50 {
            self.wait();
        }
        assert!(self.done, "without an end");
        assert!(self.now <= Tick::ZERO.plus(TOTAL), "after the deadline");
        assert_eq!(self.sends.len(), self.closed);
    }

    fn act(&mut self) {
        while let Some(action) = self.lookup.poll_action() {
            assert!(!self.done, "{action:?} after the end");
            match action {
                Action::Send {
                    query,
                    server,
                    transport,
                    mut bytes,
                } => {
                    if transport == Transport::Tcp {
                        bytes.drain(..2);
                    }
                    self.open.push(Open {
                        query,
                        transport,
                        bytes,
                    });
                    self.sends.push((server, transport));
                    let same = self.sends.iter().filter(|it| **it == (server, transport));
                    assert!(same.count() <= 3, "asked too often");
                }
                Action::Close { query } => {
                    let before = self.open.len();
                    self.open.retain(|open| open.query != query);
                    assert_eq!(self.open.len() + 1, before, "closed what is not open");
                    self.closed += 1;
                }
                Action::Done { answer, .. } => {
                    assert!(self.open.is_empty(), "ended with sockets open");
                    self.done = true;
                    if let Answer::Found { records, .. } = answer {
                        self.judge(&records);
                    }
                }
            }
        }
    }

    /// Whether `records` belong to the question, by another way than the lookup's.
    fn judge(&self, records: &Records) {
        let bounds = 1..=super::MAX_ADDRESSES;
        match records {
            Records::Addresses(all) => assert!(bounds.contains(&all.len())),
            Records::Services(all) => {
                assert!(bounds.contains(&all.len()));
                let is_usable = |port: u16, target: &Option<Box<str>>| match target {
                    Some(target) => port != 0 && is_host(target),
                    None => true,
                };
                assert!(all.iter().all(|it| is_usable(it.port, &it.target)));
            }
            Records::Bindings(all) => {
                assert!(bounds.contains(&all.len()));
                assert!(all.iter().all(|it| it.port != Some(0)));
                let targets = all.iter().filter_map(|it| it.target.as_deref());
                assert!(targets.into_iter().all(is_host));
            }
            Records::Given(all) => panic!("the user's own answer to a packet: {all:?}"),
        }
        // The decoder reads more than the lookup needs, and may fail where that is bent.
        if let Ok(message) = Message::from_vec(&self.last) {
            let owned = owned(&message);
            for address in addresses(records) {
                let is_it = |it: &&Record| it.data.ip_addr() == Some(address);
                let is_own = message.answers.iter().filter(is_it);
                let is_own = is_own.filter(|it| it.dns_class == DNSClass::IN);
                assert!(is_own.into_iter().any(|it| owned.contains(&it.name)));
                assert_eq!(address.is_ipv4(), self.kind == Kind::A);
            }
        }
    }
}

/// An answer to the query `asked`: flags and counts of `packet`, the question, the rest of it.
fn answer(asked: &[u8], packet: &[u8]) -> Vec<u8> {
    // The name as it was sent, which ends at the first 0, its type and class.
    let name = &asked[HEADER_LEN..];
    let len = name
        .iter()
        .position(|&byte| byte == 0)
        .map_or(0, |at| at + 5);
    let mut header = [0; HEADER_LEN];
    let given = packet.len().min(HEADER_LEN);
    header[..given].copy_from_slice(&packet[..given]);
    header[..2].copy_from_slice(&asked[..2]);
    header[2] = header[2] & 0x07 | 0x80;
    header[4..6].copy_from_slice(&[0, 1]);
    // A packet that came from a real answer has the question already.
    let rest = packet.get(HEADER_LEN..).unwrap_or_default();
    let rest = match rest.get(..len) {
        Some(there) if there.eq_ignore_ascii_case(&name[..len]) => &rest[len..],
        _ => rest,
    };
    [&header, &name[..len], rest].concat()
}

/// The names that the aliases of `message` reach from its question.
fn owned(message: &Message) -> HashSet<&Name> {
    let mut owned: HashSet<&Name> = message.queries.iter().map(|query| query.name()).collect();
    loop {
        let before = owned.len();
        for record in &message.answers {
            if let RData::CNAME(to) = &record.data
                && record.dns_class == DNSClass::IN
                && owned.contains(&record.name)
            {
                owned.insert(&to.0);
            }
        }
        if owned.len() == before {
            return owned;
        }
    }
}

fn addresses(records: &Records) -> Vec<IpAddr> {
    match records {
        Records::Addresses(all) => all.to_vec(),
        Records::Services(_) | Records::Bindings(_) | Records::Given(_) => Vec::new(),
    }
}

fn is_host(name: &str) -> bool {
    let is_allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    (1..=253).contains(&name.len()) && name.bytes().all(is_allowed) && !name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An answer with one record, whose owner is `owner`.
    fn one_address(owner: u8) -> Vec<u8> {
        let mut packet = vec![0, 0, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
        packet.extend([0xc0, owner, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
        packet
    }

    #[test]
    fn answers_are_reached_and_the_rule_for_owners_is_looked_at() {
        let packet = one_address(12);
        let mut play = Play::new(0);
        play.event(4, &packet);
        assert!(play.done);
        let mut play = Play::new(0);
        play.event(4, &one_address(16));
        assert!(play.done, "another owner is an answer without addresses");
        let message = answer(&[b'a'; 12], &[]);
        assert_eq!(message.len(), HEADER_LEN);
        // Handed what nobody answered, it complains.
        let mut play = Play::new(0);
        play.last = answer(&play.open[0].bytes, &one_address(16));
        let stray = Records::Addresses([IpAddr::from([192, 0, 2, 1])].into());
        let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            play.judge(&stray);
        }));
        assert!(judged.is_err());
    }

    proptest! {
        #[test]
        fn d11_no_bytes_break_what_a_lookup_promises(
            bytes in proptest::collection::vec(
                prop_oneof![Just(0u8), Just(0xc0), Just(12), 0x80u8..0x84, 0u8..70, any::<u8>()],
                0..400),
        ) {
            play(&bytes);
        }
    }
}
