//! Futures dropped at every await point; afterwards nothing is leaked: no permit, no slot, no
//! waiter, no buffer, no descriptor.

mod support;

use std::future::{Future, poll_fn};
use std::net::TcpStream;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use ringpool::{Config, Pool, Result};
use support::{Server, eventually_async, on_one_shard, poll_times, refusing_port, short_pauses};

async fn round(pool: &Pool, name: &str) -> Result<()> {
    let conn = pool.get(name).await?;
    conn.write_all(b"ping\n").await?;
    assert_eq!(conn.read_line(16).await?, "ping");
    conn.release();
    Ok(())
}

async fn settled(pool: &Pool, name: &str) {
    eventually_async("all settles", || {
        let stats = pool.stats(name).unwrap();
        stats.waiters + stats.connecting + stats.in_use + stats.closing == 0
            && stats.permits == stats.idle
            && pool.shard_stats().buffers_lent == 0
    })
    .await;
}

#[test]
fn k1_k4_k5_k8_k9_k10_a_get_dropped_at_any_point_leaks_nothing() {
    // The pool may have two; it never does, because each connection opens after all has settled.
    let server = Server::echo().limited_to(1);
    let name = server.name();
    let config = Config {
        max_connections_per_endpoint: 2,
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        for times in 1..60 {
            // From nothing: the drop hits resolving, dialing, and every step of the exchange.
            pool.clear_endpoint(&*name)?;
            settled(&pool, &name).await;
            let _done = poll_times(round(&pool, &name), times).await;
            settled(&pool, &name).await;
            // And with an idle connection there.
            round(&pool, &name).await?;
            let _done = poll_times(round(&pool, &name), times).await;
            settled(&pool, &name).await;
        }
        round(&pool, &name).await?;
        pool.clear_endpoint(&*name)?;
        eventually_async("all closed", || pool.stats(&*name).unwrap().permits == 0).await;
        Ok(())
    });
    support::eventually("the server has none", || server.open() == 0);
    assert_eq!(server.over_limit(), None);
}

/// What the test above counts with: it sees what clients hold, however late the server's threads are.
#[test]
fn a_server_whose_threads_are_late_counts_what_clients_hold_all_the_same() {
    let turn = Arc::new(Mutex::new(()));
    let late = turn.lock().unwrap();
    let server = {
        let turn = turn.clone();
        Server::new(move |stream, _counters| {
            let _turn = turn.lock();
            drop(stream);
        })
    };
    let server = server.limited_to(1);
    for _ in 0..5 {
        drop(TcpStream::connect(server.address()).unwrap());
    }
    support::eventually("all are accepted", || server.accepted() == 5);
    assert_eq!((server.open(), server.over_limit()), (5, None));
    let _held = [(); 2].map(|()| TcpStream::connect(server.address()).unwrap());
    support::eventually("it is seen", || server.over_limit() == Some(2));
    drop(late);
}

#[test]
fn k4_k5_a_dropped_get_leaves_its_connect_to_the_next() {
    let server = Server::echo();
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let pool = Pool::local()?;
        assert!(poll_times(pool.get(&*name), 1).await.is_none());
        eventually_async("the connect ends", || pool.stats(&*name).unwrap().idle == 1).await;
        round(&pool, &name).await?;
        assert_eq!(pool.stats(&*name)?.created, 1);
        Ok(())
    });
    assert_eq!(server.accepted(), 1);
}

#[test]
fn k1_k8_waiters_dropped_in_the_queue_and_after_the_grant_lose_nothing() {
    let server = Server::echo();
    let name = server.name();
    let config = Config {
        max_connections_per_endpoint: 1,
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        for granted in [false, true] {
            let held = pool.get(&*name).await?;
            {
                let mut first = pin!(pool.get(&*name));
                let mut second = pin!(pool.get(&*name));
                poll_fn(|cx| {
                    assert!(first.as_mut().poll(cx).is_pending());
                    assert!(second.as_mut().poll(cx).is_pending());
                    Poll::Ready(())
                })
                .await;
                if granted {
                    held.release();
                } else {
                    drop(held);
                }
                // Both are dropped here: the first has the grant (or the new connect) in its name.
            }
            settled(&pool, &name).await;
            round(&pool, &name).await?;
        }
        Ok(())
    });
}

#[test]
fn k4_dropped_gets_of_a_refusing_server_leak_nothing() {
    let name = format!("127.0.0.1:{}", refusing_port());
    on_one_shard(short_pauses(), async move || {
        let pool = Pool::local()?;
        for times in 1..20 {
            let _failed = poll_times(pool.get(&*name), times).await;
        }
        settled(&pool, &name).await;
        assert_eq!(pool.stats(&*name)?.permits, 0);
        Ok(())
    });
}

#[test]
fn p7_p8_a_runtime_that_ends_in_the_middle_closes_everything() {
    let server = Server::echo();
    let name = server.name();
    let group = ringpool::Group::new(Config::default()).unwrap();
    let runtime = tokio_uring::Runtime::new(&tokio_uring::builder()).unwrap();
    runtime.block_on(async {
        let member = group.join().unwrap();
        let pool = Pool::local().unwrap();
        for n in 0..20 {
            let pool = pool.clone();
            let name = name.clone();
            drop(ringpool::spawn(async move {
                let conn = pool.get(&*name).await?;
                conn.write_all(&vec![n; 100_000]).await?;
                let _never = conn.read_to_end(usize::MAX).await?;
                conn.release();
                Ok::<_, ringpool::Error>(())
            }));
        }
        eventually_async("all are at work", || {
            let stats = pool.stats(&*name).unwrap();
            stats.in_use == 20
        })
        .await;
        std::mem::forget(member);
    });
    drop(runtime);
    support::eventually("the server has none", || server.open() == 0);
    assert!(Pool::local().is_err());
}

#[test]
fn p9_guards_and_handles_that_outlive_the_runtime_are_harmless() {
    let server = Server::echo();
    let name = server.name();
    let group = ringpool::Group::new(Config::default()).unwrap();
    let runtime = tokio_uring::Runtime::new(&tokio_uring::builder()).unwrap();
    let kept = runtime.block_on(async {
        let _member = group.join().unwrap();
        let pool = Pool::local().unwrap();
        let conn = pool.get(&*name).await.unwrap();
        conn.write_all(b"some").await.unwrap();
        let chunk = conn.read_chunk().await.unwrap().unwrap();
        (pool.endpoint(&*name).unwrap(), conn, chunk, pool)
    });
    drop(runtime);
    let (endpoint, conn, chunk, pool) = kept;
    assert_eq!(&chunk[..], b"some");
    assert!(endpoint.try_get().is_err());
    drop((chunk, conn, endpoint, pool));
    support::eventually("the server has none", || server.open() == 0);
}

#[test]
fn a_group_can_be_joined_again_on_the_same_thread() {
    let server = Server::echo();
    let name = server.name();
    let group = ringpool::Group::new(Config::default()).unwrap();
    for _ in 0..3 {
        let (group, name) = (group.clone(), name.clone());
        let runtime = tokio_uring::Runtime::new(&tokio_uring::builder()).unwrap();
        runtime.block_on(async move {
            let _member = group.join().unwrap();
            assert!(group.join().is_err());
            round(&Pool::local().unwrap(), &name).await.unwrap();
        });
        assert!(Pool::local().is_err());
    }
    support::eventually("the server has none", || server.open() == 0);
}

#[test]
fn k12_p15_drain_dropped_half_way_still_drains() {
    let server = Server::echo();
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let pool = Pool::local()?;
        let busy = pool.get(&*name).await?;
        assert!(
            poll_times(pool.drain(Duration::from_secs(60)), 2)
                .await
                .is_none()
        );
        busy.release();
        assert_eq!(pool.drain(Duration::from_secs(5)).await, 0);
        assert_eq!(pool.stats(&*name)?.permits, 0);
        Ok(())
    });
}
