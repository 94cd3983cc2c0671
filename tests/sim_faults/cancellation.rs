//! Group K: a future may be dropped at any moment. Each test drops one at its first, second, third
//! poll and so on until it completes, right after the poll or when it would be polled again.

use super::*;

use std::future::poll_fn;

use ringpool::{CloseReason, Stream};

/// Runs `one` with every number of polls, both ways to drop, until the future completes; `one`
/// says whether it did. Each way must have dropped at least `least` times.
fn at_every_poll(least: usize, one: impl Fn(u64, usize, bool) -> bool) {
    for at_once in [true, false] {
        let mut polls = 0;
        for seed in 0.. {
            if one(seed, polls, at_once) {
                break;
            }
            polls += 1;
            assert!(polls < 500, "it never completes");
        }
        assert!(polls >= least, "dropped at {polls} polls only");
    }
}

/// Drops a get at a poll; others that wait beside it are served. Whether it completed.
fn dropped_get(world: &World, polls: usize, at_once: bool) -> bool {
    let task = world.spawn_on(0, "dropped", async move {
        let pool = Pool::local().unwrap();
        let gotten = drop_at(polls, at_once, pool.get(NAME)).await;
        gotten.map(|conn| conn.unwrap().release()).is_some()
    });
    let others = gets_at_once(world, world.cores(), 4);
    let completed = world.run_on(0, task).unwrap().unwrap();
    world.audit().unwrap();
    assert!(
        others.borrow().iter().all(Result::is_ok),
        "{:?}",
        others.borrow()
    );
    completed
}

#[test]
fn k1_a_get_dropped_while_it_waits_for_a_permit_passes_it_on() {
    at_every_poll(1, |seed, polls, at_once| {
        let config = Config {
            max_connections_per_endpoint: 1,
            ..Config::default()
        };
        let world = two_cores(seed).config(config).build().unwrap();
        let server = ponging(&world);
        // The other core has the only permit for a while.
        let held = on(&world, 1, async |pool| pool.get(NAME).await).unwrap();
        world.spawn_on(1, "holder", async move {
            after(ms(20)).await;
            held.release();
        });
        let completed = dropped_get(&world, polls, at_once);
        assert!(server.most_connections(server.addresses()[0]) <= 2);
        nothing_left(&world, &[server]);
        completed
    });
}

#[test]
fn k2_k3_a_get_dropped_while_its_name_is_asked_for_leaves_the_answer_to_the_others() {
    at_every_poll(1, |seed, polls, at_once| {
        let world = world(seed, Config::default());
        let server = ponging(&world);
        let completed = dropped_get(&world, polls, at_once);
        assert_eq!(
            world.questions(),
            2,
            "one question for each kind of address"
        );
        nothing_left(&world, &[server]);
        completed
    });
}

#[test]
fn k3_a_get_dropped_while_no_name_server_answers_leaves_no_socket() {
    seeds(30, |seed| {
        let world = World::builder(seed)
            .fault(Fault::NameLost, 10_000)
            .fault(Fault::AnyOrder, 3_000)
            .build()
            .unwrap();
        let server = ponging(&world);
        let task = world.spawn_on(0, "dropped", async move {
            let get = async { Pool::local().unwrap().get(NAME).await.map(drop) };
            sim::timeout(ms(1 + seed * 100), get).await.map(drop)
        });
        let result = world.run_on(0, task).unwrap().unwrap();
        assert!(result.is_err());
        assert_fired(&world, &[Fault::NameLost]);
        world.end_faults();
        exchange_on(&world).unwrap();
        world.run_for(secs(30)).unwrap();
        nothing_left(&world, &[server]);
    });
}

#[test]
fn k4_k5_gets_dropped_at_any_moment_of_connects_leave_no_descriptor() {
    for step in 0..120 {
        let moment = Duration::from_micros(step * 7);
        let config = Config {
            max_connections_per_endpoint: 3,
            ..Config::default()
        };
        let world = World::builder(step)
            .config(config)
            .fault(Fault::AnyOrder, 3_000)
            .build()
            .unwrap();
        let servers = servers(&world, &["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
        for n in 0..3 {
            world.spawn_on(0, &format!("dropped {n}"), async move {
                let get = async { Pool::local().unwrap().get(NAME).await.map(drop) };
                let _ = sim::timeout(moment, get).await;
            });
        }
        world.run().unwrap();
        world.audit().unwrap();
        // What was begun may end as idle connections, each counted once.
        world.run_for(ms(10)).unwrap();
        let now = stats(&world);
        assert_eq!((now.connecting, now.in_use), (0, 0), "{now:?}");
        assert_eq!(now.idle as usize, open_at(&servers), "{now:?}");
        assert_eq!(world.sockets(0), open_at(&servers));
        nothing_left(&world, &servers);
    }
}

#[test]
fn k8_a_connection_granted_to_a_get_that_is_gone_goes_to_the_next() {
    seeds(100, |seed| {
        let config = Config {
            max_connections_per_endpoint: 1,
            ..Config::default()
        };
        let world = world(seed, config);
        let server = ponging(&world);
        let order = on(&world, 0, async |pool| {
            let held = pool.get(NAME).await?;
            let mut first = Box::pin(async { pool.get(NAME).await.map(drop) });
            let pending = poll_fn(|cx| Poll::Ready(first.as_mut().poll(cx).is_pending())).await;
            assert!(pending);
            let next = ringpool::spawn(async { exchange(&Pool::local()?).await });
            after(ms(1)).await;
            // Granted to the first, which is dropped before it looks.
            held.release();
            drop(first);
            let before = sim::now();
            next.await??;
            Ok(sim::now().unwrap() - before.unwrap())
        });
        assert!(order.unwrap() < ms(2), "the next one was not woken");
        assert_eq!(server.connects(), 1, "the connection was lost");
        nothing_left(&world, &[server]);
    });
}

#[test]
fn k9_a_read_dropped_anywhere_loses_and_repeats_no_byte() {
    let text: Vec<u8> = (0..200).collect();
    at_every_poll(5, |seed, polls, at_once| {
        let world = world(seed, Config::default());
        let server = world.server(NAME, &["10.0.0.1"]).unwrap();
        let mut script = Script::new();
        for piece in text.chunks(20) {
            script = script.send(piece).wait(ms(1));
        }
        server.on_connect(script.expect("ping").send("pong"));
        let read = on(&world, 0, async move |pool| {
            let conn = pool.get(NAME).await?;
            let mut all = vec![0; 190];
            let dropped = drop_at(polls, at_once, conn.read_exact(&mut all)).await;
            if dropped.is_none() {
                conn.read_exact(&mut all).await?;
            }
            let line = drop_at(polls, at_once, conn.read_until(&[199], 64)).await;
            all.extend(match line {
                Some(line) => line?,
                None => conn.read_until(&[199], 64).await?,
            });
            ping(&conn).await?;
            conn.release();
            Ok((all, dropped.is_some()))
        });
        let (all, completed) = read.unwrap();
        assert_eq!(all, text);
        nothing_left(&world, &[server]);
        completed
    });
}

#[test]
fn k9_a_read_dropped_before_its_answer_leaves_nothing_to_the_next_user() {
    at_every_poll(1, |seed, polls, at_once| {
        let world = world(seed, Config::default());
        let server = world.server(NAME, &["10.0.0.1"]).unwrap();
        let answers = |it: Script| it.expect("ping").send("po").wait(ms(1)).send("ng");
        server.on_connect(answers(answers(Script::new())));
        server.on_connect(pongs());
        let completed = on(&world, 0, async move |pool| {
            let conn = pool.get(NAME).await?;
            conn.write_all(b"ping").await?;
            let mut answer = [0; 4];
            let read = drop_at(polls, at_once, conn.read_exact(&mut answer)).await;
            after(ms(3)).await;
            conn.release();
            Ok(read.is_some())
        });
        let completed = completed.unwrap();
        exchange_on(&world).unwrap();
        assert_eq!(server.connects(), if completed { 1 } else { 2 });
        nothing_left(&world, &[server]);
        completed
    });
}

#[test]
fn k10_s10_a_write_dropped_in_the_middle_spoils_its_connection_for_everybody() {
    at_every_poll(1, |seed, polls, at_once| {
        let config = Config {
            send_limit: 8 * 1024,
            ..Config::default()
        };
        let world = world(seed, config);
        let server = world.server(NAME, &["10.0.0.1"]).unwrap();
        server.on_connect(Script::new());
        server.on_connect(pongs());
        let written = on(&world, 0, async move |pool| {
            let conn = pool.get(NAME).await?;
            let bytes = vec![b'x'; 100_000];
            let written = drop_at(polls, at_once, conn.write_all(&bytes)).await;
            let flushed = drop_at(polls, at_once, conn.flush()).await;
            conn.release();
            Ok(written.is_some() && flushed.is_some())
        });
        let completed = written.unwrap();
        world.run_for(ms(10)).unwrap();
        let first = server.received(0);
        let next = on(&world, 0, async |pool| {
            let conn = pool.get(NAME).await?;
            let reused = conn.is_reused();
            conn.write_all(b"ping").await?;
            conn.flush().await?;
            conn.close();
            Ok(reused)
        });
        world.run_for(ms(10)).unwrap();
        let torn = (1..100_000).contains(&first.len());
        let reused = next.unwrap();
        assert!(
            !(torn && reused),
            "a request was appended to half of another"
        );
        if torn {
            assert_eq!(server.received(0).len(), first.len());
        }
        nothing_left(&world, &[server]);
        completed
    });
}

/// A protocol whose health check waits for the server.
struct Slow;

impl Protocol for Slow {
    type State = ();

    fn key(&self) -> String {
        String::new()
    }

    async fn init(&self, _stream: Stream) -> Result<()> {
        Ok(())
    }

    fn checks_health(&self) -> bool {
        true
    }

    async fn is_healthy(&self, stream: Stream, _state: Rc<()>) -> bool {
        let mut answer = [0; 4];
        stream.write_all(b"ping").await.is_ok()
            && stream.read_exact(&mut answer).await.is_ok()
            && &answer == b"pong"
    }
}

#[test]
fn k11_a_get_dropped_while_a_health_check_goes_on_wastes_and_spoils_nothing() {
    at_every_poll(1, |seed, polls, at_once| {
        let world = world(seed, Config::default());
        let server = world.server(NAME, &["10.0.0.1"]).unwrap();
        let healthy = Script::new().expect("ping").wait(ms(5)).send("pong");
        server.on_connect(pongs_after(healthy));
        let completed = on(&world, 0, async move |pool| {
            let pool = pool.protocol(Slow);
            pool.get(NAME).await?.release();
            after(secs(1)).await;
            let gotten = drop_at(polls, at_once, pool.get(NAME)).await;
            let completed = gotten.is_some();
            if let Some(conn) = gotten {
                conn?.release();
            }
            // The next user has it, after the check and at once.
            let conn = pool.get(NAME).await?;
            ping(&conn).await?;
            assert!(conn.is_reused());
            conn.release();
            assert_eq!(pool.stats(NAME)?.closed_by(CloseReason::Unhealthy), 0);
            Ok(completed)
        });
        assert_eq!(server.connects(), 1);
        nothing_left(&world, &[server]);
        completed.unwrap()
    });
}

#[test]
fn k12_a_drain_dropped_anywhere_goes_on_and_nothing_opens_again() {
    at_every_poll(1, |seed, polls, at_once| {
        let world = world(seed, Config::default());
        let server = ponging(&world);
        let completed = on(&world, 0, async move |pool| {
            let busy = pool.get(NAME).await?;
            pool.get(NAME).await?.release();
            let user = ringpool::spawn(async move {
                after(ms(5)).await;
                let answered = ping(&busy).await;
                busy.release();
                answered
            });
            let drained = drop_at(polls, at_once, pool.drain(secs(1))).await;
            let began = polls > 0;
            user.await??;
            after(ms(5)).await;
            if began {
                assert_eq!(
                    pool.get(NAME).await.unwrap_err().kind(),
                    ErrorKind::Draining
                );
                let now = pool.stats(NAME)?;
                assert_eq!((now.idle, now.in_use, now.closing), (0, 0, 0), "{now:?}");
            }
            Ok(drained.is_some())
        });
        assert_eq!(server.connects(), 2);
        nothing_left(&world, &[server]);
        completed.unwrap()
    });
}

#[test]
fn an_answer_that_meets_the_end_of_its_time_is_one_or_the_other() {
    let mut met = [0; 2];
    for seed in 0..200 {
        let config = Config {
            read_timeout: ms(10),
            ..Config::default()
        };
        let world = world(seed, config);
        let server = world.server(NAME, &["10.0.0.1"]).unwrap();
        // On its way up and down for 200 to 500 µs.
        let wait = ms(10) - Duration::from_micros(350);
        server.on_connect(Script::new().expect("ping").wait(wait).send("pong"));
        server.on_connect(pongs());
        let result = on(&world, 0, async |pool| {
            let conn = pool.get(NAME).await?;
            conn.write_all(b"ping").await?;
            let mut answer = [0; 4];
            let read = conn.read_exact(&mut answer).await;
            // Whoever gives up closes; a release would say that the answer was read.
            match &read {
                Ok(()) => conn.release(),
                Err(_) => conn.close(),
            }
            Ok(read.map(|()| answer))
        });
        match result.unwrap() {
            Ok(answer) => {
                assert_eq!(&answer, b"pong");
                met[0] += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ReadTimeout);
                exchange_on(&world).unwrap();
                assert_eq!(server.connects(), 2, "seed {seed}: used after a timeout");
                met[1] += 1;
            }
        }
        nothing_left(&world, &[server]);
    }
    assert!(
        met.iter().all(|count| *count > 10),
        "not both orders: {met:?}"
    );
}

#[test]
fn k14_cancels_that_miss_come_late_or_out_of_order_free_nothing_early() {
    let strayed = std::cell::Cell::new([0; 2]);
    seeds(100, |seed| {
        let config = Config {
            connect_timeout: ms(20),
            max_connections_per_endpoint: 4,
            ..Config::default()
        };
        let world = two_cores(seed)
            .config(config)
            .fault(Fault::CancelMisses, 3_000)
            .fault(Fault::CancelLate, 3_000)
            .fault(Fault::AnyOrder, 5_000)
            .build()
            .unwrap();
        let servers = servers(&world, &["10.0.0.1", "10.0.0.2"]);
        servers[1].black_hole();
        for n in 0..40_u64 {
            world.spawn_on((n % 2) as usize, &format!("user {n}"), async move {
                let pool = Pool::local().unwrap();
                after(Duration::from_micros(n * 130)).await;
                // Some give up, some close while they read, some are served.
                let limit = Duration::from_micros(300 + n * 50);
                let _ = sim::timeout(limit, exchange(&pool)).await;
            });
        }
        world.run().unwrap();
        world.audit().unwrap();
        nothing_left(&world, &servers);
        assert_fired(&world, &[Fault::AnyOrder]);
        let [missed, late] = strayed.get();
        let (more, later) = (
            world.fired(Fault::CancelMisses),
            world.fired(Fault::CancelLate),
        );
        strayed.set([missed + more, late + later]);
    });
    assert!(strayed.get().iter().all(|count| *count > 50), "{strayed:?}");
}

#[test]
fn k15_a_forgotten_connection_is_seen_in_the_figures_and_ends_with_a_drain() {
    seeds(20, |seed| {
        let config = Config {
            max_connections_per_endpoint: 1,
            get_timeout: secs(1),
            ..Config::default()
        };
        let world = two_cores(seed).config(config).build().unwrap();
        let server = ponging(&world);
        on(&world, 0, async |pool| {
            std::mem::forget(pool.get(NAME).await?);
            Ok(())
        })
        .unwrap();
        let error = exchange_on(&world).unwrap_err();
        assert_eq!(error.exhaustion().unwrap().in_use, 1, "{error}");
        assert_eq!(stats(&world).in_use, 1);
        world.audit().unwrap();
        let cut = on(&world, 0, async |pool| Ok(pool.drain(ms(100)).await));
        assert_eq!(cut.unwrap(), 1);
        // Nobody can give its place back but the end of its core.
        world.leave(0);
        on(&world, 1, async |pool| exchange(&pool).await).unwrap();
        nothing_left(&world, &[server]);
    });
}
