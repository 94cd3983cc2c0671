//! Group M: jumps, extremes and coarse ticks of the clock move moments and break nothing.

use super::*;

use std::net::IpAddr;

use ringpool::sim::Manner;

/// What a resolve of [`NAME`] on core 0 finds: the last digit of its address and whether it is old.
fn found(world: &World) -> Result<(u8, bool)> {
    on(world, 0, async |pool| {
        let found = pool.resolve(NAME).await?;
        let IpAddr::V4(ip) = found.addresses().next().unwrap().ip() else {
            panic!("an address that nobody has");
        };
        Ok((ip.octets()[3], found.is_stale()))
    })
}

#[test]
fn m2_after_a_night_of_sleep_names_and_idle_connections_are_not_fresh() {
    seeds(10, |seed| {
        let world = two_cores(seed).build().unwrap();
        let servers = servers(&world, &["10.0.0.1", "10.0.0.2"]);
        let put = |n: usize| {
            let ip: IpAddr = servers[n].addresses()[0].ip();
            world.set_name("service.test", &[ip], secs(3_600));
        };
        put(0);
        exchange_on(&world).unwrap();
        put(1);
        world.suspend(secs(8 * 60 * 60));
        // The cores' timers fire.
        world.run_for(ms(1)).unwrap();
        exchange_on(&world).unwrap();
        assert_eq!(found(&world).unwrap(), (2, false));
        assert_eq!((servers[0].connects(), servers[1].connects()), (1, 1));
        nothing_left(&world, &servers);
    });
}

#[test]
fn m2_d4_an_answer_from_before_the_sleep_is_old_when_it_is_looked_at_after_it() {
    seeds(10, |seed| {
        let world = two_cores(seed).build().unwrap();
        world.set_name("service.test", &[[10, 0, 0, 1].into()], secs(86_400));
        for server in world.name_servers() {
            server.set(Manner::new().wait(ms(100)));
        }
        let ended = Rc::new(RefCell::new(None));
        let place = ended.clone();
        world.spawn_on(1, "resolve", async move {
            let found = Pool::local().unwrap().resolve(NAME).await;
            *place.borrow_mut() = Some(found.map(|it| it.is_stale()));
        });
        world.run_for(ms(20)).unwrap();
        // The answers reach the kernel, and nobody takes them.
        world.freeze(1, secs(1));
        world.run_for(ms(300)).unwrap();
        assert_eq!(world.questions(), 2);
        world.suspend(secs(8 * 60 * 60));
        world.set_name("service.test", &[[10, 0, 0, 2].into()], secs(86_400));
        world.run().unwrap();
        let ended = ended.borrow_mut().take().expect("it ended");
        assert!(!matches!(ended, Ok(false)), "eight hours old, and fresh");
        // As soon as it may be asked again, what is true is known.
        world.run_for(secs(2)).unwrap();
        assert_eq!(found(&world).unwrap(), (2, false));
        assert_eq!(world.questions(), 4);
        nothing_left(&world, &[]);
    });
}

#[test]
fn m3_cores_that_stood_still_together_do_not_retry_together() {
    seeds(10, |seed| {
        let config = Config {
            max_connecting: 2,
            get_timeout: secs(200),
            connect_retry_count: 1000,
            ..Config::default()
        };
        let world = World::builder(seed)
            .cores(8)
            .config(config)
            .build()
            .unwrap();
        let server = ponging(&world);
        let address = server.addresses()[0];
        server.refuse();
        let ended = gets_at_once(&world, 8, 32);
        world.run_for(secs(5)).unwrap();
        let thaw = world.now() + secs(60);
        for core in 0..8 {
            world.freeze(core, secs(60));
        }
        world.run_for(secs(100)).unwrap();
        let dials = server.dials(address);
        let at_once = dials
            .iter()
            .filter(|at| **at >= thaw && **at < thaw + ms(50));
        assert!(
            at_once.count() <= 8 * 2,
            "more than one round of each core at once"
        );
        // From then on they are apart.
        let later = dials.iter().filter(|at| **at > thaw + ms(50));
        let moments: std::collections::BTreeSet<_> = later.map(Duration::as_millis).collect();
        assert!(moments.len() >= 6, "{moments:?}");
        server.listen();
        world.run().unwrap();
        assert!(ended.borrow().iter().all(Result::is_ok));
        nothing_left(&world, &[server]);
    });
}

#[test]
fn m4_the_longest_and_the_shortest_times_overflow_nothing() {
    let year = secs(365 * 24 * 60 * 60);
    let all = |time: Duration| Config {
        get_timeout: time,
        connect_timeout: time,
        connect_retry_delay: time,
        connect_retry_delay_max: time,
        max_idle_time: time,
        max_connection_lifetime: time,
        read_timeout: time,
        write_timeout: time,
        health_check_after: time,
        drain_timeout: time,
        ..Config::default()
    };
    seeds(10, |seed| {
        let patient = world(seed, all(year));
        let server = ponging(&patient);
        // Names in use are kept up to date; once a day is often enough here.
        patient.set_name("service.test", &[server.addresses()[0].ip()], secs(86_400));
        exchange_on(&patient).unwrap();
        patient.run_for(year / 2).unwrap();
        exchange_on(&patient).unwrap();
        assert_eq!(server.connects(), 1, "half a year is not too long");
        nothing_left(&patient, &[server]);
        let hasty = world(seed, all(Duration::from_nanos(1)));
        ponging(&hasty);
        for _ in 0..10 {
            let error = exchange_on(&hasty).unwrap_err();
            let resolve = error.kind() == ErrorKind::Resolve;
            assert!(error.is_timeout() || resolve, "{error:?}");
        }
        nothing_left(&hasty, &[]);
        let checked = world(
            seed,
            Config {
                health_check_after: Duration::ZERO,
                ..all(year)
            },
        );
        let server = ponging(&checked);
        exchange_on(&checked).unwrap();
        exchange_on(&checked).unwrap();
        nothing_left(&checked, &[server]);
    });
}

#[test]
fn m4_gets_and_reads_whose_times_end_together_end_each_once() {
    seeds(50, |seed| {
        let config = Config {
            max_connections_per_endpoint: 4,
            get_timeout: ms(500),
            read_timeout: ms(500),
            connect_timeout: ms(500),
            ..Config::default()
        };
        let world = world(seed, config);
        let server = world.server(NAME, &["10.0.0.1"]).unwrap();
        server.on_connect(Script::new());
        let ended = gets_at_once(&world, 1, 12);
        world.run().unwrap();
        assert_eq!(ended.borrow().len(), 12);
        let (served, failed) = sorted(&ended.borrow());
        assert_eq!(served, 0);
        let timeouts = [ErrorKind::GetTimeout, ErrorKind::ReadTimeout];
        assert!(
            failed.iter().all(|kind| timeouts.contains(kind)),
            "{failed:?}"
        );
        nothing_left(&world, &[server]);
    });
}

#[test]
fn m5_with_a_clock_that_stands_still_the_world_says_who_waits() {
    let world = two_cores(1).build().unwrap();
    let server = ponging(&world);
    exchange_on(&world).unwrap();
    server.black_hole();
    clear(&world);
    for core in 0..2 {
        world.spawn_on(core, &format!("get {core}"), async {
            let _ = exchange(&Pool::local().unwrap()).await;
        });
    }
    world.run_for(ms(10)).unwrap();
    world.stop_clock();
    let stuck = world.run().unwrap_err();
    let waiting = stuck.waiting();
    assert_eq!(waiting.len(), 2, "{stuck}");
    let all_say = waiting
        .iter()
        .all(|line| line.contains("waits for a connection to service.test"));
    assert!(all_say, "{stuck}");
}

#[test]
fn m6_the_longest_ttl_is_clamped_and_a_name_that_moved_is_found() {
    seeds(10, |seed| {
        let world = world(seed, Config::default());
        let servers = servers(&world, &["10.0.0.1", "10.0.0.2"]);
        let put = |n: usize| {
            let ip: IpAddr = servers[n].addresses()[0].ip();
            world.set_name(
                "service.test",
                &[ip],
                Duration::from_secs(u64::from(u32::MAX)),
            );
        };
        put(0);
        exchange_on(&world).unwrap();
        put(1);
        world.run_for(secs(23 * 60 * 60)).unwrap();
        exchange_on(&world).unwrap();
        assert_eq!(servers[1].connects(), 0, "the answer is not kept at all");
        world.run_for(secs(2 * 60 * 60)).unwrap();
        exchange_on(&world).unwrap();
        assert_eq!(servers[1].connects(), 1, "the answer is kept for ever");
        nothing_left(&world, &servers);
    });
}

#[test]
fn m7_a_coarse_timer_makes_pauses_longer_and_never_shorter() {
    seeds(20, |seed| {
        let config = Config {
            max_connecting: 1,
            read_timeout: ms(300),
            ..Config::default()
        };
        let world = World::builder(seed)
            .config(config)
            .fault(Fault::CoarseTimer, 10_000)
            .build()
            .unwrap();
        let server = world.server(NAME, &["10.0.0.1"]).unwrap();
        let began = world.now();
        let error = exchange_on(&world).unwrap_err();
        let waited = world.now() - began;
        assert_eq!(error.kind(), ErrorKind::ReadTimeout);
        assert!(waited >= ms(300) && waited <= ms(500), "{waited:?}");
        server.refuse();
        let error = exchange_on(&world).unwrap_err();
        assert!(error.is_connect(), "{error:?}");
        let dials = server.dials(server.addresses()[0]);
        let retries = &dials[1..];
        assert_eq!(retries.len(), 4, "a burst of attempts");
        for (pair, least) in retries.windows(2).zip([75, 150, 300]) {
            assert!(pair[1] - pair[0] >= ms(least), "{retries:?}");
        }
        assert_fired(&world, &[Fault::CoarseTimer]);
        nothing_left(&world, &[server]);
    });
}
