//! The user's code runs with nothing of the pool borrowed (D36): a hook, a waker or the drop of a
//! state may call the pool, and a panic in one stays there.

mod support;

use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use ringpool::{
    CloseReason, Config, Conn, ConnectionInfo, HealthCheck, Hook, Pool, Protocol, Result, Stream,
};
use support::{Server, eventually_async, on_one_shard};

/// Calls whatever can be called without waiting.
fn call_everything(info: &ConnectionInfo) {
    let pool = Pool::local().unwrap();
    let endpoint = &info.endpoint;
    let _ = pool.try_get(endpoint).unwrap();
    assert!(pool.stats(endpoint).is_ok());
    assert_eq!(pool.all_stats().len(), 1);
    pool.clear_endpoint(endpoint).unwrap();
    drop(ringpool::spawn(async {}));
}

#[test]
fn a_hook_may_call_the_pool() {
    let server = Server::echo();
    let name = server.name();
    let calls = Arc::new(AtomicUsize::new(0));
    let hook = {
        let calls = calls.clone();
        Hook::new(move |info| {
            call_everything(info);
            calls.fetch_add(1, Ordering::SeqCst);
        })
    };
    let config = Config {
        on_connection_created: Some(hook.clone()),
        on_connection_reused: Some(hook.clone()),
        on_connection_closed: Some(hook),
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        for _ in 0..3 {
            pool.get(&*name).await?.release();
        }
        eventually_async("every connection ends", || {
            let stats = pool.stats(&*name).unwrap();
            stats.created > 0 && stats.created == stats.closed
        })
        .await;
        Ok(())
    });
    assert!(calls.load(Ordering::SeqCst) >= 2);
}

#[test]
fn p6_a_panic_in_a_hook_is_contained() {
    let server = Server::echo();
    let name = server.name();
    let config = Config {
        on_connection_created: Some(Hook::new(|_| panic!("a hook that panics, on purpose"))),
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        let conn = pool.get(&*name).await?;
        conn.write_all(b"still there").await?;
        conn.read_exact(&mut [0; 11]).await?;
        conn.release();
        assert!(pool.try_get(&*name)?.is_some());
        Ok(())
    });
}

thread_local! {
    static HELD: RefCell<Option<Conn>> = const { RefCell::new(None) };
}

/// A waker that drops a connection of its thread.
struct DropsConnection(AtomicUsize);

impl Wake for DropsConnection {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
        drop(HELD.take());
    }
}

#[test]
fn a_waker_may_drop_a_connection() {
    let (first, second) = (Server::echo(), Server::echo());
    let (first, second) = (first.name(), second.name());
    let config = Config {
        max_connections_per_endpoint: 1,
        ..Config::default()
    };
    let woken = Arc::new(DropsConnection(AtomicUsize::new(0)));
    let seen = woken.clone();
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        let endpoint = pool.endpoint(&*first)?;
        let conn = endpoint.get().await?;
        HELD.set(Some(pool.get(&*second).await?));
        let waker = Waker::from(woken);
        let mut waiting = pin!(endpoint.get());
        let mut context = Context::from_waker(&waker);
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        conn.release();
        assert!(HELD.take().is_none());
        let Poll::Ready(granted) = waiting.poll(&mut context) else {
            panic!("the release went to the waiter");
        };
        granted?.release();
        eventually_async("the dropped connection is closed", || {
            pool.stats(&*second).unwrap().closed == 1
        })
        .await;
        Ok(())
    });
    assert_eq!(seen.0.load(Ordering::SeqCst), 1);
}

/// A protocol whose state clears its endpoint when it is dropped.
struct Clearing(String);

struct ClearsWhenDropped(String);

impl Drop for ClearsWhenDropped {
    fn drop(&mut self) {
        let pool = Pool::local().unwrap();
        pool.protocol(Clearing(self.0.clone()))
            .clear_endpoint(&*self.0)
            .unwrap();
        pool.clear_endpoint(&*self.0).unwrap();
    }
}

impl Protocol for Clearing {
    type State = ClearsWhenDropped;

    fn key(&self) -> String {
        String::new()
    }

    async fn init(&self, _stream: Stream) -> Result<ClearsWhenDropped> {
        Ok(ClearsWhenDropped(self.0.clone()))
    }
}

#[test]
fn the_drop_of_a_state_may_clear_its_endpoint() {
    let server = Server::echo();
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let pool = Pool::local()?.protocol(Clearing(name.clone()));
        let (first, second) = (pool.get(&*name).await?, pool.get(&*name).await?);
        second.release();
        first.close();
        eventually_async("both end", || pool.stats(&*name).unwrap().closed == 2).await;
        Ok(())
    });
}

/// A protocol whose health check panics, at once or in its task.
struct Ill(bool);

impl Protocol for Ill {
    type State = ();

    fn key(&self) -> String {
        self.0.to_string()
    }

    async fn init(&self, _stream: Stream) -> Result<()> {
        Ok(())
    }

    fn checks_health(&self) -> bool {
        true
    }

    fn is_healthy(&self, _stream: Stream, _state: Rc<()>) -> impl Future<Output = bool> {
        assert!(!self.0, "is_healthy panics at once");
        std::future::poll_fn(|_| panic!("is_healthy panics in its task"))
    }
}

#[test]
fn p6_a_panic_in_a_health_check_closes_that_connection_alone() {
    let server = Server::echo();
    let name = server.name();
    let config = Config {
        health_check_after: Duration::ZERO,
        health_check: Some(HealthCheck::new(|_| panic!("a check that panics"))),
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let plain = Pool::local()?;
        plain.get(&*name).await?.release();
        tokio::time::sleep(Duration::from_millis(1)).await; // bounded: it must have been idle
        assert!(!plain.get(&*name).await?.is_reused());
        assert_eq!(plain.stats(&*name)?.closed_by(CloseReason::Unhealthy), 1);
        for at_once in [false, true] {
            let pool = Pool::local()?.protocol(Ill(at_once));
            pool.get(&*name).await?.release();
            tokio::time::sleep(Duration::from_millis(1)).await; // bounded: as above
            let conn = pool.get(&*name).await?;
            assert!(!conn.is_reused());
            conn.write_all(b"alive").await?;
            conn.read_exact(&mut [0; 5]).await?;
            assert_eq!(pool.stats(&*name)?.closed_by(CloseReason::Unhealthy), 1);
        }
        assert_eq!(plain.shard_stats().panics, 3);
        Ok(())
    });
}
