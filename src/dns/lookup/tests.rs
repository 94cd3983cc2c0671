//! Lookups against scripted servers.

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use proptest::prelude::*;

use super::*;

/// A lookup with the queries that it has open.
struct World {
    lookup: Lookup,
    now: Tick,
    open: Vec<Open>,
    sends: usize,
    closed: usize,
    done: Option<Result<Found, Failed>>,
}

#[derive(Clone)]
struct Open {
    query: QueryId,
    server: SocketAddr,
    message: Message,
}

const V4: RecordType = RecordType::A;
const V6: RecordType = RecordType::AAAA;

fn at_millis(millis: u64) -> Tick {
    Tick::ZERO.plus(Duration::from_millis(millis))
}

impl World {
    fn new(servers: &str) -> Self {
        let text = format!("{servers}\noptions timeout:2 attempts:2");
        let config = ResolverConfig::parse(text.as_bytes());
        let deadline = Tick::ZERO.plus(Duration::from_secs(5));
        let lookup = Lookup::new(Tick::ZERO, "a.test", &config, deadline, 7).unwrap();
        let mut world = Self {
            lookup,
            now: Tick::ZERO,
            open: Vec::new(),
            sends: 0,
            closed: 0,
            done: None,
        };
        world.run();
        world
    }

    fn one() -> Self {
        Self::new("nameserver 192.0.2.1")
    }

    fn two() -> Self {
        Self::new("nameserver 192.0.2.1\nnameserver 192.0.2.2")
    }

    /// Does what the lookup wants, and checks its promise about the order.
    fn run(&mut self) {
        while let Some(action) = self.lookup.poll_action() {
            assert!(self.done.is_none(), "{action:?} after the end");
            match action {
                Action::Send {
                    query,
                    server,
                    bytes,
                } => {
                    let message = Message::from_vec(&bytes).unwrap();
                    self.sends += 1;
                    self.open.push(Open {
                        query,
                        server,
                        message,
                    });
                }
                Action::Close { query } => {
                    let before = self.open.len();
                    self.open.retain(|open| open.query != query);
                    assert_eq!(self.open.len() + 1, before, "closed twice");
                    self.closed += 1;
                }
                Action::Done(result) => {
                    assert!(self.open.is_empty(), "ended with sockets open");
                    self.done = Some(result);
                }
            }
        }
    }

    /// The query for `kind` that was sent last.
    fn asked(&self, kind: RecordType) -> Open {
        let is_of = |open: &&Open| open.message.queries[0].query_type() == kind;
        self.open.iter().rfind(is_of).expect("not asked").clone()
    }

    fn reply(&mut self, to: &Open, change: impl FnOnce(&mut Message)) {
        let mut message = to.message.clone();
        message.metadata.message_type = MessageType::Response;
        message.edns = None;
        change(&mut message);
        let bytes = message.to_vec().unwrap();
        self.lookup
            .handle_datagram(self.now, to.query, &bytes, false);
        self.run();
    }

    fn answer(&mut self, kind: RecordType, ttl: u32) {
        let to = self.asked(kind);
        self.reply(&to, |message| add_address(message, kind, ttl));
    }

    fn code(&mut self, kind: RecordType, code: ResponseCode) {
        let to = self.asked(kind);
        self.reply(&to, |message| message.metadata.response_code = code);
    }

    fn nodata(&mut self, kind: RecordType, ttl: u32) {
        let to = self.asked(kind);
        self.reply(&to, |message| add_soa(message, ttl));
    }

    /// Lets time pass to the next timer.
    fn wait(&mut self) {
        let next = self.lookup.poll_timeout().expect("nothing to wait for");
        assert!(next > self.now, "a timer in the past");
        self.now = next;
        self.lookup.handle_timeout(next);
        self.run();
    }

    fn wait_for_the_end(&mut self) {
        for _ in 0..100 {
            if self.done.is_some() {
                return;
            }
            self.wait();
        }
        panic!("it does not end");
    }

    fn found(&self) -> (Vec<String>, u64) {
        let found = self.done.as_ref().expect("no end").as_ref().unwrap();
        let addresses = found.addresses.iter().map(ToString::to_string);
        (addresses.collect(), found.ttl.as_secs())
    }

    fn error(&self) -> String {
        let failed = self.done.as_ref().expect("no end").as_ref().unwrap_err();
        assert_eq!(failed.error.kind(), ErrorKind::Resolve);
        failed.error.to_string()
    }

    fn absent(&self) -> Option<u64> {
        let failed = self.done.as_ref().expect("no end").as_ref().unwrap_err();
        failed.absent.map(|ttl| ttl.as_secs())
    }
}

fn add_address(message: &mut Message, kind: RecordType, ttl: u32) {
    let data = match kind {
        RecordType::A => RData::A(A::new(198, 51, 100, 1)),
        _ => RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    };
    let owner = message.queries[0].name().clone();
    message.add_answer(Record::from_rdata(owner, ttl, data));
}

fn add_soa(message: &mut Message, ttl: u32) {
    let root = Name::root();
    let soa = SOA::new(root.clone(), root.clone(), 1, 1, 1, 1, ttl);
    message.add_authority(Record::from_rdata(root, ttl, RData::SOA(soa)));
}

#[test]
fn both_families_are_asked_at_once_and_both_are_found() {
    let mut world = World::one();
    assert_eq!(world.open.len(), 2);
    assert_ne!(
        world.asked(V4).message.metadata.id,
        world.asked(V6).message.metadata.id
    );
    world.answer(V4, 60);
    world.answer(V6, 30);
    assert_eq!(
        world.found(),
        (vec!["2001:db8::1".into(), "198.51.100.1".into()], 30)
    );
    assert_eq!(world.lookup.poll_timeout(), None);
    assert_eq!((world.sends, world.closed), (2, 2));
}

#[test]
fn d28_a_family_that_stays_silent_costs_50_ms_and_is_soon_asked_again() {
    let mut world = World::one();
    world.now = at_millis(10);
    world.answer(V4, 3600);
    assert_eq!(world.lookup.poll_timeout(), Some(at_millis(60)));
    world.wait();
    assert_eq!(world.found(), (vec!["198.51.100.1".into()], 30));
}

#[test]
fn d21_one_family_without_addresses_is_not_the_absence_of_the_name() {
    let mut world = World::one();
    world.nodata(V6, 60);
    assert!(world.done.is_none());
    world.answer(V4, 3600);
    assert_eq!(world.found(), (vec!["198.51.100.1".into()], 3600));
}

#[test]
fn no_addresses_at_all_is_an_error_that_may_be_kept() {
    let mut world = World::one();
    world.nodata(V6, 60);
    world.nodata(V4, 20);
    assert_eq!(
        world.error(),
        "no addresses (NODATA from 192.0.2.1:53), resolving a.test"
    );
    assert_eq!(world.absent(), Some(20));
}

#[test]
fn no_such_name_is_believed_unless_the_other_family_knows_better() {
    let mut world = World::one();
    world.code(V6, ResponseCode::NXDomain);
    assert!(world.done.is_none());
    world.wait();
    assert_eq!(world.now, at_millis(50));
    assert_eq!(
        world.error(),
        "no such name (NXDOMAIN from 192.0.2.1:53), resolving a.test"
    );
    assert_eq!(world.absent(), Some(0));
    let mut world = World::one();
    world.code(V6, ResponseCode::NXDomain);
    world.answer(V4, 60);
    assert_eq!(world.found().0, ["198.51.100.1"]);
}

#[test]
fn d1_where_nobody_listens_the_next_server_is_asked_at_once() {
    let mut world = World::two();
    for kind in [V4, V6] {
        let asked = world.asked(kind);
        world.lookup.handle_failed(world.now, asked.query, 111);
        world.run();
        assert_eq!(world.asked(kind).server.to_string(), "192.0.2.2:53");
        let asked = world.asked(kind);
        world.lookup.handle_failed(world.now, asked.query, 111);
        world.run();
    }
    assert_eq!(
        world.error(),
        "connection refused (os error 111), asking 192.0.2.2:53, resolving a.test"
    );
    assert_eq!((world.absent(), world.sends), (None, 4));
}

#[test]
fn d2_silence_ends_at_the_deadline_and_is_not_absence() {
    let mut world = World::two();
    world.wait_for_the_end();
    assert_eq!(world.now, at_millis(5000));
    assert_eq!(
        world.error(),
        "no answer from 2 servers within 5 s, resolving a.test"
    );
    assert_eq!((world.absent(), world.sends, world.closed), (None, 8, 8));
}

#[test]
fn d2_half_an_absence_is_not_absence() {
    let mut world = World::one();
    world.nodata(V6, 60);
    world.wait_for_the_end();
    assert_eq!(
        world.error(),
        "no answer from 192.0.2.1:53 within 4 s, resolving a.test"
    );
    assert_eq!(world.absent(), None);
}

#[test]
fn d3_lost_packets_are_sent_again_and_each_server_is_asked_in_turn() {
    let mut world = World::two();
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(world.asked(V4).server.to_string());
        world.wait();
    }
    assert_eq!(servers, ["192.0.2.1:53", "192.0.2.2:53", "192.0.2.1:53"]);
    world.answer(V4, 60);
    world.answer(V6, 60);
    assert_eq!(world.found().0.len(), 2);
}

#[test]
fn d4_d5_a_late_answer_counts_while_its_socket_is_open_and_only_once() {
    let mut world = World::two();
    let first = world.asked(V4);
    world.wait();
    world.reply(&first, |message| add_address(message, V4, 60));
    assert!(
        world
            .open
            .iter()
            .all(|open| open.message.queries[0].query_type() == V6)
    );
    world.reply(&first, |message| add_address(message, V4, 1));
    world.answer(V6, 60);
    assert_eq!(world.found().1, 60);
    world.reply(&first, |message| add_address(message, V4, 1));
    world.lookup.handle_timeout(at_millis(9000));
    world.run();
}

#[test]
fn d6_d8_d29_s1_a_datagram_that_answers_something_else_changes_nothing() {
    let mut world = World::one();
    let (v4, v6) = (world.asked(V4), world.asked(V6));
    let timeout = world.lookup.poll_timeout();
    for id in 0..1000 {
        let wrong = v4.message.metadata.id.wrapping_add(1 + id);
        world.reply(&v4, |message| {
            add_address(message, V4, 60);
            message.metadata.id = wrong;
        });
    }
    // The answer for the other family, with the right id, on this one's socket.
    let swapped = v6.message.queries[0].clone();
    world.reply(&v4, |message| {
        message.queries = vec![swapped];
        add_address(message, V6, 60);
    });
    for bytes in [&b""[..], b"x", &[0xff; 100]] {
        world
            .lookup
            .handle_datagram(world.now, v4.query, bytes, false);
    }
    world.run();
    assert_eq!(
        (world.open.len(), world.lookup.poll_timeout()),
        (2, timeout)
    );
}

#[test]
fn d18_a_server_that_does_not_know_edns_is_asked_plainly_once() {
    let mut world = World::one();
    assert!(world.asked(V4).message.edns.is_some());
    world.code(V4, ResponseCode::FormErr);
    assert!(world.asked(V4).message.edns.is_none());
    assert_eq!(world.asked(V4).server.to_string(), "192.0.2.1:53");
    world.code(V4, ResponseCode::FormErr);
    world.nodata(V6, 60);
    assert_eq!(
        world.error(),
        "server refused (FORMERR from 192.0.2.1:53), resolving a.test"
    );
    assert_eq!(world.sends, 3);
}

#[test]
fn d10_d20_a_failing_server_is_left_for_the_next() {
    let mut world = World::two();
    world.code(V4, ResponseCode::ServFail);
    world.code(V6, ResponseCode::Refused);
    assert_eq!(world.asked(V4).server.to_string(), "192.0.2.2:53");
    world.answer(V4, 60);
    world.answer(V6, 60);
    assert_eq!(world.found().0.len(), 2);
    let mut world = World::two();
    for kind in [V6, V6, V4, V4] {
        world.code(kind, ResponseCode::ServFail);
    }
    assert_eq!(world.now, Tick::ZERO);
    assert_eq!(
        world.error(),
        "server failure (SERVFAIL from 192.0.2.2:53), resolving a.test"
    );
    assert_eq!(world.absent(), None);
}

#[test]
fn d20_a_late_refusal_leaves_the_query_under_way_alone() {
    let mut world = World::two();
    let first = world.asked(V4);
    world.wait();
    let sends = world.sends;
    world.reply(&first, |message| {
        message.metadata.response_code = ResponseCode::ServFail
    });
    assert_eq!(world.sends, sends);
    world.wait();
    // The first server's second turn is left out.
    let again = world.open.iter().filter(|open| {
        open.server.to_string() == "192.0.2.1:53" && open.message.queries[0].query_type() == V4
    });
    assert_eq!(again.count(), 0);
}

#[test]
fn d15_a_truncated_answer_leads_to_the_next_server_and_an_error_that_says_so() {
    let mut world = World::two();
    for kind in [V4, V6] {
        for _ in 0..2 {
            let to = world.asked(kind);
            world.reply(&to, |message| {
                add_address(message, kind, 60);
                message.metadata.truncation = true;
            });
        }
    }
    assert_eq!(
        world.error(),
        "answer truncated (TC from 192.0.2.2:53), and only UDP is spoken, resolving a.test"
    );
}

#[test]
fn ids_do_not_repeat_while_they_are_open_and_differ_by_seed() {
    let sent = |id| Sent {
        query: QueryId(0),
        ask: 0,
        server: 0,
        id,
        edns: true,
    };
    let (first, mut again) = (Ids(1).next(&[]), Ids(1));
    assert_ne!(again.next(&[sent(first)]), first);
    assert_ne!(Ids(2).next(&[]), first);
}

#[test]
fn a_deadline_that_has_passed_ends_it_before_it_begins() {
    let config = ResolverConfig::default();
    let mut lookup = Lookup::new(at_millis(9), "a.test", &config, at_millis(1), 0).unwrap();
    assert!(matches!(lookup.poll_action(), Some(Action::Done(Err(_)))));
    assert!(lookup.poll_action().is_none());
    let error = Lookup::new(Tick::ZERO, "a b", &config, Tick::NEVER, 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

proptest! {
    #[test]
    fn every_lookup_ends_by_its_deadline_whatever_the_servers_do(
        script in proptest::collection::vec((0u8..9, any::<bool>()), 0..60),
    ) {
        let mut world = World::two();
        for (step, is_v4) in script {
            let kind = if is_v4 { V4 } else { V6 };
            let open = |open: &Open| open.message.queries[0].query_type() == kind;
            if world.done.is_some() {
                break;
            }
            let Some(to) = world.open.iter().find(|found| open(found)).cloned() else {
                world.wait();
                continue;
            };
            match step {
                0 => world.answer(kind, 60),
                1 => world.nodata(kind, 60),
                2 => world.code(kind, ResponseCode::NXDomain),
                3 => world.code(kind, ResponseCode::ServFail),
                4 => world.reply(&to, |m| m.metadata.response_code = ResponseCode::FormErr),
                5 => world.reply(&to, |m| m.metadata.truncation = true),
                6 => {
                    world.lookup.handle_failed(world.now, to.query, 113);
                    world.run();
                }
                7 => world.reply(&to, |m| m.metadata.id ^= 1),
                _ => world.wait(),
            }
        }
        world.wait_for_the_end();
        prop_assert!(world.now <= at_millis(5000));
        prop_assert_eq!(world.sends, world.closed);
        // Two servers, two attempts, two families, and each exchange once more without EDNS.
        prop_assert!(world.sends <= 16);
    }
}
