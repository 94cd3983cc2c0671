//! The driver in a real runtime.

mod told;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::io::{Read, Write};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::thread;

use super::*;
use crate::ring::driver::Watch;
use crate::ring::{Chunk, Descriptor, Driver, Next, OwnedBuf, Turn, clock, spawn};
use crate::time::Tick;

/// The least that a shard could be.
struct Shard {
    ring: RefCell<Ring>,
    waiting: RefCell<HashMap<Key, Waker>>,
    connected: Cell<usize>,
    written: Cell<usize>,
    ended: Cell<bool>,
    deadline: Cell<Tick>,
    turns: Cell<u32>,
    settled: Cell<u32>,
}

impl Turn for Shard {
    fn turn(&self, _cx: &mut Context<'_>) -> bool {
        self.turns.set(self.turns.get() + 1);
        let mut wake = Vec::new();
        {
            let mut ring = self.ring.borrow_mut();
            ring.reap();
            while let Some(event) = ring.poll_event() {
                let (Event::Connected { key }
                | Event::Watched { key }
                | Event::Readable { key }
                | Event::Ended { key, .. }
                | Event::Closed { key }
                | Event::WriteDone { key, .. }
                | Event::Writable { key }) = event
                else {
                    continue;
                };
                let done = matches!(event, Event::WriteDone { .. });
                self.written.set(self.written.get() + usize::from(done));
                self.connected.set(
                    self.connected.get() + usize::from(matches!(event, Event::Connected { .. })),
                );
                wake.extend(self.waiting.borrow_mut().remove(&key));
            }
        }
        let woke = !wake.is_empty();
        wake.into_iter().for_each(Waker::wake);
        if clock::now() >= self.deadline.get() {
            self.deadline.set(Tick::NEVER);
        }
        woke
    }

    fn queued(&self) -> usize {
        self.ring.borrow_mut().queued()
    }

    fn settle(&self, _turned: bool) -> Next {
        self.settled.set(self.settled.get() + 1);
        let mut ring = self.ring.borrow_mut();
        if ring.needs_submit() {
            let _ = ring.submit();
            if ring.has_completions() {
                ring.reap();
            }
        }
        Next::At(self.deadline.get())
    }

    fn wants_turn(&self) -> bool {
        self.ring.borrow().wants_turn()
    }

    fn stops(&self) -> bool {
        self.ring.borrow().stops()
    }

    fn has_come(&self) -> bool {
        self.ring.borrow().has_completions()
    }

    fn end(&self) {
        assert!(!self.ended.replace(true));
        let mut ring = self.ring.borrow_mut();
        assert!(ring.drain(PATIENCE).clean || ring.forked());
    }
}

impl Shard {
    fn start(config: RingConfig) -> Rc<Self> {
        let (shard, driver) = Self::with_driver(config);
        spawn::spawn_local(driver).unwrap();
        shard
    }

    fn with_driver(config: RingConfig) -> (Rc<Self>, Driver<Self, Descriptor>) {
        let ring = ring(config);
        let (fd, signal) = (ring.fd().unwrap(), ring.signal());
        let shard = Rc::new(Self {
            ring: RefCell::new(ring),
            waiting: RefCell::default(),
            connected: Cell::new(0),
            written: Cell::new(0),
            ended: Cell::new(false),
            deadline: Cell::new(Tick::NEVER),
            turns: Cell::new(0),
            settled: Cell::new(0),
        });
        let driver = Driver::new(Rc::clone(&shard), Descriptor::new(fd).unwrap(), signal);
        (shard, driver)
    }

    async fn wait<T>(&self, key: Key, mut done: impl FnMut(&mut Ring) -> Option<T>) -> T {
        poll_fn(|cx| match done(&mut self.ring.borrow_mut()) {
            Some(value) => Poll::Ready(value),
            None => {
                self.waiting.borrow_mut().insert(key, cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    async fn read(&self, key: Key) -> Chunk {
        self.wait(key, |ring| ring.read(key)).await
    }
}

/// Runs `task` in a runtime of its own; `None` if it does not end in time.
fn run<F: Future + 'static>(task: impl FnOnce() -> F) -> F::Output {
    let runtime = tokio_uring::Runtime::new(&tokio_uring::builder()).unwrap();
    let task = task();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, task).await.expect("in time") })
}

fn echo_server() -> SocketAddr {
    let (listener, address) = listener();
    thread::spawn(move || {
        for peer in listener.incoming().flatten() {
            thread::spawn(move || {
                let (mut from, mut to) = (peer.try_clone().unwrap(), peer);
                let _ = std::io::copy(&mut from, &mut to);
            });
        }
    });
    address
}

#[test]
fn tasks_echo_through_the_driver() {
    let address = echo_server();
    run(move || async move {
        let shard = Shard::start(config());
        let mut tasks = Vec::new();
        for index in 0..8 {
            let shard = Rc::clone(&shard);
            let task = async move {
                let at = key(index);
                shard
                    .ring
                    .borrow_mut()
                    .connect(at, address, &options(), CONNECT);
                shard
                    .wait(at, |ring| ring.is_watching(at).then_some(()))
                    .await;
                for round in 0..200u32 {
                    let bytes = round.to_le_bytes();
                    shard.ring.borrow_mut().write(at, &bytes).unwrap();
                    assert_eq!(&*shard.read(at).await, &bytes);
                }
                shard.ring.borrow_mut().close(at);
            };
            tasks.push(spawn::spawn_local(task).unwrap());
        }
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(shard.connected.get(), 8);
    });
}

/// Tasks that go one after the other, each woken by the one before.
#[derive(Default)]
struct Chain {
    at: Cell<u32>,
    waiting: RefCell<HashMap<u32, Waker>>,
}

impl Chain {
    async fn turn(&self, index: u32) {
        poll_fn(|cx| {
            if self.at.get() == index {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().insert(index, cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn pass(&self) {
        self.at.set(self.at.get() + 1);
        let next = self.waiting.borrow_mut().remove(&self.at.get());
        next.into_iter().for_each(Waker::wake);
    }
}

#[test]
fn writes_of_many_tasks_are_one_submission() {
    let address = echo_server();
    run(move || async move {
        let shard = Shard::start(config());
        for index in 0..8 {
            let at = key(index);
            shard
                .ring
                .borrow_mut()
                .connect(at, address, &options(), CONNECT);
            shard
                .wait(at, |ring| ring.is_watching(at).then_some(()))
                .await;
        }
        // Each task wakes the next, so the batch grows one by one.
        let before = shard.ring.borrow().stats().enters;
        let next = Rc::new(Chain::default());
        let mut tasks = Vec::new();
        for index in 0..8 {
            let (shard, next) = (Rc::clone(&shard), Rc::clone(&next));
            tasks.push(
                spawn::spawn_local(async move {
                    next.turn(index).await;
                    shard.ring.borrow_mut().write(key(index), b"x").unwrap();
                    next.pass();
                })
                .unwrap(),
            );
        }
        for task in tasks {
            task.await.unwrap();
        }
        for index in 0..8 {
            shard.read(key(index)).await;
        }
        let enters = shard.ring.borrow().stats().enters - before;
        assert!(enters <= 4, "{enters} enters for 8 writes");
    });
}

#[test]
fn p8_the_end_of_the_runtime_drains_the_ring() {
    let address = echo_server();
    let kept = run(move || async move {
        let shard = Shard::start(config());
        let at = key(0);
        shard
            .ring
            .borrow_mut()
            .connect(at, address, &options(), CONNECT);
        shard
            .wait(at, |ring| ring.is_watching(at).then_some(()))
            .await;
        shard.ring.borrow_mut().write(at, &[1; 60_000]).unwrap();
        Hold(shard)
    });
    assert!(kept.0.ended.get());
    kept.0.ring.borrow().assert_clean();
}

/// Lets a shard leave its runtime, on the same thread.
struct Hold(Rc<Shard>);

#[test]
fn a_deadline_runs_a_turn_and_idleness_runs_none() {
    run(|| async {
        let shard = Shard::start(config());
        tokio::task::yield_now().await;
        let soon = clock::now().plus(Duration::from_millis(20));
        shard.deadline.set(soon);
        shard.ring.borrow().signal().wake();
        while shard.deadline.get() != Tick::NEVER {
            tokio::task::yield_now().await;
        }
        assert!(clock::now() >= soon);
        // Nothing is due or queued: turns stop.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let turns = shard.turns.get();
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert_eq!(shard.turns.get(), turns);
        assert_eq!(shard.ring.borrow().stats().enters, 0);
    });
}

#[test]
fn a_moment_that_is_over_is_not_waited_for() {
    run(|| async {
        let ring = ring(config());
        let mut watch = Descriptor::new(ring.fd().unwrap()).unwrap();
        poll_fn(|cx| {
            // Each is another one: a bounded turn leaves many deadlines to the next.
            let now = clock::now();
            for nanos in (0..10).rev() {
                let over = Tick::from_nanos(now.as_nanos() - nanos);
                assert!(watch.poll_alarm(cx, over), "{nanos}");
            }
            let later = now.plus(PATIENCE);
            assert!(!watch.poll_alarm(cx, later));
            assert!(watch.poll_alarm(cx, now));
            assert!(!watch.poll_alarm(cx, later));
            Poll::Ready(())
        })
        .await;
    });
}

#[test]
fn r11_a_buffer_that_comes_back_wakes_starved_receives() {
    let (listener, address) = listener();
    run(move || async move {
        let shard = Shard::start(RingConfig {
            recv_buffers: 1,
            ..config()
        });
        let at = key(0);
        shard
            .ring
            .borrow_mut()
            .connect(at, address, &options(), CONNECT);
        shard
            .wait(at, |ring| ring.is_watching(at).then_some(()))
            .await;
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(&[1; 2000]).unwrap();
        let mut left = 2000;
        while left > 0 {
            // Each chunk is dropped only here, outside of every turn.
            let chunk = shard.read(at).await;
            left -= chunk.len();
        }
        shard.ring.borrow_mut().close(at);
        let closed = shard.wait(at, |ring| (ring.ops.in_flight() == 0).then_some(()));
        closed.await;
        assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn r11_starved_receives_that_outnumber_the_buffers_are_all_armed_again() {
    run(|| async {
        let shard = Shard::start(RingConfig {
            max_connections: 40,
            recv_buffers: 8,
            ..config()
        });
        let mut peers: Vec<_> = {
            let mut ring = shard.ring.borrow_mut();
            let peers = (0..40).map(|index| ring.pair(key(index))).collect();
            ring.starve_quietly(40);
            peers
        };
        // All buffers are there, the peers are silent, and nothing else happens.
        let last = key(39);
        tokio::time::sleep(Duration::from_millis(100)).await;
        peers[39].write_all(b"x").unwrap();
        assert_eq!(&*shard.read(last).await, b"x");
        let mut ring = shard.ring.borrow_mut();
        (0..40).for_each(|index| assert!(ring.is_watching(key(index))));
        assert_eq!(ring.queued(), 0);
        assert!(!ring.wants_turn());
    });
}

#[test]
fn r11_starved_receives_are_armed_again_beside_tasks_that_never_rest() {
    run(|| async {
        let shard = Shard::start(RingConfig {
            max_connections: 40,
            recv_buffers: 8,
            ..config()
        });
        let (signal, _peers) = {
            let mut ring = shard.ring.borrow_mut();
            let peers: Vec<_> = (0..40).map(|index| ring.pair(key(index))).collect();
            ring.starve_quietly(40);
            (ring.signal(), peers)
        };
        let armed = || {
            let ring = shard.ring.borrow();
            (0..40).all(|index| ring.is_watching(key(index)))
        };
        // Before each poll of the driver a task has done something, and no completion comes.
        let mut polls = 0;
        while !armed() {
            assert!(polls < 200, "what tasks do keeps the next turn away");
            polls += 1;
            signal.ask();
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn what_happens_while_submitting_is_told_too() {
    let address = echo_server();
    run(move || async move {
        let shard = Shard::start(config());
        let at = key(0);
        shard
            .ring
            .borrow_mut()
            .connect(at, address, &options(), CONNECT);
        shard
            .wait(at, |ring| ring.is_watching(at).then_some(()))
            .await;
        for round in 1..=20 {
            // Nothing to send: it is done as soon as it is its turn, and no completion comes.
            let empty = OwnedBuf::new("");
            shard.ring.borrow_mut().write_owned(at, empty).unwrap();
            let written = &shard.written;
            let done = shard.wait(at, |_| (written.get() == round).then_some(()));
            done.await;
        }
    });
}

#[test]
fn p3_a_child_that_drops_the_driver_does_not_silence_the_parent() {
    let (listener, address) = listener();
    run(move || async move {
        let (shard, driver) = Shard::with_driver(config());
        let driver = Rc::new(RefCell::new(Some(driver)));
        let driven = Rc::clone(&driver);
        let drive = poll_fn(move |cx| match &mut *driven.borrow_mut() {
            Some(driver) => Pin::new(driver).poll(cx),
            None => Poll::Ready(()),
        });
        spawn::spawn_local(drive).unwrap();
        let at = key(0);
        let ring = &shard.ring;
        ring.borrow_mut().connect(at, address, &options(), CONNECT);
        let watching = shard.wait(at, |ring| ring.is_watching(at).then_some(()));
        watching.await;
        let (mut peer, _) = listener.accept().unwrap();
        in_child(|| drop(driver.borrow_mut().take()));
        // From here on only the readiness of the ring wakes the driver.
        tokio::time::sleep(Duration::from_millis(20)).await;
        peer.write_all(b"still there").unwrap();
        assert_eq!(&*shard.read(at).await, b"still there");
    });
}

/// Runs `what` in a forked child and waits for its end.
fn in_child(what: impl FnOnce()) {
    // SAFETY: the child uses only what this thread owns and ends by `_exit`; the allocator is
    // usable after a fork.
    #[allow(unsafe_code)]
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(what));
        // SAFETY: ends the child at once.
        #[allow(unsafe_code)]
        unsafe {
            libc::_exit(i32::from(done.is_err()))
        };
    }
    let mut status = 0;
    // SAFETY: `child` is ours and `status` outlives the call.
    #[allow(unsafe_code)]
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!((waited, status), (child, 0));
}
