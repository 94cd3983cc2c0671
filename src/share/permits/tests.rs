//! The account of permits: by hand, against a random sequence, and under every interleaving.

use super::*;

fn shard(index: usize) -> ShardId {
    ShardId::new(index, 1)
}

fn collect(permits: &Permits, shard: ShardId) -> bool {
    permits.take_granted(shard).is_some()
}

mod handover;
#[cfg(not(ringpool_loom))]
mod histories;

#[cfg(not(ringpool_loom))]
mod by_hand {
    use proptest::prelude::*;

    use super::*;

    fn at(nanos: u64) -> Tick {
        Tick::from_nanos(nanos)
    }

    fn full(limit: u32) -> Permits {
        let permits = Permits::new(limit);
        for _ in 0..limit {
            assert_eq!(permits.acquire(shard(0), at(0)).0, Acquire::Granted);
        }
        permits
    }

    #[test]
    fn a_freed_permit_goes_to_the_shard_that_waited_longest() {
        let permits = full(2);
        assert_eq!(permits.acquire(shard(2), at(1)).0, Acquire::Queued);
        assert_eq!(permits.acquire(shard(1), at(2)).0, Acquire::Queued);
        // Shard 2 is granted it; shard 0's demand moves from tick 1 to tick 2.
        assert_eq!(permits.release(shard(0)), [shard(2), shard(0)]);
        assert_eq!(permits.in_use(), 2);
        assert!(!collect(&permits, shard(1)));
        assert!(collect(&permits, shard(2)));
        assert!(!collect(&permits, shard(2)));
        assert_eq!(permits.held(shard(2)), 1);
    }

    #[test]
    fn x12_a_freed_permit_goes_to_the_oldest_waiter_whoever_asked_first() {
        let permits = full(2);
        permits.acquire(shard(1), at(1));
        permits.acquire(shard(2), at(5));
        permits.acquire(shard(3), at(5));
        // What shard 1 had asked for is served, and its next waiter is younger than the others'.
        permits.renew(shard(1), at(9));
        permits.release(shard(0));
        assert!(collect(&permits, shard(2)));
        permits.release(shard(0));
        assert!(collect(&permits, shard(3)));
        permits.release(shard(2));
        assert!(collect(&permits, shard(1)));
    }

    #[test]
    fn x12_a_free_permit_is_not_given_past_the_queue() {
        let permits = full(1);
        permits.acquire(shard(1), at(1));
        permits.release(shard(0));
        assert_eq!(permits.acquire(shard(0), at(2)).0, Acquire::Queued);
        assert_eq!(permits.oldest_other(shard(1)), Some(at(2)));
    }

    #[test]
    fn asking_twice_keeps_the_place_and_collects_the_grant() {
        let permits = full(1);
        permits.acquire(shard(1), at(1));
        permits.acquire(shard(2), at(2));
        assert_eq!(permits.acquire(shard(1), at(3)).0, Acquire::Queued);
        assert_eq!(permits.oldest_other(shard(0)), Some(at(1)));
        permits.release(shard(0));
        assert_eq!(permits.acquire(shard(1), at(4)).0, Acquire::Granted);
        assert!(!collect(&permits, shard(1)));
        assert_eq!(permits.in_use(), 1);
    }

    #[test]
    fn x11_k1_a_withdrawn_grant_goes_on_to_the_next() {
        let permits = full(1);
        permits.acquire(shard(1), at(1));
        permits.acquire(shard(2), at(2));
        permits.release(shard(0));
        assert!(permits.withdraw(shard(1)).contains(&shard(2)));
        assert!(!collect(&permits, shard(1)));
        assert!(collect(&permits, shard(2)));
        permits.release(shard(2));
        assert_eq!(permits.in_use(), 0);
    }

    #[test]
    fn a_withdrawn_request_is_not_granted_and_its_demand_ends() {
        let permits = full(1);
        assert_eq!(permits.acquire(shard(1), at(1)).1, [shard(0)]);
        assert_eq!(permits.withdraw(shard(1)), [shard(0)]);
        assert_eq!(permits.oldest_other(shard(0)), None);
        assert!(permits.withdraw(shard(1)).is_empty());
        assert!(permits.release(shard(0)).is_empty());
        assert_eq!(permits.in_use(), 0);
    }

    #[test]
    fn a_renewed_request_waits_since_then() {
        let permits = full(1);
        permits.acquire(shard(1), at(1));
        permits.acquire(shard(2), at(2));
        permits.renew(shard(1), at(9));
        assert_eq!(permits.oldest_other(shard(0)), Some(at(2)));
        assert_eq!(permits.oldest_other(shard(2)), Some(at(9)));
        permits.release(shard(0));
        assert!(collect(&permits, shard(2)));
    }

    #[test]
    fn only_shards_that_hold_something_are_told_of_demand() {
        let permits = full(1);
        permits.acquire(shard(3), at(1));
        permits.withdraw(shard(3));
        let (_, concerned) = permits.acquire(shard(1), at(2));
        assert_eq!(concerned, [shard(0)]);
        // A second request behind the first changes nothing for shard 0.
        assert!(permits.acquire(shard(2), at(3)).1.is_empty());
    }

    #[test]
    fn x5_a_dead_shard_gives_back_what_it_holds_and_wants() {
        let permits = full(2);
        permits.acquire(shard(1), at(1));
        permits.acquire(shard(2), at(2));
        permits.release(shard(0));
        let concerned = permits.forget(shard(1));
        assert!(concerned.contains(&shard(2)));
        assert_eq!((permits.held(shard(2)), permits.in_use()), (1, 2));
        permits.forget(shard(0));
        assert_eq!(permits.in_use(), 1);
        permits.forget(shard(2));
        assert_eq!(permits.in_use(), 0);
    }

    #[test]
    fn x6_what_a_dead_shard_still_says_does_not_touch_its_heir() {
        let permits = full(1);
        permits.forget(shard(0));
        assert_eq!(permits.acquire(shard(0), at(0)).0, Acquire::Queued);
        assert_eq!(permits.in_use(), 0);
        let heir = ShardId::new(0, 2);
        assert_eq!(permits.acquire(heir, at(1)).0, Acquire::Granted);
        permits.release(shard(0));
        permits.withdraw(shard(0));
        permits.forget(shard(0));
        permits.acquire(shard(0), at(2));
        assert_eq!((permits.held(heir), permits.in_use()), (1, 1));
    }

    proptest! {
        #[test]
        fn no_sequence_exceeds_the_limit_or_loses_a_permit(
            limit in 1u32..4,
            steps in proptest::collection::vec((0usize..4, 0u8..5), 0..200),
        ) {
            let permits = Permits::new(limit);
            let mut held = [0u32; 4];
            let mut waiting = [false; 4];
            let mut epochs = [1u32; 4];
            for (now, (index, step)) in steps.into_iter().enumerate() {
                let id = ShardId::new(index, epochs[index]);
                match step {
                    0 => match permits.acquire(id, at(now as u64)).0 {
                        Acquire::Granted => {
                            held[index] += 1;
                            waiting[index] = false;
                        }
                        Acquire::Queued => waiting[index] = true,
                    },
                    1 if held[index] > 0 => {
                        held[index] -= 1;
                        permits.release(id);
                    }
                    2 => {
                        waiting[index] = false;
                        permits.withdraw(id);
                    }
                    3 => {
                        held[index] = 0;
                        waiting[index] = false;
                        permits.forget(id);
                        epochs[index] += 1;
                    }
                    _ => if collect(&permits, id) {
                        prop_assert!(waiting[index]);
                        waiting[index] = false;
                        held[index] += 1;
                    },
                }
                let in_use = permits.in_use();
                prop_assert!(in_use <= limit);
                let known: u32 = held.iter().sum();
                prop_assert!(known <= in_use);
            }
            for (index, epoch) in epochs.into_iter().enumerate() {
                permits.forget(ShardId::new(index, epoch));
            }
            prop_assert_eq!(permits.in_use(), 0);
        }
    }
}

#[cfg(ringpool_loom)]
mod model {
    use std::sync::Arc;

    use loom::sync::atomic::{AtomicUsize, Ordering};
    use loom::thread;

    use super::*;

    /// Each shard holds the permit at most once at a time, and gives up waiting if it must.
    fn visit(permits: &Permits, shard: ShardId, inside: &AtomicUsize) {
        let (answer, _) = permits.acquire(shard, Tick::ZERO);
        if answer == Acquire::Granted || collect(permits, shard) {
            assert_eq!(inside.fetch_add(1, Ordering::AcqRel), 0);
            inside.fetch_sub(1, Ordering::AcqRel);
            permits.release(shard);
        } else {
            permits.withdraw(shard);
        }
    }

    #[test]
    fn one_permit_is_never_held_twice_and_never_lost() {
        loom::model(|| {
            let permits = Arc::new(Permits::new(1));
            let inside = Arc::new(AtomicUsize::new(0));
            let other = {
                let (permits, inside) = (permits.clone(), inside.clone());
                thread::spawn(move || visit(&permits, shard(1), &inside))
            };
            visit(&permits, shard(0), &inside);
            other.join().unwrap();
            assert_eq!(permits.in_use(), 0);
            assert_eq!(permits.acquire(shard(0), Tick::ZERO).0, Acquire::Granted);
        });
    }

    #[test]
    fn x11_k1_a_release_against_a_withdrawal_loses_no_permit() {
        loom::model(|| {
            let permits = Arc::new(Permits::new(1));
            permits.acquire(shard(0), Tick::ZERO);
            permits.acquire(shard(1), Tick::ZERO);
            let other = {
                let permits = permits.clone();
                thread::spawn(move || drop(permits.withdraw(shard(1))))
            };
            permits.release(shard(0));
            other.join().unwrap();
            assert_eq!(permits.in_use(), 0);
        });
    }

    #[test]
    fn x5_a_release_against_a_death_loses_no_permit() {
        loom::model(|| {
            let permits = Arc::new(Permits::new(1));
            permits.acquire(shard(0), Tick::ZERO);
            permits.acquire(shard(1), Tick::ZERO);
            let other = {
                let permits = permits.clone();
                thread::spawn(move || drop(permits.forget(shard(1))))
            };
            permits.release(shard(0));
            other.join().unwrap();
            assert_eq!(permits.in_use(), 0);
        });
    }
}
