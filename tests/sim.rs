//! The simulated world as a service's tests see it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use ringpool::sim::{self, Script, World};
use ringpool::{Access, Config, ErrorKind, Pool, Protocol, Result, Stream, TaskHandle};

const NAME: &str = "service.test:7000";

/// A scripted exchange on each of two connections; the trace of it.
fn exchange(seed: u64) -> Vec<String> {
    let world = World::builder(seed).cores(2).trace(true).build().unwrap();
    let server = world.server(NAME, &["10.0.0.1", "10.0.0.2"]).unwrap();
    server.on_connect(
        Script::new()
            .expect("ping")
            .send("pong")
            .expect("ping")
            .send("pong"),
    );
    for core in 0..2 {
        world.spawn_on(core, "client", async move {
            let pool = Pool::local().unwrap();
            for _ in 0..2 {
                let conn = pool.get(NAME).await.unwrap();
                conn.write_all(b"ping").await.unwrap();
                let mut answer = [0; 4];
                conn.read_exact(&mut answer).await.unwrap();
                assert_eq!(&answer, b"pong");
                conn.release();
            }
        });
    }
    world.run().unwrap();
    assert_eq!(server.connects(), 2);
    world.take_trace()
}

#[test]
fn the_same_seed_gives_the_same_trace_byte_for_byte() {
    for seed in 0..20 {
        assert_eq!(exchange(seed), exchange(seed), "seed {seed}");
    }
    assert_ne!(exchange(1), exchange(2));
}

#[test]
fn time_is_virtual_and_exact() {
    let world = World::new(1).unwrap();
    let server = world.server(NAME, &["10.0.0.1"]).unwrap();
    server.black_hole();
    let config = Config::default();
    let (error, waited) = world
        .run_on(0, async move {
            let before = sim::now().unwrap();
            let error = Pool::local().unwrap().get(NAME).await.unwrap_err();
            (error, sim::now().unwrap() - before)
        })
        .unwrap();
    assert!(
        matches!(
            error.kind(),
            ErrorKind::GetTimeout | ErrorKind::ConnectTimeout
        ),
        "{error}"
    );
    assert!(
        waited <= config.get_timeout + Duration::from_millis(1),
        "{waited:?}"
    );
}

#[test]
fn m5_a_run_that_cannot_go_on_says_who_waits_for_what() {
    let world = World::new(1).unwrap();
    world.server(NAME, &["10.0.0.1"]).unwrap();
    world.spawn_on(0, "reader", async {
        let conn = Pool::local().unwrap().get(NAME).await.unwrap();
        conn.read_chunk().await.unwrap();
    });
    world.run_for(Duration::from_secs(1)).unwrap();
    world.stop_clock();
    let stuck = world.run().unwrap_err();
    let text = stuck.to_string();
    assert!(
        text.contains("reader on core 0 waits for bytes on connection"),
        "{text}"
    );
    assert!(text.contains("10.0.0.1:7000"), "{text}");
}

/// Greets and reads the answer.
struct Greeter;

impl Protocol for Greeter {
    type State = ();

    fn key(&self) -> String {
        String::new()
    }

    async fn init(&self, stream: Stream) -> Result<()> {
        stream.write_all(b"hello").await?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await
    }
}

#[test]
fn p13_m3_an_answer_to_init_that_came_while_the_process_stood_still_is_in_time() {
    for seed in 0..50 {
        let world = World::new(seed).unwrap();
        let server = world.server(NAME, &["10.0.0.1"]).unwrap();
        server.on_connect(Script::new().expect("hello").send("hello"));
        let get = world.spawn_on(0, "client", async {
            let pool = Pool::local()?.protocol(Greeter);
            pool.get(NAME).await.map(|conn| conn.release())
        });
        while server.received(0).is_empty() {
            world.run_for(Duration::from_micros(10)).unwrap();
        }
        world.freeze(0, Duration::from_secs(60));
        world.run().unwrap();
        let got = world.run_on(0, get).unwrap();
        got.unwrap()
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[test]
fn seeds_that_failed_once_pass() {
    sim::swarm::hide_injected_panics();
    let seeds = include_str!("seeds.txt").lines();
    let seeds = seeds.filter_map(|line| line.split('#').next()?.trim().parse::<u64>().ok());
    let mut count = 0;
    for seed in seeds {
        let outcome = sim::swarm::run(seed, &[], false);
        assert_eq!(outcome.failure, None, "seed {seed}");
        count += 1;
    }
    assert!(count >= 10);
}

#[test]
fn schedules_without_their_faults_have_none() {
    for seed in 0..20 {
        let all = sim::swarm::run(seed, &[], false);
        let none = sim::swarm::run(seed, &all.faults, false);
        assert!(none.faults.is_empty());
        assert_eq!(none.failure, None, "seed {seed}");
        let natural = [
            "QueueFull",
            "Overflow",
            "NoBuffer",
            "TooManyWaiters",
            "NoSlot",
        ];
        for (fault, count) in &none.fired {
            assert!(
                *count == 0 || natural.contains(&fault.name()),
                "{fault}: {count}"
            );
        }
    }
}

/// Greets, then reads for itself for as long as the connection lives, as HTTP/2 does.
struct Reader;

struct Reading {
    stream: Stream,
    frames: Rc<Cell<usize>>,
    task: TaskHandle<()>,
}

impl Protocol for Reader {
    type State = Reading;

    fn key(&self) -> String {
        String::new()
    }

    async fn init(&self, stream: Stream) -> Result<Reading> {
        stream.read_line(128).await?;
        let frames = Rc::new(Cell::new(0));
        let (own, read) = (stream.clone(), frames.clone());
        let task = ringpool::spawn(async move {
            let mut frame = [0; 8];
            while own.read_exact(&mut frame).await.is_ok() {
                read.set(read.get() + 1);
            }
        });
        Ok(Reading {
            stream,
            frames,
            task,
        })
    }

    fn access(&self, _state: &Reading) -> Access {
        Access::Shared(8)
    }

    fn on_close(&self, state: &Reading) {
        state.task.abort();
    }
}

#[test]
fn e4_what_comes_for_a_state_that_reads_for_itself_is_left_to_it() {
    for seed in 0..200 {
        let world = World::new(seed).unwrap();
        let server = world.server(NAME, &["10.0.0.1"]).unwrap();
        // The first frame comes in one piece with the greeting, the second at any moment.
        let script = Script::new().send("220 hello\n12345678").expect("ask");
        server.on_connect(script.send("pingping"));
        let stays = Duration::from_micros(seed * 5);
        let (closed, frames) = world
            .run_on(0, async move {
                let pool = Pool::local()?.protocol(Reader);
                let conn = pool.get(NAME).await?;
                let state = conn.state().unwrap();
                let frames = state.frames.clone();
                state.stream.write_all(b"ask").await?;
                sim::sleep(stays).await; // bounded: virtual time
                // The last user leaves, perhaps while the reader has yet to see its bytes.
                conn.release();
                sim::sleep(Duration::from_millis(10)).await; // bounded: virtual time
                Ok::<_, ringpool::Error>((pool.stats(NAME)?.closed, frames.get()))
            })
            .unwrap()
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!((closed, frames), (0, 2), "seed {seed}");
        world.audit().unwrap();
    }
}
