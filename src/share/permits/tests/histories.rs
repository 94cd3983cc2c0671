//! Random histories of gifts between shards, beside what the shards themselves know.

use proptest::prelude::*;

use super::*;

const SHARDS: usize = 4;

/// What the shards themselves know, against which the account is compared.
#[derive(Default)]
struct World {
    epochs: [u32; SHARDS],
    /// Connections, those that are being given included.
    own: [u32; SHARDS],
    slots: u32,
    /// The slot that a shard keeps for nobody else.
    expected: [Option<Key>; SHARDS],
    /// By giver, until that has asked.
    claims: Vec<(usize, Claim)>,
    /// Under way to their receivers, also when the giver has given up or has ended since.
    parcels: Vec<(ShardId, Claim)>,
    /// Taken, and the giver has not heard.
    taken: Vec<(usize, Claim)>,
}

impl World {
    fn id(&self, index: usize) -> ShardId {
        ShardId::new(index, self.epochs[index] + 1)
    }

    /// The giver asks what became of its claim, as it must before it forgets it.
    fn ask(&mut self, permits: &Permits, from: usize, claim: Claim) {
        let moved = self.taken.iter().position(|it| *it == (from, claim));
        let kept = match claim.slot.index() % 2 {
            0 => permits.unclaim(self.id(from), claim).0,
            _ => permits.recall(self.id(from), claim).0,
        };
        assert_eq!(kept, moved.is_none());
        if let Some(at) = moved {
            self.taken.swap_remove(at);
            self.own[from] -= 1;
        }
    }

    fn hear(&mut self, permits: &Permits, index: usize) {
        if permits.take_granted(self.id(index)).is_some() {
            self.own[index] += 1;
        }
        if let Some(slot) = permits.take_returned(self.id(index)).0 {
            assert_eq!(self.expected[index].take(), Some(slot));
        }
    }

    fn step(&mut self, permits: &Permits, now: u64, index: usize, step: u8) {
        let id = self.id(index);
        match step % 10 {
            0 | 1 => {
                if permits.acquire(id, Tick::from_nanos(now)).0 == Acquire::Granted {
                    self.own[index] += 1;
                }
            }
            2 if self.own[index] > self.giving(index) => {
                self.own[index] -= 1;
                permits.release(id);
            }
            3 => drop(permits.withdraw(id)),
            4 if self.expected[index].is_none() => {
                let slot = Key::new(self.slots, 0);
                if permits.expect(id, slot).0 {
                    self.slots += 1;
                    self.expected[index] = Some(slot);
                }
            }
            5 if self.expected[index].is_some() => {
                if permits.unexpect(id).0 != Withdrawn::Claimed {
                    self.expected[index] = None;
                }
            }
            6 => {
                if let Some(claim) = permits.claim(id, Tick::from_nanos(now)).0 {
                    assert_eq!(self.expected[claim.to.index()], Some(claim.slot));
                    self.claims.push((index, claim));
                    self.parcels.push((id, claim));
                }
            }
            7 => {
                let found = self.parcels.iter().position(|it| it.1.to == id);
                if let Some(at) = found {
                    let (from, claim) = self.parcels.swap_remove(at);
                    self.receive(permits, from, claim);
                }
            }
            8 => {
                if let Some(at) = self.claims.iter().position(|it| it.0 == index) {
                    let (_, claim) = self.claims.remove(at);
                    self.ask(permits, index, claim);
                }
            }
            9 if step > 230 => self.end(permits, index),
            _ => self.hear(permits, index),
        }
    }

    fn receive(&mut self, permits: &Permits, from: ShardId, claim: Claim) {
        let (giver, to) = (from.index(), claim.to.index());
        let live = self.id(giver) == from && self.claims.contains(&(giver, claim));
        let kept = self.expected[to] == Some(claim.slot);
        if permits.transfer(from, claim, None).0 {
            assert!(live && kept);
            self.own[to] += 1;
            self.taken.push((giver, claim));
        }
        if kept {
            self.expected[to] = None;
        } else {
            assert!(!live, "the slot was let go of while the claim lived");
        }
    }

    fn giving(&self, index: usize) -> u32 {
        self.claims.iter().filter(|it| it.0 == index).count() as u32
    }

    fn end(&mut self, permits: &Permits, index: usize) {
        permits.forget(self.id(index));
        self.claims.retain(|it| it.0 != index);
        self.parcels.retain(|it| it.1.to.index() != index);
        self.taken.retain(|it| it.0 != index);
        self.own[index] = 0;
        self.expected[index] = None;
        self.epochs[index] += 1;
    }

    fn check(&self, permits: &Permits, limit: u32) {
        let in_use = permits.in_use();
        assert!(in_use <= limit);
        let mut real = 0;
        for index in 0..SHARDS {
            let moved = self.taken.iter().filter(|it| it.0 == index).count() as u32;
            let (held, own) = (permits.held(self.id(index)), self.own[index] - moved);
            assert!(held == own || held == own + 1, "{held} held, {own} known");
            assert_eq!(permits.moved(self.id(index)), moved);
            real += held;
        }
        assert_eq!(real, in_use);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn x5_x11_no_history_of_gifts_loses_or_doubles_a_permit_or_a_slot(
        limit in 1u32..5,
        steps in proptest::collection::vec((0usize..SHARDS, any::<u8>()), 0..300),
    ) {
        let permits = Permits::new(limit);
        let mut world = World::default();
        for (now, (index, step)) in steps.into_iter().enumerate() {
            world.step(&permits, now as u64, index, step);
            world.check(&permits, limit);
        }
        // Everybody hears what is left for it; then no slot is kept for a claim that is over.
        for (from, claim) in std::mem::take(&mut world.claims) {
            world.ask(&permits, from, claim);
        }
        for index in 0..SHARDS {
            world.hear(&permits, index);
            prop_assert_ne!(permits.unexpect(world.id(index)).0, Withdrawn::Claimed);
        }
        world.check(&permits, limit);
        for index in 0..SHARDS {
            world.end(&permits, index);
        }
        prop_assert_eq!(permits.in_use(), 0);
    }
}
