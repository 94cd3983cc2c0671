//! One core hands another something to do, and must neither block on it nor pile up memory there.
//!
//! Promise: at most `capacity` messages wait; a message is either taken by the owner, given back
//! to the pusher, or given back by [`Mailbox::close`]; the owner is woken for each push.
//!
//! States: open, closed.

use std::collections::VecDeque;
use std::sync::Arc;

use super::sync::{Mutex, lock};
use super::wake::Wake;

/// A bounded queue from many threads to one shard.
#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    inner: Mutex<Inner<T>>,
    wake: Arc<Wake>,
}

#[derive(Debug)]
struct Inner<T> {
    queue: VecDeque<T>,
    capacity: usize,
    closed: bool,
}

impl<T> Mailbox<T> {
    /// An empty queue for `capacity` messages to the shard that listens to `wake`.
    pub(crate) fn new(capacity: usize, wake: Arc<Wake>) -> Self {
        Self {
            inner: Mutex::new(Inner {
                queue: VecDeque::new(),
                capacity,
                closed: false,
            }),
            wake,
        }
    }

    /// Leaves `message` and wakes the owner; gives it back if the queue is full or closed.
    pub(crate) fn push(&self, message: T) -> Result<(), T> {
        let mut inner = lock(&self.inner);
        if inner.closed || inner.queue.len() >= inner.capacity {
            return Err(message);
        }
        inner.queue.push_back(message);
        drop(inner);
        self.wake.wake();
        Ok(())
    }

    /// Takes the oldest message.
    pub(crate) fn pop(&self) -> Option<T> {
        lock(&self.inner).queue.pop_front()
    }

    /// From now on so many messages may wait; those that wait already stay.
    #[cfg(feature = "sim")]
    pub(crate) fn set_capacity(&self, capacity: usize) {
        lock(&self.inner).capacity = capacity;
    }

    /// Whether no message waits.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.inner).queue.is_empty()
    }

    /// Whether it takes no message any more.
    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.inner).closed
    }

    /// Takes no message any more, and gives back those that nobody took.
    pub(crate) fn close(&self) -> Vec<T> {
        let mut inner = lock(&self.inner);
        inner.closed = true;
        std::mem::take(&mut inner.queue).into()
    }
}

#[cfg(all(test, not(ringpool_loom)))]
mod tests {
    use super::*;

    #[test]
    fn x4_a_full_mailbox_gives_the_message_back() {
        let wake = Arc::new(Wake::new());
        let mailbox = Mailbox::new(2, wake.clone());
        assert_eq!(mailbox.push(1), Ok(()));
        assert!(wake.take());
        assert_eq!(mailbox.push(2), Ok(()));
        assert_eq!(mailbox.push(3), Err(3));
        assert_eq!(mailbox.pop(), Some(1));
        assert_eq!(mailbox.push(4), Ok(()));
        assert_eq!((mailbox.pop(), mailbox.pop()), (Some(2), Some(4)));
        assert!(mailbox.is_empty());
    }

    #[test]
    fn x13_a_closed_mailbox_gives_back_what_was_left_and_what_comes() {
        let mailbox = Mailbox::new(8, Arc::new(Wake::new()));
        mailbox.push("a").unwrap();
        mailbox.push("b").unwrap();
        assert!(!mailbox.is_closed());
        assert_eq!(mailbox.close(), ["a", "b"]);
        assert!(mailbox.is_closed());
        assert_eq!(mailbox.push("c"), Err("c"));
        assert_eq!(mailbox.pop(), None);
        assert!(mailbox.close().is_empty());
    }
}

#[cfg(all(test, ringpool_loom))]
mod model {
    use std::future::poll_fn;
    use std::task::Poll;

    use loom::{future, thread};

    use super::*;

    #[test]
    fn every_message_arrives_and_the_owner_is_woken_for_it() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let wake = Arc::new(Wake::new());
            let mailbox = Arc::new(Mailbox::new(2, wake.clone()));
            let pushers: Vec<_> = (1..=2)
                .map(|message| {
                    let mailbox = mailbox.clone();
                    thread::spawn(move || mailbox.push(message).unwrap())
                })
                .collect();
            let mut sum = 0;
            future::block_on(poll_fn(|cx| {
                loop {
                    wake.register(cx.waker());
                    if !wake.take() {
                        return Poll::Pending;
                    }
                    while let Some(message) = mailbox.pop() {
                        sum += message;
                    }
                    if sum == 3 {
                        return Poll::Ready(());
                    }
                }
            }));
            pushers.into_iter().for_each(|p| p.join().unwrap());
        });
    }

    #[test]
    fn a_push_against_a_close_is_given_back_by_exactly_one_of_them() {
        loom::model(|| {
            let mailbox = Arc::new(Mailbox::new(2, Arc::new(Wake::new())));
            let pusher = {
                let mailbox = mailbox.clone();
                thread::spawn(move || mailbox.push(7).is_err())
            };
            let left = mailbox.close().len();
            let refused = usize::from(pusher.join().unwrap());
            assert_eq!(left + refused, 1);
        });
    }
}
