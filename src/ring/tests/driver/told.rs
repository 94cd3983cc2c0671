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
