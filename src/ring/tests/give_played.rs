//! Two rings of one machine, and connections that go back and forth between them while whatever can
//! go wrong does.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::*;
use crate::machine::net::{ClientEnd, Io, Peer};
use crate::machine::{Fault, Faults, Machine};
use crate::policy::Rng;

const SERVER: ([u8; 4], u16) = ([10, 0, 0, 1], 1);
const SLOTS: u32 = 8;
const CONNECTIONS: u32 = 3;
/// What each connection brings.
const BYTES: usize = 3_000;
/// Turns after which a run has certainly gone wrong.
const MOST_TURNS: usize = 1_000_000;

/// Sends a stream whose every byte tells its position.
struct Stream(usize);

impl Peer for Stream {
    fn accepted(&mut self, io: &mut Io<'_>) {
        io.timer(Duration::from_micros(300), 0);
    }

    fn data(&mut self, _io: &mut Io<'_>, _bytes: &[u8]) {}

    fn ended(&mut self, io: &mut Io<'_>, _how: ClientEnd) {
        io.end();
    }

    fn timer(&mut self, io: &mut Io<'_>, _number: u64) {
        let count = (io.rng.below(60) as usize).min(BYTES - self.0);
        let bytes: Vec<u8> = (self.0..self.0 + count)
            .map(|at| (at % 251) as u8)
            .collect();
        self.0 += count;
        if count > 0 {
            io.send(bytes);
        }
        if self.0 < BYTES {
            let wait = io.rng.below(3_000);
            io.timer(Duration::from_micros(wait), 0);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moves {
    No,
    /// To a slot of the other ring.
    Leaving(Key),
    /// The other ring lets go of its slot.
    Returning(Key),
    /// It was taken: the old ring lets go.
    Taken(Key),
    /// Its owner closes it, and then the other its slot.
    Closing(Option<Key>),
    /// Its owner has closed it.
    Closed(Key),
    Gone,
}

struct Connection {
    ring: usize,
    key: Key,
    moves: Moves,
    at: usize,
}

struct World {
    machine: Machine,
    rings: [Ring; 2],
    rng: Rng,
    connections: Vec<Connection>,
    generations: [Vec<u32>; 2],
    told: BTreeMap<&'static str, usize>,
}

fn faults(rng: &mut Rng) -> Faults {
    let mut faults = Faults::none();
    for fault in [
        Fault::MessageFails,
        Fault::MessageLate,
        Fault::CancelMisses,
        Fault::CancelLate,
        Fault::AnyOrder,
        Fault::MultishotEnds,
        Fault::ShortTransfer,
        Fault::NoBuffer,
        Fault::EnterAgain,
        Fault::EnterBusy,
        Fault::TakesPart,
        Fault::StaleCompletion,
    ] {
        if rng.below(3) == 0 {
            faults.set(fault, 1 + rng.below(3_000) as u16);
        }
    }
    faults
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let machine = Machine::new(seed, faults(&mut rng));
        let to = SERVER.into();
        machine.listen(to, Rc::new(|_| Box::new(Stream(0))));
        let ring = |core| {
            let config = RingConfig {
                max_connections: SLOTS,
                recv_buffers: 4,
                recv_limit: 100,
                ..config()
            };
            let slots = (config.max_connections + config.max_queries) as usize;
            Ring::played(config, machine.kernel(core, slots, 32)).unwrap()
        };
        let mut world = World {
            rings: [ring(0), ring(1)],
            machine,
            rng,
            connections: Vec::new(),
            generations: [vec![0; SLOTS as usize], vec![0; SLOTS as usize]],
            told: BTreeMap::new(),
        };
        for slot in 0..CONNECTIONS {
            world.rings[0].connect(key(slot), to, &SocketOptions::default(), CONNECT);
            let connection = Connection {
                ring: 0,
                key: key(slot),
                moves: Moves::No,
                at: 0,
            };
            world.connections.push(connection);
        }
        world
    }

    /// A free slot of ring `at`, which expects from now on.
    fn expect(&mut self, at: usize) -> Option<Key> {
        let slot = self.rng.below(u64::from(SLOTS)) as usize;
        let key = Key::new(slot as u32, self.generations[at][slot]);
        self.rings[at].expect(key).then_some(key)
    }

    /// The connection that `key` of ring `at` is or will be, and whether it is its owner there.
    fn find(&mut self, at: usize, key: Key) -> (usize, bool) {
        let place = self.connections.iter().position(|it| {
            let target = match it.moves {
                Moves::Leaving(key)
                | Moves::Returning(key)
                | Moves::Taken(key)
                | Moves::Closed(key) => Some(key),
                Moves::Closing(key) => key,
                _ => None,
            };
            (it.ring == at && it.key == key) || (it.ring != at && target == Some(key))
        });
        let place = place.unwrap_or_else(|| panic!("{key:?} of ring {at} is nobody"));
        (place, self.connections[place].ring == at)
    }

    fn take(&mut self, at: usize, event: Event) {
        match event {
            Event::Connected { .. } | Event::Readable { .. } => {}
            Event::Given { key } => {
                let (place, _) = self.find(at, key);
                let taken = self.rng.below(3) > 0;
                let Moves::Leaving(slot) = self.connections[place].moves else {
                    panic!("given, though it does not leave");
                };
                *self.told.entry("given").or_default() += 1;
                if taken {
                    assert!(self.rings[1 - at].adopt(slot));
                    self.connections[place].moves = Moves::Taken(slot);
                    self.rings[at].close(key);
                } else {
                    self.connections[place].moves = Moves::Returning(slot);
                    self.rings[1 - at].unexpect(slot);
                }
            }
            Event::GiveFailed { key, .. } => {
                *self.told.entry("failed").or_default() += 1;
                let (place, _) = self.find(at, key);
                let Moves::Leaving(slot) = self.connections[place].moves else {
                    panic!("failed, though it does not leave");
                };
                self.connections[place].moves = Moves::Returning(slot);
                self.rings[1 - at].unexpect(slot);
            }
            Event::Closed { key } => self.closed(at, key),
            other => panic!("{other:?}"),
        }
    }

    fn closed(&mut self, at: usize, key: Key) {
        let (place, owns) = self.find(at, key);
        self.generations[at][key.index() as usize] += 1;
        let connection = &mut self.connections[place];
        match (connection.moves, owns) {
            (Moves::Returning(_), false) => {
                connection.moves = Moves::No;
                self.rings[1 - at].keep(connection.key);
            }
            (Moves::Taken(slot), true) => {
                (connection.ring, connection.key) = (1 - at, slot);
                connection.moves = Moves::No;
            }
            (Moves::Closing(Some(slot)), true) => {
                // Nothing is on its way to it any more.
                connection.moves = Moves::Closed(slot);
                self.rings[1 - at].unexpect(slot);
            }
            (Moves::Closing(None), true) | (Moves::Closed(_), false) => {
                connection.moves = Moves::Gone;
            }
            other => panic!("closed in {other:?}"),
        }
    }

    /// Something that a user of the rings might do.
    fn act(&mut self) {
        let place = self.rng.below(u64::from(CONNECTIONS)) as usize;
        let Connection {
            ring,
            key,
            moves,
            at,
        } = self.connections[place];
        match (self.rng.below(400), moves) {
            (0..40, Moves::No) if self.rings[ring].is_watching(key) => {
                if let Some(slot) = self.expect(1 - ring) {
                    self.connections[place].moves = Moves::Leaving(slot);
                    let to = self.rings[1 - ring].address().unwrap();
                    self.rings[ring].give(key, to, slot);
                }
            }
            (0, Moves::Leaving(slot)) => {
                self.connections[place].moves = Moves::Closing(Some(slot));
                self.rings[ring].close(key);
            }
            (_, Moves::No) if at == BYTES => {
                self.connections[place].moves = Moves::Closing(None);
                self.rings[ring].close(key);
            }
            _ => {}
        }
    }

    fn read(&mut self) {
        for connection in &mut self.connections {
            let (ring, key) = match connection.moves {
                Moves::Taken(slot) => (1 - connection.ring, slot),
                _ => (connection.ring, connection.key),
            };
            while let Some(chunk) = self.rings[ring].read(key) {
                for byte in chunk.iter() {
                    assert_eq!(*byte, (connection.at % 251) as u8, "at {}", connection.at);
                    connection.at += 1;
                }
            }
        }
    }

    fn turn(&mut self) {
        let at = self.rng.below(2) as usize;
        self.rings[at].reap();
        while let Some(event) = self.rings[at].poll_event() {
            self.take(at, event);
        }
        self.read();
        self.act();
        self.rings[at].submit().unwrap();
        self.rings[at].audit().unwrap();
        if self.rng.below(3) == 0 {
            self.machine.step();
        }
        assert_eq!(self.machine.first_violation(), None);
        let over = |it: &&Connection| matches!(it.moves, Moves::Closed(_) | Moves::Gone);
        let open = self.connections.len() - self.connections.iter().filter(over).count();
        assert!(self.machine.sockets_to(&[SERVER.into()]) <= open, "I13");
    }

    fn run(mut self) -> BTreeMap<&'static str, usize> {
        let over = |it: &Connection| it.moves == Moves::Gone;
        for _ in 0..MOST_TURNS {
            if self.connections.iter().all(over) {
                return self.end();
            }
            self.turn();
        }
        panic!("it goes on for ever");
    }

    fn end(mut self) -> BTreeMap<&'static str, usize> {
        for (core, ring) in self.rings.iter_mut().enumerate() {
            assert!(ring.drain(PATIENCE).clean);
            assert_eq!(self.machine.sockets(core), 0);
            assert_eq!(self.machine.operations(core), 0);
        }
        assert_eq!(self.machine.first_violation(), None);
        for fault in [Fault::MessageFails, Fault::MessageLate] {
            let happened = self.machine.with(|state| state.faults.happened(fault));
            *self.told.entry(fault.name()).or_default() += usize::from(happened);
        }
        self.told
    }
}

#[test]
fn x4_x10_x13_k14_whatever_becomes_of_messages_no_byte_and_no_connection_is_lost() {
    let mut told = BTreeMap::<_, usize>::new();
    for seed in 0..150 {
        struct Failing(u64);
        impl Drop for Failing {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    eprintln!("seed {}", self.0);
                }
            }
        }
        let failing = Failing(seed);
        for (what, count) in World::new(seed).run() {
            *told.entry(what).or_default() += count;
        }
        drop(failing);
    }
    let often = |what: &str| told.get(what).is_some_and(|count| *count > 20);
    assert!(
        ["given", "failed", "MessageFails", "MessageLate"]
            .iter()
            .all(|it| often(it))
    );
}
