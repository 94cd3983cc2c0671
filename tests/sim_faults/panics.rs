//! Groups P and K, panics: in a task or in any function that the pool calls, one costs its own
//! connection at most.

use super::*;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ringpool::{CloseReason, ConnectionInfo, HealthCheck, Hook, Stream};

#[test]
fn p5_k16_a_panic_with_a_connection_in_hand_closes_it_and_gives_its_place_back() {
    seeds(20, |seed| {
        let config = Config {
            max_connections_per_endpoint: 1,
            ..Config::default()
        };
        let world = world(seed, config);
        let server = ponging(&world);
        world.spawn_on(0, "panics", async {
            let conn = Pool::local().unwrap().get(NAME).await.unwrap();
            conn.write_all(b"ping").await.unwrap();
            panic!("p5: on purpose");
        });
        let ended = gets_at_once(&world, 1, 3);
        world.run().unwrap();
        assert!(
            ended.borrow().iter().all(Result::is_ok),
            "{:?}",
            ended.borrow()
        );
        world.run_for(ms(1)).unwrap();
        assert_eq!(stats(&world).closed, 1, "its connection is idle");
        nothing_left(&world, &[server]);
    });
}

/// Where [`Panics`] panics.
#[derive(Clone, Copy, PartialEq, Debug)]
enum At {
    Nowhere,
    Init,
    Health,
    IdleBytes,
    Acquire,
    Release,
    Close,
}

/// A protocol whose method panics, the first time.
struct Panics {
    at: At,
    left: std::cell::Cell<u32>,
}

impl Panics {
    fn here(&self, at: At) {
        if self.at == at && self.left.replace(0) > 0 {
            panic!("p6: on purpose in {at:?}");
        }
    }
}

impl Protocol for Panics {
    type State = ();

    fn key(&self) -> String {
        String::new()
    }

    async fn init(&self, _stream: Stream) -> Result<()> {
        self.here(At::Init);
        Ok(())
    }

    fn checks_health(&self) -> bool {
        true
    }

    async fn is_healthy(&self, _stream: Stream, _state: Rc<()>) -> bool {
        self.here(At::Health);
        true
    }

    fn on_idle_bytes(&self, (): &(), _bytes: &[u8]) -> bool {
        self.here(At::IdleBytes);
        true
    }

    fn on_acquire(&self, (): &()) {
        self.here(At::Acquire);
    }

    fn on_release(&self, (): &()) {
        self.here(At::Release);
    }

    fn on_close(&self, (): &()) {
        self.here(At::Close);
    }
}

#[test]
fn p6_a_panic_in_any_method_of_a_protocol_costs_its_connection_at_most() {
    for at in [
        At::Nowhere,
        At::Init,
        At::Health,
        At::IdleBytes,
        At::Acquire,
        At::Release,
        At::Close,
    ] {
        seeds(5, |seed| {
            let config = Config {
                max_connections_per_endpoint: 2,
                ..Config::default()
            };
            let world = world(seed, config);
            let server = world.server(NAME, &["10.0.0.1"]).unwrap();
            // Bytes that nobody asked for come once, and then it answers.
            let script = Script::new()
                .expect("ping")
                .send("pong")
                .wait(ms(100))
                .send("!");
            server.on_connect(pongs_after(script));
            server.on_connect(pongs());
            let left = std::cell::Cell::new(1);
            let result = on(&world, 0, async move |shard| {
                let pool = shard.protocol(Panics { at, left });
                let mut failed = 0;
                for _ in 0..4 {
                    let task = async {
                        let conn = pool.get(NAME).await?;
                        ping(&conn).await?;
                        conn.release();
                        ringpool::Result::<()>::Ok(())
                    };
                    let task = std::panic::AssertUnwindSafe(task);
                    failed += usize::from(!matches!(caught(task).await, Some(Ok(()))));
                    after(secs(1)).await;
                }
                Ok((failed, shard.shard_stats(), pool.stats(NAME)?))
            });
            let (failed, shard, stats) = result.unwrap();
            assert!(failed <= 1, "{at:?}: the shard is poisoned");
            assert_eq!(
                stats.in_use + stats.connecting + stats.closing,
                0,
                "{at:?}: {stats:?}"
            );
            if !matches!(at, At::Nowhere | At::Acquire | At::Close) {
                assert!(shard.panics > 0, "{at:?} did not panic: {shard:?}");
            }
            nothing_left(&world, &[server]);
        });
    }
}

/// What the future returned; `None` if it panicked.
async fn caught<F: Future>(future: std::panic::AssertUnwindSafe<F>) -> Option<F::Output> {
    let mut future = Box::pin(future.0);
    std::future::poll_fn(move |cx| {
        let poll =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| future.as_mut().poll(cx)));
        match poll {
            Ok(poll) => poll.map(Some),
            Err(_) => Poll::Ready(None),
        }
    })
    .await
}

#[test]
fn p6_a_panic_in_a_hook_of_the_settings_is_contained() {
    seeds(10, |seed| {
        let calls = Arc::new(AtomicUsize::new(0));
        let count = calls.clone();
        let panics = move |_: &ConnectionInfo| {
            count.fetch_add(1, Ordering::Relaxed);
            panic!("p6: on purpose in a hook");
        };
        let check = calls.clone();
        let config = Config {
            on_connection_created: Some(Hook::new(panics.clone())),
            on_connection_reused: Some(Hook::new(panics.clone())),
            on_connection_closed: Some(Hook::new(panics)),
            health_check: Some(HealthCheck::new(move |_| {
                check.fetch_add(1, Ordering::Relaxed);
                panic!("p6: on purpose in a health check");
            })),
            ..Config::default()
        };
        let world = world(seed, config);
        let server = ponging(&world);
        for _ in 0..3 {
            exchange_on(&world).unwrap();
            exchange_on(&world).unwrap();
            world.run_for(secs(1)).unwrap();
        }
        assert!(calls.load(Ordering::Relaxed) >= 6);
        assert_eq!(stats(&world).closed_by(CloseReason::Unhealthy), 2);
        nothing_left(&world, &[server]);
    });
}
