//! What the pool costs in system calls, counted by strace(1), and what it says when io_uring is
//! refused, injected by strace(1). Each test runs this file again, under strace, as the work to be
//! counted. Without strace the tests say so and pass, unless `RINGPOOL_REQUIRE_STRACE` is set.

mod support;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Command, Output};

use ringpool::{Config, Pool, Shards, TaskRuntime};
use support::{Server, on_one_shard, shards_on};

/// The environment variable that makes [`work`] do something.
const WORK: &str = "RINGPOOL_TEST_WORK";

/// Runs as the child: `kind:count`.
#[test]
fn work() {
    let Ok(work) = std::env::var(WORK) else {
        return;
    };
    let (kind, count) = work.split_once(':').unwrap();
    let count: usize = count.parse().unwrap();
    match kind {
        "hits" => hits(count),
        "burst" => burst(count),
        "lockstep" => lockstep(TaskRuntime::TokioUring, 1, count),
        "lockstep-tokio" => lockstep(TaskRuntime::Tokio, 1, count),
        "lockstep-64" => lockstep(TaskRuntime::TokioUring, 64, count),
        "lockstep-64-tokio" => lockstep(TaskRuntime::Tokio, 64, count),
        "bare" => support::bare::lockstep(Server::echo().address(), count),
        "start" => start(),
        other => panic!("no such work: {other}"),
    }
}

fn hits(count: usize) {
    let server = Server::echo();
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let endpoint = Pool::local()?.endpoint(&*name)?;
        for _ in 0..=count {
            endpoint.get().await?.release();
        }
        Ok(())
    });
}

fn burst(count: usize) {
    let server = Server::echo();
    let name = server.name();
    let config = Config {
        max_connecting: 64,
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        let tasks: Vec<_> = (0..count)
            .map(|_| {
                let (pool, name) = (pool.clone(), name.clone());
                ringpool::spawn(async move { pool.get(&*name).await })
            })
            .collect();
        let mut held = Vec::new();
        for task in tasks {
            held.push(task.await??);
        }
        held.into_iter().for_each(ringpool::Conn::release);
        Ok(())
    });
}

/// `connections` send and receive at once, wait for each other, and begin again.
fn lockstep(runtime: TaskRuntime, connections: usize, count: usize) {
    let server = Server::echo();
    let name = server.name();
    let shards = shards_on(runtime, 1, Config::default());
    let work = async move || {
        let endpoint = Pool::local()?.endpoint(&*name)?;
        for _ in 0..=count {
            let step = async |endpoint: ringpool::EndpointHandle| {
                let mut echo = [0; 64];
                let conn = endpoint.get().await?;
                conn.write_all(&[7; 64]).await?;
                conn.read_exact(&mut echo).await?;
                conn.release();
                Ok::<_, ringpool::Error>(())
            };
            if connections == 1 {
                step(endpoint.clone()).await?;
                continue;
            }
            let begin = |_| {
                let endpoint = endpoint.clone();
                ringpool::spawn(async move { step(endpoint).await })
            };
            let tasks: Vec<_> = (0..connections).map(begin).collect();
            for task in tasks {
                task.await??;
            }
        }
        Ok::<_, ringpool::Error>(())
    };
    shards.run_on(0, work).unwrap().wait().unwrap().unwrap();
    shards.shutdown();
}

fn start() {
    match Shards::builder().build() {
        Ok(shards) => {
            shards
                .run_on_each(|| async { Ok::<_, ringpool::Error>(()) })
                .unwrap();
            println!("started");
        }
        Err(error) => {
            println!("error: {error}");
            std::process::exit(3);
        }
    }
}

/// Whether strace is there.
fn strace() -> bool {
    let there = Command::new("strace")
        .arg("-V")
        .output()
        .is_ok_and(|output| output.status.success());
    let required = std::env::var_os("RINGPOOL_REQUIRE_STRACE").is_some();
    assert!(
        there || !required,
        "strace is required here and not installed"
    );
    if !there {
        eprintln!("skipped: strace is not installed");
    }
    there
}

fn child(work: &str, strace: &[&str]) -> Output {
    Command::new("strace")
        .args(strace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "work", "--nocapture"])
        .env(WORK, work)
        .output()
        .unwrap()
}

/// The calls of the shard's thread (or of all, for work that has none), by name.
fn count(work: &str, thread: Option<&str>) -> HashMap<String, i64> {
    let dir = std::env::temp_dir();
    let file: PathBuf = dir.join(format!(
        "ringpool-{}-{}",
        std::process::id(),
        work.replace(':', "-")
    ));
    let output = child(work, &["-f", "-qq", "-o", file.to_str().unwrap()]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    let trace = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    // A thread is told by the name that it gives itself first.
    let of_thread = thread.map(|name| {
        let named = format!("prctl(PR_SET_NAME, \"{name}\"");
        let line = trace.lines().find(|line| line.contains(&named)).unwrap();
        line.split_whitespace().next().unwrap().to_owned()
    });
    let mut calls = HashMap::new();
    for line in trace.lines() {
        let Some((pid, rest)) = line.split_once(' ') else {
            continue;
        };
        if of_thread.as_deref().is_some_and(|it| it != pid) {
            continue;
        }
        // A call that was interrupted by another thread's line is counted where it began.
        if let Some((name, _)) = rest.trim_start().split_once('(')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        {
            *calls.entry(name.to_owned()).or_default() += 1;
        }
    }
    calls
}

fn total(calls: &HashMap<String, i64>) -> i64 {
    calls.values().sum()
}

#[test]
fn a_hit_costs_no_call_but_the_budgets_yield() {
    if !strace() {
        return;
    }
    const HITS: i64 = 12_800;
    let none = count("hits:0", Some("ringpool-0"));
    let many = count(&format!("hits:{HITS}"), Some("ringpool-0"));
    let calls = total(&many) - total(&none);
    println!(
        "{HITS} hits cost {calls} system calls, {} per 128",
        calls as f64 * 128.0 / HITS as f64
    );
    // The budget is 128 (tokio::task::coop); the runtime then looks at its files: one epoll_wait,
    // and what its own driver does there.
    assert!(calls <= HITS / 128 * 3, "{calls} calls, {many:?}");
}

#[test]
fn a_burst_of_64_connects_is_a_few_submissions() {
    if !strace() {
        return;
    }
    let one = count("burst:1", Some("ringpool-0"));
    let many = count("burst:64", Some("ringpool-0"));
    let enters = many["io_uring_enter"] - one["io_uring_enter"];
    println!("64 connects cost {enters} io_uring_enter calls more than one does");
    assert!(enters <= 24, "{enters} enters, {many:?}");
    for call in ["socket", "connect", "setsockopt"] {
        assert_eq!(many.get(call), one.get(call), "{call}: {many:?}");
    }
}

#[test]
fn a_lock_step_round_trip_is_counted_beside_a_bare_loops() {
    if !strace() {
        return;
    }
    let per_round = |work: &str, thread, rounds: i64| {
        let none = count(&format!("{work}:0"), thread);
        let many = count(&format!("{work}:{rounds}"), thread);
        println!("{work}: {rounds} rounds after the first: {many:?}");
        (total(&many) - total(&none)) as f64 / rounds as f64
    };
    let shard = Some("ringpool-0");
    let bare = per_round("bare", Some("bare"), 2_000);
    let on_uring = per_round("lockstep", shard, 2_000);
    let on_tokio = per_round("lockstep-tokio", shard, 2_000);
    println!(
        "system calls per lock-step round trip: bare loop {bare:.2}, ours {on_uring:.2}, \
         with TaskRuntime::Tokio {on_tokio:.2}"
    );
    assert!((1.0..1.5).contains(&bare), "the bare loop has one: {bare}");
    // One to submit, one to sleep.
    assert!(on_tokio <= bare + 1.1, "{on_tokio}");
    // tokio-uring enters its own ring before each sleep, and a completion interrupts one sleep
    // before it ends the next.
    assert!(on_uring <= bare + 4.1, "{on_uring}");
    for work in ["lockstep-64", "lockstep-64-tokio"] {
        let per_step = per_round(work, shard, 200);
        let each = per_step / 64.0;
        println!("system calls per step of 64 connections, {work}: {per_step:.1}, {each:.2} each");
        assert!(each <= 2.0, "{work}: {each}");
    }
}

#[test]
fn r14_a_refused_io_uring_is_one_error_that_says_why() {
    if !strace() {
        return;
    }
    for (errno, hint) in [
        ("EPERM", "seccomp"),
        ("ENOSYS", "kernel"),
        ("ENOMEM", "RLIMIT_MEMLOCK"),
    ] {
        let inject = format!("inject=io_uring_setup:error={errno}");
        let output = child("start:0", &["-f", "-qq", "-o", "/dev/null", "-e", &inject]);
        let text = String::from_utf8_lossy(&output.stdout);
        let error = text.lines().find(|line| line.starts_with("error: "));
        println!("{errno}: {error:?}");
        assert!(
            error.is_some_and(|error| error.contains(hint)),
            "{errno}: {text}"
        );
        assert_eq!(output.status.code(), Some(3), "{errno}");
        assert!(
            !String::from_utf8_lossy(&output.stderr).contains("panicked"),
            "{errno}"
        );
    }
}
