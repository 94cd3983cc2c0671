//! The ring is filled by any task of the core but submitted by one, the driver, which sleeps when
//! there is nothing to submit. [`Signal`] is how the first entry of a turn wakes it.
//!
//! Promise: after [`rest`](Signal::rest) the next [`wake`](Signal::wake) reaches the driver, and
//! while the driver runs or is already woken a `wake` costs one load.
//!
//! The waker is the driver task's own: waking it only queues the task in the runtime, so it is
//! called under borrows (D36 is about code of the user's).

use std::cell::{Cell, RefCell};
use std::task::Waker;

/// Wakes the driver of one ring. Shared by the ring, its buffers and the driver.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    waker: RefCell<Option<Waker>>,
    raised: Cell<bool>,
}

impl Signal {
    /// Wakes the driver unless it is awake.
    pub(crate) fn wake(&self) {
        if !self.raised.replace(true)
            && let Some(waker) = &*self.waker.borrow()
        {
            waker.wake_by_ref();
        }
    }

    /// The driver runs and will look at everything before it rests.
    pub(crate) fn begin(&self, waker: &Waker) {
        self.raised.set(true);
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }

    /// The driver is about to sleep.
    pub(crate) fn rest(&self) {
        self.raised.set(false);
    }

    /// The driver is gone.
    pub(crate) fn forget(&self) {
        *self.waker.borrow_mut() = None;
        self.raised.set(false);
    }
}
