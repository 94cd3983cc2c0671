//! What the servers see of the pool is the only account of it that the pool does not keep itself.
//! A [`Tally`] is that account for one endpoint.
//!
//! Promise: a connection is counted as open from its accept until its end was read, so the count
//! may lag behind the pool's, and is exact once nothing is under way: [`Tally::wait_for`] waits
//! until then.
//!
//! **The limit.** The pool gives a permit back only after it has closed the connection, so a server
//! has the old connection's FIN before it can see the new one's SYN; which of the two its task
//! reads first is chance. A connection over the limit is therefore not a fault at once: it waits
//! for a place ([`Tally::place`]), which is there as soon as the FINs that came before it are read.
//! If none comes free for [`PATIENCE`], the pool holds more connections than it may: a fault.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::measure::Errors;

/// How long something that must happen soon may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// The servers' account of one endpoint.
#[derive(Debug)]
pub(crate) struct Tally {
    limit: usize,
    places: Arc<Semaphore>,
    counts: Mutex<Counts>,
    changed: Condvar,
}

/// What has been seen so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    /// Connections accepted, by address.
    pub(crate) accepted: Vec<u64>,
    /// Those of them on which a message came, by address.
    pub(crate) used: Vec<u64>,
    /// Those whose end was not read yet, by address.
    pub(crate) open: Vec<u64>,
    /// What must not have happened.
    pub(crate) faults: Errors,
}

/// A connection that a server has accepted; dropped when its end was read.
#[derive(Debug)]
pub(crate) struct Accepted {
    tally: Arc<Tally>,
    address: usize,
    place: Option<OwnedSemaphorePermit>,
}

impl Tally {
    /// An endpoint with a number of addresses, to which the pool may hold `limit` connections.
    pub(crate) fn new(addresses: usize, limit: usize) -> Arc<Self> {
        let counts = Counts {
            accepted: vec![0; addresses],
            used: vec![0; addresses],
            open: vec![0; addresses],
            ..Counts::default()
        };
        Arc::new(Self {
            limit,
            places: Arc::new(Semaphore::new(limit)),
            counts: Mutex::new(counts),
            changed: Condvar::new(),
        })
    }

    /// A connection to the address with this number was accepted.
    pub(crate) fn accept(self: &Arc<Self>, address: usize) -> Accepted {
        self.change(|counts| {
            counts.accepted[address] += 1;
            counts.open[address] += 1;
        });
        Accepted {
            tally: self.clone(),
            address,
            place: None,
        }
    }

    /// Something happened that must not.
    pub(crate) fn fault(&self, text: String) {
        self.change(|counts| counts.faults.add(text));
    }

    pub(crate) fn counts(&self) -> Counts {
        self.lock().clone()
    }

    /// Waits until the counts are as `wanted`, but not beyond `deadline`. Says whether they are.
    pub(crate) fn wait_for(&self, deadline: Instant, wanted: impl Fn(&Counts) -> bool) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), left, |now| !wanted(now));
        let (counts, _timed_out) = waited.unwrap_or_else(PoisonError::into_inner);
        wanted(&counts)
    }

    fn change(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // A change is a few additions; it cannot be left half done.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Accepted {
    /// Its first message was answered.
    pub(crate) fn used(&self) {
        self.tally.change(|counts| counts.used[self.address] += 1);
    }

    /// Waits for a place within the limit. Without one, which is a fault, the connection is to be
    /// closed.
    pub(crate) async fn place(&mut self) -> bool {
        self.place_within(PATIENCE).await
    }

    async fn place_within(&mut self, patience: Duration) -> bool {
        let places = self.tally.places.clone();
        if let Ok(Ok(place)) = timeout(patience, places.acquire_owned()).await {
            self.place = Some(place);
            return true;
        }
        let limit = self.tally.limit;
        self.tally.fault(format!(
            "the pool held more than {limit} connections to one endpoint"
        ));
        false
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        drop(self.place.take());
        self.tally.change(|counts| counts.open[self.address] -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().build().unwrap().block_on(future)
    }

    #[test]
    fn connections_are_counted_by_address_until_they_end() {
        let tally = Tally::new(2, 8);
        let first = tally.accept(0);
        let second = tally.accept(1);
        drop(tally.accept(1));
        assert_eq!(tally.counts().accepted, [1, 2]);
        assert_eq!(tally.counts().open, [1, 1]);
        second.used();
        assert_eq!(tally.counts().used, [0, 1]);
        drop((first, second));
        assert!(tally.wait_for(Instant::now(), |counts| counts.open == [0, 0]));
        assert!(!tally.wait_for(Instant::now(), |counts| counts.open == [1, 0]));
    }

    #[test]
    fn waiting_ends_when_another_thread_changes_the_counts() {
        let tally = Tally::new(1, 8);
        let accepted = tally.accept(0);
        let waiting = tally.clone();
        let thread = std::thread::spawn(move || {
            waiting.wait_for(Instant::now() + PATIENCE, |counts| counts.open == [0])
        });
        drop(accepted);
        assert!(thread.join().unwrap());
    }

    #[test]
    fn one_connection_too_many_waits_for_the_end_of_another() {
        let tally = Tally::new(1, 1);
        let mut old = tally.accept(0);
        let mut new = tally.accept(0);
        block_on(async {
            assert!(old.place().await);
            let ending = async { drop(old) };
            let (placed, ()) = join(new.place(), ending).await;
            assert!(placed);
        });
        assert_eq!(tally.counts().faults.count, 0);
    }

    #[test]
    fn one_connection_too_many_that_stays_is_a_fault() {
        let tally = Tally::new(1, 1);
        let (mut old, mut new) = (tally.accept(0), tally.accept(0));
        block_on(async {
            assert!(old.place().await);
            assert!(!new.place_within(Duration::from_millis(1)).await);
        });
        let faults = tally.counts().faults;
        assert_eq!(
            faults.first,
            ["the pool held more than 1 connections to one endpoint"]
        );
    }

    /// Polls both until both have ended, the first one first.
    async fn join<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
        let (mut a, mut b) = (std::pin::pin!(a), std::pin::pin!(b));
        let first = std::future::poll_fn(|cx| std::task::Poll::Ready(a.as_mut().poll(cx))).await;
        let second = b.as_mut().await;
        match first {
            std::task::Poll::Ready(first) => (first, second),
            std::task::Poll::Pending => (a.await, second),
        }
    }
}
