//! An answer that comes while the thread sleeps in epoll interrupts the sleep *before* its completion
//! is posted: epoll_wait(2) fails with EINTR, the kernel posts the completion on the way out, and
//! only the next epoll_wait tells of it. Whoever looks at the queue when the thread awakes saves that
//! call.
//!
//! Promise: a thread whose runtime calls [`unparked`] has its driver woken when something has come
//! while it slept. Nothing depends on it: without it, the next sleep ends at once.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use super::driver::Turn;
use super::signal::Signal;

struct Sleeper {
    turn: Weak<dyn Turn>,
    signal: Rc<Signal>,
}

thread_local! {
    static SLEEPER: RefCell<Option<Sleeper>> = const { RefCell::new(None) };
}

/// From now on it is `turn` for which this thread awakes, as long as that is there.
pub(super) fn listen<T: Turn>(turn: &Rc<T>, signal: Rc<Signal>) {
    let turn: Weak<T> = Rc::downgrade(turn);
    let before = SLEEPER.replace(Some(Sleeper { turn, signal }));
    drop(before);
}

/// The thread slept. Called by its runtime, outside of every task.
pub(super) fn unparked() {
    // A thread that is being torn down has nobody to wake.
    let _gone = SLEEPER.try_with(|sleeper| {
        if let Ok(sleeper) = sleeper.try_borrow()
            && let Some(Sleeper { turn, signal }) = &*sleeper
            && turn.upgrade().is_some_and(|turn| turn.has_come())
        {
            signal.wake();
        }
    });
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake, Waker};
    use std::time::Duration;

    use super::*;
    use crate::ring::{Next, Runtime};

    #[derive(Default)]
    struct Core {
        come: Cell<bool>,
    }

    impl Turn for Core {
        fn turn(&self, _cx: &mut Context<'_>) -> bool {
            false
        }
        fn queued(&self) -> usize {
            0
        }
        fn settle(&self, _turned: bool) -> Next {
            Next::Stop
        }
        fn has_come(&self) -> bool {
            self.come.get()
        }
        fn wants_turn(&self) -> bool {
            false
        }
        fn stops(&self) -> bool {
            false
        }
        fn end(&self) {}
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn what_came_while_the_thread_slept_wakes_the_driver() {
        let (core, signal, count) = (
            Rc::new(Core::default()),
            Rc::new(Signal::default()),
            Arc::new(Count::default()),
        );
        listen(&core, signal.clone());
        signal.begin(&Waker::from(count.clone()));
        let runtime = Runtime::tokio().unwrap();
        let sleep = || {
            signal.rest();
            runtime.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
            count.0.load(Ordering::Relaxed)
        };
        assert_eq!(sleep(), 0);
        core.come.set(true);
        // A thread that is late finds its time over and does not sleep at all.
        while sleep() == 0 {}
        let woken = count.0.load(Ordering::Relaxed);
        drop(core);
        assert_eq!(sleep(), woken);
        unparked();
        assert_eq!(count.0.load(Ordering::Relaxed), woken);
    }
}
