//! One question against scripted servers.

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::*;
use crate::dns::record::Kind;
use crate::error::ErrorKind;

mod plan;
mod tcp;
mod verdicts;

/// A lookup with the queries that it has open.
pub(super) struct World {
    pub(super) lookup: Lookup,
    pub(super) health: Health,
    pub(super) now: Tick,
    pub(super) open: Vec<Open>,
    pub(super) sends: Vec<(SocketAddr, Transport, u64)>,
    pub(super) closed: usize,
    pub(super) done: Option<Answer>,
    /// When what ended it was sent.
    pub(super) done_of: Tick,
}

#[derive(Debug, Clone)]
pub(super) struct Open {
    pub(super) query: QueryId,
    pub(super) server: SocketAddr,
    pub(super) transport: Transport,
    pub(super) message: Message,
}

pub(super) const ONE: &str = "nameserver 192.0.2.1";
pub(super) const TWO: &str = "nameserver 192.0.2.1\nnameserver 192.0.2.2";
pub(super) const FIRST: &str = "192.0.2.1:53";
pub(super) const SECOND: &str = "192.0.2.2:53";

pub(super) fn at_millis(millis: u64) -> Tick {
    Tick::ZERO.plus(Duration::from_millis(millis))
}

pub(super) fn config(servers: &str) -> ResolverConfig {
    ResolverConfig::parse(format!("options timeout:2 attempts:2\n{servers}").as_bytes())
}

pub(super) fn question(kind: Kind) -> Question {
    let name = "a.test".into();
    Question { name, kind }
}

impl World {
    pub(super) fn new(servers: &str) -> Self {
        Self::with(&config(servers), Kind::A, Health::new())
    }

    pub(super) fn with(config: &ResolverConfig, kind: Kind, health: Health) -> Self {
        let deadline = Tick::ZERO.plus(Duration::from_secs(5));
        let lookup =
            Lookup::new(Tick::ZERO, &question(kind), config, &health, deadline, 7).unwrap();
        Self::of(lookup, health)
    }

    pub(super) fn of(lookup: Lookup, health: Health) -> Self {
        let mut world = Self {
            lookup,
            health,
            now: Tick::ZERO,
            open: Vec::new(),
            sends: Vec::new(),
            closed: 0,
            done: None,
            done_of: Tick::ZERO,
        };
        world.run();
        world
    }

    /// Does what the lookup wants, and checks its promise about the order.
    pub(super) fn run(&mut self) {
        while let Some(action) = self.lookup.poll_action() {
            assert!(self.done.is_none(), "{action:?} after the end");
            match action {
                Action::Send {
                    query,
                    server,
                    transport,
                    bytes,
                } => {
                    let bytes = match transport {
                        Transport::Udp => &bytes[..],
                        Transport::Tcp => unframed(&bytes),
                    };
                    let message = Message::from_vec(bytes).unwrap();
                    let at = self.now.since(Tick::ZERO).as_millis() as u64;
                    self.sends.push((server, transport, at));
                    self.open.push(Open {
                        query,
                        server,
                        transport,
                        message,
                    });
                }
                Action::Close { query } => {
                    let before = self.open.len();
                    self.open.retain(|open| open.query != query);
                    assert_eq!(self.open.len() + 1, before, "closed twice");
                    self.closed += 1;
                }
                Action::Done { answer, asked } => {
                    assert!(self.open.is_empty(), "ended with sockets open");
                    self.done = Some(answer);
                    self.done_of = asked;
                }
            }
        }
    }

    /// The query that was sent last.
    pub(super) fn asked(&self) -> Open {
        self.open.last().expect("not asked").clone()
    }

    pub(super) fn bytes(&mut self, to: &Open, bytes: &[u8], cut: bool) {
        let health = &mut self.health;
        self.lookup
            .handle_bytes(self.now, health, to.query, bytes, cut);
        self.run();
    }

    pub(super) fn reply(&mut self, to: &Open, change: impl FnOnce(&mut Message)) {
        let bytes = response(to, change);
        match to.transport {
            Transport::Udp => self.bytes(to, &bytes, false),
            Transport::Tcp => self.bytes(to, &framed(&bytes), false),
        }
    }

    pub(super) fn answer(&mut self, ttl: u32) {
        let to = self.asked();
        self.reply(&to, |message| add_address(message, ttl));
    }

    pub(super) fn code(&mut self, code: ResponseCode) {
        let to = self.asked();
        self.reply(&to, |message| message.metadata.response_code = code);
    }

    pub(super) fn truncate(&mut self) {
        let to = self.asked();
        self.reply(&to, |message| {
            add_address(message, 60);
            message.metadata.truncation = true;
        });
    }

    pub(super) fn fail(&mut self, to: &Open, errno: i32) {
        let health = &mut self.health;
        self.lookup.handle_failed(self.now, health, to.query, errno);
        self.run();
    }

    /// Lets time pass to the next timer.
    pub(super) fn wait(&mut self) {
        let next = self.lookup.poll_timeout().expect("nothing to wait for");
        assert!(next > self.now, "a timer in the past");
        self.now = next;
        self.lookup.handle_timeout(next, &mut self.health);
        self.run();
    }

    pub(super) fn wait_for_the_end(&mut self) {
        for _ in 0..100 {
            if self.done.is_some() {
                return;
            }
            self.wait();
        }
        panic!("it does not end");
    }

    /// The TTL of what was found, which is the address of [`add_address`].
    pub(super) fn found(&self) -> u64 {
        let expected: [std::net::IpAddr; 1] = [[198, 51, 100, 1].into()];
        match self.done.as_ref().expect("no end") {
            Answer::Found {
                records: super::super::Records::Addresses(addresses),
                ttl,
                ..
            } if **addresses == expected => ttl.as_secs(),
            answer => panic!("{answer:?}"),
        }
    }

    pub(super) fn error(&self) -> String {
        match self.done.as_ref().expect("no end") {
            Answer::Failed(error) => {
                assert_eq!(error.kind(), ErrorKind::Resolve);
                error.to_string()
            }
            answer => panic!("{answer:?}"),
        }
    }

    pub(super) fn servers(&self) -> Vec<(String, u64)> {
        let sends = self.sends.iter();
        sends
            .map(|(server, _, at)| (server.to_string(), *at))
            .collect()
    }
}

pub(super) fn response(to: &Open, change: impl FnOnce(&mut Message)) -> Vec<u8> {
    let mut message = to.message.clone();
    message.metadata.message_type = MessageType::Response;
    message.edns = None;
    change(&mut message);
    message.to_vec().unwrap()
}

pub(super) fn framed(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

fn unframed(bytes: &[u8]) -> &[u8] {
    let (len, rest) = bytes.split_first_chunk().unwrap();
    assert_eq!(usize::from(u16::from_be_bytes(*len)), rest.len());
    rest
}

pub(super) fn add_address(message: &mut Message, ttl: u32) {
    let data = match message.queries[0].query_type() {
        RecordType::A => RData::A(A::new(198, 51, 100, 1)),
        _ => RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    };
    let owner = message.queries[0].name().clone();
    message.add_answer(Record::from_rdata(owner, ttl, data));
}

pub(super) fn add_soa(message: &mut Message, ttl: u32) {
    let root = Name::root();
    let soa = SOA::new(root.clone(), root.clone(), 1, 1, 1, 1, ttl);
    message.add_authority(Record::from_rdata(root, ttl, RData::SOA(soa)));
}
