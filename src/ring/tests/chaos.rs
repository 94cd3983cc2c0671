//! Everything at random, and in the end everything is back.

use std::io::Write;

use super::*;
use crate::ring::OwnedBuf;

/// A small generator, so that a failing run can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Model {
    Free,
    Connecting,
    Open,
    Closing,
}

struct World {
    ring: Ring,
    states: Vec<(Model, u32)>,
    given: usize,
    back: usize,
    chunks: Vec<crate::ring::Chunk>,
}

impl World {
    fn key(&self, slot: usize) -> Key {
        Key::new(slot as u32, self.states[slot].1)
    }

    /// What happened must be allowed by the model.
    fn take(&mut self, event: Event) {
        let check = |world: &mut World, key: Key, allowed: &[Model], next: Model| {
            let slot = key.index() as usize;
            assert_eq!(world.key(slot), key, "an event of an earlier tenant");
            let (state, generation) = world.states[slot];
            assert!(allowed.contains(&state), "{key:?} in {state:?}");
            let generation = generation + u32::from(next == Model::Free);
            world.states[slot] = (next, generation);
        };
        match event {
            Event::Connected { key } => check(self, key, &[Model::Connecting], Model::Open),
            Event::ConnectFailed { key, .. } => {
                check(self, key, &[Model::Connecting], Model::Free);
            }
            Event::Closed { key } => check(self, key, &[Model::Closing], Model::Free),
            Event::WriteDone { .. } => self.back += 1,
            Event::Watched { key }
            | Event::Readable { key }
            | Event::Ended { key, .. }
            | Event::Writable { key }
            | Event::WriteFailed { key, .. } => check(self, key, &[Model::Open], Model::Open),
            Event::Fatal { error } => panic!("{error}"),
            _ => {}
        }
    }

    fn events(&mut self) {
        while let Some(event) = self.ring.poll_event() {
            self.take(event);
        }
    }
}

#[test]
fn k4_k14_two_thousand_random_ends_leave_nothing() {
    for (seed, plain_sockets) in [(1, false), (2, false), (3, true)] {
        let tweaks = Tweaks {
            plain_sockets,
            completions: Some(64),
            ..Tweaks::default()
        };
        let config = RingConfig {
            entries: 16,
            ..config()
        };
        run(seed, Ring::with(config, &tweaks).unwrap());
    }
}

fn run(seed: u64, ring: Ring) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ seed);
    let (listener, address) = listener();
    listener.set_nonblocking(true).unwrap();
    let (_deaf, refused) = deaf();
    let mut world = World {
        ring,
        states: vec![(Model::Free, 0); 16],
        given: 0,
        back: 0,
        chunks: Vec::new(),
    };
    let mut peers = Vec::new();
    let mut closes = 0;
    while closes < 2000 {
        let slot = random.below(16) as usize;
        let key = world.key(slot);
        let ring = &mut world.ring;
        match (random.below(10), world.states[slot].0) {
            (_, Model::Free) => {
                let to = if random.below(8) == 0 {
                    refused
                } else {
                    address
                };
                ring.connect(key, to, &options(), CONNECT);
                world.states[slot].0 = Model::Connecting;
            }
            (0, Model::Connecting) | (0..2, Model::Open) => {
                ring.close(key);
                world.states[slot].0 = Model::Closing;
                closes += 1;
            }
            (2, Model::Open) => {
                let _ = ring.write(key, &[slot as u8; 5000]);
            }
            (3, Model::Open) => {
                let buf = OwnedBuf::new(vec![slot as u8; 20_000]);
                world.given += usize::from(ring.write_owned(key, buf).is_ok());
            }
            (4..6, Model::Open) => world.chunks.extend(ring.read(key)),
            (6, Model::Open) if random.below(20) == 0 => ring.shutdown_write(key),
            (7, _) => world.chunks.clear(),
            (8, _) => ring.submit().unwrap(),
            _ => {
                ring.reap();
                world.events();
            }
        }
        if let Ok((peer, _)) = listener.accept() {
            peer.set_nonblocking(true).unwrap();
            peers.push(peer);
        }
        if !peers.is_empty() {
            let at = random.below(peers.len() as u64) as usize;
            match random.below(20) {
                0 => drop(peers.swap_remove(at)),
                _ => drop(peers[at].write(&[at as u8; 2000])),
            }
        }
    }
    end(world);
}

fn end(mut world: World) {
    world.events();
    for slot in 0..world.states.len() {
        let key = world.key(slot);
        if world.states[slot].0 != Model::Free {
            world.ring.close(key);
            world.states[slot].0 = Model::Closing;
        }
    }
    while world.states.iter().any(|state| state.0 != Model::Free) {
        let event = world.ring.next();
        world.take(event);
    }
    world.events();
    assert_eq!(world.given, world.back, "buffers of the user's");
    world.chunks.clear();
    world.ring.assert_clean();
    assert!(world.ring.drain(PATIENCE).clean);
}
