//! Group R, the ring: queues that are full, enters that are refused, receives that end and
//! completions that are lost cost time and nothing else.

use std::cell::Cell;

use ringpool::sim::Gate;

use super::*;

#[test]
fn r5_r6_tiny_queues_lose_no_entry_and_no_completion() {
    seeds(20, |seed| {
        let config = Config {
            ring_entries: 16,
            max_connections_per_endpoint: 40,
            max_connecting: 40,
            ..Config::default()
        };
        let world = World::builder(seed)
            .config(config)
            .completions(2)
            .build()
            .unwrap();
        let server = ponging(&world);
        for _ in 0..3 {
            let ended = gets_at_once(&world, 1, 80);
            world.run().unwrap();
            assert!(
                ended.borrow().iter().all(Result::is_ok),
                "{:?}",
                ended.borrow()
            );
            world.audit().unwrap();
        }
        assert_fired(&world, &[Fault::QueueFull, Fault::Overflow]);
        nothing_left(&world, &[server]);
    });
}

#[test]
fn r7_a_ring_that_lost_a_completion_takes_its_core_out_and_no_other() {
    seeds(20, |seed| {
        let config = Config {
            max_connections_per_endpoint: 4,
            get_timeout: secs(2),
            ..Config::default()
        };
        let world = two_cores(seed).config(config).build().unwrap();
        let server = ponging(&world);
        let held = on(&world, 0, async |pool| {
            let mut held = Vec::new();
            for _ in 0..3 {
                held.push(pool.get(NAME).await?);
            }
            Ok(held)
        });
        let held = held.unwrap();
        let pool = pool_of(&world);
        world.break_ring(0);
        let errors = world.run_on(0, async move {
            let mut errors = vec![ping(&held[0]).await.unwrap_err()];
            errors.push(pool.get(NAME).await.unwrap_err());
            errors.push(held[1].read_chunk().await.unwrap_err());
            errors
        });
        for error in errors.unwrap() {
            assert!(
                !error.is_timeout(),
                "it waits for a ring that is dead: {error:?}"
            );
        }
        assert_fired(&world, &[Fault::RingDies]);
        // Its permits are the other core's: all four of them.
        let all = on(&world, 1, async |pool| {
            let mut held = Vec::new();
            for _ in 0..4 {
                held.push(pool.get(NAME).await?);
            }
            Ok(held)
        });
        for conn in all.unwrap() {
            conn.release();
        }
        world.audit().unwrap();
        // A new shard on the core works.
        world.leave(0);
        world.join(0).unwrap();
        exchange_on(&world).unwrap();
        nothing_left(&world, &[server]);
    });
}

#[test]
fn r7_a_get_whose_own_close_finds_the_ring_dead_fails_with_it() {
    seeds(20, |seed| {
        let config = Config {
            ring_entries: 16,
            ..Config::default()
        };
        let world = world(seed, config);
        let server = world.server(NAME, &["10.0.0.1"]).unwrap();
        let gate = Gate::new();
        server.on_connect(Script::new().until(&gate).send("unasked"));
        let held = on(&world, 0, async |pool| {
            let mut held = Vec::new();
            for _ in 0..5 {
                held.push(pool.get(NAME).await?);
            }
            held.remove(0).release();
            Ok(held)
        });
        let held = held.unwrap();
        // The idle one has bytes that nobody asked for, and the get may see them before the driver.
        gate.open();
        world.freeze(0, ms(50));
        world.break_ring(0);
        let gotten = on(&world, 0, async |pool| {
            // Two entries each: the next close must enter.
            held.into_iter().for_each(Conn::close);
            pool.get(NAME).await.map(drop)
        });
        assert!(!gotten.unwrap_err().is_timeout());
        assert_fired(&world, &[Fault::RingDies]);
        world.leave(0);
        world.join(0).unwrap();
        nothing_left(&world, &[server]);
    });
}

#[test]
fn r8_r9_refusals_of_enter_free_no_data_and_lose_nothing() {
    for faults in [
        vec![Fault::EnterAgain],
        vec![Fault::EnterBusy],
        vec![Fault::TakesPart],
        vec![Fault::EnterAgain, Fault::EnterBusy, Fault::TakesPart],
    ] {
        seeds(10, |seed| {
            let mut builder = two_cores(seed);
            for fault in &faults {
                builder = builder.fault(*fault, 5_000);
            }
            let world = builder.build().unwrap();
            let server = ponging(&world);
            for _ in 0..4 {
                let ended = gets_at_once(&world, 2, 16);
                world.run().unwrap();
                assert!(
                    ended.borrow().iter().all(Result::is_ok),
                    "{:?}",
                    ended.borrow()
                );
                world.audit().unwrap();
            }
            assert_fired(&world, &faults);
            nothing_left(&world, &[server]);
        });
    }
}

#[test]
fn r9_a_storm_of_refusals_lets_time_limits_run_out_in_time() {
    seeds(10, |seed| {
        let config = Config {
            read_timeout: ms(500),
            ..Config::default()
        };
        let world = world(seed, config);
        let server = world.server(NAME, &["10.0.0.1"]).unwrap();
        let conn = on(&world, 0, async |pool| pool.get(NAME).await).unwrap();
        world.set_fault(Fault::EnterBusy, 10_000);
        let began = world.now();
        let error = on(&world, 0, async move |_| ping(&conn).await);
        assert_eq!(error.unwrap_err().kind(), ErrorKind::ReadTimeout);
        assert!(world.now() - began < ms(550), "{:?}", world.now() - began);
        assert_fired(&world, &[Fault::EnterBusy]);
        nothing_left(&world, &[server]);
    });
}

#[test]
fn r11_r20_few_buffers_serve_many_connections_and_no_receive_stays_dead() {
    seeds(5, |seed| {
        let config = Config {
            recv_buffers: 8,
            recv_buffer_size: 512,
            recv_limit: 512,
            max_connections_per_endpoint: 200,
            max_connecting: 200,
            ..Config::default()
        };
        let world = World::builder(seed)
            .config(config)
            .fault(Fault::NoBuffer, 2_000)
            .build()
            .unwrap();
        let server = ponging(&world);
        for _ in 0..2 {
            let ended = gets_at_once(&world, 1, 200);
            world.run().unwrap();
            assert!(
                ended.borrow().iter().all(Result::is_ok),
                "{:?}",
                ended.borrow()
            );
            world.audit().unwrap();
        }
        assert_fired(&world, &[Fault::NoBuffer]);
        // Each of the idle ones is still watched.
        world.run_for(ms(50)).unwrap();
        server.reset_all();
        world.run_for(ms(50)).unwrap();
        assert_eq!(stats(&world).idle, 0, "an end was not seen");
        nothing_left(&world, &[server]);
    });
}

#[test]
fn r11_r12_k14_a_large_answer_that_was_read_leaves_its_connection_open() {
    // A reader that takes it at once, and one that lets the pool find its bound reached first.
    for (patient, faults) in [
        (false, &[][..]),
        (false, &[Fault::AnyOrder][..]),
        (true, &[]),
        (true, &[Fault::AnyOrder, Fault::CancelMisses]),
        (true, &[Fault::AnyOrder, Fault::CancelLate]),
        (true, &[Fault::NoBuffer, Fault::MultishotEnds]),
    ] {
        seeds(10, |seed| {
            let config = Config {
                recv_buffers: 16,
                recv_buffer_size: 512,
                recv_limit: 2048,
                ..Config::default()
            };
            let world = World::builder(seed).config(config);
            let world = faults
                .iter()
                .fold(world, |it, fault| it.fault(*fault, 3_000));
            let world = world.build().unwrap();
            let server = world.server(NAME, &["10.0.0.1"]).unwrap();
            let answer = [7; 5000];
            let script = Script::new();
            server.on_connect((0..40).fold(script, |it, _| it.expect("ping").send(answer)));
            on(&world, 0, async move |pool| {
                for turn in 0..40 {
                    let conn = pool.get(NAME).await?;
                    conn.write_all(b"ping").await?;
                    if patient && turn % 2 == 0 {
                        let first = conn.read_chunk().await?.unwrap();
                        sim::sleep(ms(1)).await; // bounded: virtual time
                        conn.read_exact(&mut vec![0; answer.len() - first.len()])
                            .await?;
                    } else {
                        conn.read_exact(&mut [0; 5000]).await?;
                    }
                    conn.release();
                }
                Ok(())
            })
            .unwrap();
            let stats = stats(&world);
            assert_eq!(
                (stats.created, stats.closed),
                (1, 0),
                "{stats:?} {faults:?}"
            );
            assert_fired(&world, faults);
            nothing_left(&world, &[server]);
        });
    }
}

#[test]
fn e4_r11_k14_what_waits_behind_a_stopped_receive_is_not_the_next_users() {
    for faults in [
        &[][..],
        &[Fault::AnyOrder],
        &[Fault::AnyOrder, Fault::CancelMisses],
        &[Fault::AnyOrder, Fault::CancelLate],
        &[Fault::NoBuffer, Fault::MultishotEnds],
    ] {
        let left = Rc::new(Cell::new(0));
        seeds(20, |seed| {
            let config = Config {
                recv_buffers: 8,
                recv_buffer_size: 512,
                recv_limit: 2048,
                ..Config::default()
            };
            let world = World::builder(seed).config(config);
            let world = faults
                .iter()
                .fold(world, |it, fault| it.fault(*fault, 3_000));
            let world = world.build().unwrap();
            let server = world.server(NAME, &["10.0.0.1"]).unwrap();
            let mut answer = [7; 20_000];
            answer[0] = 1;
            let script = Script::new();
            server.on_connect((0..20).fold(script, |it, _| it.expect("ping").send(answer)));
            let left = left.clone();
            on(&world, 0, async move |pool| {
                for _ in 0..20 {
                    let conn = pool.get(NAME).await?;
                    conn.write_all(b"ping").await?;
                    let mut chunk = conn.read_chunk().await?.unwrap();
                    assert_eq!(chunk[0], 1, "the rest of what the last user was sent");
                    let mut taken = chunk.len();
                    sim::sleep(ms(50)).await; // bounded: virtual time, in which all has come
                    // What is there is taken for the whole answer.
                    while let Some(next) = at_once(conn.read_chunk()).await {
                        chunk = next?.unwrap();
                        taken += chunk.len();
                    }
                    drop(chunk);
                    left.set(left.get() + usize::from(taken < answer.len()));
                    conn.release();
                }
                Ok(())
            })
            .unwrap();
            nothing_left(&world, &[server]);
        });
        assert!(left.get() > 100, "{} times something was left", left.get());
    }
}

#[test]
fn e4_r11_what_has_come_and_was_not_read_is_not_the_next_waiters() {
    let left = Rc::new(Cell::new(0));
    seeds(30, |seed| {
        let config = Config {
            recv_buffers: 8,
            recv_buffer_size: 512,
            recv_limit: 2048,
            max_connections_per_endpoint: 1,
            ..Config::default()
        };
        let world = world(seed, config);
        let server = world.server(NAME, &["10.0.0.1"]).unwrap();
        let mut answer = [7; 20_000];
        answer[0] = 1;
        let script = Script::new();
        server.on_connect((0..20).fold(script, |it, _| it.expect("ping").send(answer)));
        for user in 0..2 {
            let left = left.clone();
            world.spawn_on(0, &format!("user {user}"), async move {
                let pool = Pool::local().unwrap();
                for turn in 0..10 {
                    let conn = pool.get(NAME).await.unwrap();
                    conn.write_all(b"ping").await.unwrap();
                    let mut chunk = conn.read_chunk().await.unwrap().unwrap();
                    assert_eq!(chunk[0], 1, "the rest of what the last user was sent");
                    let mut taken = chunk.len();
                    sim::sleep(ms(50)).await; // bounded: virtual time, in which all has come
                    while let Some(next) = at_once(conn.read_chunk()).await {
                        chunk = next.unwrap().unwrap();
                        taken += chunk.len();
                    }
                    drop(chunk);
                    left.set(left.get() + usize::from(taken < 20_000));
                    // The receive is armed again, and submitted, and reports, while this one waits
                    // for something else.
                    for _ in 0..turn % 5 {
                        yield_now().await;
                    }
                    conn.release();
                }
            });
        }
        world.run().unwrap();
        world.audit().unwrap();
        nothing_left(&world, &[server]);
    });
    assert!(left.get() > 100, "{} times something was left", left.get());
}

/// Lets other tasks run.
async fn yield_now() {
    let mut has_run = false;
    std::future::poll_fn(|cx| match std::mem::replace(&mut has_run, true) {
        true => Poll::Ready(()),
        false => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}

/// What the future has to say at its first poll.
async fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

#[test]
fn r12_a_receive_that_ends_without_an_error_is_armed_again_and_loses_no_byte() {
    seeds(20, |seed| {
        let world = World::builder(seed)
            .fault(Fault::MultishotEnds, 10_000)
            .build()
            .unwrap();
        let server = world.server(NAME, &["10.0.0.1"]).unwrap();
        let text: Vec<u8> = (0..5000_u32).flat_map(|n| n.to_be_bytes()).collect();
        let mut script = Script::new();
        for piece in text.chunks(700) {
            script = script.send(piece).wait(Duration::from_micros(100));
        }
        server.on_connect(script.expect("ping").send("pong"));
        let wanted = text.len();
        let back = on(&world, 0, async move |pool| {
            let conn = pool.get(NAME).await?;
            let mut back = vec![0; wanted];
            conn.read_exact(&mut back).await?;
            ping(&conn).await?;
            conn.release();
            Ok(back)
        });
        assert_eq!(back.unwrap(), text);
        assert!(world.fired(Fault::MultishotEnds) > 20);
        nothing_left(&world, &[server]);
    });
}

#[test]
fn r17_slots_that_are_used_again_and_again_never_take_an_old_completion() {
    seeds(20, |seed| {
        let config = Config {
            max_connections_per_shard: 2,
            max_connection_uses: 1,
            ..Config::default()
        };
        let world = World::builder(seed)
            .config(config)
            .fault(Fault::StaleCompletion, 10_000)
            .fault(Fault::AnyOrder, 3_000)
            .build()
            .unwrap();
        let server = ponging(&world);
        for _ in 0..50 {
            let ended = gets_at_once(&world, 1, 4);
            world.run().unwrap();
            assert!(
                ended.borrow().iter().all(Result::is_ok),
                "{:?}",
                ended.borrow()
            );
            world.audit().unwrap();
        }
        assert!(world.fired(Fault::StaleCompletion) > 50);
        assert!(server.connects() >= 200);
        nothing_left(&world, &[server]);
    });
}
