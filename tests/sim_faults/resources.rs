//! Group R: when something has run out (memory, ports, descriptors, queues, buffers) an operation
//! fails or waits, the pool does not spin, and all is well when there is enough again.

use std::cell::Cell;

use super::*;

use ringpool::CloseReason;

/// Sixteen gets under a fault that passes: each ends, and once it is over all are served.
fn passes(fault: Fault, rate: u16, config: Config) {
    seeds(20, |seed| {
        let world = two_cores(seed).config(config.clone()).build().unwrap();
        let server = ponging(&world);
        on(&world, 0, async |pool| exchange(&pool).await).unwrap();
        world.set_fault(fault, rate);
        let ended = gets_at_once(&world, 2, 16);
        for _ in 0..30 {
            world.run_for(ms(100)).unwrap();
            world.audit().unwrap();
        }
        world.end_faults();
        world.run().unwrap();
        assert_fired(&world, &[fault]);
        assert_eq!(ended.borrow().len(), 16);
        world.run_for(secs(3)).unwrap();
        let ended = gets_at_once(&world, 2, 16);
        world.run().unwrap();
        assert!(
            ended.borrow().iter().all(Result::is_ok),
            "{:?}",
            ended.borrow()
        );
        nothing_left(&world, &[server]);
    });
}

#[test]
fn r1_r13_a_full_descriptor_table_is_a_typed_error_and_passes() {
    passes(Fault::TableFull, 10_000, Config::default());
    seeds(10, |seed| {
        let config = Config {
            connect_retry_count: 1,
            ..Config::default()
        };
        let world = world(seed, config);
        let server = ponging(&world);
        world.set_fault(Fault::TableFull, 10_000);
        let error = exchange_on(&world).unwrap_err();
        // No socket at all: not even for the question of the name.
        let kinds = [
            ErrorKind::Resolve,
            ErrorKind::Connect,
            ErrorKind::GetTimeout,
        ];
        assert!(kinds.contains(&error.kind()), "{error:?}");
        assert_eq!(world.sockets(0), 0);
        world.end_faults();
        world.run_for(secs(2)).unwrap();
        exchange_on(&world).unwrap();
        nothing_left(&world, &[server]);
    });
}

#[test]
fn r13_a_small_table_makes_room_for_another_endpoint_and_closes_nobody_elses() {
    seeds(20, |seed| {
        let config = Config {
            max_connections_per_shard: 2,
            get_timeout: secs(1),
            ..Config::default()
        };
        let world = world(seed, config);
        let server = ponging(&world);
        let other = world.server("other.test:7000", &["10.0.0.2"]).unwrap();
        other.on_connect(pongs());
        on(&world, 0, async |pool| {
            let (busy, idle) = (pool.get(NAME).await?, pool.get(NAME).await?);
            idle.release();
            // The idle one goes, the busy one stays.
            let there = pool.get("other.test:7000").await?;
            ping(&there).await?;
            ping(&busy).await?;
            let error = pool.get(NAME).await.unwrap_err();
            assert!(error.is_exhausted(), "{error:?}");
            there.release();
            ping(&busy).await?;
            busy.release();
            Ok(())
        })
        .unwrap();
        assert_eq!(stats(&world).closed_by(CloseReason::Evicted), 1);
        nothing_left(&world, &[server, other]);
    });
}

#[test]
fn r2_no_memory_fails_operations_without_a_busy_loop() {
    passes(Fault::NoMemory, 5_000, Config::default());
    passes(Fault::NoMemory, 10_000, Config::default());
}

#[test]
fn r2_r3_without_memory_or_ports_rounds_of_connects_wait_longer_and_longer() {
    for (fault, errno) in [
        (Fault::NoMemory, libc::ENOBUFS),
        (Fault::NoPort, libc::EADDRNOTAVAIL),
    ] {
        seeds(10, |seed| {
            let config = Config {
                connect_retry_count: 3,
                get_timeout: secs(30),
                ..Config::default()
            };
            let world = world(seed, config);
            let servers = servers(&world, &["10.0.0.1", "10.0.0.2"]);
            exchange_on(&world).unwrap();
            clear(&world);
            world.set_fault(fault, 10_000);
            let (before, began) = (dials_of(&servers), world.now());
            let error = exchange_on(&world).unwrap_err();
            assert_eq!(
                (error.kind(), error.raw_os_error()),
                (ErrorKind::Connect, Some(errno))
            );
            // Pauses of 100, 200 and 400 ms, each a quarter more or less.
            assert!(world.now() - began >= ms(525), "{:?}", world.now() - began);
            assert!(dials_of(&servers) - before <= 4 * 2, "it did not wait");
            assert_fired(&world, &[fault]);
            nothing_left(&world, &servers);
        });
    }
}

#[test]
fn r3_a_lack_of_ports_spreads_over_the_addresses_and_passes_at_once() {
    seeds(20, |seed| {
        let world = world(seed, Config::default());
        let servers = servers(&world, &["10.0.0.1", "10.0.0.2"]);
        servers[0].fail(libc::EADDRNOTAVAIL);
        let ended = gets_at_once(&world, 1, 6);
        world.run().unwrap();
        assert!(
            ended.borrow().iter().all(Result::is_ok),
            "{:?}",
            ended.borrow()
        );
        assert_eq!(servers[0].connects(), 0);
        // There are ports again: the address gets its share of the next connections.
        servers[0].listen();
        world.run_for(secs(2)).unwrap();
        clear(&world);
        let held = on(&world, 0, async |pool| {
            let mut held = Vec::new();
            for _ in 0..6 {
                held.push(pool.get(NAME).await?);
            }
            Ok(held)
        });
        let (left, right) = (open_at(&servers[..1]), open_at(&servers[1..]));
        assert!(left.abs_diff(right) <= 1, "{left} and {right}");
        drop(held);
        nothing_left(&world, &servers);
    });
}

#[test]
fn r4_new_connections_that_are_lost_cost_the_old_ones_nothing() {
    seeds(10, |seed| {
        let config = Config {
            connect_timeout: ms(500),
            get_timeout: secs(4),
            ..Config::default()
        };
        let world = world(seed, config);
        let server = ponging(&world);
        let address = server.addresses()[0];
        let held = on(&world, 0, async |pool| {
            Ok([pool.get(NAME).await?, pool.get(NAME).await?])
        });
        let held = held.unwrap();
        server.black_hole();
        let dials = server.dials(address).len();
        let ended = gets_at_once(&world, 1, 4);
        let closed = pool_of_held(&world, held);
        world.run().unwrap();
        assert_eq!(closed.get(), 0, "a connection that lives was closed");
        assert!(
            ended.borrow().iter().all(Result::is_ok),
            "served in turn by the old ones"
        );
        let more = server.dials(address).len() - dials;
        assert!(more <= 4 * 5, "{more} connects in four seconds");
        server.listen();
        world.run_for(secs(2)).unwrap();
        exchange_on(&world).unwrap();
        nothing_left(&world, &[server]);
    });
}

/// Uses the held connections for two seconds and gives them back; how many were closed by then.
fn pool_of_held(world: &World, held: [Conn; 2]) -> Rc<std::cell::Cell<u64>> {
    let closed = Rc::new(std::cell::Cell::new(u64::MAX));
    let result = closed.clone();
    world.spawn_on(0, "held", async move {
        let pool = Pool::local().unwrap();
        for _ in 0..20 {
            for conn in &held {
                ping(conn).await.unwrap();
            }
            after(ms(100)).await;
        }
        held.into_iter().for_each(Conn::release);
        result.set(pool.stats(NAME).unwrap().closed);
    });
    closed
}

#[test]
fn r16_one_get_too_many_fails_at_once_with_the_figures() {
    seeds(10, |seed| {
        let config = Config {
            max_waiters: 5,
            max_connections_per_endpoint: 1,
            ..Config::default()
        };
        let world = world(seed, config);
        let server = ponging(&world);
        let began = world.now();
        on(&world, 0, async |pool| {
            let held = pool.get(NAME).await?;
            let waiting: Vec<_> = (0..5)
                .map(|_| ringpool::spawn(async { exchange(&Pool::local()?).await }))
                .collect();
            after(ms(1)).await;
            let before = sim::now();
            let error = pool.get(NAME).await.unwrap_err();
            assert_eq!(sim::now(), before, "it waited");
            assert_eq!(error.kind(), ErrorKind::Exhausted);
            let figures = error.exhaustion().unwrap();
            assert_eq!((figures.waiters, figures.in_use), (5, 1));
            held.release();
            for task in waiting {
                task.await??;
            }
            Ok(())
        })
        .unwrap();
        assert!(world.now() - began < ms(50));
        assert_eq!(stats(&world).rejected, 1);
        nothing_left(&world, &[server]);
    });
}

#[test]
fn r19_m4_thousands_of_deadlines_at_one_moment_starve_no_completion() {
    let config = Config {
        max_connections_per_endpoint: 1,
        max_waiters: 20_000,
        get_timeout: secs(1),
        ..Config::default()
    };
    let world = world(1, config);
    let server = ponging(&world);
    let held = on(&world, 0, async |pool| pool.get(NAME).await).unwrap();
    let ended = gets_at_once(&world, 1, 10_000);
    world.spawn_on(0, "exchanges", async move {
        // Across the moment at which all the others end.
        while sim::now().unwrap() < secs(4) {
            let before = sim::now().unwrap();
            ping(&held).await.unwrap();
            assert!(sim::now().unwrap() - before < ms(2), "completions starve");
            after(ms(10)).await;
        }
        held.release();
    });
    world.run().unwrap();
    let (served, failed) = sorted(&ended.borrow());
    assert_eq!((served, failed.len()), (0, 10_000));
    assert!(failed.iter().all(|kind| *kind == ErrorKind::GetTimeout));
    exchange_on(&world).unwrap();
    nothing_left(&world, &[server]);
}

/// All the connections that the process may have are two idle ones on core 0.
fn at_the_limit_of_the_process(seed: u64, get_timeout: Duration) -> (World, Server, Server) {
    let config = Config {
        max_connections_total: 2,
        get_timeout,
        ..Config::default()
    };
    let world = two_cores(seed).config(config).build().unwrap();
    let server = ponging(&world);
    let other = world.server(OTHER, &["10.0.0.2"]).unwrap();
    other.on_connect(pongs());
    on(&world, 0, async |pool| {
        let (one, two) = (pool.get(NAME).await?, pool.get(NAME).await?);
        one.release();
        two.release();
        Ok(())
    })
    .unwrap();
    (world, server, other)
}

const OTHER: &str = "other.test:7000";

fn connections(servers: &[&Server]) -> usize {
    let addresses = |server: &Server| {
        let all = server.addresses().iter().map(|it| server.connections(*it));
        all.sum::<usize>()
    };
    servers.iter().map(|server| addresses(server)).sum()
}

#[test]
fn x12_idle_connections_make_way_at_the_limit_of_the_process() {
    seeds(20, |seed| {
        let (world, server, other) = at_the_limit_of_the_process(seed, ms(200));
        // For another endpoint on the other core, and then on their own.
        for core in [1, 0] {
            on(&world, core, async |pool| {
                let conn = pool.get(OTHER).await?;
                ping(&conn).await?;
                conn.release();
                Ok(())
            })
            .unwrap();
            assert!(connections(&[&server, &other]) <= 2);
            world.audit().unwrap();
        }
        assert!(stats(&world).closed_by(CloseReason::Demand) >= 1);
        nothing_left(&world, &[server, other]);
    });
}

#[test]
fn x12_a_busy_endpoint_shares_the_limit_of_the_process() {
    seeds(20, |seed| {
        let (world, server, other) = at_the_limit_of_the_process(seed, secs(2));
        let stop = Rc::new(Cell::new(false));
        for n in 0..4 {
            let stop = stop.clone();
            world.spawn_on(0, &format!("busy {n}"), async move {
                let pool = Pool::local().unwrap();
                while !stop.get() {
                    exchange(&pool).await.unwrap();
                }
            });
        }
        world.spawn_on(1, "poor", async move {
            let pool = Pool::local().unwrap();
            let conn = pool.get(OTHER).await.unwrap();
            ping(&conn).await.unwrap();
            conn.release();
            stop.set(true);
        });
        world.run().unwrap();
        assert!(connections(&[&server, &other]) <= 2);
        nothing_left(&world, &[server, other]);
    });
}
