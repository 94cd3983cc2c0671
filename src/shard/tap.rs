//! What the pool did and why can only be told by what went in and out of its policy. The tap
//! records that one stream; tests compare it, and event tracing draws it.
//!
//! Promise: one branch when off; bounded when on, counting what it had to drop.

use std::collections::VecDeque;
use std::fmt;

use crate::error::Error;
use crate::policy::event::{Action, ConnKey, EndpointKey, Event, Return, WaiterKey};
use crate::time::Tick;

/// One entry of the stream.
#[derive(Clone)]
pub(crate) struct Record {
    pub(crate) at: Tick,
    pub(crate) what: What,
}

/// What happened.
#[derive(Clone)]
pub(crate) enum What {
    Get {
        endpoint: EndpointKey,
        hit: Option<ConnKey>,
        waiter: Option<WaiterKey>,
    },
    Put {
        conn: ConnKey,
        how: Return,
    },
    Cancel {
        waiter: WaiterKey,
    },
    Event(Event),
    Action(Action),
    /// The kernel did not take a connection to another core, for this reason.
    NotSent {
        conn: ConnKey,
        error: Error,
    },
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Get {
                endpoint,
                hit: Some(conn),
                ..
            } => write!(f, "get {endpoint:?}: {conn:?}"),
            What::Get {
                endpoint,
                waiter: Some(waiter),
                ..
            } => {
                write!(f, "get {endpoint:?}: {waiter:?}")
            }
            What::Get { endpoint, .. } => write!(f, "get {endpoint:?}: nothing"),
            What::Put { conn, how } => write!(f, "put {conn:?}: {how:?}"),
            What::Cancel { waiter } => write!(f, "cancel {waiter:?}"),
            What::Event(event) => write!(f, "-> {event:?}"),
            What::Action(action) => write!(f, "<- {action:?}"),
            What::NotSent { conn, error } => write!(f, "not sent {conn:?}: {error}"),
        }
    }
}

/// The stream's recorder.
#[derive(Default)]
pub(crate) struct Tap {
    records: Option<VecDeque<Record>>,
    capacity: usize,
    dropped: u64,
}

impl Tap {
    /// Starts recording; the oldest records go when there are more than `capacity`.
    pub(crate) fn switch_on(&mut self, capacity: usize) {
        self.capacity = capacity.max(1);
        self.records = Some(VecDeque::new());
    }

    /// Takes what was recorded, and how many records had to go.
    pub(crate) fn take(&mut self) -> (Vec<Record>, u64) {
        let records = self
            .records
            .as_mut()
            .map(|records| records.drain(..).collect());
        (
            records.unwrap_or_default(),
            std::mem::take(&mut self.dropped),
        )
    }

    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.records.is_some()
    }

    #[inline]
    pub(crate) fn record(&mut self, at: Tick, what: impl FnOnce() -> What) {
        if self.is_on() {
            self.keep(at, what());
        }
    }

    #[cold]
    fn keep(&mut self, at: Tick, what: What) {
        let Some(records) = &mut self.records else {
            return;
        };
        if records.len() == self.capacity {
            records.pop_front();
            self.dropped += 1;
        }
        records.push_back(Record { at, what });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::Key;

    #[test]
    fn it_keeps_the_newest_and_counts_what_went() {
        let waiter = |n| WaiterKey(Key::new(n, 0));
        let mut tap = Tap::default();
        tap.record(Tick::ZERO, || What::Cancel { waiter: waiter(0) });
        tap.switch_on(2);
        for n in 1..4 {
            tap.record(Tick::ZERO, || What::Cancel { waiter: waiter(n) });
        }
        let (records, dropped) = tap.take();
        assert_eq!(records.len(), 2);
        assert_eq!(dropped, 1);
        assert!(matches!(records[0].what, What::Cancel { waiter: w } if w == waiter(2)));
    }
}
