use super::*;

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 80))
}

fn first(count: u8) -> Vec<SocketAddr> {
    (1..=count).map(address).collect()
}

fn at(millis: u64) -> Tick {
    Tick::from_nanos(millis * 1_000_000)
}

#[cfg(not(ringpool_loom))]
mod by_hand {
    use super::*;

    /// When each of the first `of` addresses may be probed, in milliseconds.
    fn out(ejections: &Ejections, now: u64, of: u8) -> Vec<Option<u64>> {
        let addresses: Vec<_> = (1..=of).map(address).collect();
        let out = ejections.out(at(now), &addresses);
        out.iter()
            .map(|it| it.map(|it| it.as_nanos() / 1_000_000))
            .collect()
    }

    fn report(ejections: &Ejections, now: u64, last: u8, verdict: Verdict) -> bool {
        ejections.report(at(now), (address(last), verdict), &first(4), 0)
    }

    #[test]
    fn c1_c15_an_address_that_failed_is_out_until_a_probe_succeeds() {
        let all = Ejections::default();
        assert!(report(&all, 0, 1, Verdict::Failed));
        assert_eq!(out(&all, 0, 2), [Some(1500), None]);
        assert!(!report(&all, 100, 1, Verdict::Failed), "no news");
        assert_eq!(out(&all, 100, 1), [Some(1500)]);
        assert!(!all.claim(at(1499), address(1), 0));
        assert!(all.claim(at(1500), address(1), 0));
        assert!(!all.claim(at(1500), address(1), 0), "one core, not two");
        assert!(!report(&all, 1600, 1, Verdict::Failed));
        assert_eq!(out(&all, 1600, 1), [Some(3000)]);
        assert!(all.claim(at(3000), address(1), 0));
        assert!(report(&all, 3001, 1, Verdict::Back));
        assert_eq!(out(&all, 3001, 1), [None]);
        assert_eq!(all.version(), 2);
        assert!(!report(&all, 3001, 1, Verdict::Back));
    }

    #[test]
    fn c10_no_more_than_half_of_the_addresses_are_out() {
        let all = Ejections::default();
        assert!(report(&all, 0, 1, Verdict::Failed));
        assert!(report(&all, 0, 2, Verdict::Failed));
        assert!(!report(&all, 0, 3, Verdict::Failed), "the third of four");
        assert_eq!(out(&all, 0, 3), [Some(1500), Some(1500), None]);
        assert!(report(&all, 0, 1, Verdict::Back));
        assert!(report(&all, 0, 3, Verdict::Failed));
        let only_one = Ejections::default();
        assert!(!only_one.report(at(0), (address(1), Verdict::Failed), &first(1), 0));
        assert_eq!(only_one.version(), 0);
    }

    #[test]
    fn c15_early_deaths_in_a_row_keep_an_address_out_ever_longer() {
        let all = Ejections::default();
        let mut now = 0;
        for pause in [1500, 3000, 6000, 12_000, 24_000, 48_000, 60_000, 60_000] {
            assert!(report(&all, now, 1, Verdict::DiedEarly));
            assert!(!report(&all, now, 1, Verdict::DiedEarly), "all at once");
            assert_eq!(out(&all, now, 1), [Some(now + pause)]);
            now += pause;
            assert!(all.claim(at(now), address(1), 0));
            assert!(report(&all, now, 1, Verdict::Back));
        }
        report(&all, now, 1, Verdict::Works);
        assert!(report(&all, now, 1, Verdict::DiedEarly));
        assert_eq!(out(&all, now, 1), [Some(now + 1500)], "as at first");
    }

    #[test]
    fn m3_chance_adds_a_fifth_of_a_second_at_most() {
        for (chance, added) in [(0, 0), (u64::MAX, 200), (u64::from(u32::MAX) / 2, 100)] {
            let all = Ejections::default();
            all.report(at(0), (address(1), Verdict::Failed), &first(4), chance);
            assert_eq!(out(&all, 0, 1), [Some(1500 + added)]);
        }
    }

    #[test]
    fn d25_what_nobody_asks_after_is_forgotten_and_makes_room() {
        let all = Ejections::default();
        assert!(report(&all, 0, 1, Verdict::Failed));
        assert!(report(&all, 0, 2, Verdict::Failed));
        assert!(!report(&all, 4499, 3, Verdict::Failed));
        assert_eq!(out(&all, 4499, 2), [Some(1500), Some(1500)]);
        assert_eq!(out(&all, 4500, 2), [None, None]);
        assert!(report(&all, 4500, 3, Verdict::Failed));
        let many: Vec<_> = (0..1000)
            .map(|at| SocketAddr::from(([192, 0, 2, 9], at)))
            .collect();
        for address in &many {
            all.report(at(0), (*address, Verdict::Failed), &many, 0);
        }
        assert_eq!(lock(&all.known).len(), MAX_KEPT);
    }
}

#[cfg(ringpool_loom)]
mod every_order {
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicUsize, Ordering};
    use loom::thread;

    use super::*;

    fn ejected() -> Arc<Ejections> {
        let all = Ejections::default();
        all.report(at(0), (address(1), Verdict::Failed), &first(2), 0);
        Arc::new(all)
    }

    #[test]
    fn c15_two_cores_that_may_probe_are_one_that_does() {
        loom::model(|| {
            let (all, probes) = (ejected(), Arc::new(AtomicUsize::new(0)));
            let probe = |all: Arc<Ejections>, probes: Arc<AtomicUsize>| {
                if all.claim(at(2000), address(1), 0) {
                    probes.fetch_add(1, Ordering::Relaxed);
                }
            };
            let (theirs, counted) = (all.clone(), probes.clone());
            let other = thread::spawn(move || probe(theirs, counted));
            probe(all, probes.clone());
            other.join().unwrap();
            assert_eq!(probes.load(Ordering::Relaxed), 1);
        });
    }

    #[test]
    fn c15_a_core_that_hears_of_a_change_sees_it() {
        loom::model(|| {
            let all = ejected();
            let before = all.version();
            let theirs = all.clone();
            let other = thread::spawn(move || {
                theirs.report(at(2000), (address(1), Verdict::Back), &first(2), 0);
            });
            let is_out = |all: &Ejections| all.out(at(2000), &[address(1)])[0].is_some();
            if all.version() != before {
                assert!(!is_out(&all), "the version without the change");
            }
            other.join().unwrap();
            assert_ne!(all.version(), before);
            assert!(!is_out(&all));
        });
    }

    #[test]
    fn c10_two_that_fail_at_once_are_not_both_out() {
        loom::model(|| {
            let all = Arc::new(Ejections::default());
            let theirs = all.clone();
            let fails = |all: &Ejections, last| {
                all.report(at(0), (address(last), Verdict::Failed), &first(2), 0);
            };
            let other = thread::spawn(move || fails(&theirs, 1));
            fails(&all, 2);
            other.join().unwrap();
            let out = all.out(at(0), &[address(1), address(2)]);
            assert_eq!(out.iter().flatten().count(), 1);
        });
    }
}
