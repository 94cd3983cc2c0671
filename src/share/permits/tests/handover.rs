//! Connections that change cores: slots, claims and the permits that move with them.

use super::*;

fn slot(index: u32) -> Key {
    Key::new(index, 0)
}

/// Shard 0 holds the `held` permits there are, and shards 1 to `waiting` want one each, in turn,
/// with a slot of their number.
fn queued(held: u32, waiting: usize) -> Permits {
    let permits = Permits::new(held);
    for _ in 0..held {
        assert_eq!(permits.acquire(shard(0), Tick::ZERO).0, Acquire::Granted);
    }
    for index in 1..=waiting {
        let since = Tick::from_nanos(index as u64);
        assert_eq!(permits.acquire(shard(index), since).0, Acquire::Queued);
        assert!(permits.expect(shard(index), slot(index as u32)).0);
    }
    permits
}

fn claim_of(index: usize) -> Claim {
    Claim {
        to: shard(index),
        slot: slot(index as u32),
    }
}

#[cfg(not(ringpool_loom))]
mod by_hand {
    use super::*;

    fn at(nanos: u64) -> Tick {
        Tick::from_nanos(nanos)
    }

    #[test]
    fn a_claimed_connection_moves_with_its_permit_and_ends_the_request() {
        let permits = queued(2, 1);
        assert_eq!(permits.claim(shard(0), Tick::ZERO).0, Some(claim_of(1)));
        assert_eq!(
            permits.transfer(shard(0), claim_of(1), None),
            (true, vec![])
        );
        assert_eq!((permits.held(shard(0)), permits.held(shard(1))), (1, 1));
        assert_eq!((permits.in_use(), permits.moved(shard(0))), (2, 1));
        assert_eq!(permits.unclaim(shard(0), claim_of(1)), (false, vec![]));
        assert_eq!(permits.moved(shard(0)), 0);
        // The request is over: what is freed now is free.
        permits.release(shard(0));
        assert!(!collect(&permits, shard(1)));
        assert_eq!(permits.take_returned(shard(1)).0, None);
        assert_eq!(permits.in_use(), 1);
    }

    #[test]
    fn the_oldest_request_is_claimed_first_and_only_once() {
        let permits = queued(3, 2);
        permits.renew(shard(1), at(9));
        assert_eq!(permits.claim(shard(0), Tick::ZERO).0, Some(claim_of(2)));
        assert_eq!(permits.claim(shard(0), Tick::ZERO).0, Some(claim_of(1)));
        assert_eq!(permits.claim(shard(0), Tick::ZERO), (None, vec![]));
    }

    #[test]
    fn x12_an_older_request_without_a_slot_is_not_passed_over() {
        let permits = queued(1, 0);
        permits.acquire(shard(1), at(1));
        permits.acquire(shard(2), at(2));
        assert!(permits.expect(shard(2), slot(2)).0);
        assert_eq!(permits.claim(shard(0), Tick::ZERO), (None, vec![]));
        assert!(permits.expect(shard(1), slot(1)).0);
        assert_eq!(permits.claim(shard(0), Tick::ZERO).0, Some(claim_of(1)));
    }

    #[test]
    fn x10_who_looks_for_a_slot_before_there_is_one_is_told_of_it() {
        let permits = queued(3, 0);
        permits.acquire(shard(1), at(1));
        assert!(!permits.is_claimable(shard(0)));
        assert!(!permits.is_claimable(shard(0)));
        assert_eq!(permits.expect(shard(1), slot(1)), (true, vec![shard(0)]));
        assert!(permits.is_claimable(shard(0)));
        // Once, and only who looked.
        permits.acquire(shard(2), at(2));
        assert_eq!(permits.expect(shard(2), slot(2)), (true, vec![]));
    }

    #[test]
    fn x5_who_looked_for_a_slot_and_has_ended_is_not_told_of_it() {
        let permits = queued(3, 0);
        permits.acquire(shard(1), at(1));
        permits.acquire(shard(2), at(2));
        assert!(!permits.is_claimable(shard(2)));
        permits.forget(shard(2));
        assert_eq!(permits.expect(shard(1), slot(1)), (true, vec![]));
    }

    #[test]
    fn x8_a_claimed_request_is_no_demand_until_the_claim_has_failed_or_takes_too_long() {
        let permits = Permits::new(2);
        permits.acquire(shard(0), at(0));
        permits.acquire(shard(3), at(0));
        assert_eq!(permits.acquire(shard(1), at(1)).1, [shard(0), shard(3)]);
        permits.expect(shard(1), slot(1));
        let (claim, concerned) = permits.claim(shard(0), Tick::ZERO);
        assert_eq!(concerned, [shard(0), shard(3)]);
        let late = Tick::ZERO.plus(STALLED);
        assert_eq!(permits.oldest_other(shard(3)), Some(late));
        assert_eq!(permits.claim(shard(3), late).0, None, "only a permit helps");
        let (kept, concerned) = permits.unclaim(shard(0), claim.unwrap());
        assert!(kept);
        assert_eq!(concerned, [shard(1), shard(0), shard(3)]);
        assert_eq!(permits.oldest_other(shard(3)), Some(at(1)));
        // The slot is spent. It comes back once, and then there is room for another.
        assert!(!permits.expect(shard(1), slot(7)).0);
        assert_eq!(permits.take_returned(shard(1)).0, Some(slot(1)));
        assert_eq!(permits.take_returned(shard(1)).0, None);
        assert!(permits.expect(shard(1), slot(7)).0);
        assert_eq!(permits.claim(shard(3), Tick::ZERO).0.unwrap().slot, slot(7));
    }

    #[test]
    fn x8_who_stands_still_is_no_demand_until_it_has_noticed() {
        let notices: [fn(&Permits) -> Concerned; 3] = [
            |permits| permits.take_returned(shard(1)).1,
            |permits| permits.unexpect(shard(1)).1,
            |permits| permits.transfer(shard(0), claim_of(1), None).1,
        ];
        for notices in notices {
            let permits = queued(1, 1);
            let claim = permits.claim(shard(0), Tick::ZERO).0.unwrap();
            assert_eq!(permits.recall(shard(0), claim), (true, vec![shard(1)]));
            assert_eq!(permits.oldest_other(shard(0)), None);
            assert_eq!(permits.claim(shard(0), Tick::ZERO), (None, vec![]));
            assert_eq!(notices(&permits), [shard(0)]);
            assert_eq!(permits.oldest_other(shard(0)), Some(at(1)));
        }
    }

    #[test]
    fn only_what_a_shard_holds_can_be_given_and_each_only_once() {
        let permits = queued(1, 2);
        assert_eq!(permits.claim(shard(1), Tick::ZERO).0, None);
        assert!(permits.claim(shard(0), Tick::ZERO).0.is_some());
        assert_eq!(permits.claim(shard(0), Tick::ZERO).0, None);
        // A grant that was not collected is no connection yet.
        let permits = queued(1, 2);
        permits.release(shard(0));
        assert_eq!(permits.claim(shard(1), Tick::ZERO).0, None);
        assert!(collect(&permits, shard(1)));
        assert_eq!(permits.claim(shard(1), Tick::ZERO).0, Some(claim_of(2)));
    }

    #[test]
    fn a_slot_needs_a_queued_request_and_there_is_one_of_each() {
        let permits = queued(1, 1);
        assert!(!permits.expect(shard(0), slot(3)).0);
        assert!(!permits.expect(shard(2), slot(3)).0);
        assert!(!permits.expect(shard(1), slot(3)).0);
        assert_eq!(permits.unexpect(shard(1)).0, Withdrawn::Unused);
        assert!(permits.expect(shard(1), slot(3)).0);
    }

    #[test]
    fn x11_a_parcel_for_a_request_that_is_over_moves_no_permit() {
        let permits = queued(2, 1);
        permits.claim(shard(0), Tick::ZERO);
        // A permit came first.
        permits.release(shard(0));
        assert!(collect(&permits, shard(1)));
        let withdrawn = permits.unexpect(shard(1)).0;
        assert_eq!(withdrawn, Withdrawn::Claimed, "a message may be under way");
        assert!(!permits.transfer(shard(0), claim_of(1), None).0);
        assert_eq!((permits.held(shard(0)), permits.held(shard(1))), (1, 1));
        assert!(permits.unclaim(shard(0), claim_of(1)).0);
        assert_eq!(permits.take_returned(shard(1)).0, None);
        assert_eq!(permits.unexpect(shard(1)).0, Withdrawn::Spent);
    }

    #[test]
    fn x11_a_withdrawn_request_hears_when_its_slot_is_free() {
        let permits = queued(1, 1);
        permits.claim(shard(0), Tick::ZERO);
        permits.withdraw(shard(1));
        assert_eq!(permits.unexpect(shard(1)).0, Withdrawn::Claimed);
        assert_eq!(permits.take_returned(shard(1)).0, None);
        assert!(permits.unclaim(shard(0), claim_of(1)).1.contains(&shard(1)));
        assert_eq!(permits.take_returned(shard(1)).0, Some(slot(1)));
        assert_eq!(permits.held(shard(0)), 1);
    }

    #[test]
    fn a_claim_that_its_giver_has_ended_can_not_be_taken_any_more() {
        let permits = queued(1, 1);
        permits.claim(shard(0), Tick::ZERO);
        assert!(permits.unclaim(shard(0), claim_of(1)).0);
        assert!(!permits.transfer(shard(0), claim_of(1), None).0);
        // The parcel said so already.
        assert_eq!(permits.take_returned(shard(1)).0, None);
        assert_eq!((permits.held(shard(0)), permits.held(shard(1))), (1, 0));
    }

    #[test]
    fn x5_x13_the_claim_of_a_dead_giver_ends_and_its_receiver_is_told() {
        let permits = queued(2, 1);
        let claim = permits.claim(shard(0), Tick::ZERO).0.unwrap();
        assert!(permits.forget(shard(0)).contains(&shard(1)));
        assert_eq!(permits.take_returned(shard(1)).0, Some(slot(1)));
        assert!(collect(&permits, shard(1)));
        assert!(!permits.transfer(shard(0), claim, None).0);
        assert_eq!(permits.in_use(), 1);
    }

    #[test]
    fn x5_the_permit_of_a_dead_giver_is_not_free_before_its_receiver_has_closed_the_slot() {
        let permits = queued(2, 2);
        let claim = permits.claim(shard(0), Tick::ZERO).0.unwrap();
        assert!(permits.bequeath(shard(0), None).contains(&shard(1)));
        permits.forget(shard(0));
        assert!(!permits.transfer(shard(0), claim, None).0);
        // The other permit was free at once, and is the oldest request's.
        assert!(collect(&permits, shard(1)));
        assert_eq!(
            (permits.held(shard(1)), permits.inherited(shard(1))),
            (2, 1)
        );
        assert!(!collect(&permits, shard(2)));
        assert!(permits.slot_closed(shard(1), slot(1)));
        assert!(!permits.slot_closed(shard(1), slot(1)), "once");
        assert!(permits.release(shard(1)).contains(&shard(2)));
        assert_eq!(
            (permits.held(shard(1)), permits.inherited(shard(1))),
            (1, 0)
        );
        assert_eq!(permits.in_use(), 2);
    }

    #[test]
    fn x5_a_claim_that_failed_before_its_giver_died_holds_the_permit_until_the_slot_is_closed() {
        let permits = queued(1, 1);
        let claim = permits.claim(shard(0), Tick::ZERO).0.unwrap();
        assert!(permits.unclaim(shard(0), claim).0);
        permits.bequeath(shard(0), None);
        permits.forget(shard(0));
        assert_eq!(permits.take_returned(shard(1)).0, Some(slot(1)));
        assert!(!collect(&permits, shard(1)));
        assert!(permits.slot_closed(shard(1), slot(1)));
        permits.release(shard(1));
        assert!(collect(&permits, shard(1)));
    }

    #[test]
    fn x5_a_slot_that_was_closed_before_its_giver_died_keeps_no_permit() {
        let permits = queued(1, 1);
        let claim = permits.claim(shard(0), Tick::ZERO).0.unwrap();
        assert!(permits.unclaim(shard(0), claim).0);
        assert!(!permits.slot_closed(shard(1), slot(1)));
        permits.bequeath(shard(0), None);
        assert_eq!(permits.inherited(shard(1)), 0);
        permits.forget(shard(0));
        assert!(collect(&permits, shard(1)));
    }

    #[test]
    fn x5_a_permit_that_was_left_ends_with_the_core_that_it_was_left_to() {
        let permits = queued(1, 1);
        permits.claim(shard(0), Tick::ZERO);
        permits.bequeath(shard(0), None);
        permits.forget(shard(0));
        assert_eq!(permits.in_use(), 1);
        permits.forget(shard(1));
        assert_eq!(permits.in_use(), 0);
        assert!(!permits.slot_closed(shard(1), slot(1)));
    }

    #[test]
    fn x5_x13_a_dead_receiver_leaves_the_permit_with_its_giver() {
        let permits = queued(1, 1);
        let claim = permits.claim(shard(0), Tick::ZERO).0.unwrap();
        permits.forget(shard(1));
        assert!(!permits.transfer(shard(0), claim, None).0);
        assert!(permits.unclaim(shard(0), claim).0);
        assert_eq!(permits.held(shard(0)), 1);
        assert!(permits.release(shard(0)).is_empty());
        assert_eq!(permits.in_use(), 0);
    }

    #[test]
    fn x5_a_receiver_that_dies_after_it_took_leaves_its_giver_nothing() {
        let permits = queued(1, 1);
        let claim = permits.claim(shard(0), Tick::ZERO).0.unwrap();
        assert!(permits.transfer(shard(0), claim, None).0);
        permits.forget(shard(1));
        assert_eq!(permits.in_use(), 0);
        assert!(!permits.unclaim(shard(0), claim).0);
    }

    #[test]
    fn x6_a_claim_does_not_reach_the_heir_of_its_receiver() {
        let permits = queued(2, 1);
        let claim = permits.claim(shard(0), Tick::ZERO).0.unwrap();
        permits.forget(shard(1));
        let heir = ShardId::new(1, 2);
        assert_eq!(permits.acquire(heir, at(5)).0, Acquire::Queued);
        assert!(permits.expect(heir, slot(1)).0);
        assert!(!permits.transfer(shard(0), claim, None).0);
        assert!(permits.unclaim(shard(0), claim).0);
        assert_eq!(permits.take_returned(heir).0, None);
        assert_eq!(permits.claim(shard(0), Tick::ZERO).0.unwrap().to, heir);
    }
}

#[cfg(ringpool_loom)]
mod model {
    use std::sync::Arc;

    use loom::thread;

    use super::*;

    /// What the receiver does when the parcel has come.
    fn take(permits: &Permits, claim: Claim) -> bool {
        permits.transfer(shard(0), claim, None).0
    }

    fn beside(
        act: impl FnOnce(&Permits) + Send + 'static,
        permits: &Arc<Permits>,
    ) -> thread::JoinHandle<()> {
        let permits = permits.clone();
        thread::spawn(move || act(&permits))
    }

    #[test]
    fn x11_a_claim_against_a_withdrawal_leaves_the_slot_with_exactly_one() {
        loom::model(|| {
            let permits = Arc::new(queued(1, 1));
            let giver = {
                let permits = permits.clone();
                thread::spawn(move || {
                    let claim = permits.claim(shard(0), Tick::ZERO).0;
                    claim.is_some_and(|claim| permits.unclaim(shard(0), claim).0)
                })
            };
            permits.withdraw(shard(1));
            let claimed = permits.unexpect(shard(1)).0 == Withdrawn::Claimed;
            let gave = giver.join().unwrap();
            // The slot is free at once, or comes back once.
            let returned = permits.take_returned(shard(1)).0.is_some();
            assert_eq!(claimed, returned);
            assert!(gave || !claimed);
            assert_eq!(permits.held(shard(0)), 1);
        });
    }

    #[test]
    fn x11_a_claim_against_a_slot_that_is_taken_back_leaves_it_with_exactly_one() {
        loom::model(|| {
            let permits = Arc::new(queued(1, 1));
            let giver = {
                let permits = permits.clone();
                thread::spawn(move || permits.claim(shard(0), Tick::ZERO).0.is_some())
            };
            let withdrawn = permits.unexpect(shard(1));
            assert_eq!(withdrawn.0 == Withdrawn::Claimed, giver.join().unwrap());
        });
    }

    #[test]
    fn x10_a_slot_against_who_looks_for_it_is_found_or_told_of() {
        loom::model(|| {
            let permits = Arc::new(queued(1, 0));
            permits.acquire(shard(1), Tick::ZERO);
            let giver = {
                let permits = permits.clone();
                thread::spawn(move || permits.is_claimable(shard(0)))
            };
            let told = permits.expect(shard(1), slot(1)).1;
            let found = giver.join().unwrap();
            assert_eq!(found, told.is_empty());
        });
    }

    #[test]
    fn two_givers_never_claim_one_slot() {
        loom::model(|| {
            let permits = Arc::new(Permits::new(2));
            permits.acquire(shard(0), Tick::ZERO);
            permits.acquire(shard(2), Tick::ZERO);
            permits.acquire(shard(1), Tick::ZERO);
            permits.expect(shard(1), slot(1));
            let other = {
                let permits = permits.clone();
                thread::spawn(move || permits.claim(shard(2), Tick::ZERO).0.is_some())
            };
            let one = permits.claim(shard(0), Tick::ZERO).0.is_some();
            assert_ne!(one, other.join().unwrap());
        });
    }

    #[test]
    fn a_transfer_against_a_giver_that_gives_up_moves_the_permit_for_both_or_for_none() {
        loom::model(|| {
            let permits = Arc::new(queued(1, 1));
            let claim = permits.claim(shard(0), Tick::ZERO).0.unwrap();
            let giver = {
                let permits = permits.clone();
                thread::spawn(move || permits.unclaim(shard(0), claim).0)
            };
            let taken = take(&permits, claim);
            let kept = giver.join().unwrap();
            assert_ne!(taken, kept);
            assert_eq!(permits.held(shard(0)), u32::from(kept));
            assert_eq!(permits.held(shard(1)), u32::from(taken));
        });
    }

    #[test]
    fn x5_a_transfer_against_the_end_of_its_giver_keeps_the_limit() {
        loom::model(|| {
            let permits = Arc::new(queued(1, 1));
            let claim = permits.claim(shard(0), Tick::ZERO).0.unwrap();
            let giver = beside(|permits| drop(permits.forget(shard(0))), &permits);
            let taken = take(&permits, claim);
            giver.join().unwrap();
            // Taken, or the permit of the dead one was granted: one connection in either case.
            assert_ne!(collect(&permits, shard(1)), taken);
            assert_eq!((permits.held(shard(1)), permits.in_use()), (1, 1));
        });
    }

    #[test]
    fn x5_a_transfer_against_the_end_of_its_receiver_leaves_the_permit_with_one_or_none() {
        loom::model(|| {
            let permits = Arc::new(queued(1, 1));
            let claim = permits.claim(shard(0), Tick::ZERO).0.unwrap();
            // A shard ends on its own thread; from elsewhere it is harder.
            let receiver = beside(|permits| drop(permits.forget(shard(1))), &permits);
            let taken = take(&permits, claim);
            receiver.join().unwrap();
            assert_eq!(permits.unclaim(shard(0), claim).0, !taken);
            assert_eq!(permits.in_use(), u32::from(!taken));
        });
    }

    #[test]
    fn x11_a_transfer_against_a_grant_serves_the_request_once() {
        loom::model(|| {
            let permits = Arc::new(queued(2, 1));
            let claim = permits.claim(shard(0), Tick::ZERO).0.unwrap();
            let giver = beside(|permits| drop(permits.release(shard(0))), &permits);
            let taken = take(&permits, claim);
            giver.join().unwrap();
            assert_ne!(collect(&permits, shard(1)), taken);
            assert_eq!(permits.held(shard(1)), 1);
            let kept = permits.unclaim(shard(0), claim).0;
            assert_eq!(kept, !taken);
            // Taken: one has moved and the other is free. Not taken: it was granted, one is left.
            assert_eq!(permits.held(shard(0)), u32::from(kept));
        });
    }

    #[test]
    fn x11_three_threads_and_one_permit() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(|| {
            let permits = Arc::new(queued(1, 1));
            let claim = permits.claim(shard(0), Tick::ZERO).0.unwrap();
            let late = beside(
                |permits| drop(permits.acquire(shard(2), Tick::ZERO)),
                &permits,
            );
            let receiver = {
                let permits = permits.clone();
                thread::spawn(move || take(&permits, claim))
            };
            let kept = permits.unclaim(shard(0), claim).0;
            assert_eq!(kept, !receiver.join().unwrap());
            late.join().unwrap();
            assert_eq!(permits.in_use(), 1);
        });
    }
}
