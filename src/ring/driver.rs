//! The runtime's own park hook is not open to us, so a task submits for all others: the first
//! entry of a turn wakes it, it lets the other tasks run while they still add entries, and then it
//! makes one system call for all of them.
//!
//! Promise: while anything is queued, completed or due, the driver is queued too: no wake-up is
//! lost, because the readiness of the ring is cleared before its completions are looked at, and
//! [`Signal::rest`] comes before the last look. A turn makes no system call if there is nothing to
//! submit. When the runtime drops the driver, it ends the turn's owner, once; in a forked child that
//! does not disturb the parent's driver (D30).
//!
//! What tasks did costs no turn: where nothing has come and nothing is due, the batch is handed over
//! and what the kernel answers at once is taken in ([`Turn::settle`]), all in one poll. The first
//! poll is a turn in any case: only a turn tells the other cores whom to wake.
//!
//! Whoever is woken by a turn runs before it is settled, so that what they do goes with it. Then the
//! driver is queued again while the batch grows: that lets tasks add to it which other tasks wake.
//! Where it brought nothing many times in a row, it is tried now and then only.
//!
//! States: following (queued again behind those who were woken, once), gathering (queued again while
//! the batch grows, at most 32 times), settling, resting, stopped.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::ring::signal::Signal;
use crate::ring::unpark;
use crate::time::Tick;

/// How often the driver waits for a batch to grow before it submits.
const MAX_GATHER: u32 = 32;
/// After how many batches in a row that did not grow the driver waits no longer for that.
const MAX_VAIN: u32 = 32;
/// Every how many batches it then tries again.
const TRIAL: u32 = 16;
/// How long until the next turn when the kernel took nothing (D21), or when more receives wait for
/// a buffer than may be armed at once (D15).
const BACK_OFF: Duration = Duration::from_millis(1);

/// When the driver must run next, if nothing happens before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// At this moment; [`Tick::NEVER`] if only events matter.
    At(Tick),
    /// Never again: the driver ends.
    Stop,
}

/// What the driver drives.
pub(crate) trait Turn: 'static {
    /// Reaps, handles events and deadlines, queues new operations, runs the user's code. Does not
    /// submit. Whether it woke tasks, which may have more to queue.
    fn turn(&self, cx: &mut Context<'_>) -> bool;
    /// What a submission would carry now.
    fn queued(&self) -> usize;
    /// Ends a turn that was taken just now, or what tasks did since one: submits, takes in what that
    /// completed, and says when the next turn is due: at once, if that had the user's code run.
    fn settle(&self, turned: bool) -> Next;
    /// Whether something has come from the kernel or from another core.
    fn has_come(&self) -> bool;
    /// Whether there is work that only another turn, soon, can queue.
    fn wants_turn(&self) -> bool;
    /// Whether the batch stops a receive that its reader could relieve by running first.
    fn stops(&self) -> bool;
    /// The driver is dropped: nothing will drive the ring any more.
    fn end(&self);
}

/// Where the driver sleeps.
pub(crate) trait Watch: Unpin + 'static {
    /// Forgets that completions came: what comes from now on wakes the task of `cx`. Whether any
    /// had come.
    fn clear(&mut self, cx: &mut Context<'_>) -> bool;
    /// Sets the alarm to `at`; whether that moment has come.
    fn poll_alarm(&mut self, cx: &mut Context<'_>, at: Tick) -> bool;
    /// The moment now.
    fn now(&self) -> Tick;
}

/// The task that submits and reaps for one core.
pub(crate) struct Driver<T: Turn, W: Watch> {
    turn: Rc<T>,
    /// Until the driver has stopped.
    watch: Option<W>,
    signal: Rc<Signal>,
    gathered: u32,
    seen: usize,
    /// It is queued behind those whom a turn woke.
    follows: bool,
    /// For how many batches in a row it waited in vain, and how many it has not waited for since.
    vain: u32,
    passed: u32,
}

impl<T: Turn, W: Watch> std::fmt::Debug for Driver<T, W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

impl<T: Turn, W: Watch> Driver<T, W> {
    /// A driver for the ring that `watch` watches, with its `signal`; spawn it on the ring's thread.
    pub(crate) fn new(turn: Rc<T>, watch: W, signal: Rc<Signal>) -> Self {
        Self {
            turn,
            watch: Some(watch),
            signal,
            gathered: 0,
            seen: 0,
            follows: false,
            vain: 0,
            passed: 0,
        }
    }

    /// Whether to let other tasks run before the batch, of `queued` entries, is settled.
    fn waits(&mut self, woke: bool, queued: usize) -> bool {
        if woke && !self.follows {
            self.follows = true;
            self.seen = queued;
            return true;
        }
        // A reader that only needs its turn has it, though batches do not grow otherwise.
        let stops = self.turn.stops();
        let pays = self.gathered > 0 || self.vain < MAX_VAIN || self.passed >= TRIAL;
        let may_grow = stops || pays;
        let grows = queued > self.seen && self.gathered < MAX_GATHER;
        if grows && may_grow {
            self.seen = queued;
            self.gathered += 1;
            return true;
        }
        match self.gathered {
            0 => self.passed += u32::from(grows),
            1 if !stops => (self.vain, self.passed) = (self.vain.saturating_add(1), 0),
            1 => {}
            _ => self.vain = 0,
        }
        self.follows = false;
        self.seen = 0;
        self.gathered = 0;
        false
    }

    /// Whoever sees this thread awake tells the driver what has come, if its runtime can.
    pub(super) fn listen(&self) {
        unpark::listen(&self.turn, Rc::clone(&self.signal));
    }

    fn stop(&mut self) {
        if self.watch.take().is_some() {
            self.signal.forget();
            self.turn.end();
        }
    }
}

impl<T: Turn, W: Watch> Future for Driver<T, W> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let Some(watch) = &mut this.watch else {
            return Poll::Ready(());
        };
        let asked = this.signal.begin(cx.waker());
        let ready = watch.clear(cx);
        // Who woke the driver is not told: if it was not asked, a deadline may be due. And what only
        // a turn can queue does not wait until tasks leave the driver alone for once.
        let turns = !asked || ready || this.turn.has_come() || this.turn.wants_turn();
        let woke = turns && this.turn.turn(cx);
        let queued = this.turn.queued();
        if this.waits(woke, queued) {
            this.signal.gather();
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Next::At(mut deadline) = this.turn.settle(turns) else {
            this.stop();
            return Poll::Ready(());
        };
        let Some(watch) = &mut this.watch else {
            return Poll::Ready(());
        };
        if this.turn.wants_turn() || this.turn.queued() > 0 {
            deadline = deadline.min(watch.now().plus(BACK_OFF));
        }
        this.signal.rest();
        if this.turn.has_come() || watch.poll_alarm(cx, deadline) {
            this.signal.wake();
        }
        Poll::Pending
    }
}

impl<T: Turn, W: Watch> Drop for Driver<T, W> {
    fn drop(&mut self) {
        self.stop();
    }
}
