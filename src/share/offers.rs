//! A connection that changes cores goes into a slot that the receiver chose, and until it has
//! arrived nobody else may use that slot. [`Offers`] says for each shard what became of the slot
//! that it put beside its request.
//!
//! Promise: a slot is claimed by at most one giver; a claim ends once, by transfer, by its giver, by
//! its receiver or by the end of either; a claim that ends without transfer spends the slot, for a
//! descriptor may have arrived there, and the receiver gets its key back exactly once; the giver
//! learns whether its permit has moved, also when it asks before the receiver's answer has come; a
//! giver that ends leaves a permit to each slot where its connection may lie, until that is closed.
//!
//! A giver may recall its claim because the receiver stands still: whoever stands still is served by
//! nobody until it has seen that.
//!
//! States of an offer: open, claimed, returned. Of a slot that came back: its giver lives, or has
//! left it a permit; closed. Kept under the lock of the permits.

use super::ShardId;
use crate::slot::Key;
use crate::time::Tick;

/// The right of one shard to send a connection to another's slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) to: ShardId,
    pub(crate) slot: Key,
}

/// The slots that shards hold open for a connection of one endpoint: one each.
#[derive(Debug, Default)]
pub(super) struct Offers {
    /// By the shards' index, grown on demand.
    offers: Vec<Option<Offer>>,
    /// Claims that a transfer has ended and whose giver has not asked yet, by giver.
    moved: Vec<(ShardId, Claim)>,
    /// Slots of claims that ended without transfer, until they are closed.
    unclosed: Vec<Unclosed>,
    /// Shards that have a connection to spare and found no slot for it; each once.
    missed: Vec<ShardId>,
}

/// A slot where a descriptor of the giver's may lie.
#[derive(Debug, Clone, Copy)]
struct Unclosed {
    claim: Claim,
    from: ShardId,
    /// The giver has ended, and its permit is the receiver's until the slot is closed.
    inherits: bool,
}

/// What a shard must do with a slot that it does not offer any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Withdrawn {
    /// Nobody has claimed it: nothing is in it, and nothing comes.
    Unused,
    /// A claim has ended, and a descriptor may have arrived: it is to be closed.
    Spent,
    /// Somebody sends to it: it must be kept.
    Claimed,
}

#[derive(Debug, Clone, Copy)]
struct Offer {
    claim: Claim,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Claimed {
        by: ShardId,
        at: Tick,
    },
    /// `recalled`: because its receiver stood still.
    Returned {
        recalled: bool,
    },
}

/// What is being done for a shard's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Nothing,
    /// Somebody sends a connection, since then.
    Claimed(Tick),
    /// What was sent was called back, and the shard has not noticed.
    Recalled,
}

impl Offer {
    fn is_claimed_by(&self, from: ShardId) -> bool {
        matches!(self.state, State::Claimed { by, .. } if by == from)
    }
}

impl Offers {
    fn get(&self, by: ShardId) -> Option<&Offer> {
        let offer = self.offers.get(by.index())?.as_ref()?;
        (offer.claim.to == by).then_some(offer)
    }

    fn get_mut(&mut self, by: ShardId) -> Option<&mut Offer> {
        let offer = self.offers.get_mut(by.index())?.as_mut()?;
        (offer.claim.to == by).then_some(offer)
    }

    fn remove(&mut self, by: ShardId) {
        if self.get(by).is_some() {
            self.offers[by.index()] = None;
        }
    }

    /// False if `by` has an offer already.
    pub(super) fn offer(&mut self, by: ShardId, slot: Key) -> bool {
        if self.get(by).is_some() {
            return false;
        }
        if self.offers.len() <= by.index() {
            self.offers.resize(by.index() + 1, None);
        }
        self.offers[by.index()] = Some(Offer {
            claim: Claim { to: by, slot },
            state: State::Open,
        });
        true
    }

    /// `by` takes its offer back, unless it is claimed.
    pub(super) fn withdraw(&mut self, by: ShardId) -> Withdrawn {
        let withdrawn = match self.get(by).map(|offer| offer.state) {
            Some(State::Claimed { .. }) => return Withdrawn::Claimed,
            Some(State::Open) => Withdrawn::Unused,
            Some(State::Returned { .. }) | None => Withdrawn::Spent,
        };
        self.remove(by);
        withdrawn
    }

    /// Whether `to` has a slot that can be claimed. If not, `from` hears of the next one.
    pub(super) fn is_open(&mut self, from: ShardId, to: ShardId) -> bool {
        let is_open = self.get(to).is_some_and(|it| it.state == State::Open);
        if !is_open && !self.missed.contains(&from) {
            self.missed.push(from);
        }
        is_open
    }

    /// Those who looked for a slot before there was one.
    pub(super) fn take_missed(&mut self) -> Vec<ShardId> {
        std::mem::take(&mut self.missed)
    }

    /// The slot of `by` if its claim has ended without transfer; says so once.
    pub(super) fn take_returned(&mut self, by: ShardId) -> Option<Key> {
        let offer = self.get(by)?;
        if !matches!(offer.state, State::Returned { .. }) {
            return None;
        }
        let slot = offer.claim.slot;
        self.remove(by);
        Some(slot)
    }

    /// `from` claims the offer of `to`, if that is open.
    pub(super) fn claim(&mut self, from: ShardId, to: ShardId, now: Tick) -> Option<Claim> {
        let offer = self.get_mut(to)?;
        if offer.state != State::Open {
            return None;
        }
        offer.state = State::Claimed { by: from, at: now };
        Some(offer.claim)
    }

    /// What is being done for the request of `by`.
    pub(super) fn service(&self, by: ShardId) -> Service {
        match self.get(by).map(|offer| offer.state) {
            Some(State::Claimed { at, .. }) => Service::Claimed(at),
            Some(State::Returned { recalled: true }) => Service::Recalled,
            _ => Service::Nothing,
        }
    }

    /// How many claims of `from` have not ended.
    pub(super) fn claims_of(&self, from: ShardId) -> u32 {
        let offers = self.offers.iter().flatten();
        let claimed = offers.filter(|offer| offer.is_claimed_by(from));
        u32::try_from(claimed.count()).unwrap_or(u32::MAX)
    }

    /// The giver ends its claim, `recalled` if the receiver stands still. True if it had not ended
    /// before: the receiver must hear of it.
    pub(super) fn end(&mut self, from: ShardId, claim: Claim, recalled: bool) -> bool {
        let Some(offer) = self.get_mut(claim.to) else {
            return false;
        };
        let ends = offer.claim == claim && offer.is_claimed_by(from);
        if ends {
            offer.state = State::Returned { recalled };
            self.leave_unclosed(from, claim);
        }
        ends
    }

    fn leave_unclosed(&mut self, from: ShardId, claim: Claim) {
        self.unclosed.push(Unclosed {
            claim,
            from,
            inherits: false,
        });
    }

    /// The slot of `by` is closed, with what came there. True if a permit was left to it.
    pub(super) fn slot_closed(&mut self, by: ShardId, slot: Key) -> bool {
        let closed = Claim { to: by, slot };
        let at = self.unclosed.iter().position(|it| it.claim == closed);
        at.is_some_and(|at| self.unclosed.swap_remove(at).inherits)
    }

    /// `from` ends, and so do its claims: their receivers are added to `told`. Each slot that is not
    /// closed, the latest first, is to have one of the `spare` permits that `from` holds; returns
    /// the receivers, once for each permit.
    pub(super) fn bequeath(
        &mut self,
        from: ShardId,
        spare: u32,
        told: &mut Vec<ShardId>,
    ) -> Vec<ShardId> {
        for at in 0..self.offers.len() {
            if let Some(Offer { claim, .. }) = self.offers[at]
                && self.end(from, claim, false)
            {
                told.push(claim.to);
            }
        }
        let own = self.unclosed.iter_mut().rev();
        let own = own.filter(|it| it.from == from && !it.inherits);
        let heirs = own.take(spare as usize).map(|it| {
            it.inherits = true;
            it.claim.to
        });
        heirs.collect()
    }

    /// How many permits were left to slots of `by`.
    pub(super) fn inherited(&self, by: ShardId) -> u32 {
        let slots = self.unclosed.iter();
        let count = slots.filter(|it| it.inherits && it.claim.to == by).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// The receiver ends the claim, and moves the permit if it is `wanted`. False if it is not, or
    /// the claim had ended: the receiver lets go of its slot, and is not told of it again.
    pub(super) fn settle(&mut self, from: ShardId, claim: Claim, wanted: bool) -> bool {
        let Some(offer) = self.get(claim.to).filter(|offer| offer.claim == claim) else {
            return false;
        };
        let claimed = offer.is_claimed_by(from);
        if claimed || matches!(offer.state, State::Returned { .. }) {
            self.remove(claim.to);
        }
        if claimed && !wanted {
            self.leave_unclosed(from, claim);
        }
        if claimed && wanted {
            self.moved.push((from, claim));
        }
        claimed && wanted
    }

    /// Whether the permit of this claim has moved; says so once.
    pub(super) fn take_moved(&mut self, from: ShardId, claim: Claim) -> bool {
        let at = self.moved.iter().position(|&moved| moved == (from, claim));
        if let Some(at) = at {
            self.moved.swap_remove(at);
        }
        at.is_some()
    }

    /// How many claims of `from` have moved a permit without its having asked.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn moved_from(&self, from: ShardId) -> u32 {
        let moved = self.moved.iter().filter(|&&(giver, _)| giver == from);
        u32::try_from(moved.count()).unwrap_or(u32::MAX)
    }

    /// `shard` has ended, and with it its offer and its claims. The receivers of those must hear of
    /// it.
    pub(super) fn forget(&mut self, shard: ShardId) -> Vec<ShardId> {
        self.remove(shard);
        self.moved.retain(|&(from, _)| from != shard);
        self.missed.retain(|&from| from != shard);
        self.unclosed.retain(|it| it.claim.to != shard);
        let mut told = Vec::new();
        for offer in self.offers.iter_mut().flatten() {
            if offer.is_claimed_by(shard) {
                offer.state = State::Returned { recalled: false };
                told.push(offer.claim.to);
            }
        }
        told
    }
}
