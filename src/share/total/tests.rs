//! The account over all endpoints, by itself and together with those of the endpoints.

use std::sync::Arc;
use std::time::Duration;

use super::super::Limits;
use super::super::registry::{Member, Registry};
use super::*;

type Group = Arc<Registry<&'static str>>;

fn group(permits: u32, total: u32) -> Group {
    Arc::new(Registry::new(Limits {
        shards: 3,
        endpoints: 8,
        permits,
        total: Some(total),
        gauges: 0,
        counters: 0,
        stale: Duration::ZERO,
    }))
}

#[cfg(not(ringpool_loom))]
mod by_hand {
    use proptest::prelude::*;

    use super::super::super::SharedEndpoint;
    use super::*;
    use crate::slot::Key;

    fn at(nanos: u64) -> Tick {
        Tick::from_nanos(nanos)
    }

    fn notices(member: &Member<&'static str>) -> Vec<EndpointId> {
        let mut notices = Vec::new();
        member.drain_notices(&mut notices);
        notices
    }

    fn in_use(group: &Group) -> u32 {
        group.total_in_use()
    }

    #[test]
    fn all_endpoints_together_stay_below_the_total() {
        let group = group(2, 3);
        let (a, b) = (group.shared(&"a").unwrap(), group.shared(&"b").unwrap());
        let member = group.join().unwrap();
        let shard = member.id();
        for shared in [&a, &a, &b] {
            assert_eq!(shared.acquire(shard, at(0)), Acquire::Granted);
        }
        assert_eq!(a.acquire(shard, at(1)), Acquire::Queued);
        assert_eq!(b.acquire(shard, at(2)), Acquire::Queued);
        assert_eq!(in_use(&group), 3);
        // One of a helps both: a has room then, and so has the process.
        a.release(shard);
        assert!(!a.take_granted(shard) || !b.take_granted(shard));
        assert_eq!(in_use(&group), 3);
    }

    #[test]
    fn x12_a_freed_permit_goes_to_whoever_asked_for_the_total_first() {
        let group = group(4, 1);
        let (a, b) = (group.shared(&"a").unwrap(), group.shared(&"b").unwrap());
        let (rich, poor) = (group.join().unwrap(), group.join().unwrap());
        assert_eq!(a.acquire(rich.id(), at(0)), Acquire::Granted);
        assert_eq!(b.acquire(poor.id(), at(1)), Acquire::Queued);
        assert_eq!(a.acquire(rich.id(), at(2)), Acquire::Queued);
        assert_eq!(notices(&rich), [EndpointId::ALL]);
        assert_eq!(group.total_demand(), Some(at(1)));
        a.release(rich.id());
        assert_eq!(notices(&poor), [EndpointId::ALL, b.id()]);
        assert!(!a.take_granted(rich.id()));
        assert!(b.take_granted(poor.id()));
        assert!(!b.take_granted(poor.id()));
        assert_eq!(group.total_demand(), Some(at(2)));
        assert_eq!((a.demand(poor.id()), b.demand(rich.id())), (None, None));
        assert_eq!((a.in_use(), b.in_use(), in_use(&group)), (1, 1, 1));
    }

    #[test]
    fn x12_one_shard_makes_way_for_one_request() {
        let group = group(4, 2);
        let (a, b) = (group.shared(&"a").unwrap(), group.shared(&"b").unwrap());
        let [one, two, poor] = [(); 3].map(|()| group.join().unwrap());
        a.acquire(one.id(), at(0));
        a.acquire(two.id(), at(0));
        b.acquire(poor.id(), at(1));
        assert_eq!(notices(&two), [EndpointId::ALL]);
        group.promise_total(one.id(), at(1));
        let late = at(1).plus(STALLED);
        assert_eq!(group.total_demand(), Some(late));
        assert_eq!(notices(&two), [EndpointId::ALL], "it need not");
        // The next one who asks needs another.
        a.acquire(poor.id(), at(2));
        assert_eq!(group.total_demand(), Some(at(2)));
        a.release(one.id());
        assert!(b.take_granted(poor.id()));
        assert_eq!(group.total_demand(), Some(at(2)));
        // Nobody waits twice for what is promised once.
        group.promise_total(two.id(), at(2));
        group.promise_total(two.id(), at(2));
        a.withdraw(poor.id());
        a.release(two.id());
        assert_eq!((group.total_demand(), in_use(&group)), (None, 1));
        a.acquire(one.id(), at(3));
        b.acquire(one.id(), at(4));
        assert_eq!(group.total_demand(), Some(at(4)));
    }

    #[test]
    fn x8_who_promised_and_stands_still_keeps_nobody_from_helping() {
        let group = group(4, 3);
        let (a, b) = (group.shared(&"a").unwrap(), group.shared(&"b").unwrap());
        let [one, two, poor] = [(); 3].map(|()| group.join().unwrap());
        for shard in [&one, &two, &two] {
            assert_eq!(a.acquire(shard.id(), at(0)), Acquire::Granted);
        }
        b.acquire(poor.id(), at(1));
        group.promise_total(one.id(), at(7));
        let late = at(7).plus(STALLED);
        assert_eq!(group.total_demand(), Some(late));
        // Nobody else promises before that, and who does then serves the same.
        group.promise_total(two.id(), at(8));
        assert_eq!(group.total_demand(), Some(late));
        group.promise_total(two.id(), late);
        assert_eq!(group.total_demand(), Some(late.plus(STALLED)));
        a.release(two.id());
        assert!(b.take_granted(poor.id()));
        assert_eq!(group.total_demand(), None);
    }

    #[test]
    fn x8_a_young_request_does_not_hide_that_a_promise_is_late() {
        let group = group(4, 2);
        let (a, b) = (group.shared(&"a").unwrap(), group.shared(&"b").unwrap());
        let [one, poor] = [(); 2].map(|()| group.join().unwrap());
        a.acquire(one.id(), at(0));
        a.acquire(one.id(), at(0));
        b.acquire(poor.id(), at(1));
        group.promise_total(one.id(), at(7));
        let late = at(7).plus(STALLED);
        a.acquire(poor.id(), late);
        for more in 0..20 {
            a.renew(poor.id(), late.plus(Duration::from_secs(more)));
            assert_eq!(group.total_demand(), Some(late));
        }
    }

    #[test]
    fn x12_what_is_promised_is_for_the_oldest_waiter_whoever_asked_first() {
        let group = group(4, 1);
        let (a, b) = (group.shared(&"a").unwrap(), group.shared(&"b").unwrap());
        let [one, two, rich] = [(); 3].map(|()| group.join().unwrap());
        a.acquire(rich.id(), at(0));
        a.acquire(one.id(), at(1));
        b.acquire(two.id(), at(5));
        a.renew(one.id(), at(9));
        assert_eq!(group.total_demand(), Some(at(5)));
        group.promise_total(rich.id(), at(9));
        assert_eq!(group.total_demand(), Some(at(9)), "the one nobody serves");
        a.release(rich.id());
        assert!(!a.take_granted(one.id()));
        assert!(b.take_granted(two.id()));
    }

    #[test]
    fn x5_what_a_shard_promised_before_it_ended_is_no_promise() {
        let group = group(4, 2);
        let (a, b) = (group.shared(&"a").unwrap(), group.shared(&"b").unwrap());
        let [one, two, poor] = [(); 3].map(|()| group.join().unwrap());
        a.acquire(one.id(), at(0));
        a.acquire(two.id(), at(0));
        b.acquire(poor.id(), at(1));
        a.acquire(poor.id(), at(2));
        group.promise_total(one.id(), at(2));
        assert_eq!(group.total_demand(), Some(at(2)));
        drop(one);
        assert!(b.take_granted(poor.id()));
        assert_eq!(group.total_demand(), Some(at(2)));
    }

    #[test]
    fn a_shards_own_request_for_another_endpoint_is_a_demand_too() {
        let group = group(4, 1);
        let (a, b) = (group.shared(&"a").unwrap(), group.shared(&"b").unwrap());
        let member = group.join().unwrap();
        a.acquire(member.id(), at(0));
        b.acquire(member.id(), at(1));
        assert!(member.wake().take());
        assert_eq!(notices(&member), [EndpointId::ALL]);
        assert_eq!(group.total_demand(), Some(at(1)));
        b.renew(member.id(), at(7));
        assert_eq!(group.total_demand(), Some(at(7)));
    }

    #[test]
    fn a_request_goes_on_to_the_total_when_the_endpoint_has_granted_it() {
        let group = group(1, 1);
        let (a, b) = (group.shared(&"a").unwrap(), group.shared(&"b").unwrap());
        let (rich, poor) = (group.join().unwrap(), group.join().unwrap());
        a.acquire(rich.id(), at(0));
        b.acquire(rich.id(), at(1));
        assert_eq!(a.acquire(poor.id(), at(2)), Acquire::Queued);
        a.release(rich.id());
        // The endpoint's is there, that of the process went to the older request.
        assert!(!a.take_granted(poor.id()));
        assert!(b.take_granted(rich.id()));
        assert_eq!(a.acquire(poor.id(), at(3)), Acquire::Queued);
        assert_eq!(a.in_use(), 1);
        b.release(rich.id());
        assert_eq!(a.acquire(poor.id(), at(4)), Acquire::Granted);
        assert_eq!((a.in_use(), b.in_use(), in_use(&group)), (1, 0, 1));
    }

    #[test]
    fn x11_k1_a_request_is_taken_back_wherever_it_waits() {
        let group = group(1, 1);
        let (a, b) = (group.shared(&"a").unwrap(), group.shared(&"b").unwrap());
        let (rich, poor) = (group.join().unwrap(), group.join().unwrap());
        a.acquire(rich.id(), at(0));
        b.acquire(poor.id(), at(1));
        assert_eq!(b.in_use(), 1);
        b.withdraw(poor.id());
        assert_eq!((b.in_use(), group.total_demand()), (0, None));
        // Granted and not collected.
        b.acquire(poor.id(), at(2));
        a.release(rich.id());
        b.withdraw(poor.id());
        assert_eq!((a.in_use(), b.in_use(), in_use(&group)), (0, 0, 0));
    }

    #[test]
    fn a_connection_that_changes_cores_takes_both_permits_with_it() {
        let group = group(1, 1);
        let a = group.shared(&"a").unwrap();
        let (rich, poor) = (group.join().unwrap(), group.join().unwrap());
        a.acquire(rich.id(), at(0));
        a.acquire(poor.id(), at(1));
        let slot = Key::new(4, 0);
        assert!(a.expect(poor.id(), slot));
        let claim = a.claim(rich.id(), Tick::ZERO).unwrap();
        assert!(a.transfer(rich.id(), poor.id(), slot));
        assert!(!a.unclaim(rich.id(), claim));
        drop(rich);
        assert_eq!((a.in_use(), in_use(&group)), (1, 1));
        a.release(poor.id());
        assert_eq!((a.in_use(), in_use(&group)), (0, 0));
    }

    #[test]
    fn x12_who_is_given_its_first_connection_hears_who_waits_for_the_process() {
        let group = group(1, 1);
        let (a, b) = (group.shared(&"a").unwrap(), group.shared(&"b").unwrap());
        let [giver, poor, heir] = [(); 3].map(|()| group.join().unwrap());
        a.acquire(giver.id(), at(0));
        b.acquire(poor.id(), at(1));
        a.acquire(heir.id(), at(2));
        let slot = Key::new(4, 0);
        assert!(a.expect(heir.id(), slot));
        let claim = a.claim(giver.id(), at(2)).unwrap();
        assert!(notices(&heir).is_empty(), "it has nothing to give");
        assert!(a.transfer(giver.id(), heir.id(), slot));
        assert!(notices(&heir).contains(&EndpointId::ALL));
        assert!(!a.unclaim(giver.id(), claim));
    }

    #[test]
    fn x5_a_dead_giver_leaves_no_permit_of_the_total_that_it_did_not_have() {
        let group = group(2, 2);
        let (a, b) = (group.shared(&"a").unwrap(), group.shared(&"b").unwrap());
        let [giver, other, heir] = [(); 3].map(|()| group.join().unwrap());
        a.acquire(giver.id(), at(0));
        a.acquire(other.id(), at(0));
        // It is sent, not taken, and ends at its giver before the slot is closed.
        a.acquire(heir.id(), at(1));
        let slot = Key::new(4, 0);
        assert!(a.expect(heir.id(), slot));
        let claim = a.claim(giver.id(), Tick::ZERO).unwrap();
        a.withdraw(heir.id());
        assert!(!a.transfer(giver.id(), heir.id(), slot));
        assert!(a.unclaim(giver.id(), claim));
        a.release(giver.id());
        // The giver has the endpoint's permit alone when it ends.
        assert_eq!(b.acquire(other.id(), at(2)), Acquire::Granted);
        assert_eq!(a.acquire(giver.id(), at(3)), Acquire::Queued);
        assert_eq!((a.in_use(), in_use(&group)), (2, 2));
        drop(giver);
        assert_eq!((a.in_use(), in_use(&group)), (1, 2));
        a.slot_closed(heir.id(), slot);
        assert_eq!((a.in_use(), b.in_use(), in_use(&group)), (1, 1, 2));
    }

    #[test]
    fn x5_what_a_dead_shard_had_of_the_total_goes_to_those_who_wait() {
        let group = group(2, 2);
        let (a, b) = (group.shared(&"a").unwrap(), group.shared(&"b").unwrap());
        let (dying, heir) = (group.join().unwrap(), group.join().unwrap());
        a.acquire(dying.id(), at(0));
        b.acquire(dying.id(), at(0));
        b.acquire(dying.id(), at(1));
        a.acquire(heir.id(), at(2));
        drop(dying);
        assert_eq!(notices(&heir), [a.id()]);
        assert!(a.take_granted(heir.id()));
        assert_eq!((a.in_use(), b.in_use(), in_use(&group)), (1, 0, 1));
        drop(heir);
        assert_eq!((a.in_use(), in_use(&group)), (0, 0));
    }

    /// One shard's connections and requests, by endpoint.
    struct Shard {
        member: Member<&'static str>,
        own: [u32; 2],
        asks: [bool; 2],
    }

    impl Shard {
        fn new(group: &Group) -> Self {
            Self {
                member: group.join().unwrap(),
                own: [0; 2],
                asks: [false; 2],
            }
        }

        fn step(&mut self, shared: &SharedEndpoint, which: usize, step: u8, now: u64) {
            let id = self.member.id();
            match step {
                0 | 1 => {
                    let granted = shared.acquire(id, at(now)) == Acquire::Granted;
                    self.own[which] += u32::from(granted);
                    self.asks[which] = !granted;
                }
                2 if self.own[which] > 0 => {
                    self.own[which] -= 1;
                    shared.release(id);
                }
                3 => {
                    self.asks[which] = false;
                    shared.withdraw(id);
                }
                4 => self.member.registry().promise_total(id, at(now)),
                _ => self.hear(shared, which),
            }
        }

        fn hear(&mut self, shared: &SharedEndpoint, which: usize) {
            if shared.take_granted(self.member.id()) {
                assert!(std::mem::take(&mut self.asks[which]));
                self.own[which] += 1;
            }
        }
    }

    proptest! {
        #[test]
        fn x5_x12_no_history_exceeds_either_limit_or_leaves_one_waiting_beside_a_free_permit(
            permits in 1u32..4,
            total in 1u32..6,
            steps in proptest::collection::vec((0usize..3, 0usize..2, 0u8..7), 0..200),
        ) {
            let group = group(permits, total);
            let shared = [group.shared(&"a").unwrap(), group.shared(&"b").unwrap()];
            let mut shards: Vec<_> = (0..3).map(|_| Shard::new(&group)).collect();
            for (now, (index, which, step)) in steps.into_iter().enumerate() {
                if step == 6 {
                    // The index is free only when its tenant has gone.
                    shards.remove(index);
                    shards.insert(index, Shard::new(&group));
                } else {
                    shards[index].step(&shared[which], which, step, now as u64);
                }
                let own: u32 = shards.iter().flat_map(|it| it.own).sum();
                prop_assert!(own <= in_use(&group) && in_use(&group) <= total);
                prop_assert!(shared.iter().all(|it| it.in_use() <= permits));
            }
            // All listen until nothing comes any more. Who still waits then waits for a limit.
            for _ in 0..6 {
                for shard in &mut shards {
                    (0..2).for_each(|which| shard.hear(&shared[which], which));
                }
            }
            let full = in_use(&group) == total;
            for (which, shared) in shared.iter().enumerate() {
                let waits = shards.iter().any(|it| it.asks[which]);
                prop_assert!(!waits || full || shared.in_use() == permits);
                let own: u32 = shards.iter().map(|it| it.own[which]).sum();
                prop_assert!(!waits || full || own == permits);
            }
            shards.clear();
            prop_assert_eq!((in_use(&group), shared[0].in_use(), shared[1].in_use()), (0, 0, 0));
        }
    }
}

#[cfg(ringpool_loom)]
mod model {
    use loom::thread;

    use super::*;
    use crate::slot::Key;

    /// Both shards ask for their endpoint, hear what they are granted, and give it back.
    fn visit(group: &Group, member: &Member<&'static str>, name: &'static str) {
        let shared = group.shared(&name).unwrap();
        let id = member.id();
        if shared.acquire(id, Tick::ZERO) == Acquire::Granted || shared.take_granted(id) {
            shared.release(id);
        } else {
            shared.withdraw(id);
        }
    }

    #[test]
    fn two_endpoints_and_one_permit_of_the_process_never_wait_in_a_circle() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(|| {
            let group = group(1, 1);
            let (one, two) = (group.join().unwrap(), group.join().unwrap());
            let other = {
                let group = group.clone();
                thread::spawn(move || visit(&group, &two, "b"))
            };
            visit(&group, &one, "a");
            other.join().unwrap();
            assert_eq!(group.total_in_use(), 0);
        });
    }

    #[test]
    fn x5_a_transfer_against_the_end_of_its_giver_keeps_the_total() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(|| {
            let group = group(1, 1);
            let (rich, poor) = (group.join().unwrap(), group.join().unwrap());
            let shared = group.shared(&"a").unwrap();
            shared.acquire(rich.id(), Tick::ZERO);
            shared.acquire(poor.id(), Tick::ZERO);
            shared.expect(poor.id(), Key::new(1, 0));
            shared.claim(rich.id(), Tick::ZERO).unwrap();
            let from = rich.id();
            let leaving = thread::spawn(move || drop(rich));
            let taken = shared.transfer(from, poor.id(), Key::new(1, 0));
            leaving.join().unwrap();
            if !taken {
                // What may have come goes first.
                shared.slot_closed(poor.id(), Key::new(1, 0));
            }
            let granted = shared.take_granted(poor.id());
            assert_ne!(taken, granted);
            assert_eq!((shared.in_use(), group.total_in_use()), (1, 1));
            shared.release(poor.id());
            assert_eq!((shared.in_use(), group.total_in_use()), (0, 0));
        });
    }
}
