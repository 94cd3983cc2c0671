//! What all cores read and hardly anybody changes must cost a reader nothing while it is the same.
//! [`Latest`] holds such a value, a [`Seen`] is one core's copy of it, and [`Turns`] gives the work
//! of keeping it up to date to one core at a time.
//!
//! Promise: looking costs one load and no shared write while nothing is new; a core that looks
//! after a change was made sees it or a later one; nobody waits for whoever has the turn.

use std::ops::DerefMut;
use std::sync::{Arc, TryLockError};
use std::time::Duration;

use super::sync::{AtomicU64, Mutex, Ordering, lock};
use crate::time::Tick;

/// A value that is replaced as a whole.
#[derive(Debug)]
pub(crate) struct Latest<T> {
    /// Goes up with each value; stored with the lock held.
    version: AtomicU64,
    value: Mutex<Arc<T>>,
}

impl<T> Latest<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            version: AtomicU64::new(0),
            value: Mutex::new(Arc::new(value)),
        }
    }

    /// Replaces the value.
    pub(crate) fn set(&self, value: T) {
        let mut held = lock(&self.value);
        *held = Arc::new(value);
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version + 1, Ordering::Release);
    }

    /// The value of this moment.
    pub(crate) fn get(&self) -> Arc<T> {
        lock(&self.value).clone()
    }

    /// A core's own copy.
    pub(crate) fn seen(&self) -> Seen<T> {
        let held = lock(&self.value);
        Seen {
            version: self.version.load(Ordering::Relaxed),
            value: held.clone(),
        }
    }
}

/// The value as one core saw it last.
#[derive(Debug)]
pub(crate) struct Seen<T> {
    version: u64,
    value: Arc<T>,
}

impl<T> Seen<T> {
    /// Takes the newest value; whether there was a newer one.
    pub(crate) fn look(&mut self, latest: &Latest<T>) -> bool {
        if latest.version.load(Ordering::Acquire) == self.version {
            return false;
        }
        *self = latest.seen();
        true
    }

    pub(crate) fn value(&self) -> &Arc<T> {
        &self.value
    }
}

/// Work that is done from time to time, by whoever comes first.
#[derive(Debug)]
pub(crate) struct Turns<W> {
    /// Nanoseconds of a [`Tick`].
    due: AtomicU64,
    work: Mutex<W>,
}

impl<W> Turns<W> {
    /// Work that is due at once.
    pub(crate) fn new(work: W) -> Self {
        Self {
            due: AtomicU64::new(0),
            work: Mutex::new(work),
        }
    }

    /// The work, if it is due and nobody else is at it.
    pub(crate) fn begin(&self, now: Tick) -> Option<impl DerefMut<Target = W>> {
        if now.as_nanos() < self.due.load(Ordering::Relaxed) {
            return None;
        }
        let work = match self.work.try_lock() {
            Ok(work) => work,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        // Somebody may have done it meanwhile.
        (now.as_nanos() >= self.due.load(Ordering::Relaxed)).then_some(work)
    }

    /// When it is due.
    pub(crate) fn due(&self) -> Tick {
        Tick::ZERO.plus(Duration::from_nanos(self.due.load(Ordering::Relaxed)))
    }

    /// The work, however long that takes.
    pub(crate) fn wait(&self) -> impl DerefMut<Target = W> {
        lock(&self.work)
    }

    /// The work is not due before `due`. For whoever is at it.
    pub(crate) fn end(&self, due: Tick) {
        self.due.store(due.as_nanos(), Ordering::Relaxed);
    }
}

#[cfg(all(test, not(ringpool_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_core_sees_the_newest_value_once() {
        let latest = Latest::new(1);
        let mut seen = latest.seen();
        assert!(!seen.look(&latest));
        latest.set(2);
        latest.set(3);
        assert!(seen.look(&latest) && !seen.look(&latest));
        assert_eq!((**seen.value(), *latest.get()), (3, 3));
    }

    #[test]
    fn one_at_a_time_and_not_before_it_is_due() {
        let turns = Turns::new(0);
        let at = Tick::from_nanos;
        let mut first = turns.begin(at(0)).unwrap();
        assert!(turns.begin(at(0)).is_none());
        *first += 1;
        turns.end(at(10));
        drop(first);
        assert!(turns.begin(at(9)).is_none());
        assert_eq!(turns.begin(at(10)).map(|work| *work), Some(1));
    }

    #[test]
    fn work_that_panicked_goes_on() {
        let turns = Arc::new(Turns::new(7));
        let other = turns.clone();
        let panicked = std::thread::spawn(move || {
            let _work = other.wait();
            panic!("a test");
        });
        assert!(panicked.join().is_err());
        assert_eq!(turns.begin(Tick::ZERO).map(|work| *work), Some(7));
    }
}

#[cfg(all(test, ringpool_loom))]
mod models {
    use loom::model;
    use loom::thread;

    use super::*;

    /// A version that was seen is never older than its value.
    #[test]
    fn a_core_that_looks_during_a_change_sees_it_then_or_later() {
        model(|| {
            let latest = Arc::new(Latest::new(0));
            let writer = latest.clone();
            let writer = thread::spawn(move || writer.set(1));
            let mut seen = latest.seen();
            let is_new = seen.look(&latest);
            let value = **seen.value();
            assert!(!is_new || value == 1);
            writer.join().unwrap();
            seen.look(&latest);
            assert_eq!(**seen.value(), 1);
        });
    }
}
