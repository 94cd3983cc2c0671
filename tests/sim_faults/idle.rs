//! Group E, while nobody holds the connection: what ends it, forgets it or writes to it is noticed
//! before the next user has it.

use super::*;

use ringpool::CloseReason;
use ringpool::sim::Gate;

/// A server that does `then` after one exchange, when the gate opens, and answers every later
/// connection as usual.
fn after_one_exchange(world: &World, then: impl Fn(Script) -> Script) -> (Server, Gate) {
    let server = world.server(NAME, &["10.0.0.1"]).unwrap();
    let gate = Gate::new();
    let script = Script::new().expect("ping").send("pong").until(&gate);
    server.on_connect(then(script)).on_connect(pongs());
    (server, gate)
}

/// What happens to an idle connection is seen before the next get.
fn idle_connection(then: impl Fn(Script) -> Script, reason: CloseReason) {
    seeds(20, |seed| {
        let world = world(seed, Config::default());
        let (server, gate) = after_one_exchange(&world, &then);
        exchange_on(&world).unwrap();
        gate.open();
        world.run_for(ms(10)).unwrap();
        let now = stats(&world);
        assert_eq!(
            (now.idle, now.closed_by(reason)),
            (0, 1),
            "it is not evicted: {now:?}"
        );
        exchange_on(&world).unwrap();
        assert_eq!(
            (server.connects(), server.received(0)),
            (2, b"ping".to_vec())
        );
        nothing_left(&world, &[server]);
    });
}

#[test]
fn e1_a_connection_that_ends_while_idle_is_gone_before_the_next_get() {
    idle_connection(Script::end, CloseReason::PeerClosed);
}

#[test]
fn e2_a_connection_that_is_reset_while_idle_is_gone_before_the_next_get() {
    idle_connection(Script::reset, CloseReason::Reset);
}

#[test]
fn e3_an_end_that_the_kernel_holds_back_is_known_to_the_get() {
    seeds(100, |seed| {
        let builder = World::builder(seed).fault(Fault::HeldBack, 10_000);
        let world = builder.build().unwrap();
        let server = world.server(NAME, &["10.0.0.1"]).unwrap();
        let once = Script::new().expect("ping").send("pong").wait(ms(10)).end();
        server.on_connect(once).on_connect(pongs());
        on(&world, 0, async |pool| {
            exchange(&pool).await?;
            // Its server has ended it by then, and the end has arrived.
            after(ms(11)).await;
            let conn = pool.get(NAME).await?;
            assert!(!conn.is_reused());
            ping(&conn).await?;
            conn.release();
            Ok(())
        })
        .unwrap();
        assert_fired(&world, &[Fault::HeldBack]);
        nothing_left(&world, &[server]);
    });
}

#[test]
fn e3_what_was_released_just_now_is_handed_out_without_a_system_call() {
    seeds(50, |seed| {
        let builder = World::builder(seed).fault(Fault::HeldBack, 10_000);
        let world = builder.build().unwrap();
        let server = world.server(NAME, &["10.0.0.1"]).unwrap();
        let late = Script::new().expect("ping").wait(ms(10)).send("pong");
        server.on_connect(late).on_connect(pongs());
        on(&world, 0, async |pool| {
            let (busy, conn) = (pool.get(NAME).await?, pool.get(NAME).await?);
            busy.write_all(b"ping").await?;
            // The answer has arrived by then; in most runs it is not posted.
            after(ms(11)).await;
            conn.release();
            let before = pool.shard_stats().enters;
            for _ in 0..10 {
                pool.get(NAME).await?.release();
            }
            assert_eq!(pool.shard_stats().enters, before);
            busy.read_exact(&mut [0; 4]).await?;
            busy.release();
            Ok(())
        })
        .unwrap();
        assert_fired(&world, &[Fault::HeldBack]);
        nothing_left(&world, &[server]);
    });
}

#[test]
fn e4_s8_bytes_that_nobody_asked_for_reach_nobody() {
    let unsolicited = |script: Script| script.send("HTTP/1.1 408 Request Timeout\r\n\r\n");
    idle_connection(unsolicited, CloseReason::Unsolicited);
}

#[test]
fn e1_idle_connections_that_end_are_replaced_up_to_the_minimum() {
    seeds(10, |seed| {
        let config = Config {
            min_idle: 2,
            ..Config::default()
        };
        let world = world(seed, config);
        let server = world.server(NAME, &["10.0.0.1"]).unwrap();
        let gate = Gate::new();
        for _ in 0..3 {
            server.on_connect(Script::new().expect("ping").until(&gate).end());
        }
        server.on_connect(pongs());
        let first = on(&world, 0, async |pool| {
            let conn = pool.get(NAME).await?;
            conn.write_all(b"ping").await?;
            Ok(conn)
        });
        world.run_for(secs(1)).unwrap();
        assert_eq!(open_at([&server]), 3, "one in use, two idle");
        first.unwrap().close();
        server.reset_all();
        world.run_for(secs(3)).unwrap();
        assert_eq!(
            (open_at([&server]), server.connects()),
            (2, 5),
            "the minimum is not kept"
        );
        gate.open();
        nothing_left(&world, &[server]);
    });
}

#[test]
fn e3_an_end_that_meets_a_get_is_replaced_unless_something_was_written() {
    let mut replaced = 0;
    let mut told = 0;
    for seed in 0..400 {
        let world = world(seed, Config::default());
        let (server, gate) = after_one_exchange(&world, Script::end);
        exchange_on(&world).unwrap();
        gate.open();
        // The script looks at its gate each millisecond; the end is on its way for 100 to 250 µs.
        world
            .run_for(Duration::from_micros(900 + seed * 2))
            .unwrap();
        let result = on(&world, 0, async move |pool| {
            let conn = pool.get(NAME).await?;
            if seed % 2 == 0 {
                after(Duration::ZERO).await;
            }
            let reused = conn.is_reused();
            let result = conn.write_all(b"ping").await;
            let mut answer = [0; 4];
            let result = match result {
                Ok(()) => conn.read_exact(&mut answer).await,
                Err(error) => Err(error),
            };
            conn.release();
            Ok((reused, result))
        });
        let (reused, result) = result.unwrap();
        match result {
            Ok(()) => replaced += u32::from(!reused),
            Err(error) => {
                assert!(reused && error.is_closed(), "seed {seed}: {error:?}");
                assert_eq!(server.connects(), 1, "the request went out again");
                told += 1;
            }
        }
        let all = (0..server.connects()).map(|n| server.received(n).len());
        assert!(
            all.sum::<usize>() <= 8,
            "seed {seed}: a request was sent twice"
        );
        world.audit().unwrap();
        nothing_left(&world, &[server]);
    }
    assert!(
        replaced > 10 && told > 10,
        "{replaced} replaced, {told} told: not both orders"
    );
}

#[test]
fn e3_a_connection_that_ends_between_its_grant_and_its_first_use_is_replaced() {
    seeds(20, |seed| {
        let config = Config {
            max_connections_per_endpoint: 1,
            ..Config::default()
        };
        let world = world(seed, config);
        let server = world.server(NAME, &["10.0.0.1"]).unwrap();
        let short = Script::new().expect("ping").send("pong");
        let end = |script: Script| match seed % 2 {
            0 => script.wait(ms(1)).end(),
            _ => script.wait(ms(1)).reset(),
        };
        server.on_connect(end(short)).on_connect(pongs());
        on(&world, 0, async |pool| {
            let held = pool.get(NAME).await?;
            let mut next = Box::pin(pool.get(NAME));
            let pending =
                std::future::poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx).is_pending()));
            assert!(pending.await);
            ping(&held).await?;
            // Granted, and not looked at before it has ended.
            held.release();
            after(ms(5)).await;
            let conn = next.await?;
            assert!(!conn.is_reused());
            ping(&conn).await?;
            conn.release();
            Ok(())
        })
        .unwrap();
        assert_eq!(
            (server.connects(), server.received(0)),
            (2, b"ping".to_vec())
        );
        nothing_left(&world, &[server]);
    });
}

#[test]
fn e11_after_a_restart_no_user_is_given_a_connection_from_before() {
    seeds(20, |seed| {
        let world = world(seed, Config::default());
        let server = ponging(&world);
        let ended = gets_at_once(&world, 1, 16);
        world.run().unwrap();
        assert!(ended.borrow().iter().all(Result::is_ok));
        let before = server.connects();
        server.reset_all();
        world.run_for(ms(5)).unwrap();
        let ended = gets_at_once(&world, 1, 16);
        world.run().unwrap();
        assert!(
            ended.borrow().iter().all(Result::is_ok),
            "{:?}",
            ended.borrow()
        );
        let now = stats(&world);
        assert_eq!(now.closed_by(CloseReason::Reset), before as u64, "{now:?}");
        nothing_left(&world, &[server]);
    });
}

#[test]
fn e12_a_connection_that_the_network_forgot_is_not_handed_out_after_its_idle_time() {
    seeds(20, |seed| {
        let config = Config {
            max_idle_time: secs(30),
            ..Config::default()
        };
        let world = world(seed, config);
        let (server, gate) = after_one_exchange(&world, Script::vanish);
        exchange_on(&world).unwrap();
        gate.open();
        world.run_for(secs(29)).unwrap();
        // Also if the core comes late to its timers.
        world.freeze(0, secs(5));
        world.run_for(secs(6)).unwrap();
        exchange_on(&world).unwrap();
        assert_eq!(server.connects(), 2);
        assert_eq!(stats(&world).closed_by(CloseReason::IdleTime), 1);
        assert_eq!(server.received(0), b"ping", "it was used after its time");
        nothing_left(&world, &[]);
    });
}

/// A protocol that asks an idle connection before it hands it out.
struct Asked;

impl Protocol for Asked {
    type State = ();

    fn key(&self) -> String {
        String::new()
    }

    async fn init(&self, _stream: ringpool::Stream) -> Result<()> {
        Ok(())
    }

    fn checks_health(&self) -> bool {
        true
    }

    async fn is_healthy(&self, stream: ringpool::Stream, _state: Rc<()>) -> bool {
        let mut answer = [0; 4];
        stream.write_all(b"ping").await.is_ok() && stream.read_exact(&mut answer).await.is_ok()
    }
}

#[test]
fn e12_a_health_check_finds_a_forgotten_connection_before_its_user_does() {
    seeds(20, |seed| {
        let config = Config {
            read_timeout: ms(300),
            ..Config::default()
        };
        let world = world(seed, config);
        let (server, gate) = after_one_exchange(&world, Script::vanish);
        let used = async |pool: Pool| {
            let conn = pool.protocol(Asked).get(NAME).await?;
            ping(&conn).await?;
            conn.release();
            Ok(())
        };
        on(&world, 0, used).unwrap();
        gate.open();
        world.run_for(secs(2)).unwrap();
        on(&world, 0, used).unwrap();
        assert_eq!(server.connects(), 2);
        let unhealthy = on(&world, 0, async |pool| {
            Ok(pool
                .protocol(Asked)
                .stats(NAME)?
                .closed_by(CloseReason::Unhealthy))
        });
        assert_eq!(unhealthy.unwrap(), 1);
        nothing_left(&world, &[]);
    });
}

#[test]
fn k8_e4_bytes_that_come_for_a_get_that_goes_away_untaken_reach_nobody() {
    seeds(20, |seed| {
        let world = world(seed, Config::default());
        let server = world.server(NAME, &["10.0.0.1"]).unwrap();
        server
            .on_connect(Script::new().send("early"))
            .on_connect(pongs());
        on(&world, 0, async |pool| {
            let mut get = Box::pin(pool.get(NAME));
            let pending =
                std::future::poll_fn(|cx| Poll::Ready(get.as_mut().poll(cx).is_pending())).await;
            assert!(pending, "nothing is open");
            // The connection is given to the get, and bytes come, and nobody looks.
            sim::sleep(ms(100)).await; // bounded: virtual time
            drop(get);
            Ok(())
        })
        .unwrap();
        world.run_for(ms(10)).unwrap();
        let now = stats(&world);
        assert_eq!(
            (now.idle, now.closed_by(CloseReason::Unread)),
            (0, 1),
            "{now:?}"
        );
        exchange_on(&world).unwrap();
        assert_eq!(server.connects(), 2);
        nothing_left(&world, &[server]);
    });
}

/// A protocol that says good-bye when its user is done.
struct Polite;

impl Protocol for Polite {
    type State = ringpool::Stream;

    fn key(&self) -> String {
        String::new()
    }

    async fn init(&self, stream: ringpool::Stream) -> Result<ringpool::Stream> {
        Ok(stream)
    }

    fn on_release(&self, stream: &ringpool::Stream) {
        let mut said = Box::pin(stream.write_all(b"bye"));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(said.as_mut().poll(&mut cx).is_ready());
    }
}

#[test]
fn e4_what_a_release_runs_is_judged_too() {
    seeds(10, |seed| {
        let world = world(seed, Config::default());
        let server = ponging(&world);
        on(&world, 0, async |pool| {
            let conn = pool.protocol(Polite).get(NAME).await?;
            ping(&conn).await?;
            conn.release();
            let stats = pool.protocol(Polite).stats(NAME)?;
            assert_eq!(stats.closed_by(CloseReason::UnfinishedWrite), 1);
            Ok(())
        })
        .unwrap();
        nothing_left(&world, &[server]);
    });
}
