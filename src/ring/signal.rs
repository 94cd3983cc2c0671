//! The ring is filled by any task of the core but submitted by one, the driver, which sleeps when
//! there is nothing to submit. [`Signal`] is how the first entry of a turn wakes it.
//!
//! Promise: after [`rest`](Signal::rest) the next [`wake`](Signal::wake) or [`ask`](Signal::ask)
//! reaches the driver, and while the driver runs or is already woken either costs a load or two.
//!
//! States: resting; asked (what tasks did is to be handed over, and nothing has come that only a
//! turn sees to); raised (a turn is wanted); running (the driver looks at everything now).
//!
//! The waker is the driver task's own: waking it only queues the task in the runtime, so it is
//! called under borrows (D36 is about code of the user's).

use std::cell::{Cell, RefCell};
use std::task::Waker;

/// What the driver was told since it rested.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Told {
    #[default]
    Nothing,
    Asked,
    Raised,
    Running,
}

/// Wakes the driver of one ring. Shared by the ring, its buffers and the driver.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    waker: RefCell<Option<Waker>>,
    told: Cell<Told>,
}

impl Signal {
    /// Has the driver take a turn, and wakes it unless it is awake.
    pub(crate) fn wake(&self) {
        self.tell(Told::Raised);
    }

    /// The same for what the driver finds by itself, in each poll and before it rests: while it runs
    /// it need not be told, and wants no turn more for what it takes in meanwhile.
    pub(crate) fn note(&self) {
        if self.told.get() != Told::Running {
            self.tell(Told::Raised);
        }
    }

    /// Has the driver hand over what tasks did, and wakes it unless it is awake. Cheaper than a
    /// turn.
    #[inline]
    pub(crate) fn ask(&self) {
        if self.told.get() == Told::Nothing {
            self.tell(Told::Asked);
        }
    }

    fn tell(&self, what: Told) {
        if self.told.replace(what) == Told::Nothing
            && let Some(waker) = &*self.waker.borrow()
        {
            waker.wake_by_ref();
        }
    }

    /// The driver runs and will look at everything before it rests. Whether it was only asked to
    /// hand over what tasks did.
    ///
    /// Never with a waker that it had not before: other cores know the one of the last turn, so
    /// the first poll must be a turn, whatever woke it.
    pub(crate) fn begin(&self, waker: &Waker) -> bool {
        let told = self.told.replace(Told::Running);
        let mut kept = self.waker.borrow_mut();
        let known = kept.as_ref().is_some_and(|kept| kept.will_wake(waker));
        if !known {
            *kept = Some(waker.clone());
        }
        known && told == Told::Asked
    }

    /// The driver lets other tasks run, and is queued behind them. A turn that was wanted since it
    /// began to run still is.
    pub(crate) fn gather(&self) {
        if self.told.get() == Told::Running {
            self.told.set(Told::Asked);
        }
    }

    /// The driver is about to sleep.
    pub(crate) fn rest(&self) {
        self.told.set(Told::Nothing);
    }

    /// The driver is gone.
    pub(crate) fn forget(&self) {
        *self.waker.borrow_mut() = None;
        self.told.set(Told::Nothing);
    }
}
