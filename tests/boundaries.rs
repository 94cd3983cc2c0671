//! Boundaries: between one user and the next of a connection, between cores, between a shard's
//! life and its end. What one side leaves behind must not reach the other.

mod support;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringpool::{Access, CloseReason, Config, ErrorKind, Pool, Protocol, Result, Stream};
use support::{Server, eventually_async, on_one_shard, poll_times, shards};

#[test]
fn names_that_are_not_used_any_more_make_room_for_new_ones() {
    let servers: Vec<Server> = (0..6).map(|_| Server::echo()).collect();
    let names: Vec<String> = servers.iter().map(Server::name).collect();
    let config = Config {
        max_endpoints: 2,
        max_idle_time: Duration::from_millis(20),
        ..Config::default()
    };
    let shards = shards(2, config);
    for shard in 0..2 {
        let names = names.clone();
        let work = move || async move {
            let pool = Pool::local()?;
            for name in names {
                pool.get(&*name).await?.release();
                eventually_async("it is idle no more", || {
                    pool.stats(&*name).unwrap().permits == 0
                })
                .await;
            }
            Ok::<_, ringpool::Error>(())
        };
        shards.run_on(shard, work).unwrap().wait().unwrap().unwrap();
    }
}

#[test]
fn too_many_endpoints_in_use_is_an_error_and_passes() {
    let servers: Vec<Server> = (0..3).map(|_| Server::echo()).collect();
    let names: Vec<String> = servers.iter().map(Server::name).collect();
    let config = Config {
        max_endpoints: 2,
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        let one = pool.get(&*names[0]).await?;
        let two = pool.get(&*names[1]).await?;
        let error = pool.get(&*names[2]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
        one.close();
        eventually_async("room is made", || pool.endpoint(&*names[2]).is_ok()).await;
        pool.get(&*names[2]).await?.release();
        two.release();
        Ok(())
    });
}

#[test]
fn a_connection_nobody_here_wants_any_more_goes_to_the_core_that_waits() {
    let server = Server::echo();
    let name = server.name();
    let config = Config {
        max_connections_per_endpoint: 1,
        ..Config::default()
    };
    let shards = shards(2, config);
    let hold = {
        let name = name.clone();
        move || async move {
            let conn = Pool::local()?.get(&*name).await?;
            // The other core asks now.
            tokio::time::sleep(Duration::from_millis(100)).await; // bounded: a head start
            conn.release();
            Ok::<_, ringpool::Error>(())
        }
    };
    let want = move || async move {
        tokio::time::sleep(Duration::from_millis(20)).await; // bounded: the other's head start
        Pool::local()?.get(&*name).await?.release();
        Ok::<_, ringpool::Error>(())
    };
    let holding = shards.run_on(0, hold).unwrap();
    let wanting = shards.run_on(1, want).unwrap();
    holding.wait().unwrap().unwrap();
    wanting.wait().unwrap().unwrap();
}

#[test]
fn a_handle_kept_from_an_earlier_checkout_reaches_nobody() {
    let server = Server::echo();
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let pool = Pool::local()?;
        let first = pool.get(&*name).await?;
        let kept = first.stream().clone();
        first.release();
        assert!(kept.write_all(b"while idle").await.unwrap_err().is_closed());
        let second = pool.get(&*name).await?;
        assert!(second.is_reused());
        assert!(
            kept.write_all(b"into the next session")
                .await
                .unwrap_err()
                .is_closed()
        );
        second.write_all(b"mine\n").await?;
        assert!(kept.read_chunk().await.unwrap_err().is_closed());
        assert_eq!(second.read_line(16).await?, "mine");
        second.release();
        Ok(())
    });
}

#[test]
fn k10_s10_a_torn_write_is_not_mended_by_a_whole_one() {
    let server = Server::echo();
    let name = server.name();
    let config = Config {
        send_limit: 4096,
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        let conn = pool.get(&*name).await?;
        // Half of a message is taken, the rest is given up.
        assert!(poll_times(conn.write_all(&[1; 10_000]), 1).await.is_none());
        let mut echo = vec![0; 4096];
        conn.read_exact(&mut echo).await?;
        conn.write_all(&[2; 9_000]).await?;
        let mut echo = vec![0; 9_000];
        conn.read_exact(&mut echo).await?;
        conn.release();
        eventually_async("it closes", || pool.stats(&*name).unwrap().closed == 1).await;
        assert_eq!(
            pool.stats(&*name)?.closed_by(CloseReason::UnfinishedWrite),
            1
        );
        Ok(())
    });
}

#[test]
fn k10_s10_an_owned_write_that_was_given_up_spoils_the_connection() {
    let server = Server::new(support::swallow);
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let pool = Pool::local()?;
        let conn = pool.get(&*name).await?;
        assert!(
            poll_times(conn.write_owned(vec![7; 8 * 1024 * 1024]), 1)
                .await
                .is_none()
        );
        let (refused, buf) = conn.write_owned(b"next".to_vec()).await;
        assert!(refused.is_err() && buf == b"next");
        conn.release();
        eventually_async("it closes", || pool.stats(&*name).unwrap().closed == 1).await;
        assert_eq!(
            pool.stats(&*name)?.closed_by(CloseReason::UnfinishedWrite),
            1
        );
        Ok(())
    });
}

#[test]
fn an_owned_write_after_a_long_sleep_has_its_whole_time() {
    let server = Server::echo();
    let name = server.name();
    let config = Config {
        write_timeout: Duration::from_millis(200),
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let conn = Pool::local()?.get(&*name).await?;
        tokio::time::sleep(Duration::from_millis(400)).await; // bounded: longer than the timeout
        let (sent, _buf) = conn.write_owned(b"still\n".to_vec()).await;
        sent.unwrap();
        assert_eq!(conn.read_line(16).await?, "still");
        conn.release();
        Ok(())
    });
}

#[test]
fn e7_a_peer_that_takes_nothing_runs_into_the_write_timeout_and_the_buffer_comes_back() {
    let server = Server::new(|stream, _counters| {
        std::thread::sleep(Duration::from_secs(1)); // bounded: it reads nothing for so long
        drop(stream);
    });
    let name = server.name();
    let config = Config {
        write_timeout: Duration::from_millis(100),
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        let conn = pool.get(&*name).await?;
        let (sent, buf) = conn.write_owned(vec![7; 64 * 1024 * 1024]).await;
        assert!(sent.is_err());
        assert_eq!(buf.len(), 64 * 1024 * 1024);
        drop(conn);
        eventually_async("it closes", || pool.stats(&*name).unwrap().permits == 0).await;
        Ok(())
    });
}

#[test]
fn k9_s8_a_read_given_up_leaves_nothing_to_the_next_user() {
    let server = Server::echo();
    let name = server.name();
    let config = Config {
        // So long that the server's answer is in time on a busy machine too.
        read_timeout: Duration::from_secs(2),
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        let conn = pool.get(&*name).await?;
        assert!(poll_times(conn.read_chunk(), 1).await.is_none());
        conn.release();
        tokio::time::sleep(Duration::from_millis(2100)).await; // bounded: longer than the timeout
        let conn = pool.get(&*name).await?;
        assert!(conn.is_reused());
        // Through the poll core, which has no beginning that would reset a deadline.
        conn.write_all(b"x").await?;
        let chunk = poll_fn(|cx| conn.poll_read_chunk(cx)).await?.unwrap();
        assert_eq!(&chunk[..], b"x");
        drop(chunk);
        conn.release();
        Ok(())
    });
}

struct Loud {
    released: Rc<Cell<u32>>,
}

impl Protocol for Loud {
    type State = ();

    fn key(&self) -> String {
        String::new()
    }

    async fn init(&self, _stream: Stream) -> Result<()> {
        Ok(())
    }

    fn on_release(&self, (): &()) {
        self.released.set(self.released.get() + 1);
        panic!("on_release panics");
    }
}

#[test]
fn p6_a_panic_in_on_release_closes_that_connection_and_leaks_nothing() {
    let server = Server::echo();
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let released = Rc::new(Cell::new(0));
        let pool = Pool::local()?.protocol(Loud {
            released: released.clone(),
        });
        pool.get(&*name).await?.release();
        eventually_async("it closes", || pool.stats(&*name).unwrap().permits == 0).await;
        assert_eq!(released.get(), 1);
        assert_eq!(Pool::local()?.shard_stats().panics, 1);
        Ok(())
    });
}

/// A protocol whose many users write at once.
struct Writers;

impl Protocol for Writers {
    type State = RefCell<u32>;

    fn key(&self) -> String {
        String::new()
    }

    async fn init(&self, _stream: Stream) -> Result<RefCell<u32>> {
        Ok(RefCell::new(0))
    }

    fn access(&self, _state: &RefCell<u32>) -> Access {
        Access::Shared(8)
    }
}

#[test]
fn all_who_wait_to_write_on_a_shared_connection_get_their_turn() {
    let server = Server::new(support::swallow);
    let name = server.name();
    let config = Config {
        send_limit: 4096,
        max_connections_per_endpoint: 1,
        write_timeout: Duration::from_secs(5),
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?.protocol(Writers);
        let endpoint = pool.endpoint(&*name)?;
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let endpoint = endpoint.clone();
                ringpool::spawn(async move {
                    let conn = endpoint.get().await?;
                    conn.write_all(&[1; 200_000]).await?;
                    conn.release();
                    Ok::<_, ringpool::Error>(())
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        Ok(())
    });
}

#[test]
fn a_shared_connection_that_is_never_free_goes_to_the_core_that_waits() {
    let server = Server::new(support::swallow);
    let name = server.name();
    let config = Config {
        max_connections_per_endpoint: 1,
        ..Config::default()
    };
    let shards = shards(2, config);
    let stop = Arc::new(AtomicBool::new(false));
    let busy = {
        let (name, stop) = (name.clone(), stop.clone());
        move || async move {
            let endpoint = Pool::local()?.protocol(Writers).endpoint(&*name)?;
            // Users whose turns overlap: the connection always has one.
            let users: Vec<_> = (2..6)
                .map(|turn| {
                    let (endpoint, stop) = (endpoint.clone(), stop.clone());
                    ringpool::spawn(async move {
                        while !stop.load(Ordering::SeqCst) {
                            let conn = endpoint.get().await?;
                            let turn = Duration::from_millis(turn);
                            tokio::time::sleep(turn).await; // bounded: one turn
                            conn.release();
                        }
                        Ok::<_, ringpool::Error>(())
                    })
                })
                .collect();
            for user in users {
                user.await??;
            }
            Ok::<_, ringpool::Error>(())
        }
    };
    let want = move || async move {
        let pool = Pool::local()?.protocol(Writers);
        pool.get(&*name).await?.release();
        pool.clear_endpoint(&*name)?;
        Ok::<_, ringpool::Error>(())
    };
    let busy = shards.run_on(0, busy).unwrap();
    support::eventually("the first core has it", || server.open() == 1);
    let got = shards.run_on(1, want).unwrap().wait().unwrap();
    stop.store(true, Ordering::SeqCst);
    busy.wait().unwrap().unwrap();
    got.unwrap();
}

#[test]
fn p7_a_shard_that_ends_leaves_an_account_that_adds_up() {
    let server = Server::echo();
    let name = server.name();
    let group = ringpool::Group::new(Config::default()).unwrap();
    for _ in 0..2 {
        let (group, name) = (group.clone(), name.clone());
        let runtime = tokio_uring::Runtime::new(&tokio_uring::builder()).unwrap();
        runtime.block_on(async move {
            let _member = group.join().unwrap();
            Pool::local().unwrap().get(&*name).await.unwrap().release();
        });
    }
    let runtime = tokio_uring::Runtime::new(&tokio_uring::builder()).unwrap();
    runtime.block_on(async move {
        let _member = group.join().unwrap();
        let stats = Pool::local().unwrap().stats(&*name).unwrap();
        assert_eq!((stats.created, stats.closed, stats.permits), (2, 2, 0));
        assert_eq!(stats.closed_by(CloseReason::Drained), 2);
        assert_eq!((stats.idle, stats.in_use), (0, 0));
    });
}
