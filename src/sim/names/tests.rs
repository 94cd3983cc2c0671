use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

use super::{LIE, Lie, Manner, NameServer, Rcode, Zone};
use crate::config::Config;
use crate::machine::{Fault, Faults, Machine, Step};
use crate::policy::Rng;
use crate::ring::{Event, Ring, RingConfig, Transport};
use crate::slot::Key;

const TTL: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(5);
const ID: u16 = 0x1234;

fn address() -> IpAddr {
    IpAddr::from([10, 0, 0, 1])
}

/// A name server, and one core's ring to ask it.
struct Rig {
    machine: Machine,
    server: NameServer,
    ring: Ring,
}

impl Rig {
    fn new(faults: Faults) -> Self {
        Self::of_seed(1, faults)
    }

    fn of_seed(seed: u64, faults: Faults) -> Self {
        let machine = Machine::new(seed, faults);
        let zone = Zone::default();
        zone.set("service.test", &[address()], TTL);
        let server = NameServer::start(&machine, ([10, 53, 0, 1], 53).into(), zone);
        let config = RingConfig::from(&Config::default());
        let slots = config.max_connections + config.max_queries;
        let kernel = machine.kernel(0, slots as usize, 256);
        let ring = Ring::played(config, kernel).unwrap();
        Self {
            machine,
            server,
            ring,
        }
    }

    fn ask(&mut self, transport: Transport, question: Vec<u8>) -> Key {
        let bytes = match transport {
            Transport::Udp => question,
            Transport::Tcp => framed(&question),
        };
        let asked = self
            .ring
            .query(self.server.address(), transport, bytes, &[4000, 4001]);
        asked.unwrap()
    }

    /// The next event within the patience.
    fn next(&mut self) -> Option<Event> {
        let end = self.machine.now().plus(PATIENCE);
        loop {
            self.ring.submit().unwrap();
            self.ring.reap();
            if let Some(event) = self.ring.poll_event() {
                return Some(event);
            }
            let waits = !self.ring.has_completions() && self.ring.queued() == 0;
            if waits && (self.machine.step() == Step::Stuck || self.machine.now() > end) {
                return None;
            }
        }
    }

    /// All bytes that come, and the failure that ends them if one does.
    fn all(&mut self) -> (Vec<Vec<u8>>, Option<i32>) {
        let mut came = Vec::new();
        loop {
            match self.next() {
                Some(Event::QueryBytes { bytes, .. }) => came.push(bytes),
                Some(Event::QueryFailed { errno, .. }) => return (came, Some(errno)),
                Some(other) => panic!("{other:?}"),
                None => return (came, None),
            }
        }
    }

    fn close(&mut self, key: Key) {
        self.ring.close_query(key);
        assert!(matches!(self.next(), Some(Event::QueryClosed { key: closed }) if closed == key));
        assert!(self.next().is_none());
        assert_eq!(
            (self.machine.sockets(0), self.machine.operations(0)),
            (0, 0)
        );
        assert_eq!(self.machine.first_violation(), None);
    }

    /// What comes for a question over UDP, then closes it.
    fn udp(&mut self) -> (Vec<Vec<u8>>, Option<i32>) {
        let key = self.ask(Transport::Udp, question("service.test"));
        let all = self.all();
        self.close(key);
        all
    }

    /// What comes for a question over TCP, put together.
    fn tcp(&mut self) -> (Vec<u8>, Option<i32>) {
        let key = self.ask(Transport::Tcp, question("service.test"));
        let (came, failure) = self.all();
        self.close(key);
        (came.concat(), failure)
    }
}

fn question(name: &str) -> Vec<u8> {
    let mut message = Message::new(ID, MessageType::Query, OpCode::Query);
    let name = Name::from_ascii(format!("{name}.")).unwrap();
    message.add_query(Query::query(name, RecordType::A));
    message.set_edns(Edns::new());
    message.to_vec().unwrap()
}

fn framed(message: &[u8]) -> Vec<u8> {
    let len = u16::try_from(message.len()).unwrap();
    [&len.to_be_bytes()[..], message].concat()
}

/// The addresses of a message that a resolver may believe.
fn addresses(message: &[u8]) -> Vec<IpAddr> {
    let message = Message::from_vec(message).unwrap();
    assert_eq!(message.metadata.id, ID);
    let answers = message.answers.iter();
    answers
        .filter_map(|record| match &record.data {
            RData::A(it) => Some(it.0.into()),
            _ => None,
        })
        .collect()
}

/// The messages of a stream.
fn messages(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk() {
        let (message, rest) = rest.split_at(usize::from(u16::from_be_bytes(*len)));
        messages.push(message.to_vec());
        bytes = rest;
    }
    messages
}

#[test]
fn it_answers_over_both_transports_and_says_what_it_was_asked() {
    let mut rig = Rig::new(Faults::none());
    let (came, failure) = rig.udp();
    assert_eq!((came.len(), failure), (1, None));
    assert_eq!(addresses(&came[0]), [address()]);
    let (came, failure) = rig.tcp();
    assert_eq!(failure, None);
    let came = messages(&came);
    assert_eq!(came.len(), 1);
    assert_eq!(addresses(&came[0]), [address()]);
    let asked = rig.server.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!((asked[0].port, asked[1].port), (Some(4000), None));
    for asked in asked {
        assert_eq!(
            (&*asked.name, asked.kind, asked.edns),
            ("service.test.", 1, true)
        );
    }
}

#[test]
fn d38_ports_that_are_taken_or_forbidden_cost_no_question() {
    for fault in [Fault::PortTaken, Fault::PortForbidden] {
        let mut faults = Faults::none();
        faults.set(fault, 10_000);
        let mut rig = Rig::new(faults);
        let (came, failure) = rig.udp();
        assert_eq!((came.len(), failure), (1, None));
        let port = rig.server.asked()[0].port.unwrap();
        assert!(![0, 4000, 4001].contains(&port), "{port}");
        assert!(rig.machine.with(|state| state.faults.happened(fault)));
    }
}

#[test]
fn it_refuses_vanishes_and_comes_back() {
    let mut rig = Rig::new(Faults::none());
    rig.server.refuse();
    assert_eq!(rig.udp(), (vec![], Some(libc::ECONNREFUSED)));
    assert_eq!(rig.tcp(), (vec![], Some(libc::ECONNREFUSED)));
    rig.server.vanish();
    assert_eq!(rig.udp(), (vec![], None));
    assert_eq!(rig.tcp(), (vec![], None));
    assert!(rig.server.asked().is_empty());
    rig.server.come_back();
    assert_eq!(rig.udp().0.len(), 1);
    assert!(!rig.tcp().0.is_empty());
}

#[test]
fn answers_are_cut_and_streams_refused_or_lost() {
    let mut rig = Rig::new(Faults::none());
    rig.server.set(Manner::new().cut());
    let (came, _) = rig.udp();
    let cut = Message::from_vec(&came[0]).unwrap();
    assert!(cut.metadata.truncation);
    assert_eq!(addresses(&came[0]), [LIE]);
    let whole = messages(&rig.tcp().0);
    assert_eq!(addresses(&whole[0]), [address()]);
    rig.server.set(Manner::new().cut_everywhere());
    let cut = messages(&rig.tcp().0);
    assert!(Message::from_vec(&cut[0]).unwrap().metadata.truncation);
    rig.server.refuse_streams();
    assert_eq!(rig.tcp(), (vec![], Some(libc::ECONNREFUSED)));
    assert_eq!(rig.udp().0.len(), 1);
    rig.server.lose_streams();
    assert_eq!(rig.tcp(), (vec![], None));
    assert_eq!(rig.udp().0.len(), 1);
}

#[test]
fn a_stream_comes_in_pieces_stalls_ends_or_is_reset() {
    let mut rig = Rig::new(Faults::none());
    rig.server.set(Manner::new().in_pieces(1));
    let key = rig.ask(Transport::Tcp, question("service.test"));
    let (pieces, failure) = rig.all();
    rig.close(key);
    assert!(failure.is_none() && pieces.iter().all(|piece| piece.len() == 1));
    assert_eq!(addresses(&messages(&pieces.concat())[0]), [address()]);
    for after in [0, 1, 2, 9] {
        rig.server.set(Manner::new().stall_after(after));
        let (came, failure) = rig.tcp();
        assert_eq!((came.len(), failure), (after, None));
        rig.server.set(Manner::new().end_after(after));
        let (came, failure) = rig.tcp();
        assert_eq!((came.len(), failure), (after, Some(0)));
        rig.server.set(Manner::new().reset_after(after));
        let (came, failure) = rig.tcp();
        assert!(came.len() <= after);
        assert_eq!(failure, Some(libc::ECONNRESET));
    }
}

#[test]
fn answers_come_late_twice_and_after_other_things() {
    let mut rig = Rig::new(Faults::none());
    let manner = Manner::new().first("junk").twice();
    rig.server.set(manner.wait(Duration::from_millis(700)));
    let began = rig.machine.now();
    let key = rig.ask(Transport::Udp, question("service.test"));
    assert!(matches!(rig.next(), Some(Event::QueryBytes { bytes, .. }) if bytes == b"junk"));
    assert!(rig.machine.now().since(began) < Duration::from_millis(10));
    let (came, _) = rig.all();
    assert_eq!(came.len(), 2);
    assert_eq!(came[0], came[1]);
    rig.close(key);
    let came = messages(&rig.tcp().0);
    assert_eq!((came.len(), &came[0][..]), (3, &b"junk"[..]));
    rig.server.set(Manner::new().silent());
    assert_eq!(rig.udp(), (vec![], None));
}

#[test]
fn lies_differ_from_the_answer_in_what_they_say() {
    let mut rig = Rig::new(Faults::none());
    for lie in [Lie::Id, Lie::Name, Lie::Kind] {
        rig.server.next(Manner::new().lie(lie));
        let (came, _) = rig.udp();
        assert_eq!(came.len(), 2, "{lie:?}");
        let told = Message::from_vec(&came[0]).unwrap();
        let query = &told.queries[0];
        let right = (
            told.metadata.id == ID,
            query.name().to_ascii() == "service.test.",
            query.query_type() == RecordType::A,
        );
        let expected = (lie != Lie::Id, lie != Lie::Name, lie != Lie::Kind);
        assert_eq!(right, expected);
        assert_eq!(addresses(&came[1]), [address()]);
    }
    rig.server.next(Manner::new().lie(Lie::Owner));
    let (came, _) = rig.udp();
    let told = Message::from_vec(&came[0]).unwrap();
    assert_eq!(told.answers.len(), 2);
    assert_eq!(told.answers[1].name.to_ascii(), "other.test.");
    // Each only once.
    assert_eq!(addresses(&rig.udp().0[0]), [address()]);
}

#[test]
fn it_says_why_it_does_not_answer() {
    let mut rig = Rig::new(Faults::none());
    let codes = [
        (Rcode::FormErr, ResponseCode::FormErr),
        (Rcode::ServFail, ResponseCode::ServFail),
        (Rcode::NotImp, ResponseCode::NotImp),
        (Rcode::Refused, ResponseCode::Refused),
        (Rcode::BadVers, ResponseCode::BADVERS),
    ];
    for (code, told) in codes {
        rig.server.next(Manner::new().code(code));
        let came = Message::from_vec(&rig.udp().0[0]).unwrap();
        assert_eq!(u16::from(came.metadata.response_code), u16::from(told));
        assert_eq!(came.queries.len(), 1);
        rig.server.next(Manner::new().old(code));
        let came = Message::from_vec(&rig.udp().0[0]).unwrap();
        assert_eq!(u16::from(came.metadata.response_code), u16::from(told));
        assert_eq!(came.edns.is_some(), code == Rcode::BadVers);
    }
    rig.server
        .next(Manner::new().code(Rcode::ServFail).header_only());
    assert_eq!(rig.udp().0[0].len(), 12);
}

#[test]
fn an_answer_can_be_longer_than_anybody_asked_for() {
    let mut rig = Rig::new(Faults::none());
    rig.server.set(Manner::new().at_least(50_000));
    let key = rig.ask(Transport::Udp, question("service.test"));
    match rig.next() {
        Some(Event::QueryBytes {
            bytes, truncated, ..
        }) => assert!(truncated && bytes.len() < 50_000),
        other => panic!("{other:?}"),
    }
    rig.close(key);
    let whole = messages(&rig.tcp().0);
    assert!(whole[0].len() >= 50_000);
    assert_eq!(addresses(&whole[0]), [address()]);
}

/// Questions over both transports in a world where anything goes wrong, closed at any moment.
fn ask_and_close(seed: u64) -> Faults {
    let mut rng = Rng::new(seed);
    let mut faults = Faults::draw(&mut rng);
    faults.set(Fault::RingDies, 0);
    let mut rig = Rig::of_seed(seed, faults);
    let mut open = Vec::new();
    for _ in 0..1 + rng.below(8) {
        let transport = match rng.below(3) {
            0 => Transport::Udp,
            _ => Transport::Tcp,
        };
        open.push((rig.ask(transport, question("service.test")), false));
        for _ in 0..rng.below(3) * rng.below(30) {
            rig.ring.submit().unwrap();
            rig.machine.step();
            rig.ring.reap();
            while let Some(event) = rig.ring.poll_event() {
                let (key, fails) = match event {
                    Event::QueryBytes { key, .. } => (key, false),
                    Event::QueryFailed { key, .. } => (key, true),
                    other => panic!("{other:?}"),
                };
                let (_, failed) = open.iter_mut().find(|(it, _)| *it == key).unwrap();
                assert!(!*failed, "something is told after a failure");
                *failed = fails;
            }
        }
    }
    let mut closing: Vec<Key> = open.into_iter().map(|(key, _)| key).collect();
    for key in &closing {
        rig.ring.close_query(*key);
    }
    while let Some(event) = rig.next() {
        match event {
            Event::QueryClosed { key } => closing.retain(|it| *it != key),
            other => panic!("{other:?}"),
        }
    }
    assert!(closing.is_empty(), "{closing:?} do not close");
    assert_eq!((rig.machine.sockets(0), rig.machine.operations(0)), (0, 0));
    assert_eq!(rig.machine.first_violation(), None);
    let (available, count) = rig.ring.buffers();
    assert_eq!(available, count);
    rig.machine.with(|state| state.faults.clone())
}

#[test]
fn d38_k14_whatever_goes_wrong_a_closed_question_leaves_nothing() {
    let mut missing: Vec<Fault> = [
        Fault::PortTaken,
        Fault::PortForbidden,
        Fault::NameStreamRefused,
        Fault::NameStreamLost,
        Fault::NameInPieces,
        Fault::NameBreaksOff,
        Fault::NameCutInStream,
        Fault::NameLong,
        Fault::NameBent,
        Fault::CancelMisses,
        Fault::CancelLate,
        Fault::AnyOrder,
        Fault::NoBuffer,
        Fault::MultishotEnds,
    ]
    .into();
    for seed in 0..1_000 {
        let faults = std::panic::catch_unwind(|| ask_and_close(seed));
        let faults = faults.unwrap_or_else(|panic| {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        });
        missing.retain(|fault| !faults.happened(*fault));
    }
    assert!(missing.is_empty(), "{missing:?} never happened");
}

#[test]
fn names_lead_to_other_names_and_have_other_records() {
    let mut rig = Rig::new(Faults::none());
    let world = crate::sim::World::new(1).unwrap();
    world.set_name("last.test", &[address()], TTL);
    world.set_cname("first.test", "last.test", TTL).unwrap();
    world
        .add_srv("_x._tcp.test", (1, 2, 3), "last.test", TTL)
        .unwrap();
    world.add_record("last.test", 65, &[0, 1, 0], TTL);
    let ask = |name: &str, kind: u16| {
        let mut asked = Message::from_vec(&question(name)).unwrap();
        asked.queries[0].set_query_type(kind.into());
        let answer = world.zone.answer(&asked);
        Message::from_vec(&answer.to_vec().unwrap()).unwrap()
    };
    let linked = ask("first.test", 1);
    assert_eq!(linked.answers.len(), 2);
    assert_eq!(linked.answers[0].record_type(), RecordType::CNAME);
    assert_eq!(ask("_x._tcp.test", 33).answers.len(), 1);
    assert_eq!(ask("last.test", 65).answers.len(), 1);
    let none = ask("last.test", 28);
    assert_eq!((none.answers.len(), none.authorities.len()), (0, 1));
    assert_eq!(none.metadata.response_code, ResponseCode::NoError);
    world.remove_name("last.test");
    let gone = ask("first.test", 1);
    assert_eq!(gone.metadata.response_code, ResponseCode::NXDomain);
    assert!(world.set_cname("x.test", "..", TTL).is_err());
    assert_eq!(rig.udp().0.len(), 1);
}
