//! What the driver is told, and what it does for that: a turn, or only a settlement.

use super::*;
use crate::ring::budget;
use crate::ring::signal::Signal;

#[test]
fn what_tasks_did_costs_one_submission_and_no_turn() {
    const ROUNDS: u32 = 100;
    let address = echo_server();
    run(move || async move {
        let shard = Shard::start(config());
        let at = key(0);
        let ring = &shard.ring;
        ring.borrow_mut().connect(at, address, &options(), CONNECT);
        let watching = shard.wait(at, |ring| ring.is_watching(at).then_some(()));
        watching.await;
        let before = (shard.turns.get(), ring.borrow().stats().enters);
        for _ in 0..ROUNDS {
            ring.borrow_mut().write(at, b"ping").unwrap();
            assert_eq!(&*shard.read(at).await, b"ping");
        }
        let turns = shard.turns.get() - before.0;
        let enters = ring.borrow().stats().enters - before.1;
        // One turn for each answer; a few more when readiness is told of what was taken in before.
        assert!(turns <= ROUNDS * 5 / 4, "{turns} turns");
        assert!(enters <= u64::from(ROUNDS) + 2, "{enters} enters");
    });
}

#[test]
fn a_turn_is_not_lost_beside_what_tasks_did() {
    run(|| async {
        let shard = Shard::start(config());
        let signal = shard.ring.borrow().signal();
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        let counted = || (shard.turns.get(), shard.settled.get());
        let (turns, settled) = counted();
        signal.ask();
        signal.ask();
        tokio::task::yield_now().await;
        assert_eq!(counted(), (turns, settled + 1));
        signal.ask();
        signal.wake();
        tokio::task::yield_now().await;
        assert_eq!(counted(), (turns + 1, settled + 2));
        signal.wake();
        signal.ask();
        tokio::task::yield_now().await;
        assert_eq!(counted(), (turns + 2, settled + 3));
    });
}

#[test]
fn a_driver_whose_waker_is_new_takes_a_turn() {
    run(|| async {
        let (shard, mut driver) = Shard::with_driver(config());
        let signal = shard.ring.borrow().signal();
        let mut poll = |waker: &Waker| {
            signal.ask();
            let pending = Pin::new(&mut driver).poll(&mut Context::from_waker(waker));
            assert!(pending.is_pending());
            shard.turns.get()
        };
        // Only a turn tells other cores whom to wake, and the first poll may have been asked for.
        let (mine, other) = (waker().await, spawn::spawn_local(waker()).unwrap().await);
        let other = other.unwrap();
        assert_eq!([poll(&other), poll(&other)], [1, 1]);
        assert_eq!([poll(&mine), poll(&mine)], [2, 2]);
    });
}

#[test]
fn a_turn_that_is_wanted_while_the_batch_grows_is_not_forgotten() {
    run(|| async {
        let (signal, mine) = (Signal::default(), waker().await);
        let begin = || signal.begin(&mine);
        assert!(!begin());
        signal.gather();
        assert!(begin(), "there is nothing for a turn to see");
        signal.wake();
        signal.gather();
        assert!(!begin());
        signal.note();
        signal.gather();
        assert!(begin(), "the driver finds it by itself");
        signal.note();
        assert!(!begin());
        signal.ask();
        signal.gather();
        assert!(begin());
        signal.gather();
        signal.wake();
        assert!(!begin());
        signal.rest();
        signal.ask();
        assert!(begin());
    });
}

/// The waker of the running task.
async fn waker() -> Waker {
    poll_fn(|cx| Poll::Ready(cx.waker().clone())).await
}

#[test]
fn an_alarm_that_is_set_where_the_tasks_share_is_spent_rings() {
    run(|| async {
        let ring = ring(config());
        let mut watch = Descriptor::new(ring.fd().unwrap()).unwrap();
        let soon = clock::now().plus(Duration::from_millis(20));
        let mut is_first = true;
        poll_fn(|cx| {
            if std::mem::take(&mut is_first) {
                while let Poll::Ready(unit) = budget::poll_budget(cx) {
                    unit.made_progress();
                }
            }
            match watch.poll_alarm(cx, soon) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
        assert!(clock::now() >= soon);
    });
}

/// What a driver drives whose batches are made by hand.
#[derive(Default)]
struct Batch {
    queued: Cell<usize>,
    settled: Cell<u32>,
    wakes: Cell<bool>,
    stops: Cell<bool>,
}

impl Turn for Batch {
    fn turn(&self, _cx: &mut Context<'_>) -> bool {
        self.wakes.get()
    }

    fn queued(&self) -> usize {
        self.queued.get()
    }

    fn settle(&self, _turned: bool) -> Next {
        self.queued.set(0);
        self.settled.set(self.settled.get() + 1);
        Next::At(Tick::NEVER)
    }

    fn has_come(&self) -> bool {
        false
    }

    fn wants_turn(&self) -> bool {
        false
    }

    fn stops(&self) -> bool {
        self.stops.get()
    }

    fn end(&self) {}
}

/// Nothing comes, and nothing is due.
struct Still;

impl Watch for Still {
    fn clear(&mut self, _cx: &mut Context<'_>) -> bool {
        false
    }

    fn poll_alarm(&mut self, _cx: &mut Context<'_>, _at: Tick) -> bool {
        false
    }

    fn now(&self) -> Tick {
        Tick::ZERO
    }
}

/// How many polls it takes to settle a batch that grows by one entry before each of `grows` polls.
fn polls(batch: &Batch, driver: &mut Driver<Batch, Still>, mut grows: usize) -> u32 {
    let before = batch.settled.get();
    let mut count = 0;
    while batch.settled.get() == before {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut *driver).poll(&mut cx).is_pending());
        count += 1;
        if grows > 0 {
            batch.queued.set(batch.queued.get() + 1);
            grows -= 1;
        }
    }
    count
}

#[test]
fn a_batch_is_waited_for_where_batches_grow() {
    let (batch, signal) = (Rc::new(Batch::default()), Rc::new(Signal::default()));
    let mut driver = Driver::new(Rc::clone(&batch), Still, Rc::clone(&signal));
    let mut next = |grows| {
        batch.queued.set(1);
        signal.ask();
        polls(&batch, &mut driver, grows)
    };
    // Whoever comes alone is waited for until that was in vain often enough, and then now and then.
    assert!((0..32).all(|_| next(0) == 2));
    let alone: Vec<u32> = (0..34).map(|_| next(0)).collect();
    let trials = alone.iter().enumerate().filter(|(_, polls)| **polls == 2);
    let trials: Vec<usize> = trials.map(|(at, _)| at).collect();
    assert_eq!(trials, [16, 33]);
    // One that would stop a receive is waited for each time: its reader may only need to run.
    batch.stops.set(true);
    assert!((0..4).all(|_| next(0) == 2));
    batch.stops.set(false);
    // A chain is seen at the next trial, and from then on each is one batch.
    let chain: Vec<u32> = (0..20).map(|_| next(3)).collect();
    let seen = chain.iter().position(|polls| *polls == 5);
    assert_eq!(seen, Some(16));
    assert!(chain[16..].iter().all(|polls| *polls == 5), "{chain:?}");
}

#[test]
fn whom_a_turn_wakes_runs_before_it_is_settled_and_once() {
    let (batch, signal) = (Rc::new(Batch::default()), Rc::new(Signal::default()));
    let mut driver = Driver::new(Rc::clone(&batch), Still, Rc::clone(&signal));
    for wakes in [true, false, true] {
        batch.wakes.set(wakes);
        signal.wake();
        assert_eq!(polls(&batch, &mut driver, 0), 1 + u32::from(wakes));
    }
    // Turns that wake somebody each time do not put the settlement off.
    batch.wakes.set(true);
    for _ in 0..3 {
        signal.wake();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut driver).poll(&mut cx).is_pending());
        signal.wake();
        assert_eq!(polls(&batch, &mut driver, 0), 1);
    }
}
