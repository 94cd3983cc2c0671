//! A task of the machine, what wakes it, and the handle of who waits for its end.

use std::any::Any;
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use super::{Core, WeakMachine};

/// What a panic carried.
pub(crate) type Panic = Box<dyn Any + Send>;

/// The numbers of the tasks that were woken, in order. Wakers may be anywhere, so it is shared.
#[derive(Debug, Clone, Default)]
pub(super) struct Woken(Arc<Mutex<Vec<u64>>>);

impl Woken {
    pub(super) fn take(&self, into: &mut Vec<u64>) {
        into.append(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Wakes one task.
pub(super) struct Wakeup {
    id: u64,
    pending: AtomicBool,
    woken: Woken,
}

impl Wakeup {
    pub(super) fn new(id: u64, woken: &Woken) -> Arc<Self> {
        Arc::new(Self {
            id,
            pending: AtomicBool::new(false),
            woken: woken.clone(),
        })
    }

    /// The task runs now: a wake-up from here on is a new one.
    pub(super) fn begin(&self) {
        self.pending.store(false, Ordering::Relaxed);
    }
}

impl Wake for Wakeup {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.pending.swap(true, Ordering::Relaxed) {
            let mut woken = self.woken.0.lock().unwrap_or_else(PoisonError::into_inner);
            woken.push(self.id);
        }
    }
}

/// What a task runs.
pub(super) type Body = Pin<Box<dyn Future<Output = ()>>>;

/// A task.
pub(super) struct Task {
    pub(super) name: Rc<str>,
    pub(super) core: Core,
    /// Empty while it is polled.
    pub(super) future: Option<Body>,
    pub(super) wakeup: Arc<Wakeup>,
    pub(super) waker: Waker,
    pub(super) aborted: bool,
    /// The run is not over before it is.
    pub(super) awaited: bool,
}

enum Ended<T> {
    Not,
    Value(T),
    Panicked(Panic),
    Aborted,
}

struct JoinState<T> {
    ended: Ended<T>,
    waker: Option<Waker>,
}

/// Waits for a task's end.
pub(crate) struct Join<T> {
    state: Rc<RefCell<JoinState<T>>>,
    machine: WeakMachine,
    id: u64,
}

/// The task's side of a [`Join`].
pub(super) struct Promise<T>(Rc<RefCell<JoinState<T>>>);

pub(super) fn join<T>(machine: WeakMachine, id: u64) -> (Promise<T>, Join<T>) {
    let state = Rc::new(RefCell::new(JoinState {
        ended: Ended::Not,
        waker: None,
    }));
    (Promise(state.clone()), Join { state, machine, id })
}

impl<T> Promise<T> {
    pub(super) fn keep(self, outcome: Result<T, Panic>) {
        self.end(match outcome {
            Ok(value) => Ended::Value(value),
            Err(panic) => Ended::Panicked(panic),
        });
    }

    fn end(&self, ended: Ended<T>) {
        let mut state = self.0.borrow_mut();
        state.ended = ended;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        let open = matches!(self.0.borrow().ended, Ended::Not);
        if open {
            self.end(Ended::Aborted);
        }
    }
}

impl<T> Join<T> {
    /// Drops the future where it waits, in its own time.
    pub(crate) fn abort(&self) {
        if let Some(machine) = self.machine.upgrade() {
            machine.abort(self.id);
        }
    }

    /// What the future returned, or its panic; `None` if it was aborted.
    pub(crate) fn poll_outcome(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, Panic>>> {
        let mut state = self.state.borrow_mut();
        match std::mem::replace(&mut state.ended, Ended::Aborted) {
            Ended::Value(value) => Poll::Ready(Some(Ok(value))),
            Ended::Panicked(panic) => Poll::Ready(Some(Err(panic))),
            Ended::Aborted => Poll::Ready(None),
            Ended::Not => {
                state.ended = Ended::Not;
                let old = state.waker.replace(cx.waker().clone());
                drop(state);
                drop(old);
                Poll::Pending
            }
        }
    }
}
