//! The runtime's own park hook is not open to us, so a task submits for all others: the first
//! entry of a turn wakes it, it lets the other tasks run while they still add entries, and then it
//! makes one system call for all of them.
//!
//! Promise: while anything is queued, completed or due, the driver is queued too: no wake-up is
//! lost, because the readiness of the ring is cleared before its completions are looked at, and
//! [`Signal::rest`] comes before the last look. A turn makes no system call if there is nothing to
//! submit. When the runtime drops the driver, it ends the turn's owner, once; in a forked child that does not disturb the parent's driver (D30).
//!
//! States: gathering (queued again while the batch grows, at most 32 times), submitting, resting,
//! stopped.

use std::future::Future;
use std::mem;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Sleep;

use crate::error::{Error, ErrorKind, Result};
use crate::ring::clock;
use crate::ring::fork::ForkMark;
use crate::ring::signal::Signal;
use crate::time::Tick;

/// How often the driver waits for a batch to grow before it submits.
const MAX_GATHER: u32 = 32;
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
    /// Reaps, handles events and deadlines, queues new operations. Does not submit.
    fn turn(&self, cx: &mut Context<'_>) -> Next;
    /// What a submission would carry now.
    fn queued(&self) -> usize;
    /// Submits.
    fn submit(&self);
    /// Whether there is work that only another turn, soon, can queue.
    fn wants_turn(&self) -> bool;
    /// Whether completions can be reaped now.
    fn has_completions(&self) -> bool;
    /// The driver is dropped: nothing will drive the ring any more.
    fn end(&self);
}

/// The task that submits and reaps for one core.
pub(crate) struct Driver<T: Turn> {
    turn: Rc<T>,
    /// A descriptor of the driver's own: it stays open whatever becomes of the ring.
    fd: Option<AsyncFd<OwnedFd>>,
    signal: Rc<Signal>,
    sleep: Option<Pin<Box<Sleep>>>,
    /// What `sleep` is set to.
    alarm: Tick,
    gathered: u32,
    seen: usize,
    mark: ForkMark,
}

impl<T: Turn> std::fmt::Debug for Driver<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

impl<T: Turn> Driver<T> {
    /// A driver for the ring that `fd` watches, with its `signal`; spawn it on this thread's runtime.
    ///
    /// # Errors
    ///
    /// `NotOnShard` if there is no runtime with I/O here, `Unavailable` if it refuses the ring.
    pub(crate) fn new(turn: Rc<T>, fd: OwnedFd, signal: Rc<Signal>) -> Result<Self> {
        if tokio::runtime::Handle::try_current().is_err() {
            let message = "no tokio-uring runtime on this thread";
            return Err(Error::new(ErrorKind::NotOnShard, message));
        }
        // Newer versions of tokio have an unsafe function for this instead, for types that do not
        // own their descriptor. This one does.
        #[allow(deprecated)]
        let fd = AsyncFd::with_interest(fd, Interest::READABLE)
            .map_err(|error| Error::from_source(ErrorKind::Unavailable, error))?;
        Ok(Self {
            turn,
            fd: Some(fd),
            signal,
            sleep: None,
            alarm: Tick::NEVER,
            gathered: 0,
            seen: 0,
            mark: ForkMark::new(),
        })
    }

    /// Clears the readiness of the ring, so that what comes from now on is a new edge.
    fn clear_readiness(&self, cx: &mut Context<'_>) {
        let Some(fd) = &self.fd else { return };
        while let Poll::Ready(Ok(mut ready)) = fd.poll_read_ready(cx) {
            ready.clear_ready();
        }
    }

    /// Sets the alarm to `at`; whether that moment has come.
    fn poll_alarm(&mut self, cx: &mut Context<'_>, at: Tick) -> bool {
        let Some(instant) = clock::instant_of(at) else {
            self.alarm = at;
            return false;
        };
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(instant.into())));
        if self.alarm != at {
            self.alarm = at;
            sleep.as_mut().reset(instant.into());
        }
        sleep.as_mut().poll(cx).is_ready()
    }

    fn stop(&mut self) {
        if let Some(fd) = self.fd.take() {
            if self.mark.forked() {
                // Its drop would take the ring off the epoll instance shared with the parent.
                mem::forget(fd);
            }
            self.signal.forget();
            self.turn.end();
        }
    }
}

impl<T: Turn> Future for Driver<T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.fd.is_none() {
            return Poll::Ready(());
        }
        this.signal.begin(cx.waker());
        this.clear_readiness(cx);
        let Next::At(mut deadline) = this.turn.turn(cx) else {
            this.stop();
            return Poll::Ready(());
        };
        let queued = this.turn.queued();
        if queued > this.seen && this.gathered < MAX_GATHER {
            this.seen = queued;
            this.gathered += 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        this.seen = 0;
        this.gathered = 0;
        if queued > 0 {
            this.turn.submit();
        }
        if this.turn.wants_turn() || (queued > 0 && this.turn.queued() > 0) {
            deadline = deadline.min(clock::now().plus(BACK_OFF));
        }
        this.signal.rest();
        if this.turn.has_completions() || this.poll_alarm(cx, deadline) {
            this.signal.begin(cx.waker());
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl<T: Turn> Drop for Driver<T> {
    fn drop(&mut self) {
        self.stop();
    }
}
