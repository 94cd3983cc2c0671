//! The driver sleeps in the runtime's own epoll instance, on the ring's descriptor and one timer.
//!
//! Promise: completions that come after [`clear`](Watch::clear) wake the driver; dropping the watch
//! in a forked child does not take the ring off the epoll instance that it shares with its parent
//! (D30).

use std::cell::RefCell;
use std::mem;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::coop::unconstrained;
use tokio::time::Sleep;

use super::clock;
use super::driver::Watch;
use super::fork::ForkMark;
use crate::error::{Error, ErrorKind, Result};
use crate::time::Tick;

/// Wakes the driver when the descriptor is ready, and knows that it did: most often it is something
/// else that wakes the driver, and to ask the runtime would cost more than all else a poll does.
struct Bell {
    driver: Waker,
    rang: AtomicBool,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Before: the driver that runs for it sees it.
        self.rang.store(true, Ordering::Release);
        self.driver.wake_by_ref();
    }
}

/// The descriptor itself, as far as it is open.
struct Open {
    fd: Option<AsyncFd<OwnedFd>>,
    mark: ForkMark,
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.mark.forked() {
            mem::forget(self.fd.take());
        }
    }
}

/// Whoever ends the ring closes the driver's descriptor with this, by dropping it.
pub(crate) struct SharedDescriptor(Rc<RefCell<Option<Open>>>);

impl Drop for SharedDescriptor {
    fn drop(&mut self) {
        let open = self.0.borrow_mut().take();
        drop(open);
    }
}

/// A descriptor of the ring in the runtime of this thread.
pub(crate) struct Descriptor {
    /// Of the driver's own, until the ring's owner ends it.
    open: Rc<RefCell<Option<Open>>>,
    /// Whom the runtime wakes when it is ready, once more as a waker.
    bell: Option<(Arc<Bell>, Waker)>,
    sleep: Option<Pin<Box<Sleep>>>,
    /// What `sleep` is set to.
    alarm: Tick,
    /// Whom `sleep` wakes then.
    wakes: Option<Waker>,
}

impl Descriptor {
    /// Watches `fd`.
    ///
    /// # Errors
    ///
    /// `NotOnShard` if there is no runtime with I/O here, `Unavailable` if it refuses the ring.
    pub(crate) fn new(fd: OwnedFd) -> Result<Self> {
        if tokio::runtime::Handle::try_current().is_err() {
            let message = "no runtime of tokio with I/O on this thread";
            return Err(Error::new(ErrorKind::NotOnShard, message));
        }
        // Newer versions of tokio have an unsafe function for this instead, for types that do not
        // own their descriptor. This one does.
        #[allow(deprecated)]
        let fd = AsyncFd::with_interest(fd, Interest::READABLE)
            .map_err(|error| Error::from_source(ErrorKind::Unavailable, error))?;
        let open = Open {
            fd: Some(fd),
            mark: ForkMark::new(),
        };
        Ok(Self {
            open: Rc::new(RefCell::new(Some(open))),
            bell: None,
            sleep: None,
            alarm: Tick::NEVER,
            wakes: None,
        })
    }

    /// For the ring's owner.
    pub(crate) fn share(&self) -> SharedDescriptor {
        SharedDescriptor(Rc::clone(&self.open))
    }
}

impl Watch for Descriptor {
    fn clear(&mut self, cx: &mut Context<'_>) -> bool {
        let known = self.bell.as_ref();
        if !known.is_some_and(|(bell, _)| bell.driver.will_wake(cx.waker())) {
            // It has rung: the runtime does not know it yet.
            let bell = Arc::new(Bell {
                driver: cx.waker().clone(),
                rang: AtomicBool::new(true),
            });
            self.bell = Some((Arc::clone(&bell), Waker::from(bell)));
        }
        let Some((bell, waker)) = &self.bell else {
            return false;
        };
        if !bell.rang.load(Ordering::Relaxed) || !bell.rang.swap(false, Ordering::AcqRel) {
            return false;
        }
        let cx = &mut Context::from_waker(waker);
        let open = self.open.borrow();
        let Some(fd) = open.as_ref().and_then(|open| open.fd.as_ref()) else {
            return false;
        };
        let mut came = false;
        while let Poll::Ready(Ok(mut ready)) = fd.poll_read_ready(cx) {
            ready.clear_ready();
            came = true;
        }
        came
    }

    fn poll_alarm(&mut self, cx: &mut Context<'_>, at: Tick) -> bool {
        if at == Tick::NEVER {
            self.alarm = at;
            return false;
        }
        if self.alarm != at || self.sleep.is_none() {
            // A timer would wait for the wheel's next tick.
            if at <= clock::now() {
                return true;
            }
            self.alarm = at;
            let Some(instant) = clock::instant_of(at) else {
                return false;
            };
            match &mut self.sleep {
                Some(sleep) => sleep.as_mut().reset(instant.into()),
                None => self.sleep = Some(Box::pin(tokio::time::sleep_until(instant.into()))),
            }
            self.wakes = None;
        }
        let Some(sleep) = &mut self.sleep else {
            return false;
        };
        let known = self.wakes.as_ref();
        if known.is_some_and(|waker| waker.will_wake(cx.waker())) && !sleep.is_elapsed() {
            // To poll it again would read the clock.
            return false;
        }
        self.wakes = Some(cx.waker().clone());
        // A task that has had its share would be queued again instead, and its waker not be known
        // to the timer.
        pin!(unconstrained(sleep.as_mut())).poll(cx).is_ready()
    }

    fn now(&self) -> Tick {
        clock::now()
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        let open = self.open.borrow_mut().take();
        drop(open);
    }
}
