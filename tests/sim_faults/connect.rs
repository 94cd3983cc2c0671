//! Group C: a connect that is refused, lost, late or answered with an odd number costs an attempt
//! and nothing else.

use super::*;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use ringpool::CloseReason;

/// Errors that say of one address that there is no way to it.
const NO_WAY: [i32; 5] = [
    libc::EHOSTUNREACH,
    libc::ENETUNREACH,
    libc::EACCES,
    libc::EINVAL,
    libc::EAFNOSUPPORT,
];

#[test]
fn c8_a_connect_to_an_own_port_where_nobody_listens_is_refused_and_cannot_meet_itself() {
    seeds(20, |seed| {
        let world = world(seed, Config::default());
        for endpoint in [
            "127.0.0.1:40000",
            "[::1]:32768",
            "127.8.8.8:60999",
            "127.0.0.1:80",
        ] {
            let got = on(&world, 0, async move |pool| {
                pool.get(endpoint).await.map(|conn| conn.release())
            });
            assert_eq!(got.unwrap_err().raw_os_error(), Some(libc::ECONNREFUSED));
        }
        nothing_left(&world, &[]);
    });
}

#[test]
fn c1_a_refused_address_costs_no_time_and_comes_last_for_a_while() {
    seeds(50, |seed| {
        let world = world(seed, Config::default());
        let servers = servers(&world, &["10.0.0.1", "10.0.0.2"]);
        servers[0].refuse();
        let before = world.now();
        for _ in 0..20 {
            exchange_on(&world).unwrap();
            clear(&world);
        }
        assert!(world.now() - before < ms(100), "{:?}", world.now() - before);
        let dials = servers[0].dials(servers[0].addresses()[0]).len();
        assert!(dials <= 2, "the refusing address was dialed {dials} times");
        nothing_left(&world, &servers);
    });
}

#[test]
fn a_black_hole_is_given_up_at_the_limit_and_its_socket_with_it() {
    seeds(20, |seed| {
        let config = Config {
            connect_timeout: ms(500),
            ..Config::default()
        };
        let world = world(seed, config);
        let servers = servers(&world, &["10.0.0.1", "10.0.0.2"]);
        servers[0].black_hole();
        servers[1].refuse();
        world.run_for(ms(1)).unwrap();
        let ended = gets_at_once(&world, 1, 1);
        world.run_for(ms(400)).unwrap();
        servers[1].listen();
        world.run().unwrap();
        assert!(ended.borrow()[0].is_ok(), "{:?}", ended.borrow());
        assert!(world.now() < secs(3), "{:?}", world.now());
        assert!(world.sockets(0) <= 1, "the lost connect keeps its socket");
        nothing_left(&world, &servers);
    });
}

#[test]
fn c3_no_way_to_one_address_is_its_own_fault_and_the_next_one_serves() {
    seeds(20, |seed| {
        for errno in NO_WAY {
            let world = world(seed, Config::default());
            let servers = servers(&world, &["10.0.0.1", "10.0.0.2"]);
            servers[0].fail(errno);
            let before = world.now();
            let ended = gets_at_once(&world, 1, 4);
            world.run().unwrap();
            assert!(
                ended.borrow().iter().all(Result::is_ok),
                "{:?}",
                ended.borrow()
            );
            assert!(world.now() - before < ms(50), "it waited for something");
            // The name is not dead, and neither is the address when there is a way again.
            servers[0].listen();
            servers[1].fail(errno);
            world.run_for(ms(10)).unwrap();
            clear(&world);
            exchange_on(&world).unwrap();
            assert!(open_at(&servers[..1]) > 0);
            nothing_left(&world, &servers);
        }
    });
}

#[test]
fn c3_no_way_to_any_address_is_a_typed_error_with_its_number() {
    for errno in NO_WAY {
        let config = Config {
            connect_retry_count: 0,
            ..Config::default()
        };
        let world = world(1, config);
        let servers = servers(&world, &["10.0.0.1", "10.0.0.2"]);
        servers.iter().for_each(|server| server.fail(errno));
        let error = exchange_on(&world).unwrap_err();
        assert_eq!(
            (error.kind(), error.raw_os_error()),
            (ErrorKind::Connect, Some(errno))
        );
        assert_eq!(dials_of(&servers), 2, "each address is tried, once");
        nothing_left(&world, &servers);
    }
}

#[test]
fn c11_a_connect_that_ends_at_its_limit_is_used_or_closed_but_counted_once() {
    seeds(200, |seed| {
        let config = Config {
            connect_timeout: ms(50),
            max_connections_per_endpoint: 2,
            ..Config::default()
        };
        let world = World::builder(seed)
            .config(config)
            .fault(Fault::LimitRace, 10_000)
            .fault(Fault::AnyOrder, 5_000)
            .build()
            .unwrap();
        let server = ponging(&world);
        let ended = gets_at_once(&world, 1, 2);
        for _ in 0..200 {
            world.run_for(ms(1)).unwrap();
            world.audit().unwrap();
            assert!(
                world.sockets(0) <= 2 + 2,
                "more sockets than slots and name queries"
            );
        }
        world.run().unwrap();
        assert_fired(&world, &[Fault::LimitRace]);
        let (_, failed) = sorted(&ended.borrow());
        assert_eq!(ended.borrow().len(), 2, "each get ends once");
        let expected = [ErrorKind::Connect, ErrorKind::ConnectTimeout];
        assert!(
            failed.iter().all(|kind| expected.contains(kind)),
            "{failed:?}"
        );
        world.end_faults();
        exchange_on(&world).unwrap();
        assert!(open_at([&server]) <= 2);
        nothing_left(&world, &[server]);
    });
}

#[test]
fn c5_a_server_that_never_accepts_holds_its_cap_of_connections_and_no_more() {
    seeds(20, |seed| {
        let config = Config {
            max_connections_per_endpoint: 4,
            read_timeout: ms(500),
            get_timeout: secs(2),
            ..Config::default()
        };
        let world = World::builder(seed)
            .config(config)
            .fault(Fault::NeverAccepts, 10_000)
            .build()
            .unwrap();
        let server = ponging(&world);
        let ended = gets_at_once(&world, 1, 16);
        for _ in 0..30 {
            world.run_for(ms(100)).unwrap();
            assert!(world.sockets(0) <= 4 + 2);
        }
        world.run().unwrap();
        let (served, failed) = sorted(&ended.borrow());
        assert_eq!((served, failed.len()), (0, 16));
        let deadlines = [ErrorKind::ReadTimeout, ErrorKind::GetTimeout];
        assert!(
            failed.iter().all(|kind| deadlines.contains(kind)),
            "{failed:?}"
        );
        assert_fired(&world, &[Fault::NeverAccepts]);
        assert!(server.most_connections(server.addresses()[0]) <= 2 * 4);
        nothing_left(&world, &[]);
    });
}

/// A protocol whose connection is ready when the server has answered something long.
struct LongHello;

impl Protocol for LongHello {
    type State = ();

    fn key(&self) -> String {
        String::new()
    }

    async fn init(&self, stream: ringpool::Stream) -> Result<()> {
        stream.write_all(&[b'h'; 3000]).await?;
        stream.read_line(64).await.map(drop)
    }
}

#[test]
fn c6_accepted_and_reset_at_once_counts_as_a_failure_and_is_not_tried_in_a_loop() {
    seeds(20, |seed| {
        let config = Config {
            get_timeout: secs(1),
            ..Config::default()
        };
        let world = World::builder(seed)
            .config(config)
            .fault(Fault::AcceptThenReset, 10_000)
            .build()
            .unwrap();
        let server = world.server(NAME, &["10.0.0.1"]).unwrap();
        server.on_connect(Script::new().take(3000).send("hi\n"));
        let error = world
            .run_on(0, async {
                let pool = Pool::local()?.protocol(LongHello);
                pool.get(NAME).await.map(drop)
            })
            .unwrap()
            .unwrap_err();
        assert!(is_of_opening(&error) || error.is_closed(), "{error}");
        assert_fired(&world, &[Fault::AcceptThenReset]);
        let dials = dials_of([&server]);
        assert!((2..=6).contains(&dials), "{dials} dials in a second");
        nothing_left(&world, &[server]);
    });
}

#[test]
fn c3_a_family_without_a_way_is_not_asked_again_for_every_connect() {
    seeds(20, |seed| {
        let world = world(seed, Config::default());
        let servers = servers(&world, &["fd00::1", "fd00::2", "10.0.0.1", "10.0.0.2"]);
        servers[..2]
            .iter()
            .for_each(|server| server.fail(libc::ENETUNREACH));
        let before = world.now();
        for _ in 0..30 {
            exchange_on(&world).unwrap();
            clear(&world);
        }
        assert!(world.now() - before < ms(100), "{:?}", world.now() - before);
        let dials = dials_of(&servers[..2]);
        assert!(dials <= 4, "{dials} dials into nowhere");
        nothing_left(&world, &servers);
    });
}

#[test]
fn c9_an_address_of_our_own_that_vanishes_costs_attempts_and_no_slot() {
    seeds(50, |seed| {
        let config = Config {
            max_connections_per_shard: 4,
            ..Config::default()
        };
        let world = world(seed, config);
        let servers = servers(&world, &["10.0.0.1", "10.0.0.2"]);
        let held = on(&world, 0, async |pool| {
            Ok([
                pool.get(NAME).await?,
                pool.get(NAME).await?,
                pool.get(NAME).await?,
            ])
        });
        let held = held.unwrap();
        // The interface goes: what is open breaks, and new connects have no address to start from.
        servers
            .iter()
            .for_each(|server| server.break_all(libc::ENETDOWN));
        world.set_fault(Fault::AddressVanishes, 10_000);
        let broken = on(&world, 0, async |_pool| {
            let mut kinds = Vec::new();
            for conn in held {
                kinds.push(conn.read_exact(&mut [0]).await.unwrap_err().kind());
            }
            Ok(kinds)
        });
        assert_eq!(broken.unwrap(), [ErrorKind::Closed; 3]);
        let error = exchange_on(&world).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL), "{error}");
        assert_fired(&world, &[Fault::AddressVanishes]);
        // It comes back: every slot is to be had again.
        world.set_fault(Fault::AddressVanishes, 0);
        world.run_for(secs(2)).unwrap();
        let ended = gets_at_once(&world, 1, 8);
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
fn c10_the_end_of_an_outage_is_met_by_its_cap_of_connects_and_every_waiter_ends() {
    seeds(1, |seed| {
        let config = Config {
            max_connections_per_endpoint: 32,
            max_connecting: 4,
            max_waiters: 5000,
            get_timeout: secs(90),
            connect_retry_count: 1000,
            ..Config::default()
        };
        let world = World::builder(seed)
            .cores(4)
            .config(config)
            .build()
            .unwrap();
        let server = ponging(&world);
        server.refuse();
        let pool = pool_of(&world);
        let ended = gets_at_once(&world, 4, 10_000);
        world.run_for(secs(60)).unwrap();
        let address = server.addresses()[0];
        let outage = server.dials(address);
        // Four cores, four connects each, a pause that grows to 10 s.
        assert!(
            outage.len() < 4 * 4 * 14,
            "{} connects in the outage",
            outage.len()
        );
        let healed = world.now();
        server.listen();
        while world.now() < healed + secs(20) {
            world.run_for(ms(500)).unwrap();
            let now = pool.stats(NAME).unwrap();
            assert!(
                now.connecting <= 16 && server.connections(address) <= 32,
                "{now:?}"
            );
            world.audit().unwrap();
        }
        world.run().unwrap();
        assert_eq!(ended.borrow().len(), 10_000);
        assert!(ended.borrow().iter().all(Result::is_ok));
        let after = server.dials(address);
        let late = outage.iter().filter(|at| **at > healed - secs(15));
        let moments: BTreeSet<_> = late.map(Duration::as_millis).collect();
        assert!(
            moments.len() >= 4,
            "cores retry in the same moment: {moments:?}"
        );
        // What one core held goes to another one that waits: the only reason to open again.
        let moved = pool.stats(NAME).unwrap().closed_by(CloseReason::Demand) as usize;
        let fresh = after.len() - outage.len();
        assert!(
            fresh <= 32 + 16 + moved,
            "{fresh} connects, {moved} of them moved"
        );
        nothing_left(&world, &[server]);
    });
}

#[test]
fn c13_large_packets_that_vanish_end_at_the_limit_and_count_against_the_address() {
    seeds(20, |seed| {
        let config = Config {
            connect_timeout: ms(500),
            ..Config::default()
        };
        let world = world(seed, config);
        let server = world.server(NAME, &["10.0.0.1"]).unwrap();
        server.on_connect(Script::new().take(3000).send("hi\n"));
        world.set_fault(Fault::LargeLost, 10_000);
        let asked = world.now();
        let task = world.spawn_on(0, "get", async {
            let pool = Pool::local()?.protocol(LongHello);
            pool.get(NAME).await.map(|conn| conn.release())
        });
        world.run_for(ms(600)).unwrap();
        assert!(
            dials_of([&server]) <= 2,
            "the address is not paused: {:?}",
            server.dials(server.addresses()[0])
        );
        world.set_fault(Fault::LargeLost, 0);
        world.run_on(0, task).unwrap().unwrap().unwrap();
        assert_fired(&world, &[Fault::LargeLost]);
        assert!(world.now() - asked >= ms(500) && world.now() - asked < secs(2));
        nothing_left(&world, &[]);
    });
}

#[test]
fn c14_every_error_number_of_a_connect_is_an_error_and_nothing_more() {
    for errno in 1..=133 {
        let config = Config {
            connect_retry_count: 0,
            max_connections_per_shard: 1,
            ..Config::default()
        };
        let world = world(errno as u64, config);
        let server = ponging(&world);
        server.fail(errno);
        let error = exchange_on(&world).unwrap_err();
        assert!(error.is_connect(), "{errno}: {error:?}");
        world.audit().unwrap();
        server.listen();
        world.run_for(secs(2)).unwrap();
        exchange_on(&world).unwrap();
        nothing_left(&world, &[server]);
    }
}

#[test]
fn c14_odd_errors_of_connects_are_failures_of_one_attempt() {
    seeds(50, |seed| {
        let world = World::builder(seed)
            .fault(Fault::OddErrno, 5_000)
            .build()
            .unwrap();
        let servers = servers(&world, &["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
        let ended = gets_at_once(&world, 1, 8);
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
fn c15_an_address_that_is_dead_for_hours_is_probed_and_the_others_share_evenly() {
    seeds(2, |seed| {
        let config = Config {
            max_connections_per_endpoint: 60,
            max_connection_lifetime: secs(120),
            ..Config::default()
        };
        let world = world(seed, config);
        let servers = servers(&world, &["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]);
        servers[0].refuse();
        let dead: SocketAddr = servers[0].addresses()[0];
        for _ in 0..60 {
            for n in 0..30 {
                world.spawn_on(0, &format!("holder {n}"), async {
                    let conn = Pool::local().unwrap().get(NAME).await.unwrap();
                    ping(&conn).await.unwrap();
                    after(secs(1)).await;
                    conn.release();
                });
            }
            world.run_for(ms(900)).unwrap();
            let open: Vec<_> = servers[1..].iter().map(|it| open_at([it])).collect();
            let (least, most) = (open.iter().min().unwrap(), open.iter().max().unwrap());
            assert!(most - least <= 1 + 1, "{open:?}");
            world.run().unwrap();
            world.run_for(secs(59)).unwrap();
        }
        let dials = servers[0].dials(dead).len();
        assert!(dials > 10, "the dead address is never tried again");
        // One by one of the cores, and no more than one in a second and a half.
        assert!(dials <= 3600 * 2 / 3, "{dials} dials of a dead address");
        // It comes back and gets its share.
        servers[0].listen();
        world.run_for(secs(130)).unwrap();
        let ended = gets_at_once(&world, 1, 40);
        world.run().unwrap();
        assert!(ended.borrow().iter().all(Result::is_ok));
        assert!(open_at(&servers[..1]) > 0, "it is not used again");
        nothing_left(&world, &servers);
    });
}
