//! Waiters, openings and pauses all have deadlines, and most are cancelled before they come.
//! One ordered set holds them all; the owner of a deadline remembers it and takes it out.
//!
//! Promise: nothing stale is in the set, so its first entry is exactly the next deadline, and its
//! size is bounded by the tables of waiters and endpoints, and by the openings under way.

use std::collections::BTreeSet;

use super::event::{EndpointKey, WaiterKey};
use crate::time::Tick;

/// Whose deadline it is. Equal deadlines come in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A waiter's `get_timeout`.
    Waiter(WaiterKey),
    /// A race of an endpoint, by its number, may have its next attempt.
    Race(EndpointKey, u64),
    /// Another core has waited so long that an endpoint gives it one of its last.
    Give(EndpointKey),
    /// An endpoint may try again, or is to do something of its own.
    Retry(EndpointKey),
}

/// Every deadline but those of connections: see [`ages`](super::ages) and [`lives`](super::lives).
#[derive(Debug, Default)]
pub(crate) struct Timers {
    set: BTreeSet<(Tick, Timer)>,
    /// How often one was set.
    #[cfg(test)]
    pub(crate) changes: u64,
}

impl Timers {
    /// Adds a deadline; one at [`Tick::NEVER`] is none.
    pub(crate) fn insert(&mut self, at: Tick, timer: Timer) {
        #[cfg(test)]
        {
            self.changes += 1;
        }
        if at != Tick::NEVER {
            self.set.insert((at, timer));
        }
    }

    /// Takes a deadline out.
    pub(crate) fn remove(&mut self, at: Tick, timer: Timer) {
        if at != Tick::NEVER {
            self.set.remove(&(at, timer));
        }
    }

    /// The next deadline.
    pub(crate) fn next(&self) -> Option<Tick> {
        self.set.first().map(|&(at, _)| at)
    }

    /// Whether something here comes before the end of a life at `at`: what is earlier, or a waiter's
    /// deadline that is not later.
    pub(crate) fn is_before(&self, at: Tick) -> bool {
        self.set.first().is_some_and(|(first, timer)| match timer {
            Timer::Waiter(_) => *first <= at,
            _ => *first < at,
        })
    }

    /// Takes out the first timer whose deadline is not after `now`.
    pub(crate) fn pop_due(&mut self, now: Tick) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        self.set.pop_first().map(|(_, timer)| timer)
    }

    #[cfg(any(test, fuzzing, feature = "sim"))]
    pub(crate) fn len(&self) -> usize {
        self.set.len()
    }

    #[cfg(any(test, fuzzing, feature = "sim"))]
    pub(crate) fn contains(&self, at: Tick, timer: Timer) -> bool {
        self.set.contains(&(at, timer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::Key;

    #[test]
    fn m4_due_timers_come_in_the_order_of_their_deadlines() {
        let mut timers = Timers::default();
        let of = |index| Timer::Waiter(WaiterKey(Key::new(index, 0)));
        timers.insert(Tick::from_nanos(20), of(1));
        timers.insert(Tick::from_nanos(10), of(2));
        timers.insert(Tick::from_nanos(30), of(3));
        timers.insert(Tick::NEVER, of(4));
        timers.remove(Tick::from_nanos(20), of(1));
        assert_eq!(timers.next(), Some(Tick::from_nanos(10)));
        assert_eq!(timers.pop_due(Tick::from_nanos(9)), None);
        assert_eq!(timers.pop_due(Tick::from_nanos(30)), Some(of(2)));
        assert_eq!(timers.pop_due(Tick::from_nanos(30)), Some(of(3)));
        assert_eq!(timers.next(), None);
    }
}
