//! A core that sleeps must hear of work that another core left for it, exactly when it matters:
//! between its last look and its sleep lies a gap in which a notice can get lost.
//! [`Wake`] closes the gap.
//!
//! Promise: if work is made visible and then [`Wake::wake`] is called, a shard that registers its
//! waker, then calls [`Wake::take`], then looks for work and sleeps only if `take` said false,
//! either finds the work or is woken after it fell asleep.
//!
//! States: the flag is down (nothing to say), or up (said, not yet taken). Only the call that
//! raises the flag touches the waker, so that many wakes cost one.

use std::task::Waker;

use super::sync::{AtomicBool, Mutex, Ordering, lock};

/// The bell of one shard.
#[derive(Debug)]
pub(crate) struct Wake {
    pending: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Wake {
    /// A bell that nobody listens to yet.
    pub(crate) fn new() -> Self {
        Self {
            pending: AtomicBool::new(false),
            waker: Mutex::new(None),
        }
    }

    /// Tells the shard to look for work. From any thread, after the work was made visible.
    pub(crate) fn wake(&self) {
        // Release: the work is visible to whoever takes the flag. If it was up already, this swap
        // still comes before the `take` that lowers it, in the flag's own order, and that `take`
        // acquires this swap too, because swaps continue a release sequence.
        if self.pending.swap(true, Ordering::AcqRel) {
            return;
        }
        // The waker is called outside of the lock: it may run a scheduler's code.
        let waker = lock(&self.waker).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Listens with `waker` from now on. Call [`take`](Self::take) after this and before sleeping.
    ///
    /// Either `wake` locks the slot after this and calls the new waker, or it locked it before:
    /// then the flag was up before this lock was taken, and the `take` that follows sees it. The
    /// mutex gives the order, so that no fence is needed.
    pub(crate) fn register(&self, waker: &Waker) {
        let mut slot = lock(&self.waker);
        if slot.as_ref().is_some_and(|old| old.will_wake(waker)) {
            return;
        }
        let old = slot.replace(waker.clone());
        drop(slot);
        drop(old);
    }

    /// Lowers the flag; true if it was up. Look for work after this, not before.
    pub(crate) fn take(&self) -> bool {
        // The load spares the line an exclusive access when there is nothing, which is nearly
        // always. If it misses a flag that is being raised, the raiser calls the waker.
        self.pending.load(Ordering::Acquire) && self.pending.swap(false, Ordering::AcqRel)
    }

    /// Whether the flag is up: whoever raises it after this calls the waker.
    pub(crate) fn is_pending(&self) -> bool {
        self.pending.load(Ordering::Acquire)
    }

    /// Forgets the waker: the shard has ended.
    pub(crate) fn silence(&self) {
        let old = lock(&self.waker).take();
        drop(old);
    }
}

#[cfg(all(test, not(ringpool_loom)))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn many_wakes_ring_once_until_they_are_taken() {
        let (wake, count) = (Wake::new(), Arc::new(Count::default()));
        wake.register(&Waker::from(count.clone()));
        wake.wake();
        wake.wake();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(wake.is_pending());
        assert!(wake.take());
        assert!(!wake.take());
        wake.wake();
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_wake_before_anyone_listens_is_found_by_the_first_look() {
        let wake = Wake::new();
        wake.wake();
        wake.register(&Waker::from(Arc::new(Count::default())));
        assert!(wake.take());
    }

    #[test]
    fn a_silenced_bell_lets_its_waker_go() {
        let (wake, count) = (Wake::new(), Arc::new(Count::default()));
        wake.register(&Waker::from(count.clone()));
        wake.silence();
        wake.wake();
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        assert_eq!(Arc::strong_count(&count), 1);
    }
}

#[cfg(all(test, ringpool_loom))]
mod model {
    use std::future::poll_fn;
    use std::task::Poll;

    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicUsize, Ordering};
    use loom::{future, thread};

    use super::Wake;

    /// The work is a plain relaxed counter: only the flag makes it visible.
    fn rings(threads: usize) {
        let wake = Arc::new(Wake::new());
        let work = Arc::new(AtomicUsize::new(0));
        let pushers: Vec<_> = (0..threads)
            .map(|_| {
                let (wake, work) = (wake.clone(), work.clone());
                thread::spawn(move || {
                    work.fetch_add(1, Ordering::Relaxed);
                    wake.wake();
                })
            })
            .collect();
        // A lost wake-up is a deadlock here, and loom reports it.
        future::block_on(poll_fn(|cx| {
            loop {
                wake.register(cx.waker());
                if !wake.take() {
                    return Poll::Pending;
                }
                if work.load(Ordering::Relaxed) == threads {
                    return Poll::Ready(());
                }
            }
        }));
        for pusher in pushers {
            pusher.join().unwrap();
        }
    }

    #[test]
    fn x10_no_wake_up_is_lost_with_one_waker() {
        loom::model(|| rings(1));
    }

    #[test]
    fn x10_no_wake_up_is_lost_with_two_wakers() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| rings(2));
    }
}
