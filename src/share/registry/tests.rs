//! A group of shards: who joins, who is told, what is left when one leaves.

use super::super::{Acquire, Withdrawn};
use super::*;

fn registry(shards: usize, endpoints: usize, permits: u32) -> Arc<Registry<&'static str>> {
    Arc::new(Registry::new(Limits {
        shards,
        endpoints,
        permits,
        total: None,
        gauges: 1,
        counters: 1,
        stale: std::time::Duration::from_secs(60),
    }))
}

#[cfg(not(ringpool_loom))]
mod by_hand {
    use std::net::SocketAddr;

    use super::*;
    use crate::slot::Key;

    fn notices(member: &Member<&'static str>) -> Vec<EndpointId> {
        let mut notices = Vec::new();
        member.drain_notices(&mut notices);
        notices
    }

    #[test]
    fn all_shards_meet_at_one_endpoint() {
        let registry = registry(2, 8, 1);
        let a = registry.shared(&"a:80").unwrap();
        assert!(Arc::ptr_eq(&a, &registry.shared(&"a:80").unwrap()));
        assert_ne!(a.id(), registry.shared(&"b:80").unwrap().id());
        assert_eq!(registry.endpoints().len(), 2);
    }

    #[test]
    fn a_full_group_refuses_and_a_left_index_returns_under_a_new_epoch() {
        let registry = registry(2, 8, 1);
        let first = registry.join().unwrap();
        let _second = registry.join().unwrap();
        let error = registry.join().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exhausted);
        let old = first.id();
        drop(first);
        assert_eq!(registry.live().len(), 1);
        let heir = registry.join().unwrap();
        assert_eq!(heir.id().index(), old.index());
        assert_ne!(heir.id(), old);
        assert_eq!(format!("{:?}", heir.id()), "shard 0 (epoch 2)");
    }

    #[test]
    fn a_queued_request_tells_the_holder_and_a_release_tells_the_queue() {
        let registry = registry(2, 8, 1);
        let (rich, poor) = (registry.join().unwrap(), registry.join().unwrap());
        let shared = registry.shared(&"a:80").unwrap();
        assert_eq!(shared.acquire(rich.id(), Tick::ZERO), Acquire::Granted);
        let since = Tick::from_nanos(7);
        assert_eq!(shared.acquire(poor.id(), since), Acquire::Queued);
        assert!(rich.wake().take());
        assert!(!poor.wake().is_pending());
        assert_eq!(notices(&rich), [shared.id()]);
        assert_eq!(shared.demand(rich.id()), Some(since));
        shared.release(rich.id());
        assert!(poor.wake().take());
        assert_eq!(notices(&poor), [shared.id()]);
        assert!(shared.take_granted(poor.id()));
        assert_eq!(notices(&rich), [shared.id()]);
        assert_eq!(shared.demand(rich.id()), None);
        assert_eq!((shared.in_use(), shared.limit()), (1, 1));
    }

    #[test]
    fn p7_x5_what_a_shard_held_goes_to_those_who_wait_when_it_leaves() {
        let registry = registry(3, 8, 1);
        let (dying, heir) = (registry.join().unwrap(), registry.join().unwrap());
        let shared = registry.shared(&"a:80").unwrap();
        let address = SocketAddr::from(([192, 0, 2, 1], 80));
        shared.acquire(dying.id(), Tick::ZERO);
        shared.board().opened(dying.id(), address);
        shared.published().publish(dying.id(), &[1, 5]);
        shared.acquire(heir.id(), Tick::ZERO);
        drop(dying);
        assert!(heir.wake().take());
        assert_eq!(notices(&heir), [shared.id()]);
        assert!(shared.take_granted(heir.id()));
        assert_eq!(shared.held(heir.id()), 1);
        assert_eq!(*shared.board().totals([address]), [0]);
        assert_eq!(*shared.published().totals(), [0, 5]);
        assert_eq!(heir.registry().live(), [heir.id()]);
    }

    #[test]
    fn a_shard_that_lets_go_of_an_endpoint_leaves_its_counters() {
        let registry = registry(2, 8, 1);
        let (rich, poor) = (registry.join().unwrap(), registry.join().unwrap());
        let shared = registry.shared(&"a:80").unwrap();
        shared.published().publish(rich.id(), &[1, 5]);
        shared.retire(rich.id());
        assert_eq!(*shared.published().totals(), [0, 5]);
        // It may come back.
        shared.published().publish(rich.id(), &[2, 3]);
        assert_eq!(*shared.published().totals(), [2, 8]);
        shared.acquire(rich.id(), Tick::ZERO);
        shared.acquire(poor.id(), Tick::ZERO);
        let since = Tick::from_nanos(7);
        shared.renew(poor.id(), since);
        assert_eq!(shared.demand(rich.id()), Some(since));
    }

    #[test]
    fn x13_those_whom_a_gift_concerns_are_told_when_its_giver_leaves() {
        let registry = registry(3, 8, 2);
        let (giver, other) = (registry.join().unwrap(), registry.join().unwrap());
        let poor = registry.join().unwrap();
        let shared = registry.shared(&"a:80").unwrap();
        shared.acquire(giver.id(), Tick::ZERO);
        shared.acquire(other.id(), Tick::ZERO);
        shared.acquire(poor.id(), Tick::from_nanos(7));
        let slot = Key::new(3, 0);
        assert!(shared.expect(poor.id(), slot));
        notices(&other);
        let claim = shared.claim(giver.id(), Tick::ZERO).unwrap();
        assert_eq!((claim.to, claim.slot), (poor.id(), slot));
        assert_eq!(notices(&other), [shared.id()], "no demand any more");
        shared.withdraw(poor.id());
        assert_eq!(shared.unexpect(poor.id()), Withdrawn::Claimed);
        let from = giver.id();
        drop(giver);
        assert_eq!(notices(&poor), [shared.id()]);
        assert_eq!(shared.take_returned(poor.id()), Some(slot));
        assert!(!shared.transfer(from, poor.id(), slot));
        assert_eq!(shared.moved(from), 0);
    }

    #[test]
    fn x1_a_notice_that_is_lost_hides_nothing_from_who_looks() {
        let registry = registry(2, 8, 1);
        let (rich, poor) = (registry.join().unwrap(), registry.join().unwrap());
        let shared = registry.shared(&"a:80").unwrap();
        shared.acquire(rich.id(), Tick::ZERO);
        shared.acquire(poor.id(), Tick::from_nanos(7));
        assert_eq!(notices(&rich), [shared.id()], "lost from here on");
        assert_eq!(shared.demand(rich.id()), Some(Tick::from_nanos(7)));
        shared.release(rich.id());
        assert_eq!(shared.demand(rich.id()), None);
        assert!(notices(&poor).contains(&shared.id()), "lost too");
        assert!(shared.take_granted(poor.id()));
        assert!(!shared.take_granted(poor.id()), "once");
        assert_eq!((shared.held(rich.id()), shared.held(poor.id())), (0, 1));
        // What is said next is whole: nothing of what was lost is missing from it.
        shared.acquire(rich.id(), Tick::from_nanos(9));
        assert_eq!(notices(&poor), [shared.id()]);
        assert_eq!(shared.demand(poor.id()), Some(Tick::from_nanos(9)));
    }

    #[test]
    fn notices_of_one_endpoint_coalesce() {
        let registry = registry(2, 8, 1);
        let (rich, poor) = (registry.join().unwrap(), registry.join().unwrap());
        let shared = registry.shared(&"a:80").unwrap();
        shared.acquire(rich.id(), Tick::ZERO);
        for _ in 0..3 {
            shared.acquire(poor.id(), Tick::ZERO);
            shared.withdraw(poor.id());
        }
        assert_eq!(notices(&rich), [shared.id()]);
        assert!(notices(&rich).is_empty());
    }

    #[test]
    fn a_request_that_is_taken_back_leaves_no_demand_and_gets_no_grant() {
        let registry = registry(2, 8, 1);
        let (rich, poor) = (registry.join().unwrap(), registry.join().unwrap());
        let shared = registry.shared(&"a:80").unwrap();
        assert_eq!(shared.in_use(), 0);
        shared.acquire(rich.id(), Tick::ZERO);
        shared.acquire(poor.id(), Tick::ZERO);
        assert!(!shared.take_granted(poor.id()));
        shared.withdraw(poor.id());
        assert_eq!(shared.demand(rich.id()), None);
        shared.release(rich.id());
        assert!(!shared.take_granted(poor.id()));
        assert_eq!(shared.in_use(), 0);
    }

    #[test]
    fn what_is_said_to_a_shard_that_left_does_not_reach_its_heir() {
        let registry = registry(1, 8, 1);
        let old = registry.join().unwrap().id();
        let heir = registry.join().unwrap();
        let shared = registry.shared(&"a:80").unwrap();
        registry.members.notify(old, shared.id());
        assert!(notices(&heir).is_empty() && !heir.wake().is_pending());
        registry.members.notify(heir.id(), shared.id());
        assert_eq!(notices(&heir), [shared.id()]);
    }

    #[test]
    fn a_shard_that_leaves_lets_its_waker_go() {
        struct Nothing;
        impl std::task::Wake for Nothing {
            fn wake(self: Arc<Self>) {}
        }
        let registry = registry(1, 8, 1);
        let member = registry.join().unwrap();
        let (bell, task) = (member.wake().clone(), Arc::new(Nothing));
        bell.register(&task.clone().into());
        assert_eq!(Arc::strong_count(&task), 2);
        drop(member);
        assert_eq!(Arc::strong_count(&task), 1);
    }

    #[test]
    fn an_index_whose_epochs_are_used_up_is_not_taken_again() {
        let registry = registry(1, 8, 1);
        registry.members.set_epoch(0, u32::MAX - 2);
        let last = registry.join().unwrap();
        assert_eq!(last.id().epoch, u32::MAX - 1);
        drop(last);
        assert!(registry.join().is_err());
    }

    #[test]
    fn every_shard_may_keep_as_many_endpoints_as_one() {
        let registry = registry(2, 1, 1);
        let a = registry.shared(&"a:80").unwrap();
        let _b = registry.shared(&"b:80").unwrap();
        assert!(registry.shared(&"c:80").is_err());
        drop(a);
        registry.shared(&"c:80").unwrap();
        assert_eq!(registry.endpoints().len(), 2);
    }

    #[test]
    fn only_an_endpoint_that_nobody_uses_makes_room() {
        let registry = registry(1, 2, 1);
        let a = registry.shared(&"a:80").unwrap();
        let b = registry.shared(&"b:80").unwrap();
        let error = registry.shared(&"c:80").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exhausted);
        drop(a);
        registry.shared(&"c:80").unwrap();
        assert_eq!(b.id(), registry.shared(&"b:80").unwrap().id());
        let keys: Vec<_> = registry.endpoints().iter().map(|(key, _)| *key).collect();
        assert!(keys.contains(&"b:80") && keys.contains(&"c:80") && keys.len() == 2);
    }
}

#[cfg(ringpool_loom)]
mod model {
    use std::future::poll_fn;
    use std::task::Poll;

    use loom::{future, thread};

    use super::*;

    #[test]
    fn x10_a_queued_shard_is_woken_by_the_release_that_grants_it() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(|| {
            let registry = registry(2, 1, 1);
            let (rich, poor) = (registry.join().unwrap(), registry.join().unwrap());
            let shared = registry.shared(&"a:80").unwrap();
            shared.acquire(rich.id(), Tick::ZERO);
            // Leaving gives the permit back; a lost wake-up is a deadlock, which loom reports.
            let leaving = thread::spawn(move || drop(rich));
            let mut granted = shared.acquire(poor.id(), Tick::ZERO) == Acquire::Granted;
            future::block_on(poll_fn(|cx| {
                loop {
                    if granted {
                        return Poll::Ready(());
                    }
                    poor.wake().register(cx.waker());
                    if !poor.wake().take() {
                        return Poll::Pending;
                    }
                    let mut notices = Vec::new();
                    poor.drain_notices(&mut notices);
                    granted = notices.contains(&shared.id()) && shared.take_granted(poor.id());
                }
            }));
            leaving.join().unwrap();
            assert_eq!(shared.in_use(), 1);
        });
    }
}
