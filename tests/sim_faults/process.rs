//! Group P: a core that ends, a drain that meets a stuck peer and a process that stands still take
//! down what is theirs and nothing else.

use super::*;

use ringpool::CloseReason;

#[test]
fn p1_a_drain_refuses_the_new_lets_the_busy_finish_and_wakes_who_waits() {
    seeds(20, |seed| {
        let config = Config {
            max_connections_per_endpoint: 2,
            ..Config::default()
        };
        let world = world(seed, config);
        let server = world.server(NAME, &["10.0.0.1"]).unwrap();
        server.on_connect(Script::new().expect("ping").wait(ms(300)).send("pong"));
        for n in 0..4 {
            world.spawn_on(0, &format!("get {n}"), async move {
                let result = exchange(&Pool::local().unwrap()).await;
                match n < 2 {
                    true => result.unwrap(),
                    false => assert_eq!(result.unwrap_err().kind(), ErrorKind::Draining),
                }
            });
            world.run_for(ms(2)).unwrap();
        }
        let began = world.now();
        let cut = on(&world, 0, async |pool| {
            let drain = ringpool::spawn({
                let pool = pool.clone();
                async move { pool.drain(secs(5)).await }
            });
            after(ms(1)).await;
            let error = pool.get(NAME).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Draining);
            drain.await
        });
        assert_eq!(cut.unwrap(), 0, "an answer in progress was lost");
        assert!(world.now() - began < ms(350), "{:?}", world.now() - began);
        nothing_left(&world, &[server]);
    });
}

#[test]
fn p2_a_drain_ends_by_its_deadline_whatever_the_peer_does() {
    seeds(20, |seed| {
        let world = world(seed, Config::default());
        let server = world.server(NAME, &["10.0.0.1"]).unwrap();
        server.on_connect(Script::new().read(false));
        for n in 0..3 {
            world.spawn_on(0, &format!("user {n}"), async move {
                let conn = Pool::local().unwrap().get(NAME).await.unwrap();
                let sent = conn.write_all(&vec![b'x'; 1 << 20]).await;
                assert!(sent.is_err());
            });
        }
        world.run_for(ms(10)).unwrap();
        let began = world.now();
        let cut = on(&world, 0, async |pool| Ok(pool.drain(secs(1)).await));
        assert_eq!(cut.unwrap(), 3);
        let took = world.now() - began;
        assert!(took >= secs(1) && took < secs(1) + ms(20), "{took:?}");
        nothing_left(&world, &[]);
    });
}

#[test]
fn p7_p8_a_core_that_ends_takes_everything_in_flight_with_it() {
    seeds(100, |seed| {
        let config = Config {
            max_connections_per_endpoint: 4,
            get_timeout: secs(3),
            ..Config::default()
        };
        let world = two_cores(seed).config(config).build().unwrap();
        let server = ponging(&world);
        let ended = gets_at_once(&world, 2, 24);
        // From the first question to the last answer there is something in flight.
        world
            .run_for(Duration::from_micros(10 + seed * 17))
            .unwrap();
        world.end_core(1);
        world.audit().unwrap();
        world.run().unwrap();
        assert!(
            ended.borrow().iter().all(Result::is_ok),
            "{:?}",
            ended.borrow()
        );
        assert!(ended.borrow().len() >= 12);
        assert_eq!((world.sockets(1), world.operations(1)), (0, 0));
        // Its counts and its permits are gone with it.
        let all = on(&world, 0, async |pool| {
            let mut held = Vec::new();
            for _ in 0..4 {
                held.push(pool.get(NAME).await?);
            }
            Ok((pool.stats(NAME)?, held))
        });
        let (now, held) = all.unwrap();
        assert_eq!(
            (now.in_use, now.idle, now.waiters, now.permits),
            (4, 0, 0, 4),
            "{now:?}"
        );
        drop(held);
        world.join(1).unwrap();
        on(&world, 1, async |pool| exchange(&pool).await).unwrap();
        nothing_left(&world, &[server]);
    });
}

#[test]
fn p9_handles_and_guards_that_outlive_their_core_are_harmless() {
    seeds(20, |seed| {
        let world = two_cores(seed).build().unwrap();
        let server = ponging(&world);
        let kept = on(&world, 0, async |pool| {
            let conn = pool.get(NAME).await?;
            ping(&conn).await?;
            let other = pool.get(NAME).await?;
            Ok((pool.endpoint(NAME)?, conn, other, pool))
        });
        let (endpoint, conn, other, pool) = kept.unwrap();
        match seed % 2 {
            0 => world.end_core(0),
            _ => world.leave(0),
        }
        let kinds = world.run_on(1, async move {
            let mut kinds = vec![conn.write_all(b"ping").await.unwrap_err().kind()];
            kinds.push(conn.read_chunk().await.unwrap_err().kind());
            kinds.push(endpoint.get().await.unwrap_err().kind());
            kinds.push(pool.get(NAME).await.unwrap_err().kind());
            assert!(endpoint.try_get().is_err());
            conn.release();
            drop(other);
            pool.drain(secs(1)).await;
            let _ = (pool.stats(NAME), pool.all_stats(), pool.shard_stats());
            kinds
        });
        for kind in kinds.unwrap() {
            let dead = [
                ErrorKind::NotOnShard,
                ErrorKind::Closed,
                ErrorKind::Draining,
            ];
            assert!(dead.contains(&kind), "{kind:?}");
        }
        on(&world, 1, async |pool| exchange(&pool).await).unwrap();
        nothing_left(&world, &[server]);
    });
}

#[test]
fn p10_without_a_shard_there_is_a_typed_error() {
    assert_eq!(Pool::local().unwrap_err().kind(), ErrorKind::NotOnShard);
    let world = two_cores(1).build().unwrap();
    world.leave(0);
    let error = world.run_on(0, async { Pool::local().map(drop) }).unwrap();
    assert_eq!(error.unwrap_err().kind(), ErrorKind::NotOnShard);
    // Neither is there one when the core's values are dropped with it.
    struct Asks(Rc<RefCell<Option<ErrorKind>>>);
    impl Drop for Asks {
        fn drop(&mut self) {
            let kind = Pool::local().err().map(|error| error.kind());
            *self.0.borrow_mut() = kind;
        }
    }
    let kind = Rc::new(RefCell::new(None));
    let asks = Asks(kind.clone());
    drop(world);
    drop(asks);
    assert_eq!(*kind.borrow(), Some(ErrorKind::NotOnShard));
}

#[test]
fn p13_m3_what_arrived_while_the_process_stood_still_comes_before_its_time_limits() {
    seeds(50, |seed| {
        let config = Config {
            read_timeout: secs(10),
            connect_timeout: secs(2),
            get_timeout: secs(10),
            max_idle_time: secs(30),
            ..Config::default()
        };
        let world = two_cores(seed).config(config).build().unwrap();
        let server = world.server(NAME, &["10.0.0.1"]).unwrap();
        server.on_connect(pongs());
        let slow = Script::new().expect("ping").wait(secs(1)).send("pong");
        server.on_connect(pongs_after(slow));
        server.on_connect(pongs());
        exchange_on(&world).unwrap();
        // One idle connection, one answer and one connect under way, on each core a get.
        let idle = on(&world, 0, async |pool| pool.get(NAME).await).unwrap();
        let ended = gets_at_once(&world, 2, 2);
        world.run_for(ms(1)).unwrap();
        idle.release();
        let late = gets_at_once(&world, 2, 2);
        for core in 0..2 {
            world.freeze(core, secs(60));
        }
        world.run().unwrap();
        assert!(world.now() > secs(60), "nothing stood still");
        let all: Vec<_> = ended
            .borrow()
            .iter()
            .chain(&*late.borrow())
            .cloned()
            .collect();
        assert_eq!(all.len(), 4);
        assert!(all.iter().all(Result::is_ok), "{all:?}");
        nothing_left(&world, &[server]);
    });
}

#[test]
fn p13_a_connect_that_ended_while_the_process_stood_still_serves_its_get() {
    let met = std::cell::Cell::new(0);
    seeds(100, |seed| {
        let world = world(seed, Config::default());
        let server = ponging(&world);
        let ended = gets_at_once(&world, 1, 1);
        world
            .run_for(Duration::from_micros(300 + seed * 6))
            .unwrap();
        let under_way = !server.dials(server.addresses()[0]).is_empty();
        world.freeze(0, secs(60));
        world.run().unwrap();
        if under_way {
            assert!(ended.borrow()[0].is_ok(), "{:?}", ended.borrow());
            assert_eq!(server.connects(), 1, "the connect was given up");
            met.set(met.get() + 1);
        }
        nothing_left(&world, &[server]);
    });
    assert!(
        met.get() > 30,
        "{} stops in a connect or after it",
        met.get()
    );
}

#[test]
fn p13_a_get_that_begins_where_the_process_stood_still_has_its_whole_time() {
    seeds(50, |seed| {
        let config = Config {
            max_connections_per_endpoint: 1,
            ..Config::default()
        };
        let world = world(seed, config);
        let server = ponging(&world);
        // The pool was used in this turn, so it knows the time; then the process stops.
        let held = on(&world, 0, async |pool| {
            let held = pool.get(NAME).await?;
            assert!(pool.try_get(NAME)?.is_none());
            Ok(held)
        });
        world.freeze(0, secs(60));
        let ended = gets_at_once(&world, 1, 4);
        world.spawn_on(0, "holder", async move {
            after(secs(1)).await;
            held.unwrap().release();
        });
        world.run().unwrap();
        assert!(world.now() > secs(60), "nothing stood still");
        assert!(
            ended.borrow().iter().all(Result::is_ok),
            "{:?}",
            ended.borrow()
        );
        nothing_left(&world, &[server]);
    });
}

#[test]
fn p13_idle_connections_are_too_old_after_a_stop_and_are_not_handed_out() {
    seeds(20, |seed| {
        let world = world(seed, Config::default());
        let server = ponging(&world);
        let ended = gets_at_once(&world, 1, 4);
        world.run().unwrap();
        drop(ended);
        let before = server.connects();
        world.run_for(ms(10)).unwrap();
        world.freeze(0, secs(600));
        exchange_on(&world).unwrap();
        assert_eq!(server.connects(), before + 1, "it is older than it may be");
        assert_eq!(
            stats(&world).closed_by(CloseReason::IdleTime),
            before as u64
        );
        nothing_left(&world, &[server]);
    });
}

#[test]
fn p15_two_drains_an_end_and_gets_at_once_all_come_to_an_end() {
    seeds(100, |seed| {
        let world = two_cores(seed).build().unwrap();
        let server = ponging(&world);
        let ended = gets_at_once(&world, 2, 16);
        world.run_for(Duration::from_micros(seed * 19)).unwrap();
        for core in [0, 0, 1] {
            world.spawn_on(core, "drain", async {
                if let Ok(pool) = Pool::local() {
                    pool.drain(ms(200)).await;
                }
            });
        }
        if seed % 3 == 0 {
            world.run_for(Duration::from_micros(seed)).unwrap();
            world.leave(0);
            world.leave(0);
        }
        world.run().unwrap();
        assert_eq!(ended.borrow().len(), 16);
        let (_, failed) = sorted(&ended.borrow());
        let known = [
            ErrorKind::Draining,
            ErrorKind::NotOnShard,
            ErrorKind::Closed,
        ];
        assert!(failed.iter().all(|kind| known.contains(kind)), "{failed:?}");
        nothing_left(&world, &[server]);
    });
}

#[test]
fn p16_a_core_that_does_not_run_for_a_second_takes_no_peer_for_dead() {
    seeds(50, |seed| {
        let config = Config {
            connect_timeout: ms(500),
            read_timeout: ms(500),
            ..Config::default()
        };
        let world = two_cores(seed).config(config).build().unwrap();
        let servers = servers(&world, &["10.0.0.1", "10.0.0.2"]);
        // The name is known: what the other core would follow is another test's.
        on(&world, 0, async |pool| pool.resolve(NAME).await.map(drop)).unwrap();
        let ended = gets_at_once(&world, 2, 16);
        world
            .run_for(Duration::from_micros(200 + seed * 17))
            .unwrap();
        world.freeze(1, secs(1));
        let other = Rc::new(RefCell::new(Vec::new()));
        let times = other.clone();
        world.spawn_on(0, "the other core", async move {
            for _ in 0..10 {
                let before = sim::now().unwrap();
                exchange(&Pool::local().unwrap()).await.unwrap();
                times.borrow_mut().push(sim::now().unwrap() - before);
                after(ms(50)).await;
            }
        });
        world.run().unwrap();
        assert!(
            ended.borrow().iter().all(Result::is_ok),
            "{:?}",
            ended.borrow()
        );
        assert_eq!(stats(&world).errors, 0, "a peer counts as failed");
        assert!(
            other.borrow().iter().all(|took| *took < ms(20)),
            "{other:?}"
        );
        nothing_left(&world, &servers);
    });
}
