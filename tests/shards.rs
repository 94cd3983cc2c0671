//! Threads, runtimes and the ways on to a core.

mod support;

use std::future::{Future, poll_fn};
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::mpsc;
use std::task::Poll;
use std::time::{Duration, Instant};

use ringpool::{Config, Error, ErrorKind, Group, Pool, Shards, TaskRuntime};
use support::{Server, on_one_shard, shards, shards_on};

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

/// What a task may expect of the runtime that it runs on.
async fn lives(server: String) -> ringpool::Result<u64> {
    let endpoint = Pool::local()?.endpoint(&*server)?;
    let talk = async |endpoint: ringpool::EndpointHandle| {
        let conn = endpoint.get().await?;
        conn.write_all(b"ping\n").await?;
        assert_eq!(conn.read_line(16).await?, "ping");
        conn.release();
        Ok::<_, Error>(())
    };
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let endpoint = endpoint.clone();
            ringpool::spawn(async move { talk(endpoint).await })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    // Timers fire, and what the kernel or another thread does wakes the tasks that wait for it.
    let late = tokio::time::timeout(Duration::from_millis(1), std::future::pending::<()>());
    assert!(late.await.is_err());
    let (sender, receiver) = std::sync::mpsc::channel::<std::task::Waker>();
    let waking = std::thread::spawn(move || receiver.recv().unwrap().wake());
    let mut polls = 0;
    std::future::poll_fn(|cx| {
        polls += 1;
        match polls {
            1 => {
                sender.send(cx.waker().clone()).unwrap();
                std::task::Poll::Pending
            }
            _ => std::task::Poll::Ready(()),
        }
    })
    .await;
    waking.join().unwrap();
    let panics = ringpool::spawn(async { panic!("on purpose") });
    assert_eq!(panics.await.unwrap_err().kind(), ErrorKind::Panicked);
    talk(endpoint.clone()).await?;
    Ok(endpoint.stats().created)
}

#[test]
fn tasks_live_on_either_runtime() {
    let server = Server::echo();
    for runtime in [TaskRuntime::TokioUring, TaskRuntime::Tokio] {
        let shards = shards_on(runtime, 2, Config::default());
        let running: Vec<_> = (0..2)
            .map(|n| {
                let name = server.name();
                shards.run_on(n, move || lives(name)).unwrap()
            })
            .collect();
        for remote in running {
            assert!(remote.wait().unwrap().unwrap() > 0, "{runtime:?}");
        }
        // A task that never ends does not keep the thread.
        let endless = shards.run_on(0, std::future::pending::<()>).unwrap();
        shards.shutdown();
        let error = endless.wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotOnShard, "{runtime:?}");
    }
}

#[test]
fn files_of_tokio_uring_are_there_by_default() {
    let shards = shards(1, Config::default());
    let read = || async {
        let file = tokio_uring::fs::File::open("/proc/self/comm").await?;
        let (read, name) = file.read_at(vec![0; 64], 0).await;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&name[..read?]).into_owned())
    };
    let name = shards.run_on(0, read).unwrap().wait().unwrap().unwrap();
    assert!(!name.is_empty());
}

#[test]
fn x10_a_thread_that_waits_at_once_hears_of_what_another_one_gives_back() {
    let server = Server::echo();
    let config = Config {
        max_connections_per_endpoint: 1,
        get_timeout: Duration::from_secs(5),
        ..Config::default()
    };
    let group = Group::new(config).unwrap();
    let (held, holds) = mpsc::channel();
    let (waits, waiting) = mpsc::channel();
    let (shared, address) = (group.clone(), server.name());
    let holder = std::thread::spawn(move || {
        tokio_uring::start(async move {
            let _member = shared.join().unwrap();
            let conn = Pool::local().unwrap().get(&*address).await.unwrap();
            held.send(()).unwrap();
            while waiting.try_recv().is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await; // bounded: until it waits
            }
            // bounded: and sleeps, for which there is no sign
            tokio::time::sleep(Duration::from_millis(50)).await;
            conn.release();
            // What was given back goes on its way while this core still runs.
            let pool = Pool::local().unwrap();
            pool.drain(Duration::from_secs(2)).await;
        });
    });
    holds.recv().unwrap();
    let name = server.name();
    let began = tokio_uring::start(async move {
        // The get comes before the first poll of the driver, which `join` starts as a task.
        let _member = group.join().unwrap();
        let pool = Pool::local().unwrap();
        let mut get = pin!(pool.get(&*name));
        let first = poll_fn(|cx| Poll::Ready(get.as_mut().poll(cx).is_pending()));
        assert!(
            first.await,
            "there is one connection, and another core has it"
        );
        waits.send(()).unwrap();
        let began = Instant::now();
        get.await.unwrap().release();
        began
    });
    assert!(began.elapsed() < Duration::from_secs(4));
    holder.join().unwrap();
}

#[test]
fn a_group_is_joined_inside_a_local_set_of_tokio_too() {
    let server = Server::echo();
    let group = Group::new(Config::default()).unwrap();
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().unwrap();
    let error = runtime.block_on(async { group.join().map(drop).unwrap_err() });
    assert_eq!(error.kind(), ErrorKind::NotOnShard, "without a LocalSet");
    let joined = async {
        let member = group.join().unwrap();
        let created = lives(server.name()).await.unwrap();
        drop(member);
        created
    };
    let created = tokio::task::LocalSet::new().block_on(&runtime, joined);
    assert!(created > 0);
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
