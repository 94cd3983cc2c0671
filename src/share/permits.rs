//! Cores that each keep a limit of their own either exceed the endpoint's limit together or leave
//! part of it unused. [`Permits`] is the one account of the whole process: to hold a connection
//! is to hold a permit, from before it is opened until it is closed.
//!
//! Promise: the permits in use never exceed the limit, and are exactly those that living shards
//! hold; while one is free nobody is queued; a freed one goes to the shard that has waited
//! longest; a shard that ends gives back all it held. Touched at opening and closing, never on a
//! hit.
//!
//! A shard has at most one request per endpoint outstanding. States of it: none; queued; granted
//! (the permit is the shard's already, but it has not heard of it).

use std::collections::VecDeque;

use super::ShardId;
use super::sync::{Mutex, lock};
use crate::time::Tick;

/// The answer to [`Permits::acquire`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acquire {
    /// One connection more may exist.
    Granted,
    /// The limit is reached; the request waits.
    Queued,
}

/// The shards that must be told to look at an endpoint again: they were granted a permit, or the
/// demand that they know of has changed. Empty, and not allocated, while nobody waits.
pub(super) type Concerned = Vec<ShardId>;

/// The right to hold connections of one endpoint.
#[derive(Debug)]
pub(super) struct Permits {
    limit: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    in_use: u32,
    queue: VecDeque<(ShardId, Tick)>,
    /// By the shards' index, grown on demand.
    accounts: Vec<Account>,
}

/// What one shard has.
#[derive(Debug, Clone, Copy, Default)]
struct Account {
    /// The first tenant of the index that may use the account; earlier ones have left.
    epoch: u32,
    held: u32,
    /// One of the `held` was granted from the queue and not collected yet.
    granted: bool,
    /// The demand at the time when the shard was last told of it.
    told: Option<Tick>,
}

impl Permits {
    /// `limit` permits, all free.
    pub(super) fn new(limit: u32) -> Self {
        Self {
            limit,
            state: Mutex::new(State::default()),
        }
    }

    /// Asks for one permit. A request that is queued already keeps its place; a grant that was not
    /// collected is collected.
    pub(super) fn acquire(&self, shard: ShardId, now: Tick) -> (Acquire, Concerned) {
        let mut state = lock(&self.state);
        let Some(account) = state.account(shard) else {
            return (Acquire::Queued, Vec::new());
        };
        if std::mem::take(&mut account.granted) {
            return (Acquire::Granted, Vec::new());
        }
        if state.in_use < self.limit && state.queue.is_empty() {
            state.in_use += 1;
            state.accounts[shard.index()].held += 1;
            state.check(self.limit);
            return (Acquire::Granted, Vec::new());
        }
        if !state.queue.iter().any(|&(queued, _)| queued == shard) {
            state.queue.push_back((shard, now));
        }
        state.check(self.limit);
        (Acquire::Queued, state.concerned(None))
    }

    /// Gives one permit of `shard` back.
    pub(super) fn release(&self, shard: ShardId) -> Concerned {
        let mut state = lock(&self.state);
        let Some(account) = state.account(shard) else {
            return Vec::new();
        };
        debug_assert!(
            account.held > u32::from(account.granted),
            "{shard:?} gives back a permit that it does not hold"
        );
        if account.held == 0 {
            return Vec::new();
        }
        account.held -= 1;
        state.hand_on(1, self.limit)
    }

    /// Takes the request of `shard` back: out of the queue, or, if it was granted and not
    /// collected, by handing the permit on.
    pub(super) fn withdraw(&self, shard: ShardId) -> Concerned {
        let mut state = lock(&self.state);
        let Some(account) = state.account(shard) else {
            return Vec::new();
        };
        if std::mem::take(&mut account.granted) {
            account.held -= 1;
            return state.hand_on(1, self.limit);
        }
        let before = state.queue.len();
        state.queue.retain(|&(queued, _)| queued != shard);
        if state.queue.len() == before {
            return Vec::new();
        }
        state.concerned(None)
    }

    /// The oldest of those for whom `shard` wants the permit it asked for waits since `since`. Its
    /// place in the queue stays, and nobody is told: who holds permits asks when it matters.
    pub(super) fn renew(&self, shard: ShardId, since: Tick) {
        let mut state = lock(&self.state);
        if let Some(request) = state.queue.iter_mut().find(|request| request.0 == shard) {
            request.1 = since;
        }
    }

    /// Whether the queued request of `shard` was granted; says so once.
    pub(super) fn take_granted(&self, shard: ShardId) -> bool {
        let mut state = lock(&self.state);
        state
            .account(shard)
            .is_some_and(|account| std::mem::take(&mut account.granted))
    }

    /// Since when the oldest queued request of another shard waits.
    pub(super) fn oldest_other(&self, shard: ShardId) -> Option<Tick> {
        lock(&self.state).oldest_other(shard)
    }

    /// Takes back all that `shard` holds and wants: it has ended. What it still says is ignored.
    pub(super) fn forget(&self, shard: ShardId) -> Concerned {
        let mut state = lock(&self.state);
        let Some(account) = state.account(shard) else {
            return Vec::new();
        };
        let held = account.held;
        *account = Account {
            epoch: shard.epoch.saturating_add(1),
            ..Account::default()
        };
        state.queue.retain(|&(queued, _)| queued != shard);
        state.hand_on(held, self.limit)
    }

    /// How many permits are held, by all shards.
    pub(super) fn in_use(&self) -> u32 {
        lock(&self.state).in_use
    }

    /// How many permits `shard` holds, a grant that it has not collected included.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn held(&self, shard: ShardId) -> u32 {
        lock(&self.state)
            .account(shard)
            .map_or(0, |account| account.held)
    }

    /// How many permits there are.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn limit(&self) -> u32 {
        self.limit
    }
}

impl State {
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

    /// Gives `count` permits, which nobody's account holds any more, to the longest waiting, and
    /// frees those that nobody waits for.
    fn hand_on(&mut self, count: u32, limit: u32) -> Concerned {
        let mut concerned = None;
        for _ in 0..count {
            let Some((next, _)) = self.queue.pop_front() else {
                self.in_use -= 1;
                continue;
            };
            let account = &mut self.accounts[next.index()];
            account.held += 1;
            account.granted = true;
            concerned.get_or_insert_with(Vec::new).push(next);
        }
        self.check(limit);
        self.concerned(concerned)
    }

    fn oldest_other(&self, shard: ShardId) -> Option<Tick> {
        self.queue
            .iter()
            .filter(|&&(queued, _)| queued != shard)
            .map(|&(_, since)| since)
            .min()
    }

    /// Adds to `granted` the shards whose demand differs from what they were told: those that hold
    /// something they could give, and those that believe in a demand.
    fn concerned(&mut self, granted: Option<Concerned>) -> Concerned {
        let mut concerned = granted.unwrap_or_default();
        for index in 0..self.accounts.len() {
            let account = self.accounts[index];
            if account.held == 0 && account.told.is_none() {
                continue;
            }
            let shard = ShardId::new(index, account.epoch);
            let demand = self.oldest_other(shard);
            if demand == account.told {
                continue;
            }
            self.accounts[index].told = demand;
            if !concerned.contains(&shard) {
                concerned.push(shard);
            }
        }
        concerned
    }

    /// The account balances.
    fn check(&self, limit: u32) {
        assert!(self.in_use <= limit, "more permits in use than exist");
        debug_assert_eq!(
            self.in_use,
            self.accounts
                .iter()
                .map(|account| account.held)
                .sum::<u32>(),
        );
        debug_assert!(self.queue.is_empty() || self.in_use == limit);
        debug_assert!(self.queue.iter().all(|&(shard, _)| {
            let account = &self.accounts[shard.index()];
            account.epoch == shard.epoch && !account.granted
        }));
    }
}

#[cfg(test)]
mod tests;
