//! The main job: from a name to a live connection, and back.

mod support;

use std::time::Duration;

use ringpool::{CloseReason, Config, ErrorKind, Pool};
use support::{Server, eventually_async, on_one_shard, refusing_port, shards, short_pauses};

#[test]
fn a_connection_is_opened_once_and_used_again() {
    let server = Server::echo();
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let pool = Pool::local()?;
        for round in 0..100u32 {
            let conn = pool.get(&*name).await?;
            assert_eq!(conn.is_reused(), round > 0);
            let message = round.to_be_bytes();
            conn.write_all(&message).await?;
            let mut echo = [0; 4];
            conn.read_exact(&mut echo).await?;
            assert_eq!(echo, message);
            conn.release();
        }
        let stats = pool.stats(&*name)?;
        assert_eq!((stats.created, stats.reused, stats.closed), (1, 99, 0));
        assert_eq!((stats.idle, stats.in_use, stats.permits), (1, 0, 1));
        Ok(())
    });
    assert_eq!(server.accepted(), 1);
}

#[test]
fn uses_within_one_turn_are_counted_at_once() {
    let server = Server::echo();
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let endpoint = Pool::local()?.endpoint(&*name)?;
        for _ in 0..50 {
            endpoint.get().await?.release();
        }
        let stats = endpoint.stats();
        assert_eq!((stats.created, stats.reused), (1, 49));
        assert_eq!((stats.idle, stats.in_use), (1, 0));
        endpoint.get().await?.release();
        let conn = endpoint.get().await?;
        let stats = endpoint.stats();
        assert_eq!((stats.idle, stats.in_use, stats.reused), (0, 1, 51));
        assert!(endpoint.try_get()?.is_none());
        conn.release();
        endpoint.clear();
        assert_eq!(endpoint.stats().closed_by(CloseReason::Requested), 1);
        Ok(())
    });
}

#[test]
fn s7_every_spelling_of_a_name_is_one_endpoint() {
    let server = Server::echo();
    let port = server.address().port();
    on_one_shard(Config::default(), async move || {
        let pool = Pool::local()?;
        for host in ["localhost", "LOCALHOST", "localhost."] {
            pool.get(format!("{host}:{port}")).await?.release();
        }
        assert_eq!(pool.stats(format!("localhost:{port}"))?.created, 1);
        Ok(())
    });
}

#[test]
fn a_dropped_connection_is_closed_and_counted() {
    let server = Server::echo();
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let pool = Pool::local()?;
        drop(pool.get(&*name).await?);
        eventually_async("the close", || pool.stats(&*name).unwrap().closed == 1).await;
        assert_eq!(pool.stats(&*name)?.closed_by(CloseReason::NotReleased), 1);
        Ok(())
    });
    support::eventually("the server sees the end", || server.ended() == 1);
}

#[test]
fn e18_s8_a_connection_with_unread_bytes_is_not_reused() {
    let server = Server::echo();
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let pool = Pool::local()?;
        let conn = pool.get(&*name).await?;
        conn.write_all(b"two lines\nof text\n").await?;
        assert_eq!(conn.read_line(64).await?, "two lines");
        conn.release();
        eventually_async("the close", || pool.stats(&*name).unwrap().closed == 1).await;
        assert_eq!(pool.stats(&*name)?.closed_by(CloseReason::Unread), 1);
        Ok(())
    });
}

#[test]
fn with_connection_releases_on_ok_and_closes_on_err() {
    let server = Server::echo();
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let pool = Pool::local()?;
        let line = pool
            .with_connection(&*name, async |conn| {
                conn.write_all(b"hello\n").await?;
                conn.read_line(64).await
            })
            .await?;
        assert_eq!(line, "hello");
        let failed: Result<(), ringpool::Error> = pool
            .with_connection(&*name, async |_conn| {
                Err(ringpool::Error::new(ErrorKind::Protocol, "not today"))
            })
            .await;
        assert_eq!(failed.unwrap_err().to_string(), "not today");
        eventually_async("the close", || pool.stats(&*name).unwrap().closed == 1).await;
        let stats = pool.stats(&*name)?;
        assert_eq!((stats.created, stats.reused), (1, 1));
        Ok(())
    });
}

#[test]
fn c1_a_refused_connect_says_what_was_being_done() {
    let port = refusing_port();
    on_one_shard(short_pauses(), async move || {
        let pool = Pool::local()?;
        let error = pool.get(format!("localhost:{port}")).await.unwrap_err();
        assert!(error.is_connect(), "{error}");
        let text = error.to_string();
        let cause =
            format!("connection refused (os error 111), connecting to tcp:127.0.0.1:{port}");
        assert!(
            text.starts_with(&cause) || text.contains("tcp:[::1]"),
            "{text}"
        );
        assert!(
            text.contains(&format!(", connecting to localhost:{port}")),
            "{text}"
        );
        assert!(text.ends_with("after 3 retry attempts"), "{text}");
        let stats = pool.stats(format!("localhost:{port}"))?;
        assert_eq!((stats.created, stats.connecting, stats.permits), (0, 0, 0));
        assert!(stats.errors >= 4);
        Ok(())
    });
}

#[test]
fn a_get_at_the_limit_waits_in_line_and_then_fails_with_figures() {
    let server = Server::echo();
    let name = server.name();
    let config = Config {
        max_connections_per_endpoint: 1,
        get_timeout: Duration::from_millis(500),
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        let held = pool.get(&*name).await?;
        let error = pool.get(&*name).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::GetTimeout, "{error}");
        let figures = error.exhaustion().unwrap();
        assert!(figures.waited >= Duration::from_millis(500));
        assert_eq!((figures.waiters, figures.in_use), (1, 1));
        held.release();
        pool.get(&*name).await?.release();
        Ok(())
    });
    assert_eq!(server.accepted(), 1);
}

#[test]
fn the_limit_holds_over_all_cores() {
    let server = Server::echo();
    let name = server.name();
    let config = Config {
        max_connections_per_endpoint: 3,
        ..Config::default()
    };
    let shards = shards(2, config);
    let permits = shards
        .collect_from_each(move || {
            let name = name.clone();
            async move {
                let pool = Pool::local()?;
                let endpoint = pool.endpoint(&*name)?;
                let tasks: Vec<_> = (0..16u8)
                    .map(|client| {
                        let endpoint = endpoint.clone();
                        ringpool::spawn(async move {
                            let mut most = 0;
                            for round in 0..50u8 {
                                let conn = endpoint.get().await?;
                                conn.write_all(&[client, round]).await?;
                                let mut echo = [0; 2];
                                conn.read_exact(&mut echo).await?;
                                assert_eq!(echo, [client, round]);
                                most = most.max(endpoint.stats().permits);
                                conn.release();
                            }
                            Ok::<_, ringpool::Error>(most)
                        })
                    })
                    .collect();
                let mut most = 0;
                for task in tasks {
                    most = most.max(task.await??);
                }
                Ok(most)
            }
        })
        .unwrap();
    assert!(permits.into_iter().all(|most| most <= 3));
}

#[test]
fn e1_an_idle_connection_that_the_server_closed_is_not_handed_out() {
    let server = Server::echo();
    let name = server.name();
    let pool_name = name.clone();
    let shards = shards(1, Config::default());
    let first = move || async move {
        let pool = Pool::local()?;
        // The last of them leaves it where the next get of the same turn would find it.
        for _ in 0..3 {
            pool.get(&*pool_name).await?.release();
        }
        Ok::<_, ringpool::Error>(())
    };
    shards.run_on(0, first).unwrap().wait().unwrap().unwrap();
    support::eventually("the server has accepted it", || server.open() == 1);
    server.close_all();
    let second = move || async move {
        let pool = Pool::local()?;
        eventually_async("the end is noticed", || {
            pool.stats(&*name).unwrap().closed == 1
        })
        .await;
        assert_eq!(pool.stats(&*name)?.closed_by(CloseReason::PeerClosed), 1);
        let conn = pool.get(&*name).await?;
        assert!(!conn.is_reused());
        conn.release();
        Ok::<_, ringpool::Error>(())
    };
    shards.run_on(0, second).unwrap().wait().unwrap().unwrap();
}

#[test]
fn e4_s8_unsolicited_bytes_close_an_idle_connection() {
    let server = Server::new(|mut stream, counters| {
        use std::io::{Read, Write};
        let mut byte = [0];
        // Echoes one byte, then says something nobody asked for.
        if stream.read_exact(&mut byte).is_ok() {
            let _gone = stream.write_all(&byte);
            let _gone = stream.read_exact(&mut byte);
            let _gone = stream.write_all(b"?");
        }
        support::swallow(stream, counters);
    });
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let pool = Pool::local()?;
        let conn = pool.get(&*name).await?;
        let mut echo = [0];
        conn.write_all(b"a").await?;
        conn.read_exact(&mut echo).await?;
        // The second byte is sent but its answer not awaited: it comes while idle.
        conn.write_all(b"b").await?;
        conn.flush().await?;
        conn.release();
        eventually_async("the close", || pool.stats(&*name).unwrap().closed == 1).await;
        let stats = pool.stats(&*name)?;
        let seen = stats.closed_by(CloseReason::Unsolicited) + stats.closed_by(CloseReason::Unread);
        assert_eq!(seen, 1);
        Ok(())
    });
}

#[test]
fn p1_clear_endpoint_and_drain_leave_nothing() {
    let server = Server::echo();
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let pool = Pool::local()?;
        pool.get(&*name).await?.release();
        pool.clear_endpoint(&*name)?;
        eventually_async("the close", || pool.stats(&*name).unwrap().permits == 0).await;
        let busy = pool.get(&*name).await?;
        let other = pool.clone();
        let draining = ringpool::spawn(async move { other.drain(Duration::from_secs(5)).await });
        eventually_async("the drain has begun", || {
            pool.try_get(&*name).is_ok_and(|conn| conn.is_none())
        })
        .await;
        let refused = loop {
            match pool.get(&*name).await {
                Err(error) => break error,
                Ok(conn) => conn.close(),
            }
        };
        assert_eq!(refused.kind(), ErrorKind::Draining);
        busy.write_all(b"still works\n").await?;
        assert_eq!(busy.read_line(64).await?, "still works");
        busy.release();
        assert_eq!(draining.await?, 0);
        assert_eq!(pool.stats(&*name)?.permits, 0);
        Ok(())
    });
}

#[test]
fn p10_off_a_shard_there_is_an_error() {
    assert_eq!(Pool::local().unwrap_err().kind(), ErrorKind::NotOnShard);
}

#[test]
fn s12_bad_endpoints_are_refused_with_the_byte_at_fault() {
    on_one_shard(Config::default(), async move || {
        let pool = Pool::local()?;
        let bad = [
            "", ":80", "a:0", "a", "a:http", "a b:1", "a\0b:1", "a\r\n:1", "a\\b:1", "127.1:80",
        ];
        for text in bad {
            let error = pool.get(text).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text:?}: {error}");
            assert!(!error.to_string().contains(['\0', '\r', '\n']), "{error:?}");
        }
        Ok(())
    });
}
