//! What may happen to the process and its threads: they are stopped, killed, forked, short of
//! descriptors or threads, without privileges, drained twice. What harms the whole process runs in
//! a child: this file again, told by the environment what to do.
#![allow(unsafe_code)] // limits and users of the child

mod support;

use std::future::poll_fn;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::task::Poll;
use std::time::Duration;

use ringpool::{CloseReason, Config, ErrorKind, Group, Pool, Shards};
use support::{Server, eventually, eventually_async, on_one_shard};

/// The environment variable that makes [`work`] do something.
const WORK: &str = "RINGPOOL_TEST_WORK";

/// Runs as the child: `kind argument`. What it finds goes to standard output.
#[test]
fn work() {
    let Ok(work) = std::env::var(WORK) else {
        return;
    };
    let (kind, argument) = work.split_once(' ').unwrap();
    match kind {
        "hold" => hold(argument),
        "start" => start(argument.parse().unwrap()),
        "few-descriptors" => {
            limit(libc::RLIMIT_NOFILE, argument.parse().unwrap());
            start(1);
        }
        "few-threads" => {
            drop_privileges();
            // Two threads are there; a third may be.
            limit(libc::RLIMIT_NPROC, 3);
            start(argument.parse().unwrap());
        }
        "unprivileged" => {
            drop_privileges();
            hold(argument);
        }
        other => panic!("no such work: {other}"),
    }
}

/// Holds a connection until the process is killed.
fn hold(name: &str) {
    let name = name.to_owned();
    on_one_shard(Config::default(), async move || {
        let conn = Pool::local()?.get(&*name).await?;
        conn.write_all(b"here\n").await?;
        println!("{}", conn.read_line(16).await?);
        conn.read_to_end(16).await?;
        Ok(())
    });
}

/// Starts and ends shards; an error is told with the threads that are left.
fn start(shards: usize) {
    let count = NonZeroUsize::new(shards).unwrap();
    match Shards::builder().shards(count).build() {
        Ok(shards) => println!("started {}", shards.len()),
        Err(error) => {
            let left = std::fs::read_dir("/proc/self/task").unwrap().count();
            println!("{:?}, {left} threads: {error}", error.kind());
        }
    }
}

fn limit(resource: libc::__rlimit_resource_t, most: u64) {
    let limit = libc::rlimit {
        rlim_cur: most,
        rlim_max: most,
    };
    // SAFETY: `limit` outlives the call.
    assert_eq!(unsafe { libc::setrlimit(resource, &raw const limit) }, 0);
}

/// A user that nothing else runs as, if this one may choose.
fn drop_privileges() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // SAFETY: the call has no requirements.
    assert_eq!(unsafe { libc::setgid(54_321) }, 0);
    // SAFETY: as above.
    assert_eq!(unsafe { libc::setuid(54_321) }, 0);
}

fn child(work: String) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "work", "--nocapture", "--test-threads=2"])
        .env(WORK, work)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The first line of the child's that holds one of `words`.
fn line_with(child: &mut Child, words: &[&str]) -> String {
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !words.iter().any(|word| line.contains(word)) {
        line.clear();
        assert!(
            lines.read_line(&mut line).unwrap() > 0,
            "it ended: {words:?}"
        );
    }
    child.stdout = Some(lines.into_inner());
    line
}

#[test]
fn p14_a_killed_process_leaves_its_peers_an_end_and_the_next_one_nothing() {
    let server = Server::echo();
    for round in 1..=2 {
        let mut child = child(format!("hold {}", server.name()));
        line_with(&mut child, &["here"]);
        assert_eq!(server.open(), 1);
        child.kill().unwrap();
        child.wait().unwrap();
        eventually("the peer sees the end", || server.ended() == round);
    }
}

#[test]
fn p12_without_privileges_it_works_as_with_them() {
    let server = Server::echo();
    let mut child = child(format!("unprivileged {}", server.name()));
    line_with(&mut child, &["here"]);
    server.close_all();
    assert!(child.wait().unwrap().success());
}

#[test]
fn r1_r14_too_few_descriptors_at_the_start_are_an_error_that_names_the_limit() {
    let mut child = child("few-descriptors 64".to_owned());
    let line = line_with(&mut child, &["started", "threads"]);
    assert!(line.starts_with("Unavailable"), "{line}");
    assert!(
        line.contains("RLIMIT_NOFILE (Max open files) is 64"),
        "{line}"
    );
    assert!(child.wait().unwrap().success());
}

#[test]
fn r18_a_thread_that_cannot_start_is_an_error_and_leaves_none_behind() {
    let mut child = child("few-threads 4".to_owned());
    let line = line_with(&mut child, &["started", "threads"]);
    assert!(line.starts_with("Unavailable, 2 threads: "), "{line}");
    assert!(line.contains("starting a thread, starting shard"), "{line}");
    assert!(child.wait().unwrap().success());
}

/// What the descriptors of a child of this process are.
fn inherited() -> Vec<String> {
    let listed = Command::new("ls")
        .args(["-l", "/proc/self/fd"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(listed.stdout).unwrap();
    let targets = text.lines().filter_map(|line| line.split_once(" -> "));
    // Pipes and the listing itself have other numbers each time.
    let targets = targets.map(|(_, target)| target.split('[').next().unwrap().to_owned());
    let mut targets: Vec<String> = targets
        .filter(|target| !target.starts_with("/proc/"))
        .collect();
    targets.sort();
    targets
}

#[test]
fn p4_s15_a_child_inherits_nothing_and_keeps_no_connection_open() {
    let server = Server::echo();
    let name = server.name();
    let before = inherited();
    on_one_shard(Config::default(), async move || {
        let pool = Pool::local()?;
        let (held, idle) = (pool.get(&*name).await?, pool.get(&*name).await?);
        idle.release();
        assert_eq!(inherited(), before);
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        held.close();
        pool.clear_endpoint(&*name).unwrap();
        eventually_async("the peer sees the ends", || server.ended() == 2).await;
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
        Ok(())
    });
}

static SEEN: AtomicUsize = AtomicUsize::new(0);

/// Asks for the pool when its thread ends.
struct AsksLast;

impl Drop for AsksLast {
    fn drop(&mut self) {
        assert_eq!(Pool::local().unwrap_err().kind(), ErrorKind::NotOnShard);
        SEEN.fetch_add(1, Ordering::SeqCst);
    }
}

thread_local! {
    static ASKS: AsksLast = const { AsksLast };
}

#[test]
fn p10_while_its_thread_ends_the_pool_is_an_error() {
    // The destructors run in some order: here before the pool's own, there after it.
    for asks_first in [true, false] {
        let thread = std::thread::spawn(move || {
            if asks_first {
                ASKS.with(|_| ());
            }
            let group = Group::new(Config::default()).unwrap();
            let runtime = tokio_uring::Runtime::new(&tokio_uring::builder()).unwrap();
            runtime.block_on(async {
                let _member = group.join().unwrap();
                Pool::local().unwrap();
            });
            ASKS.with(|_| ());
        });
        thread.join().unwrap();
    }
    assert_eq!(SEEN.load(Ordering::SeqCst), 2);
}

#[test]
fn p1_a_drain_fails_who_waits_and_lets_who_is_busy_finish() {
    let server = Server::echo();
    let name = server.name();
    let config = Config {
        max_connections_per_endpoint: 1,
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        let busy = pool.get(&*name).await?;
        let waiting = ringpool::spawn({
            let (pool, name) = (pool.clone(), name.clone());
            async move { pool.get(&*name).await.map(drop) }
        });
        eventually_async("it waits", || pool.stats(&*name).unwrap().waiters == 1).await;
        let draining = ringpool::spawn({
            let pool = pool.clone();
            async move { pool.drain(Duration::from_secs(60)).await }
        });
        let error = waiting.await?.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Draining, "{error}");
        let error = pool.get(&*name).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Draining, "{error}");
        busy.write_all(b"to the end\n").await?;
        assert_eq!(busy.read_line(16).await?, "to the end");
        busy.release();
        assert_eq!(draining.await?, 0);
        Ok(())
    });
    eventually("the server has none", || server.open() == 0);
}

#[test]
fn p2_a_stuck_peer_does_not_hold_up_the_end() {
    let (told, tell) = mpsc::channel::<()>();
    let tell = Mutex::new(tell);
    // It takes nothing until the test is over.
    let stuck = Server::new(move |stream, _counters| {
        let _over = tell.lock().unwrap().recv();
        drop(stream);
    });
    let name = stuck.name();
    on_one_shard(Config::default(), async move || {
        let pool = Pool::local()?;
        let conn = pool.get(&*name).await?;
        let writing = ringpool::spawn(async move {
            let (sent, buf) = conn.write_owned(vec![7; 64 * 1024 * 1024]).await;
            assert!(sent.is_err());
            buf.len()
        });
        eventually_async("it is under way", || {
            pool.stats(&*name).unwrap().in_use == 1
        })
        .await;
        // In use, and its owner will not let go of it by itself.
        assert_eq!(pool.drain(Duration::from_millis(20)).await, 1);
        assert_eq!(writing.await?, 64 * 1024 * 1024, "the buffer is back");
        assert_eq!(pool.stats(&*name)?.permits, 0);
        Ok(())
    });
    drop(told);
    eventually("the peer sees the end", || stuck.open() == 0);
}

#[test]
fn p15_draining_twice_beside_gets_is_as_once() {
    let server = Server::echo();
    let name = server.name();
    let config = Config {
        max_connections_per_endpoint: 4,
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        let users: Vec<_> = (0..16)
            .map(|_| {
                let (pool, name) = (pool.clone(), name.clone());
                ringpool::spawn(async move {
                    loop {
                        match pool.get(&*name).await {
                            Ok(conn) => {
                                conn.write_all(b"x\n").await.unwrap();
                                assert_eq!(conn.read_line(8).await.unwrap(), "x");
                                conn.release();
                            }
                            Err(error) => return error.kind(),
                        }
                    }
                })
            })
            .collect();
        eventually_async("they work", || pool.stats(&*name).unwrap().reused > 50).await;
        let drains = [0, 1].map(|_| {
            let pool = pool.clone();
            ringpool::spawn(async move { pool.drain(Duration::from_secs(60)).await })
        });
        for drain in drains {
            assert_eq!(drain.await?, 0);
        }
        for user in users {
            assert_eq!(user.await?, ErrorKind::Draining);
        }
        assert_eq!(pool.drain(Duration::ZERO).await, 0);
        assert_eq!(pool.stats(&*name)?.permits, 0);
        Ok(())
    });
    eventually("the server has none", || server.open() == 0);
}

#[test]
fn p13_p16_m3_what_came_while_the_thread_stood_still_is_not_late() {
    let (go, going) = mpsc::channel::<()>();
    let (answered, answer) = mpsc::channel();
    let ends = Mutex::new((going, answered));
    // Answers a line when it is told to, and says so.
    let server = Server::new(move |stream, _counters| {
        let mut lines = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        while lines.read_line(&mut line).is_ok_and(|n| n > 0) {
            let (going, answered) = &*ends.lock().unwrap();
            going.recv().unwrap();
            (&stream).write_all(line.as_bytes()).unwrap();
            answered.send(()).unwrap();
            line.clear();
        }
    });
    let name = server.name();
    let config = Config {
        read_timeout: Duration::from_millis(100),
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        // bounded: longer than the limit above
        let stand_still = || std::thread::sleep(Duration::from_millis(300));
        let conn = pool.get(&*name).await?;
        for _ in 0..3 {
            conn.write_all(b"ping\n").await?;
            conn.flush().await?;
            let mut read = pin!(conn.read_line(16));
            let polled = poll_fn(|cx| Poll::Ready(read.as_mut().poll(cx))).await;
            assert!(polled.is_pending());
            go.send(()).unwrap();
            answer.recv().unwrap();
            stand_still();
            assert_eq!(read.await?, "ping");
        }
        conn.release();
        let stats = pool.stats(&*name)?;
        assert_eq!((stats.created, stats.closed, stats.errors), (1, 0, 0));
        Ok(())
    });
}

#[test]
fn p13_p16_a_connect_that_ended_while_the_thread_stood_still_serves_its_get() {
    use rustix::net::{AddressFamily, SocketType, accept, bind, getsockname, listen, socket};
    let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    let listener = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&listener, &any).unwrap();
    listen(&listener, 0).unwrap();
    let address: SocketAddr = getsockname(&listener).unwrap().try_into().unwrap();
    // One connection fills the backlog: the next connect waits.
    let _first = TcpStream::connect(address).unwrap();
    let config = Config {
        // Shorter than the second below; until then this thread may lose its processor.
        get_timeout: Duration::from_millis(900),
        connect_timeout: Duration::from_secs(10),
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        let mut get = pin!(pool.get(address));
        let polled = poll_fn(|cx| Poll::Ready(get.as_mut().poll(cx))).await;
        assert!(polled.is_pending());
        while pool.shard_stats().operations == 0 {
            tokio::task::yield_now().await;
        }
        // The thread waits here until the kernel has tried again, which takes a second.
        let (_one, _two) = (accept(&listener).unwrap(), accept(&listener).unwrap());
        get.await?.release();
        assert_eq!(pool.stats(address)?.get_timeouts, 0);
        Ok(())
    });
}

#[test]
fn k15_a_forgotten_guard_is_counted_and_ends_with_its_shard() {
    let server = Server::echo();
    let name = server.name();
    let config = Config {
        max_connections_per_endpoint: 2,
        ..Config::default()
    };
    let group = Group::new(config).unwrap();
    let runtime = tokio_uring::Runtime::new(&tokio_uring::builder()).unwrap();
    runtime.block_on(async {
        let _member = group.join().unwrap();
        let pool = Pool::local().unwrap();
        std::mem::forget(pool.get(&*name).await.unwrap());
        // The other permit serves on, and the figures show the lost one.
        for _ in 0..3 {
            pool.get(&*name).await.unwrap().release();
        }
        let stats = pool.stats(&*name).unwrap();
        assert_eq!((stats.in_use, stats.idle, stats.permits), (1, 1, 2));
    });
    drop(runtime);
    eventually("the peer sees the end", || server.open() == 0);
    let runtime = tokio_uring::Runtime::new(&tokio_uring::builder()).unwrap();
    runtime.block_on(async {
        let _member = group.join().unwrap();
        let pool = Pool::local().unwrap();
        let both = [
            pool.get(&*name).await.unwrap(),
            pool.get(&*name).await.unwrap(),
        ];
        assert_eq!(pool.stats(&*name).unwrap().permits, 2);
        both.into_iter().for_each(ringpool::Conn::release);
    });
}

#[test]
fn r16_one_waiter_too_many_is_refused_at_once() {
    let server = Server::echo();
    let name = server.name();
    let config = Config {
        max_connections_per_endpoint: 1,
        max_waiters: 2,
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        let held = pool.get(&*name).await?;
        let endpoint = pool.endpoint(&*name)?;
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let endpoint = endpoint.clone();
                ringpool::spawn(async move { endpoint.get().await.map(ringpool::Conn::release) })
            })
            .collect();
        eventually_async("they wait", || endpoint.stats().waiters == 2).await;
        let refused = support::poll_times(endpoint.get(), 1).await;
        let error = refused.expect("at once").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
        assert_eq!(error.exhaustion().unwrap().waiters, 2);
        held.release();
        for get in waiting {
            get.await??;
        }
        assert_eq!(endpoint.stats().rejected, 1);
        Ok(())
    });
}

#[test]
fn r20_idle_connections_hold_no_buffer() {
    let server = Server::echo();
    let name = server.name();
    let config = Config {
        max_connections_per_endpoint: 100,
        max_connecting: 100,
        recv_buffers: 8,
        recv_buffer_size: 512,
        recv_limit: 1024,
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        let mut held = Vec::new();
        for _ in 0..100 {
            let conn = pool.get(&*name).await?;
            conn.write_all(&[7; 400]).await?;
            conn.read_exact(&mut [0; 400]).await?;
            held.push(conn);
        }
        held.into_iter().for_each(ringpool::Conn::release);
        let stats = pool.stats(&*name)?;
        assert_eq!((stats.idle, stats.closed_by(CloseReason::Unread)), (100, 0));
        assert_eq!(pool.shard_stats().buffers_lent, 0);
        Ok(())
    });
}
