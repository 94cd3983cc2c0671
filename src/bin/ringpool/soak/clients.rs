//! The clients of one shard: each draws an action and a server, again and again.
//!
//! Promise: every client ends at the deadline, or is told of as one that does not; what an action
//! came to is counted, and only what no fault explains is an error.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use ringpool::{EndpointHandle, Error, ErrorKind, Pool, Result};
use tokio::time::timeout;

use super::actions::{Act, Action};
use super::exchange::{Failure, How, Request};
use crate::measure::Errors;

/// Clients of each shard: more than there are connections for, so that some wait.
const CLIENTS: u64 = 32;
/// How long a client may take for what it has begun when the time is over. No single wait is
/// longer than two seconds, but an action has several.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the clients of all shards share.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) names: Vec<String>,
    pub(super) seed: u64,
    /// Requests so far, over the whole run: no two have one identity.
    requests: AtomicU64,
}

impl Run {
    pub(super) fn new(names: Vec<String>, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            names,
            seed,
            requests: AtomicU64::new(0),
        })
    }

    pub(super) fn next_id(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }
}

/// What the clients of one shard share.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) run: Arc<Run>,
    pub(super) handles: Vec<EndpointHandle>,
    /// Answers that came and were right.
    pub(super) checked: Cell<u64>,
    account: RefCell<Account>,
}

/// What the clients did and what came of it.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) checked: u64,
    /// In the order of [`Action::ALL`].
    pub(super) actions: [u64; Action::ALL.len()],
    /// Errors that faults explain.
    pub(super) errors: HashMap<ErrorKind, u64>,
    /// Reads that met bytes nobody asked for.
    pub(super) unsolicited: u64,
    /// What nothing explains.
    pub(super) wrong: Errors,
}

impl Account {
    pub(super) fn merge(&mut self, other: Self) {
        self.checked += other.checked;
        for (own, other) in self.actions.iter_mut().zip(other.actions) {
            *own += other;
        }
        for (kind, count) in other.errors {
            *self.errors.entry(kind).or_default() += count;
        }
        self.unsolicited += other.unsolicited;
        self.wrong.merge(other.wrong);
    }

    fn failed(&mut self, action: Action, failure: Failure) {
        match failure {
            Failure::Pool(error) if is_explained(error.kind()) => {
                *self.errors.entry(error.kind()).or_default() += 1;
            }
            Failure::Pool(error) => self.wrong.add(format!("{action:?}: {error:?}")),
            Failure::Unsolicited => self.unsolicited += 1,
            Failure::Wrong(text) => self.wrong.add(format!("{action:?}: {text}")),
        }
    }
}

/// Whether servers that cut, stall and restart can be the reason.
fn is_explained(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Exhausted
            | ErrorKind::GetTimeout
            | ErrorKind::ConnectTimeout
            | ErrorKind::ReadTimeout
            | ErrorKind::WriteTimeout
            | ErrorKind::Connect
            | ErrorKind::Closed
    )
}

impl Shard {
    fn new(run: Arc<Run>) -> Result<Rc<Self>> {
        let pool = Pool::local()?;
        let handles: Result<Vec<_>> = run
            .names
            .iter()
            .map(|name| pool.endpoint(&**name))
            .collect();
        Ok(Rc::new(Self {
            run,
            handles: handles?,
            checked: Cell::new(0),
            account: RefCell::default(),
        }))
    }

    fn ended(&self, action: Action, ended: Result<(), Failure>) {
        let mut account = self.account.borrow_mut();
        account.actions[action as usize] += 1;
        if let Err(failure) = ended {
            account.failed(action, failure);
        }
    }
}

/// Runs the clients of shard `number` until `end`, on that shard.
pub(super) async fn run_shard(run: Arc<Run>, number: u64, end: Instant) -> Result<Account> {
    let shard = Shard::new(run)?;
    // What was asked before differs from phase to phase.
    let phase = shard.run.next_id();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let seed =
                shard.run.seed.rotate_left(16) ^ phase.rotate_left(32) ^ (number << 8 | client);
            let at_work = work(shard.clone(), Rng::with_seed(seed), end);
            ringpool::spawn(at_work)
        })
        .collect();
    let deadline = tokio::time::Instant::from_std(end + PATIENCE);
    let mut stuck = 0;
    for client in clients {
        match tokio::time::timeout_at(deadline, client).await {
            Ok(ended) => ended?,
            Err(_) => stuck += 1,
        }
    }
    let mut account = shard.account.take();
    account.checked = shard.checked.get();
    if stuck > 0 {
        account.wrong.add(format!(
            "{stuck} clients of shard {number} do not end, {} s after the time",
            PATIENCE.as_secs()
        ));
    }
    Ok(account)
}

async fn work(shard: Rc<Shard>, mut rng: Rng, end: Instant) {
    while Instant::now() < end {
        let action = Action::draw(&mut rng);
        let act = Act {
            shard: shard.clone(),
            server: rng.usize(..shard.handles.len()),
            rng: rng.fork(),
        };
        let ended = match action {
            Action::AbortTask => {
                let task = ringpool::spawn(act.run(action));
                tokio::time::sleep(Duration::from_micros(rng.u64(..3000))).await;
                task.abort();
                task.await.unwrap_or(Ok(()))
            }
            _ => act.run(action).await,
        };
        let failed = ended.is_err();
        shard.ended(action, ended);
        if failed {
            // A server that is down fails at once, again and again; others want to work.
            tokio::task::yield_now().await;
        }
    }
}

/// Opens as many connections to every server as may exist, holds them all at once, makes an
/// exchange on each and gives them back. Nothing of this may fail while the servers are calm.
pub(super) async fn fill_up(run: Arc<Run>, limit: usize) -> Result<()> {
    let shard = Shard::new(run)?;
    let mut rng = Rng::with_seed(shard.run.seed);
    for (server, handle) in shard.handles.iter().enumerate() {
        let mut held = Vec::with_capacity(limit);
        for _ in 0..limit {
            held.push(handle.get().await?);
        }
        let permits = handle.stats().permits;
        if permits != limit as u64 {
            let text = format!("{permits} permits are held for {limit} connections");
            return Err(Error::new(ErrorKind::Protocol, text));
        }
        for conn in held {
            let request = Request::new(shard.run.next_id(), server, 100, 100);
            let exchange = request.exchange(&conn, How::Exact, &mut rng);
            match timeout(PATIENCE, exchange).await {
                Ok(Ok(())) => conn.release(),
                Ok(Err(Failure::Pool(error))) => return Err(error),
                failed => {
                    let text = format!("{failed:?} while nothing goes wrong");
                    return Err(Error::new(ErrorKind::Protocol, text));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_faults_explain_are_counted_and_others_are_told() {
        let mut account = Account::default();
        let pool = |kind| Failure::Pool(Error::new(kind, "so"));
        account.failed(Action::Exchange, pool(ErrorKind::Closed));
        account.failed(Action::Exchange, Failure::Unsolicited);
        assert_eq!((account.wrong.count, account.unsolicited), (0, 1));
        account.failed(Action::OneWay, pool(ErrorKind::Draining));
        account.failed(Action::Pipeline, Failure::Wrong("another's".into()));
        let mut all = Account::default();
        all.merge(account);
        assert_eq!(all.errors[&ErrorKind::Closed], 1);
        assert_eq!(all.wrong.first[1], "Pipeline: another's");
        assert!(all.wrong.first[0].starts_with("OneWay: Error(Draining"));
    }
}
