//! Threads, runtimes and the ways on to a core.

mod support;

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use ringpool::{Config, Error, ErrorKind, Pool, Shards};
use support::{Server, on_one_shard, shards};

#[test]
fn a_future_runs_on_the_shard_it_is_sent_to() {
    let shards = shards(2, Config::default());
    let mut names = Vec::new();
    for n in 0..2 {
        let work = || async { std::thread::current().name().map(str::to_owned) };
        names.push(shards.run_on(n, work).unwrap().wait().unwrap());
    }
    assert_eq!(
        names,
        [Some("ringpool-0".into()), Some("ringpool-1".into())]
    );
    let error = shards.run_on(2, || async {}).unwrap_err();
    assert_eq!(error.to_string(), "there is no shard 2, only 0 to 1");
}

#[test]
fn a_remote_can_be_awaited_on_another_shard() {
    let shards = shards(2, Config::default());
    let remote = shards.run_on(1, || async { 42 }).unwrap();
    let sum = shards
        .run_on(0, move || async move { remote.await.unwrap() + 1 })
        .unwrap();
    assert_eq!(sum.wait().unwrap(), 43);
}

#[test]
fn statistics_tell_the_cores_apart() {
    let server = Server::echo();
    let shards = shards(3, Config::default());
    let on = |shard: usize, count: usize| {
        let name = server.name();
        let work = async move || {
            let pool = Pool::local()?;
            let mut held = Vec::new();
            for _ in 0..count {
                held.push(pool.get(&*name).await?);
            }
            if let Some(conn) = held.pop() {
                conn.release();
            }
            let cores = pool.stats(&*name)?.cores;
            held.into_iter().for_each(ringpool::Conn::release);
            Ok::<_, Error>(cores)
        };
        shards.run_on(shard, work).unwrap().wait().unwrap().unwrap()
    };
    let told = on(2, 3);
    assert_eq!((told[0].shard, told[0].idle, told[0].in_use), (2, 1, 2));
    let told = on(0, 2);
    assert_eq!((told[0].shard, told[0].idle, told[0].in_use), (0, 1, 1));
    // The other core has published what it gave back, or will at the end of its turn.
    assert_eq!((told[1].shard, told[1].idle + told[1].in_use), (2, 3));
}

#[test]
fn errors_and_panics_reach_the_caller() {
    let failed = shards(2, Config::default())
        .run_on_each(|| async { Err(Error::new(ErrorKind::Protocol, "told so")) });
    assert_eq!(failed.unwrap_err().to_string(), "told so");
    let panicked = std::panic::catch_unwind(|| {
        let shards = shards(1, Config::default());
        let _ended = shards.run_on_each(|| async { panic!("in a task") });
    });
    assert_eq!(
        *panicked.unwrap_err().downcast::<&str>().unwrap(),
        "in a task"
    );
}

#[test]
fn p5_k16_a_panic_in_a_task_that_holds_a_connection_closes_it() {
    let server = Server::echo();
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let pool = Pool::local()?;
        let task = ringpool::spawn({
            let (pool, name) = (pool.clone(), name.clone());
            async move {
                let _held = pool.get(&*name).await.unwrap();
                panic!("with a connection in hand");
            }
        });
        assert_eq!(task.await.unwrap_err().kind(), ErrorKind::Panicked);
        support::eventually_async("closed", || pool.stats(&*name).unwrap().permits == 0).await;
        Ok(())
    });
}

#[test]
fn bad_settings_name_the_field() {
    let config = Config {
        max_connections_per_endpoint: 0,
        ..Config::default()
    };
    let error = Shards::builder().config(config).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(
        error.to_string().contains("max_connections_per_endpoint"),
        "{error}"
    );
}

#[test]
fn many_shards_start_and_end() {
    let shards = shards(8, Config::default());
    assert_eq!(shards.len(), 8);
    shards
        .run_on_each(|| async { Pool::local().map(drop) })
        .unwrap();
}

#[test]
fn p1_shutting_down_lets_busy_connections_finish() {
    let server = Server::echo();
    let name = server.name();
    let shards = shards(1, Config::default());
    let remote = shards
        .run_on(0, move || async move {
            let conn = Pool::local()?.get(&*name).await?;
            conn.write_all(b"last words\n").await?;
            let line = conn.read_line(64).await?;
            conn.release();
            Ok::<_, ringpool::Error>(line)
        })
        .unwrap();
    assert_eq!(remote.wait().unwrap().unwrap(), "last words");
    shards.shutdown();
    support::eventually("the server has none", || server.open() == 0);
}

#[test]
fn a_task_that_hits_without_waiting_starves_neither_timers_nor_the_driver() {
    let server = Server::echo();
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let endpoint = Pool::local()?.endpoint(&*name)?;
        endpoint.get().await?.release();
        let stop = std::rc::Rc::new(std::cell::Cell::new(false));
        let looping = ringpool::spawn({
            let (endpoint, stop) = (endpoint.clone(), stop.clone());
            async move {
                let mut hits = 0u64;
                while !stop.get() {
                    endpoint.get().await?.release();
                    hits += 1;
                }
                Ok::<_, ringpool::Error>(hits)
            }
        });
        // A timer must fire, and another connection must be able to talk, while it loops.
        let began = Instant::now();
        tokio::time::sleep(Duration::from_millis(20)).await; // bounded: what is tested
        for _ in 0..20 {
            let conn = endpoint.get().await?;
            conn.write_all(b"ping\n").await?;
            assert_eq!(conn.read_line(16).await?, "ping");
            conn.release();
        }
        assert!(began.elapsed() < Duration::from_secs(10));
        stop.set(true);
        assert!(looping.await?? > 0);
        Ok(())
    });
}

#[test]
fn four_shards_start_under_eight_mebibytes_of_locked_memory() {
    // Locked memory counts for users without CAP_IPC_LOCK only: `.ci/run limits` runs this as one.
    let shards = Shards::builder()
        .shards(NonZeroUsize::new(4).unwrap())
        .config(Config::default())
        .build()
        .unwrap();
    shards.shutdown();
}
