//! Settings that act over a connection's life, hooks, and what a shard tells of itself.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringpool::{CloseReason, Config, ErrorKind, HealthCheck, Hook, Pool};
use support::{Server, eventually_async, on_one_shard};

#[test]
fn hooks_are_told_of_each_connections_life() {
    let server = Server::echo();
    let name = server.name();
    let log = Arc::new(Mutex::new(Vec::new()));
    let hook = |what: &'static str| {
        let log = log.clone();
        Hook::new(move |info| {
            // A hook may call the pool: nothing of it is borrowed.
            let _known = Pool::local().unwrap().stats(&info.endpoint).unwrap();
            log.lock().unwrap().push((what, info.closed));
        })
    };
    let config = Config {
        on_connection_created: Some(hook("created")),
        on_connection_reused: Some(hook("reused")),
        on_connection_closed: Some(hook("closed")),
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        pool.get(&*name).await?.release();
        pool.get(&*name).await?.close();
        eventually_async("closed", || pool.stats(&*name).unwrap().permits == 0).await;
        Ok(())
    });
    let expected = [
        ("created", None),
        ("reused", None),
        ("closed", Some(CloseReason::Requested)),
    ];
    assert_eq!(*log.lock().unwrap(), expected);
}

#[test]
fn p6_a_panic_in_a_hook_is_contained_and_counted() {
    let server = Server::echo();
    let name = server.name();
    let config = Config {
        on_connection_created: Some(Hook::new(|_| panic!("a hook panics"))),
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        pool.get(&*name).await?.release();
        assert_eq!(pool.shard_stats().panics, 1);
        assert_eq!(pool.stats(&*name)?.idle, 1);
        Ok(())
    });
}

#[test]
fn e12_a_connection_ends_after_its_uses_its_idle_time_and_its_lifetime() {
    let server = Server::echo();
    let name = server.name();
    let uses = Config {
        max_connection_uses: 3,
        ..Config::default()
    };
    let idle = Config {
        max_idle_time: Duration::from_millis(30),
        ..Config::default()
    };
    let life = Config {
        max_connection_lifetime: Duration::from_millis(30),
        ..Config::default()
    };
    let table = [
        (uses, CloseReason::Uses),
        (idle, CloseReason::IdleTime),
        (life, CloseReason::Lifetime),
    ];
    for (config, reason) in table {
        let name = name.clone();
        on_one_shard(config, async move || {
            let pool = Pool::local()?;
            for _ in 0..3 {
                pool.get(&*name).await?.release();
            }
            eventually_async("it ends", || pool.stats(&*name).unwrap().closed >= 1).await;
            assert!(pool.stats(&*name)?.closed_by(reason) >= 1, "{reason:?}");
            Ok(())
        });
    }
}

#[test]
fn min_idle_is_kept_ready_once_the_endpoint_is_used() {
    let server = Server::echo();
    let name = server.name();
    let config = Config {
        min_idle: 3,
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        let held = pool.get(&*name).await?;
        eventually_async("three are ready", || pool.stats(&*name).unwrap().idle == 3).await;
        held.release();
        Ok(())
    });
}

#[test]
fn an_endpoint_that_was_warmed_up_serves_its_first_gets_at_once() {
    let server = Server::echo();
    let name = server.name();
    let config = Config {
        min_idle: 3,
        connect_retry_count: 0,
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        let endpoint = pool.endpoint(&*name)?;
        endpoint.warm_up().await?;
        assert_eq!((endpoint.stats().idle, endpoint.stats().created), (3, 3));
        let conn = endpoint.try_get()?.expect("an idle connection");
        conn.release();
        // Nobody listens there.
        let nowhere = pool.endpoint("127.0.0.1:1")?;
        let error = nowhere.warm_up().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connect);
        assert!(error.to_string().contains("warming"), "{error}");
        Ok(())
    });
}

#[test]
fn a_health_check_of_the_users_keeps_a_connection_back() {
    let server = Server::echo();
    let name = server.name();
    let asked = Arc::new(AtomicUsize::new(0));
    let check = {
        let asked = asked.clone();
        HealthCheck::new(move |_| asked.fetch_add(1, Ordering::SeqCst) == 0)
    };
    let config = Config {
        health_check_after: Duration::from_millis(5),
        health_check: Some(check),
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        for reused in [false, true, false] {
            let conn = pool.get(&*name).await?;
            assert_eq!(conn.is_reused(), reused);
            conn.release();
            tokio::time::sleep(Duration::from_millis(20)).await; // bounded: it must have been idle
        }
        Ok(())
    });
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[test]
fn the_trace_tells_what_went_in_and_out() {
    let server = Server::echo();
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let pool = Pool::local()?;
        assert!(pool.take_trace().records.is_empty());
        pool.start_trace(100);
        pool.get(&*name).await?.release();
        let trace = pool.take_trace();
        let text: Vec<&str> = trace.records.iter().map(|record| &*record.what).collect();
        for step in [
            "get ",
            "<- Resolve",
            "-> PermitGranted",
            "<- Dial",
            "-> Connected",
            "<- Grant",
        ] {
            assert!(
                text.iter().any(|what| what.starts_with(step)),
                "{step} in {text:#?}"
            );
        }
        assert!(text.last().unwrap().starts_with("put "));
        assert!(trace.records.is_sorted_by_key(|record| record.at));
        pool.start_trace(2);
        pool.get(&*name).await?.release();
        pool.get(&*name).await?.release();
        let trace = pool.take_trace();
        assert_eq!((trace.records.len(), trace.dropped), (2, 2));
        Ok(())
    });
}

#[test]
fn a_shard_counts_what_it_asks_of_the_kernel() {
    let server = Server::echo();
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let pool = Pool::local()?;
        for _ in 0..10 {
            let conn = pool.get(&*name).await?;
            conn.write_all(b"ping\n").await?;
            conn.read_line(16).await?;
            conn.release();
        }
        let stats = pool.shard_stats();
        assert!(stats.enters >= 1 && stats.operations >= 14, "{stats:?}");
        assert_eq!(
            (
                stats.stale_completions,
                stats.overflows,
                stats.events_ignored
            ),
            (0, 0, 0)
        );
        assert_eq!(stats.buffers_lent, 0);
        Ok(())
    });
}
