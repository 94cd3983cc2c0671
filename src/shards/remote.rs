//! The result of a future that runs on another core: awaited by a task, or waited for by a thread.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::error::{Error, ErrorKind, Result};

/// What a panic carried.
pub(crate) type Panic = Box<dyn Any + Send>;

/// The future's value, its panic, or the end of its shard before it ended.
pub(crate) type Ended<T> = std::result::Result<Result<T>, Panic>;

struct State<T> {
    ended: Option<Ended<T>>,
    waker: Option<Waker>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing of the user's runs under the lock, so a poisoned one is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The result of a future on another core, see [`Shards::run_on`](crate::Shards::run_on).
#[must_use = "a future's errors and panics arrive here"]
pub struct Remote<T> {
    shared: Arc<Shared<T>>,
}

/// The end that brings the result.
pub(crate) struct Promise<T> {
    shared: Arc<Shared<T>>,
    kept: bool,
}

pub(crate) fn remote<T>() -> (Promise<T>, Remote<T>) {
    let state = Mutex::new(State {
        ended: None,
        waker: None,
    });
    let shared = Arc::new(Shared {
        state,
        changed: Condvar::new(),
    });
    (
        Promise {
            shared: shared.clone(),
            kept: false,
        },
        Remote { shared },
    )
}

impl<T> Remote<T> {
    /// Blocks the calling thread until the future has ended. Not for a shard's own thread.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotOnShard`] if the shard ended first.
    ///
    /// # Panics
    ///
    /// If the future panicked, with its panic.
    pub fn wait(self) -> Result<T> {
        match self.join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    pub(crate) fn join(self) -> Ended<T> {
        let mut state = self.shared.lock();
        loop {
            if let Some(ended) = state.ended.take() {
                return ended;
            }
            state = self
                .shared
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<T> Future for Remote<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let mut state = self.shared.lock();
        let Some(ended) = state.ended.take() else {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        drop(state);
        match ended {
            Ok(value) => Poll::Ready(value),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl<T> fmt::Debug for Remote<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").finish_non_exhaustive()
    }
}

impl<T> Promise<T> {
    pub(crate) fn keep(mut self, ended: std::result::Result<T, Panic>) {
        self.kept = true;
        self.finish(ended.map(Ok));
    }

    fn finish(&self, ended: Ended<T>) {
        let mut state = self.shared.lock();
        state.ended = Some(ended);
        let waker = state.waker.take();
        drop(state);
        self.shared.changed.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        if !self.kept {
            let text = "the shard ended before the future did";
            self.finish(Ok(Err(Error::new(ErrorKind::NotOnShard, text))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_promise_reaches_a_waiting_thread() {
        let (promise, remote) = remote();
        let waiting = std::thread::spawn(move || remote.wait());
        promise.keep(Ok(7));
        assert_eq!(waiting.join().unwrap().unwrap(), 7);
    }

    #[test]
    fn a_broken_promise_is_an_error() {
        let (promise, remote) = remote::<u8>();
        drop(promise);
        assert_eq!(remote.wait().unwrap_err().kind(), ErrorKind::NotOnShard);
    }

    #[test]
    fn a_panic_goes_on_where_it_is_waited_for() {
        let (promise, remote) = remote::<u8>();
        promise.keep(Err(Box::new("boom")));
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| remote.wait()));
        assert_eq!(panic.unwrap_err().downcast_ref::<&str>(), Some(&"boom"));
    }
}
