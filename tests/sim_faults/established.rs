//! Group E: a connection that ends, stalls or speaks out of turn is noticed, told to its user once,
//! and never handed to the next one.

use super::*;

use ringpool::CloseReason;

#[test]
fn e5_a_half_close_in_an_answer_is_an_end_and_the_connection_is_not_used_again() {
    seeds(20, |seed| {
        let world = world(seed, Config::default());
        let server = world.server(NAME, &["10.0.0.1"]).unwrap();
        server.on_connect(Script::new().expect("ping").send("po").end());
        server.on_connect(pongs());
        let all = on(&world, 0, async |pool| {
            let conn = pool.get(NAME).await?;
            conn.write_all(b"ping").await?;
            let all = conn.read_to_end(64).await?;
            conn.release();
            Ok(all)
        });
        assert_eq!(all.unwrap(), b"po");
        world.run_for(ms(10)).unwrap();
        assert_eq!(stats(&world).idle, 0, "half a connection is idle");
        exchange_on(&world).unwrap();
        assert_eq!(server.connects(), 2);
        nothing_left(&world, &[server]);
    });
}

#[test]
fn e6_an_answer_that_stops_runs_into_the_read_timeout_and_no_later() {
    seeds(20, |seed| {
        let config = Config {
            read_timeout: ms(700),
            ..Config::default()
        };
        let world = world(seed, config);
        let server = world.server(NAME, &["10.0.0.1"]).unwrap();
        server.on_connect(Script::new().expect("ping").send("po").vanish());
        server.on_connect(pongs());
        let before = world.now();
        let error = exchange_on(&world).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ReadTimeout);
        let waited = world.now() - before;
        assert!(waited >= ms(700) && waited < ms(750), "{waited:?}");
        exchange_on(&world).unwrap();
        assert_eq!(
            server.connects(),
            2,
            "a connection in the middle of an answer was used again"
        );
        nothing_left(&world, &[]);
    });
}

#[test]
fn e7_a_peer_that_reads_nothing_stops_one_writer_and_nobody_else() {
    seeds(10, |seed| {
        let config = Config {
            write_timeout: secs(2),
            send_limit: 64 * 1024,
            ..Config::default()
        };
        let world = world(seed, config);
        let server = world.server(NAME, &["10.0.0.1"]).unwrap();
        server.on_connect(Script::new().take(4).read(false));
        server.on_connect(pongs());
        let stalled = Rc::new(RefCell::new(None));
        let result = stalled.clone();
        let began = world.now();
        world.spawn_on(0, "stalled", async move {
            let conn = Pool::local().unwrap().get(NAME).await.unwrap();
            conn.write_all(b"ping").await.unwrap();
            let sent = conn.write_all(&vec![b'x'; 1 << 20]).await;
            *result.borrow_mut() = Some((sent.unwrap_err(), sim::now().unwrap()));
        });
        world.spawn_on(0, "others", async {
            let pool = Pool::local().unwrap();
            for _ in 0..100 {
                after(ms(10)).await;
                let before = sim::now().unwrap();
                exchange(&pool).await.unwrap();
                assert!(
                    sim::now().unwrap() - before < ms(5),
                    "the core stands still"
                );
            }
        });
        world.run().unwrap();
        let (error, at) = stalled.borrow_mut().take().unwrap();
        assert_eq!(error.kind(), ErrorKind::WriteTimeout);
        // What the peer's kernel took at first was progress: the limit begins once more then.
        assert!(at - began < secs(4) + ms(100), "{:?}", at - began);
        let taken = server.received(0).len();
        assert!(
            taken < 128 * 1024,
            "{taken} bytes are more than the limits allow"
        );
        nothing_left(&world, &[]);
    });
}

#[test]
fn e8_slow_bytes_keep_one_read_alive_and_the_user_can_bound_all_of_them() {
    let slow = |world: &World| {
        let server = world.server(NAME, &["10.0.0.1"]).unwrap();
        let mut script = Script::new().expect("ping");
        for byte in b"a slow answer!\n" {
            script = script.wait(ms(900)).send([*byte]);
        }
        server.on_connect(script);
        server.on_connect(pongs());
        server
    };
    seeds(10, |seed| {
        let config = Config {
            read_timeout: secs(1),
            ..Config::default()
        };
        // The limit is one of silence: bytes that come in time are an answer.
        let patient = world(seed, config.clone());
        slow(&patient);
        let line = on(&patient, 0, async |pool| {
            let conn = pool.get(NAME).await?;
            conn.write_all(b"ping").await?;
            let line = conn.read_line(64).await?;
            conn.release();
            Ok(line)
        });
        assert_eq!(line.unwrap(), "a slow answer!");
        nothing_left(&patient, &[]);
        // A whole request is bounded by its user, and the rest of the answer reaches nobody.
        let hasty = world(seed, config);
        let server = slow(&hasty);
        let began = hasty.now();
        let result = on(&hasty, 0, async |pool| {
            sim::timeout(secs(3), async {
                let conn = pool.get(NAME).await?;
                conn.write_all(b"ping").await?;
                conn.read_line(64).await
            })
            .await?
        });
        assert!(result.unwrap_err().is_timeout());
        assert!(hasty.now() - began < secs(3) + ms(1));
        exchange_on(&hasty).unwrap();
        assert_eq!(server.connects(), 2);
        hasty.run_for(secs(15)).unwrap();
        nothing_left(&hasty, &[server]);
    });
}

#[test]
fn e9_a_reset_in_a_write_is_an_error_of_that_write_and_of_nobody_else() {
    seeds(50, |seed| {
        let world = world(seed, Config::default());
        let server = world.server(NAME, &["10.0.0.1"]).unwrap();
        server.on_connect(Script::new().take(20_000).reset());
        server.on_connect(pongs());
        let error = on(&world, 0, async |pool| {
            let conn = pool.get(NAME).await?;
            let sent = conn.write_all(&vec![b'x'; 1 << 20]).await;
            conn.release();
            sent
        });
        let error = error.unwrap_err();
        assert!(error.is_closed(), "{error:?}");
        let number = error.raw_os_error();
        let known = [libc::EPIPE, libc::ECONNRESET].map(Some);
        assert!(known.contains(&number), "{error:?}");
        exchange_on(&world).unwrap();
        nothing_left(&world, &[server]);
    });
}

#[test]
fn e10_short_sends_and_receives_lose_and_repeat_no_byte() {
    let text: Vec<u8> = (0..=255).collect();
    seeds(50, |seed| {
        let world = World::builder(seed)
            .fault(Fault::ShortTransfer, 10_000)
            .build()
            .unwrap();
        let server = world.server(NAME, &["10.0.0.1"]).unwrap();
        let (mut script, all) = (Script::new(), text.clone());
        for length in 1..64 {
            script = script
                .expect(&text[..length])
                .send(&text[length..2 * length]);
        }
        server.on_connect(script);
        on(&world, 0, async move |pool| {
            let conn = pool.get(NAME).await?;
            for length in 1..64 {
                conn.write_all(&all[..length]).await?;
                let mut back = vec![0; length];
                conn.read_exact(&mut back).await?;
                assert_eq!(back, all[length..2 * length]);
            }
            conn.release();
            Ok(())
        })
        .unwrap();
        assert!(world.fired(Fault::ShortTransfer) > 2 * 62);
        assert_eq!(server.received(0).len(), 63 * 64 / 2, "bytes came twice");
        nothing_left(&world, &[server]);
    });
}

/// The kernel gives an idle and a busy connection up with `errno`.
fn given_up(errno: i32) {
    seeds(20, |seed| {
        let world = world(seed, Config::default());
        let server = ponging(&world);
        let busy = on(&world, 0, async |pool| {
            let (busy, idle) = (pool.get(NAME).await?, pool.get(NAME).await?);
            ping(&busy).await?;
            ping(&idle).await?;
            idle.release();
            Ok(busy)
        });
        let busy = busy.unwrap();
        server.break_all(errno);
        world.run_for(ms(1)).unwrap();
        world.audit().unwrap();
        assert_eq!(
            stats(&world).closed_by(CloseReason::Reset),
            1,
            "the idle one is not evicted"
        );
        let error = on(&world, 0, async move |_| {
            let result = ping(&busy).await;
            busy.release();
            result
        });
        let error = error.unwrap_err();
        assert_eq!(
            (error.kind(), error.raw_os_error()),
            (ErrorKind::Closed, Some(errno)),
            "{error:?}"
        );
        world.run_for(ms(1)).unwrap();
        let now = stats(&world);
        assert_eq!(
            (now.idle, now.in_use, now.closed),
            (0, 0, 2),
            "one of them leaked: {now:?}"
        );
        assert_eq!(world.sockets(0), 0);
        exchange_on(&world).unwrap();
        nothing_left(&world, &[]);
    });
}

#[test]
fn e13_keepalive_that_fails_evicts_and_leaks_nothing() {
    given_up(libc::ETIMEDOUT);
}

#[test]
fn e14_a_socket_that_is_destroyed_locally_is_an_error_and_no_panic() {
    given_up(libc::ECONNABORTED);
}

#[test]
fn e15_a_link_that_is_down_for_five_seconds_closes_and_opens_nothing() {
    seeds(20, |seed| {
        let world = world(seed, Config::default());
        let server = ponging(&world);
        let address = server.addresses()[0];
        let ended = gets_at_once(&world, 1, 8);
        world.run().unwrap();
        let open = server.connections(address);
        let dials = server.dials(address).len();
        world.cut(None, address.ip(), secs(5));
        let later = gets_at_once(&world, 1, open);
        world.run_for(secs(6)).unwrap();
        world.run().unwrap();
        assert!(
            ended
                .borrow()
                .iter()
                .chain(&*later.borrow())
                .all(Result::is_ok),
            "{later:?}"
        );
        assert_eq!(server.dials(address).len(), dials, "it opened connections");
        assert_eq!(server.connections(address), open, "it closed connections");
        nothing_left(&world, &[server]);
    });
}

/// Exchanges under late packets; the trace of the run.
fn late_exchanges(seed: u64) -> Vec<String> {
    let world = two_cores(seed)
        .fault(Fault::Late, 500)
        .trace(true)
        .build()
        .unwrap();
    let server = ponging(&world);
    for _ in 0..20 {
        let ended = gets_at_once(&world, 2, 8);
        world.run().unwrap();
        assert!(ended.borrow().iter().all(Result::is_ok), "{ended:?}");
    }
    assert_fired(&world, &[Fault::Late]);
    nothing_left(&world, &[server]);
    world.take_trace()
}

#[test]
fn e16_packets_that_are_late_change_no_byte_and_no_run() {
    seeds(10, |seed| {
        assert_eq!(late_exchanges(seed), late_exchanges(seed));
    });
}

#[test]
fn e18_s8_a_connection_given_back_with_an_answer_under_way_serves_nobody_else() {
    seeds(50, |seed| {
        let world = world(seed, Config::default());
        let server = ponging(&world);
        on(&world, 0, async move |pool| {
            let conn = pool.get(NAME).await?;
            conn.write_all(b"ping").await?;
            // Back before the answer has come, after it, or with a part of it read.
            match seed % 3 {
                0 => {}
                1 => after(ms(1)).await,
                _ => conn.read_exact(&mut [0; 2]).await?,
            }
            conn.release();
            Ok(())
        })
        .unwrap();
        world.audit().unwrap();
        if seed % 3 == 0 {
            world.run_for(ms(1)).unwrap();
        }
        let answer = on(&world, 0, async |pool| {
            let conn = pool.get(NAME).await?;
            let reused = conn.is_reused();
            conn.write_all(b"ping").await?;
            let mut answer = [0; 4];
            conn.read_exact(&mut answer).await?;
            conn.release();
            Ok((reused, answer))
        });
        let (reused, answer) = answer.unwrap();
        assert_eq!(&answer, b"pong");
        assert!(!reused, "a connection with unread bytes was handed out");
        nothing_left(&world, &[server]);
    });
}
