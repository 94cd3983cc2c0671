//! One peer that floods must not take the buffers, the turn or the ends of a hundred quiet ones.

mod support;

use std::io::{Read, Write};
use std::time::Duration;

use ringpool::{CloseReason, Config, Pool};
use support::{Server, eventually_async, on_one_shard};

/// Few buffers, so that one flood could take them all.
fn few_buffers() -> Config {
    Config {
        max_connections_per_endpoint: 128,
        max_connecting: 128,
        recv_buffers: 16,
        recv_buffer_size: 512,
        recv_limit: 2048,
        ..Config::default()
    }
}

/// Sends zeros for as long as anybody takes them.
fn flooding() -> Server {
    Server::new(|mut stream, _counters| {
        let mut byte = [0];
        if stream.read_exact(&mut byte).is_err() {
            return;
        }
        while stream.write_all(&[0; 65536]).is_ok() {}
    })
}

/// Answers each byte and ends when it hears `q`.
fn quiet() -> Server {
    Server::new(|mut stream, _counters| {
        let mut byte = [0];
        while stream.read_exact(&mut byte).is_ok() && byte != *b"q" {
            if stream.write_all(&byte).is_err() {
                return;
            }
        }
    })
}

#[test]
fn r11_a_hundred_quiet_peers_are_heard_beside_a_flood() {
    let (flood, quiet) = (flooding(), quiet());
    let (flood_name, quiet_name) = (flood.name(), quiet.name());
    on_one_shard(few_buffers(), async move || {
        let pool = Pool::local()?;
        let flooded = pool.get(&*flood_name).await?;
        flooded.write_all(b"!").await?;
        // Nobody reads the flood: what the connection may hold fills up.
        let mut conns = Vec::new();
        for _ in 0..100 {
            conns.push(pool.get(&*quiet_name).await?);
        }
        for round in 0..10u8 {
            for conn in &conns {
                conn.write_all(&[round]).await?;
            }
            for conn in &conns {
                let mut echo = [0xff];
                conn.read_exact(&mut echo).await?;
                assert_eq!(echo, [round]);
            }
        }
        // A reader drinks from the flood while the quiet ones end.
        let drinking = ringpool::spawn({
            let stream = flooded.stream().clone();
            async move {
                let mut total = 0;
                while total < 4 * 1024 * 1024 {
                    total += stream.read_chunk().await?.map_or(0, |chunk| chunk.len());
                }
                Ok::<_, ringpool::Error>(total)
            }
        });
        for conn in &conns {
            conn.write_all(b"q").await?;
            conn.flush().await?;
        }
        for conn in conns {
            assert_eq!(conn.read(&mut [0]).await?, 0, "the end is heard");
            conn.release();
        }
        assert!(drinking.await?? >= 4 * 1024 * 1024);
        flooded.close();
        eventually_async("all are closed", || {
            let stats = pool.stats(&*quiet_name).unwrap();
            stats.closed == 100 && stats.closed_by(CloseReason::PeerClosed) == 100
        })
        .await;
        Ok(())
    });
}

#[test]
fn e1_r11_the_ends_of_idle_connections_are_noticed_beside_a_flood() {
    let (flood, quiet) = (flooding(), quiet());
    let (flood_name, quiet_name) = (flood.name(), quiet.name());
    let shards = support::shards(1, few_buffers());
    let open = {
        let quiet_name = quiet_name.clone();
        move || async move {
            let pool = Pool::local()?;
            let flooded = pool.get(&*flood_name).await?;
            flooded.write_all(b"!").await?;
            let mut conns = Vec::new();
            for _ in 0..100 {
                conns.push(pool.get(&*quiet_name).await?);
            }
            conns.into_iter().for_each(ringpool::Conn::release);
            // The flood goes on, unread, while the test closes the others.
            std::mem::forget(flooded);
            Ok::<_, ringpool::Error>(())
        }
    };
    shards.run_on(0, open).unwrap().wait().unwrap().unwrap();
    support::eventually("the server has all", || quiet.open() == 100);
    quiet.close_all();
    let noticed = move || async move {
        let pool = Pool::local()?;
        eventually_async("all ends are noticed", || {
            let stats = pool.stats(&*quiet_name).unwrap();
            stats.closed == 100 && stats.permits == 0
        })
        .await;
        Ok::<_, ringpool::Error>(())
    };
    shards.run_on(0, noticed).unwrap().wait().unwrap().unwrap();
}

#[test]
fn r1_r13_a_full_descriptor_table_makes_gets_wait_and_loses_nothing() {
    let server = Server::echo().limited_to(8);
    let name = server.name();
    let config = Config {
        max_connections_per_shard: 8,
        // The last of two hundred waits for all others and their server.
        get_timeout: Duration::from_secs(60),
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        let tasks: Vec<_> = (0..200u8)
            .map(|n| {
                let (pool, name) = (pool.clone(), name.clone());
                ringpool::spawn(async move {
                    let conn = pool.get(&*name).await?;
                    conn.write_all(&[n]).await?;
                    let mut echo = [0];
                    conn.read_exact(&mut echo).await?;
                    assert_eq!(echo, [n]);
                    // Half of them are lost to the pool.
                    if n % 2 == 0 {
                        conn.release()
                    } else {
                        conn.close()
                    }
                    Ok::<_, ringpool::Error>(())
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        eventually_async("it settles", || {
            let stats = pool.stats(&*name).unwrap();
            stats.permits == stats.idle && stats.closing + stats.connecting == 0
        })
        .await;
        Ok(())
    });
    assert_eq!(server.over_limit(), None, "more than the table holds");
}

#[test]
fn r1_r13_one_endpoint_makes_room_for_another_in_a_full_table() {
    let (one, two) = (Server::echo(), Server::echo());
    let (one_name, two_name) = (one.name(), two.name());
    let config = Config {
        max_connections_per_shard: 4,
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(pool.get(&*one_name).await?);
        }
        held.into_iter().for_each(ringpool::Conn::release);
        pool.get(&*two_name).await?.release();
        let stats = pool.stats(&*one_name)?;
        assert_eq!(stats.closed_by(CloseReason::Evicted), 1);
        Ok(())
    });
}
