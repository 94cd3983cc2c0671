//! Who holds how many of a limited number, and who stands in line for the next. The limit of an
//! endpoint and that of the process are both a [`Ledger`], and differ in who asks.
//!
//! Promise: what is in use never exceeds the limit, and is what the accounts of shards that have not
//! left hold; while one is free nobody is queued; one that is freed goes to whoever asks for the waiter
//! that has waited longest.
//!
//! States of a request: none; queued; granted (it is the shard's already, which has not heard of
//! it). No lock: the owner of the ledger has one.

use std::collections::VecDeque;
use std::fmt;

use super::ShardId;
use crate::time::Tick;

/// The answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acquire {
    /// One connection more may exist.
    Granted,
    /// The limit is reached; the request waits.
    Queued,
}

/// Who asks. One request of each at a time.
pub(super) trait Asker: Copy + Eq + fmt::Debug {
    /// To whose account it goes.
    fn shard(self) -> ShardId;
}

impl Asker for ShardId {
    fn shard(self) -> ShardId {
        self
    }
}

/// An account of permits, and the queue for them.
#[derive(Debug)]
pub(super) struct Ledger<W> {
    limit: u32,
    in_use: u32,
    /// Who waits, and since when.
    queue: VecDeque<(W, Tick)>,
    /// Those whose turn has come and who have not collected, and since when they had waited.
    granted: Vec<(W, Tick)>,
    /// By the shards' index, grown on demand.
    accounts: Vec<Account>,
}

/// What one shard has.
#[derive(Debug, Clone, Copy, Default)]
struct Account {
    /// The first tenant of the index that may use the account; earlier ones have left.
    epoch: u32,
    held: u32,
    /// The demand at the time when the shard was last told of it.
    told: Option<Tick>,
}

/// The demand that the shards see.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Demand {
    /// The oldest request, and whose it is.
    first: Option<(ShardId, Tick)>,
    /// The oldest of all other shards than that one.
    second: Option<Tick>,
}

impl Demand {
    /// The oldest of those who ask.
    pub(super) fn of<W: Asker>(requests: impl Iterator<Item = (W, Tick)>) -> Self {
        let mut demand = Self::default();
        for (asker, since) in requests {
            let shard = asker.shard();
            match demand.first {
                None => demand.first = Some((shard, since)),
                Some((first, oldest)) if since < oldest => {
                    if first != shard {
                        demand.second = Some(oldest);
                    }
                    demand.first = Some((shard, since));
                }
                Some((first, _)) if first != shard => {
                    demand.second = Some(demand.second.map_or(since, |second| second.min(since)));
                }
                Some(_) => {}
            }
        }
        demand
    }

    /// Since when anybody but `shard` has waited.
    pub(super) fn of_others(self, shard: ShardId) -> Option<Tick> {
        match self.first {
            Some((first, _)) if first == shard => self.second,
            first => first.map(|(_, since)| since),
        }
    }
}

impl<W: Asker> Ledger<W> {
    /// `limit` permits, all free.
    pub(super) fn new(limit: u32) -> Self {
        Self {
            limit,
            in_use: 0,
            queue: VecDeque::new(),
            granted: Vec::new(),
            accounts: Vec::new(),
        }
    }

    /// Asks for one permit. A request that is queued already keeps its place; a grant that was not
    /// collected is collected.
    pub(super) fn acquire(&mut self, asker: W, now: Tick) -> Acquire {
        if self.account(asker.shard()).is_none() {
            return Acquire::Queued;
        }
        if self.collect(asker).is_some() {
            return Acquire::Granted;
        }
        if self.in_use < self.limit && self.queue.is_empty() {
            self.in_use += 1;
            self.accounts[asker.shard().index()].held += 1;
            self.check();
            return Acquire::Granted;
        }
        if !self.is_queued(asker) {
            self.queue.push_back((asker, now));
        }
        self.check();
        Acquire::Queued
    }

    /// Gives one permit of `shard` back. Those who have it now.
    pub(super) fn release(&mut self, shard: ShardId) -> Vec<W> {
        let uncollected = self.uncollected(shard);
        let Some(account) = self.account(shard) else {
            return Vec::new();
        };
        debug_assert!(
            account.held > uncollected,
            "{shard:?} gives back a permit that it does not hold"
        );
        if account.held == 0 {
            return Vec::new();
        }
        account.held -= 1;
        self.hand_on(1)
    }

    /// Takes a request back: out of the queue, or, if it was granted and not collected, by handing
    /// the permit on. `None` if there was none.
    pub(super) fn withdraw(&mut self, asker: W) -> Option<Vec<W>> {
        if self.collect(asker).is_some() {
            self.account(asker.shard())?.held -= 1;
            return Some(self.hand_on(1));
        }
        self.leave_queue(asker).then(Vec::new)
    }

    /// The request waits since `since`.
    pub(super) fn renew(&mut self, asker: W, since: Tick) {
        if let Some(request) = self.queue.iter_mut().find(|request| request.0 == asker) {
            request.1 = since;
        }
    }

    /// Since when the request had waited that was granted; says so once.
    pub(super) fn collect(&mut self, asker: W) -> Option<Tick> {
        let at = self.granted.iter().position(|grant| grant.0 == asker)?;
        Some(self.granted.swap_remove(at).1)
    }

    /// Takes back all that `shard` holds and wants: it has ended. `None` if that was known.
    pub(super) fn forget(&mut self, shard: ShardId) -> Option<Vec<W>> {
        let account = self.account(shard)?;
        let held = account.held;
        *account = Account {
            epoch: shard.epoch.saturating_add(1),
            ..Account::default()
        };
        self.queue.retain(|(asker, _)| asker.shard() != shard);
        self.granted.retain(|(asker, _)| asker.shard() != shard);
        Some(self.hand_on(held))
    }

    /// Moves one permit from hand to hand, if `from` holds it and neither has left.
    pub(super) fn pass(&mut self, from: ShardId, to: ShardId) {
        debug_assert!(self.held(from) > self.uncollected(from));
        // Either may be new here, or have left.
        if self.account(from).is_some_and(|it| it.held > 0) && self.account(to).is_some() {
            self.accounts[from.index()].held -= 1;
            self.accounts[to.index()].held += 1;
        }
        self.check();
    }

    /// Takes a request out of the queue; false if it is not there.
    pub(super) fn leave_queue(&mut self, asker: W) -> bool {
        let before = self.queue.len();
        self.queue.retain(|request| request.0 != asker);
        self.queue.len() < before
    }

    pub(super) fn is_queued(&self, asker: W) -> bool {
        self.queue.iter().any(|request| request.0 == asker)
    }

    /// Whether the request is queued, or was granted and not collected.
    pub(super) fn is_known(&self, asker: W) -> bool {
        self.is_queued(asker) || self.granted.iter().any(|grant| grant.0 == asker)
    }

    /// Who waits, and since when, in the order of the queue.
    pub(super) fn requests(&self) -> impl Iterator<Item = (W, Tick)> {
        self.queue.iter().copied()
    }

    /// How many permits are held, by all shards.
    pub(super) fn in_use(&self) -> u32 {
        self.in_use
    }

    /// How many permits there are.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    /// How many permits `shard` holds, those granted and not collected included.
    pub(super) fn held(&self, shard: ShardId) -> u32 {
        self.accounts
            .get(shard.index())
            .filter(|account| account.epoch == shard.epoch)
            .map_or(0, |account| account.held)
    }

    /// How many of those `shard` has not collected.
    pub(super) fn uncollected(&self, shard: ShardId) -> u32 {
        let granted = self.granted.iter();
        let own = granted.filter(|(asker, _)| asker.shard() == shard).count();
        u32::try_from(own).unwrap_or(u32::MAX)
    }

    /// Adds to `told` the shards for whom the demand differs from what they were told last: those
    /// that hold something they could give, and those that believe in a demand.
    pub(super) fn retell(
        &mut self,
        told: &mut Vec<ShardId>,
        demand: impl Fn(ShardId) -> Option<Tick>,
    ) {
        for (index, account) in self.accounts.iter_mut().enumerate() {
            if account.held == 0 && account.told.is_none() {
                continue;
            }
            let shard = ShardId::new(index, account.epoch);
            let demand = demand(shard);
            if demand == account.told {
                continue;
            }
            account.told = demand;
            if !told.contains(&shard) {
                told.push(shard);
            }
        }
    }

    /// The account of `shard`, or `None` if that shard has left.
    fn account(&mut self, shard: ShardId) -> Option<&mut Account> {
        let index = shard.index();
        if index >= self.accounts.len() {
            self.accounts.resize(index + 1, Account::default());
        }
        let account = &mut self.accounts[index];
        if shard.epoch < account.epoch {
            return None;
        }
        debug_assert!(
            shard.epoch == account.epoch || account.held == 0,
            "the tenant before {shard:?} has not been forgotten"
        );
        account.epoch = shard.epoch;
        Some(account)
    }

    /// Gives `count` permits, which nobody's account holds any more, to those whose oldest waiter
    /// waits longest, and frees those that nobody waits for. The place in the queue says less: a core
    /// whose request came first may have served by itself those for whom it asked.
    fn hand_on(&mut self, count: u32) -> Vec<W> {
        let mut granted = Vec::new();
        for _ in 0..count {
            let places = self.queue.iter().enumerate();
            let oldest = places.min_by_key(|(_, request)| request.1);
            let oldest = oldest.map(|(at, _)| at);
            let Some((next, since)) = oldest.and_then(|at| self.queue.remove(at)) else {
                self.in_use -= 1;
                continue;
            };
            self.accounts[next.shard().index()].held += 1;
            self.granted.push((next, since));
            granted.push(next);
        }
        self.check();
        granted
    }

    /// The account balances.
    fn check(&self) {
        assert!(self.in_use <= self.limit, "more permits in use than exist");
        debug_assert_eq!(
            self.in_use,
            self.accounts
                .iter()
                .map(|account| account.held)
                .sum::<u32>(),
        );
        debug_assert!(self.queue.is_empty() || self.in_use == self.limit);
        debug_assert!(self.queue.iter().all(|&(asker, _)| {
            let shard = asker.shard();
            self.accounts[shard.index()].epoch == shard.epoch
                && !self.granted.iter().any(|grant| grant.0 == asker)
        }));
    }
}
