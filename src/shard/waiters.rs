//! A get that waits is a task; the policy only knows its key. Between the policy's grant and the
//! task's next poll the grant rests here, so that it is neither lost nor given twice.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use crate::error::{Error, ErrorKind, Result};
use crate::policy::event::{ConnKey, EndpointKey, WaiterKey};
use crate::slot::KeyMap;

use super::cells::keep_waker;

/// What a waiter gets: a connection, and whether it was used before.
pub(crate) type Outcome = Result<(ConnKey, bool)>;

struct Waiter {
    endpoint: EndpointKey,
    waker: Option<Waker>,
    outcome: Option<Outcome>,
}

/// The gets of one core that wait, or were served and have not looked yet. Bounded by the policy's
/// limit on waiters.
#[derive(Default)]
pub(crate) struct Waiters {
    waiters: KeyMap<WaiterKey, Waiter>,
}

impl Waiters {
    pub(crate) fn insert(&mut self, waiter: WaiterKey, endpoint: EndpointKey) {
        self.waiters.insert(
            waiter,
            Waiter {
                endpoint,
                waker: None,
                outcome: None,
            },
        );
    }

    /// The endpoint that the waiter waits for.
    pub(crate) fn endpoint(&self, waiter: WaiterKey) -> Option<EndpointKey> {
        self.waiters.get(&waiter).map(|waiter| waiter.endpoint)
    }

    /// Leaves the outcome for the waiter. Gives it back if the waiter is not there any more.
    pub(crate) fn finish(
        &mut self,
        waiter: WaiterKey,
        outcome: Outcome,
        wakers: &mut VecDeque<Waker>,
    ) -> Option<Outcome> {
        let Some(entry) = self.waiters.get_mut(&waiter) else {
            return Some(outcome);
        };
        entry.outcome = Some(outcome);
        wakers.extend(entry.waker.take());
        None
    }

    pub(crate) fn poll(
        &mut self,
        waiter: WaiterKey,
        cx: &Context<'_>,
        stale: &mut VecDeque<Waker>,
    ) -> Poll<Outcome> {
        let Some(entry) = self.waiters.get_mut(&waiter) else {
            let text = "this get has already ended";
            return Poll::Ready(Err(Error::new(ErrorKind::NotOnShard, text)));
        };
        match entry.outcome.take() {
            Some(outcome) => {
                stale.extend(entry.waker.take());
                self.waiters.remove(&waiter);
                Poll::Ready(outcome)
            }
            None => {
                keep_waker(&mut entry.waker, cx, stale);
                Poll::Pending
            }
        }
    }

    /// Takes the waiter out with its outcome, if it had one.
    pub(crate) fn remove(
        &mut self,
        waiter: WaiterKey,
        stale: &mut VecDeque<Waker>,
    ) -> Option<Option<Outcome>> {
        let waiter = self.waiters.remove(&waiter)?;
        stale.extend(waiter.waker);
        Some(waiter.outcome)
    }

    pub(crate) fn fail_all(&mut self, error: &Error, wakers: &mut VecDeque<Waker>) {
        // In the order of their keys: the map's own depends on what was in it before.
        let mut waiters: Vec<_> = self.waiters.iter_mut().collect();
        waiters.sort_unstable_by_key(|(key, _)| **key);
        for (_, waiter) in waiters {
            waiter.outcome.get_or_insert_with(|| Err(error.clone()));
            wakers.extend(waiter.waker.take());
        }
    }

    /// How many there are.
    #[cfg(feature = "sim")]
    pub(crate) fn len(&self) -> usize {
        self.waiters.len()
    }

    /// Who waits, and for what.
    #[cfg(feature = "sim")]
    pub(crate) fn wakers(&self) -> impl Iterator<Item = (EndpointKey, &Waker)> {
        let waiters = self.waiters.values();
        waiters.filter_map(|waiter| Some((waiter.endpoint, waiter.waker.as_ref()?)))
    }
}
