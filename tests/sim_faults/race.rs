//! Groups C and D25: a slow address gets company after 250 ms, and connections follow a name whose
//! addresses change.

use super::*;

use ringpool::CloseReason;

#[test]
fn c2_a_black_hole_costs_250_ms_once_and_its_socket_is_gone_at_once() {
    seeds(50, |seed| {
        let world = world(seed, Config::default());
        let servers = servers(&world, &["10.0.0.1", "10.0.0.2"]);
        servers[0].black_hole();
        let (mut slow, before) = (0, world.now());
        for _ in 0..20 {
            let began = world.now();
            exchange_on(&world).unwrap();
            let took = world.now() - began;
            assert!(took < ms(260), "{took:?}: it waited for the connect");
            slow += u32::from(took > ms(200));
            clear(&world);
            world.run_for(ms(2)).unwrap();
            assert!(world.sockets(0) <= 1, "the lost connect keeps its socket");
        }
        let most = 1 + (world.now() - before).as_millis() / 180;
        assert!(u128::from(slow) <= most, "{slow} of 20 waited for it");
        let stats = stats(&world);
        assert_eq!(u64::from(slow), stats.connects_cancelled);
        assert_eq!((stats.errors, stats.get_timeouts), (0, 0));
        nothing_left(&world, &servers);
    });
}

#[test]
fn c2_all_addresses_are_tried_within_the_time_of_a_get() {
    seeds(20, |seed| {
        let world = world(seed, Config::default());
        let addresses = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"];
        let servers = servers(&world, &addresses);
        servers[..3].iter().for_each(Server::black_hole);
        let began = world.now();
        exchange_on(&world).unwrap();
        assert!(world.now() - began < ms(760), "{:?}", world.now() - began);
        assert!(dials_of(&servers) <= 4, "each address once");
        nothing_left(&world, &servers);
    });
}

#[test]
fn c4_a_connect_that_succeeds_too_late_is_closed_and_counted_once() {
    seeds(50, |seed| {
        let world = world(seed, Config::default());
        let servers = servers(&world, &["10.0.0.1", "10.0.0.2"]);
        // The answer of this one comes when the other one has just won, or a little later.
        let slow = servers[0].addresses()[0].ip();
        world.cut(None, slow, ms(250) + Duration::from_micros(seed * 20));
        let ended = gets_at_once(&world, 1, 1);
        world.run().unwrap();
        assert!(ended.borrow()[0].is_ok());
        world.run_for(ms(500)).unwrap();
        world.audit().unwrap();
        let stats = stats(&world);
        assert!(stats.created + stats.connects_cancelled <= 2, "{stats:?}");
        assert_eq!(stats.permits, stats.idle, "a permit for each that is left");
        nothing_left(&world, &servers);
    });
}

#[test]
fn c2_the_limit_holds_while_addresses_race() {
    seeds(50, |seed| {
        let config = Config {
            max_connections_per_endpoint: 2,
            ..Config::default()
        };
        let world = world(seed, config);
        let servers = servers(&world, &["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
        servers[0].black_hole();
        let ended = gets_at_once(&world, 1, 6);
        for _ in 0..300 {
            world.run_for(ms(2)).unwrap();
            world.audit().unwrap();
            assert!(open_at(&servers) <= 2);
        }
        world.run().unwrap();
        assert!(
            ended.borrow().iter().all(Result::is_ok),
            "{:?}",
            ended.borrow()
        );
        nothing_left(&world, &servers);
    });
}

#[test]
fn c7_a_broken_family_costs_250_ms_now_and_then_and_nothing_else() {
    seeds(30, |seed| {
        let world = world(seed, Config::default());
        let servers = servers(
            &world,
            &["2001:db8::1", "2001:db8::2", "2001:db8::3", "10.0.0.1"],
        );
        servers[..3].iter().for_each(Server::black_hole);
        let (mut slow, begun) = (0, world.now());
        for _ in 0..100 {
            let began = world.now();
            exchange_on(&world).unwrap();
            let took = world.now() - began;
            assert!(took < ms(260), "{took:?}: more than one attempt of it");
            slow += u128::from(took > ms(200));
            clear(&world);
            world.run_for(ms(20)).unwrap();
        }
        let pauses = (world.now() - begun).as_millis() / 400;
        assert!(slow <= 4 + pauses, "{slow} connects waited for it");
        nothing_left(&world, &servers);
    });
}

#[test]
fn c7_a_family_that_this_host_lacks_is_never_dialed_first() {
    seeds(20, |seed| {
        let world = world(seed, Config::default());
        world.set_ipv6(false);
        let servers = servers(&world, &["2001:db8::1", "10.0.0.1"]);
        for _ in 0..10 {
            exchange_on(&world).unwrap();
            clear(&world);
        }
        assert_eq!(dials_of(&servers[..1]), 0);
        nothing_left(&world, &servers);
    });
}

#[test]
fn the_preferred_family_takes_all_connections_and_its_addresses_share_them() {
    seeds(20, |seed| {
        let world = world(seed, Config::default());
        let servers = servers(
            &world,
            &["10.0.0.1", "2001:db8::1", "10.0.0.2", "2001:db8::2"],
        );
        let ended = gets_at_once(&world, 1, 6);
        world.run().unwrap();
        assert!(ended.borrow().iter().all(Result::is_ok));
        let dials = |n: usize| servers[n].dials(servers[n].addresses()[0]).len();
        assert_eq!((dials(0), dials(2)), (0, 0));
        assert!(dials(1).abs_diff(dials(3)) <= 1);
        nothing_left(&world, &servers);
    });
}

#[test]
fn d25_connections_follow_a_name_whose_addresses_change_and_no_get_fails() {
    seeds(20, |seed| {
        let world = world(seed, Config::default());
        let all: Vec<String> = (1..=6).map(|last| format!("10.0.0.{last}")).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let servers = servers(&world, &all);
        let name = |servers: &[Server]| {
            let ips = servers.iter().flat_map(Server::addresses);
            let ips: Vec<_> = ips.map(std::net::SocketAddr::ip).collect();
            world.set_name("service.test", &ips, secs(2));
        };
        name(&servers[..2]);
        let failed = Rc::new(RefCell::new(Vec::new()));
        for n in 0..8 {
            let failed = failed.clone();
            world.spawn_on(0, &format!("user {n}"), async move {
                let pool = Pool::local().unwrap();
                for _ in 0..60 {
                    if let Err(error) = exchange(&pool).await {
                        failed.borrow_mut().push(error);
                    }
                    after(ms(300)).await;
                }
            });
        }
        world.run_for(ms(1500)).unwrap();
        let before = dials_of(&servers[..2]);
        assert!(before > 0);
        // Two become four: the new ones have connections within a refresh, as many as the others.
        // So short a TTL is refreshed ahead of time, by a second; that answer is old by as much.
        name(&servers[..4]);
        world.run_for(ms(4500)).unwrap();
        let spread: Vec<usize> = servers[..4].iter().map(|it| open_at([it])).collect();
        let (most, least) = (spread.iter().max(), spread.iter().min());
        assert!(least.unwrap() + 1 >= *most.unwrap(), "{spread:?}");
        // Then the first two go, and two others come: after two answers nothing goes there.
        name(&servers[2..]);
        world.run_for(ms(8500)).unwrap();
        assert_eq!(open_at(&servers[..2]), 0, "idle ones at gone addresses");
        let gone = dials_of(&servers[..2]);
        world.run().unwrap();
        assert_eq!(dials_of(&servers[..2]), gone, "nobody goes there any more");
        assert!(servers[4..].iter().all(|it| dials_of([it]) > 0));
        assert!(failed.borrow().is_empty(), "{:?}", failed.borrow());
        let stats = stats(&world);
        assert!(stats.closed_by(CloseReason::Rebalanced) > 0);
        nothing_left(&world, &servers);
    });
}

#[test]
fn d25_a_name_server_that_fails_takes_no_connection_away() {
    seeds(20, |seed| {
        let config = Config {
            shrink_interval: Duration::ZERO,
            ..Config::default()
        };
        let world = world(seed, config);
        let servers = servers(&world, &["10.0.0.1", "10.0.0.2"]);
        let ips = ["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        world.set_name("service.test", &ips, secs(1));
        let ended = gets_at_once(&world, 1, 4);
        world.run().unwrap();
        assert!(ended.borrow().iter().all(Result::is_ok));
        let open = open_at(&servers);
        world.set_fault(Fault::NameFails, 10_000);
        world.run_for(secs(20)).unwrap();
        assert!(world.fired(Fault::NameFails) > 0);
        assert_eq!(open_at(&servers), open, "a failure is not absence");
        exchange_on(&world).unwrap();
        // Nor does an answer that names nobody.
        world.end_faults();
        world.set_name("service.test", &[], secs(1));
        world.run_for(secs(10)).unwrap();
        assert_eq!(open_at(&servers), open);
        exchange_on(&world).unwrap();
        nothing_left(&world, &servers);
    });
}
