//! Futures dropped at every await point of a simulated world: after each, the accounts of all layers
//! agree, the next user is served, and in the end nothing is left in the kernel.
//!
//! The names of the tests begin with the rows of the list of faults that they inject.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ringpool::sim::{self, Fault, Script, Server, World};
use ringpool::{Config, Conn, Pool, Result};

const NAME: &str = "service.test:7000";
/// How many orders of events are tried for each point.
const SEEDS: u64 = 4;
/// How long faults go on after the drop.
const AFTERWARDS: Duration = Duration::from_millis(20);
/// The time between two moments of dropping: less than a packet takes.
const MOMENT: Duration = Duration::from_micros(25);
/// How many points are tried of a future that takes longer: 4 ms.
const MOST_POINTS: usize = 160;
/// A message that does not fit into the connection at once.
const LARGE: usize = 300_000;

/// Polls `inner` so many times, then drops it: after its last poll, or when it is woken again.
struct Cut<F> {
    inner: Pin<Box<F>>,
    left: usize,
    when_woken: bool,
}

impl<F: Future> Future for Cut<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        match self.inner.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if self.left == 0 && !self.when_woken => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Where the future is dropped.
#[derive(Debug, Clone, Copy)]
enum Point {
    /// After so many polls; before the next, if that is when it is woken again.
    Polls { count: usize, when_woken: bool },
    /// After so much time, whatever goes on then.
    Time(Duration),
}

impl Point {
    /// What comes of `future`, if it ends before it is dropped.
    async fn cut<F: Future>(self, future: F) -> Option<F::Output> {
        match self {
            Point::Time(time) => sim::timeout(time, future).await.ok(),
            Point::Polls { count, when_woken } => {
                let inner = Box::pin(future);
                let left = count;
                let cut = Cut {
                    inner,
                    left,
                    when_woken,
                };
                cut.await
            }
        }
    }

    /// The point with this number of each kind.
    fn numbered(number: usize) -> [Self; 3] {
        let polls = |when_woken| Point::Polls {
            count: number,
            when_woken,
        };
        let time = MOMENT * u32::try_from(number).unwrap_or(u32::MAX);
        [polls(false), polls(true), Point::Time(time)]
    }
}

/// Calls `run` for every point until the future has ended before each, or for the first so many.
fn every_point(mut run: impl FnMut(u64, Point) -> bool) {
    let mut runs = 0;
    for number in 0..MOST_POINTS {
        let mut ended = true;
        for point in Point::numbered(number) {
            for seed in 0..SEEDS {
                ended &= run(seed, point);
                runs += 1;
            }
        }
        if ended {
            assert!(number > 1, "there was nothing to wait for");
            println!("{runs} runs, {number} points of each kind");
            return;
        }
    }
    println!("{runs} runs, not to the end");
}

type Work<T> = Pin<Box<dyn Future<Output = T>>>;

/// What is done and dropped, and what the server answers.
struct Case {
    config: Config,
    faults: &'static [Fault],
    /// Those of them that some run must have met.
    met: &'static [Fault],
    script: fn() -> Script,
    /// `true` if the future came to its end.
    work: fn(Point) -> Work<bool>,
    /// What works before and after.
    round: fn() -> Work<Result<()>>,
}

/// What cancels and completions may do.
const UNTIMELY: &[Fault] = &[Fault::AnyOrder, Fault::CancelMisses, Fault::CancelLate];

impl Case {
    fn new(work: fn(Point) -> Work<bool>) -> Self {
        Self {
            config: Config::default(),
            faults: UNTIMELY,
            met: &[Fault::AnyOrder],
            script: || (0..4).fold(Script::new(), |script, _| answer(script.expect("go"))),
            work,
            round: || Box::pin(small_round()),
        }
    }

    /// Drops the work at every point, in several orders of events.
    fn every_point(&self) {
        let mut fired = vec![0; self.met.len()];
        every_point(|seed, point| self.run(seed, point, &mut fired));
        for (fault, count) in self.met.iter().zip(fired) {
            assert!(count > 0, "{fault} never happened");
        }
    }

    fn run(&self, seed: u64, point: Point, fired: &mut [u64]) -> bool {
        let at = format!("seed {seed}, {point:?}");
        let mut world = World::builder(seed).config(self.config.clone());
        for fault in self.faults {
            world = world.fault(*fault, 3_000);
        }
        let world = world.build().unwrap();
        let server = world.server(NAME, &["10.0.0.1"]).unwrap();
        server.on_connect((self.script)());
        let ended = world.run_on(0, (self.work)(point)).expect(&at);
        // What the drop has begun meets the faults too.
        world.run_for(AFTERWARDS).expect(&at);
        world.audit().expect(&at);
        world.end_faults();
        for (count, fault) in fired.iter_mut().zip(self.met) {
            *count += world.fired(*fault);
        }
        settle(&world, &at);
        world.run_on(0, (self.round)()).expect(&at).expect(&at);
        settle(&world, &at);
        nothing_is_left(&world, &server, &at);
        ended
    }
}

/// Lets everything end that goes on, and compares the accounts.
fn settle(world: &World, at: &str) {
    world.run_for(Duration::from_secs(3)).expect(at);
    world.audit().expect(at);
    let lent = async { Pool::local().unwrap().shard_stats().buffers_lent };
    assert_eq!(world.run_on(0, lent).expect(at), 0, "{at}");
}

fn nothing_is_left(world: &World, server: &Server, at: &str) {
    let drain = async { Pool::local().unwrap().drain(Duration::from_secs(10)).await };
    assert_eq!(world.run_on(0, drain).expect(at), 0, "{at}");
    world.run_for(Duration::from_secs(3)).expect(at);
    world.audit().expect(at);
    assert_eq!((world.sockets(0), world.operations(0)), (0, 0), "{at}");
    for address in server.addresses() {
        assert_eq!(server.connections(*address), 0, "{at}");
    }
}

fn answer(script: Script) -> Script {
    script
        .send("ab")
        .wait(Duration::from_millis(1))
        .send("c")
        .wait(Duration::from_millis(1))
        .send("d\n")
}

async fn asked() -> Result<Conn> {
    let conn = Pool::local()?.get(NAME).await?;
    conn.write_all(b"go").await?;
    Ok(conn)
}

async fn small_round() -> Result<()> {
    let conn = asked().await?;
    assert_eq!(conn.read_until(b"\n", 64).await?, b"abcd\n");
    conn.release();
    Ok(())
}

fn takes_large() -> Script {
    (0..4).fold(Script::new(), |script, _| script.take(LARGE).send("ok\n"))
}

async fn large_round() -> Result<()> {
    let conn = Pool::local()?.get(NAME).await?;
    conn.write_all(&[7; LARGE]).await?;
    assert_eq!(conn.read_line(64).await?, "ok");
    conn.release();
    Ok(())
}

#[test]
fn k1_k2_k4_k5_a_get_dropped_while_resolving_or_connecting() {
    Case::new(|point| {
        Box::pin(async move {
            let pool = Pool::local().unwrap();
            point.cut(pool.get(NAME)).await.is_some()
        })
    })
    .every_point();
}

#[test]
fn k2_k4_a_get_dropped_beside_another_of_the_same_name() {
    Case::new(|point| {
        Box::pin(async move {
            let other = ringpool::spawn(small_round());
            let pool = Pool::local().unwrap();
            let ended = point.cut(pool.get(NAME)).await.is_some();
            other.await.unwrap().unwrap();
            ended
        })
    })
    .every_point();
}

#[test]
fn c11_k13_k4_a_get_dropped_while_its_connect_ends_at_its_limit() {
    let case = Case {
        config: Config {
            connect_timeout: Duration::from_millis(1),
            ..Config::default()
        },
        faults: &[
            Fault::LimitRace,
            Fault::AnyOrder,
            Fault::CancelMisses,
            Fault::CancelLate,
        ],
        met: &[Fault::LimitRace, Fault::AnyOrder],
        ..Case::new(|point| {
            Box::pin(async move {
                let pool = Pool::local().unwrap();
                point.cut(pool.get(NAME)).await.is_some()
            })
        })
    };
    case.every_point();
}

#[test]
fn c1_k4_a_get_dropped_while_addresses_fail() {
    let case = Case {
        faults: &[
            Fault::Refused,
            Fault::BlackHole,
            Fault::AnyOrder,
            Fault::CancelLate,
        ],
        met: &[Fault::Refused, Fault::BlackHole],
        ..Case::new(|point| {
            Box::pin(async move {
                let pool = Pool::local().unwrap();
                point.cut(pool.get(NAME)).await.is_some()
            })
        })
    };
    case.every_point();
}

#[test]
fn k1_k8_a_get_dropped_while_it_waits_for_a_connection_and_after_it_was_granted() {
    let case = Case {
        config: Config {
            max_connections_per_endpoint: 1,
            ..Config::default()
        },
        ..Case::new(|point| {
            Box::pin(async move {
                let pool = Pool::local().unwrap();
                let held = pool.get(NAME).await.unwrap();
                let holder = ringpool::spawn(async move {
                    // bounded: by the simulated clock.
                    sim::sleep(Duration::from_millis(2)).await;
                    held.release();
                });
                let ended = point.cut(pool.get(NAME)).await.is_some();
                holder.await.unwrap();
                ended
            })
        })
    };
    case.every_point();
}

#[test]
fn k9_a_read_chunk_dropped_loses_no_byte() {
    Case::new(|point| {
        Box::pin(async move {
            let conn = asked().await.unwrap();
            let first = point.cut(conn.read_chunk()).await;
            let ended = first.is_some();
            let mut all = first.map_or(Vec::new(), |it| it.unwrap().unwrap().to_vec());
            all.extend(conn.read_until(b"\n", 64).await.unwrap());
            assert_eq!(all, b"abcd\n");
            conn.release();
            ended
        })
    })
    .every_point();
}

#[test]
fn k9_a_read_exact_dropped_loses_no_byte() {
    Case::new(|point| {
        Box::pin(async move {
            let conn = asked().await.unwrap();
            let mut bytes = [0; 5];
            let ended = point.cut(conn.read_exact(&mut bytes)).await.is_some();
            if !ended {
                conn.read_exact(&mut bytes).await.unwrap();
            }
            assert_eq!(&bytes, b"abcd\n");
            conn.release();
            ended
        })
    })
    .every_point();
}

#[test]
fn k9_s8_a_read_until_dropped_loses_no_byte_and_is_not_left_to_the_next() {
    Case::new(|point| {
        Box::pin(async move {
            let conn = asked().await.unwrap();
            let ended = point.cut(conn.read_until(b"\n", 64)).await.is_some();
            // Given back in the middle of an answer: nobody else may have it.
            conn.release();
            ended
        })
    })
    .every_point();
}

#[test]
fn k10_s10_a_write_all_dropped_tears_the_connection() {
    let case = Case {
        script: takes_large,
        round: || Box::pin(large_round()),
        met: UNTIMELY,
        ..Case::new(|point| {
            Box::pin(async move {
                let conn = Pool::local().unwrap().get(NAME).await.unwrap();
                let ended = point.cut(conn.write_all(&[7; LARGE])).await.is_some();
                if ended {
                    assert_eq!(conn.read_line(64).await.unwrap(), "ok");
                }
                conn.release();
                ended
            })
        })
    };
    case.every_point();
}

#[test]
fn k10_s10_a_write_owned_dropped_tears_the_connection() {
    let case = Case {
        script: takes_large,
        round: || Box::pin(large_round()),
        met: UNTIMELY,
        ..Case::new(|point| {
            Box::pin(async move {
                let conn = Pool::local().unwrap().get(NAME).await.unwrap();
                let done = point.cut(conn.write_owned(vec![7; LARGE])).await;
                let ended = done.is_some();
                if let Some((result, buf)) = done {
                    assert_eq!((result.unwrap(), buf.len()), (LARGE, LARGE));
                    assert_eq!(conn.read_line(64).await.unwrap(), "ok");
                }
                conn.release();
                ended
            })
        })
    };
    case.every_point();
}

#[test]
fn k10_a_flush_dropped_leaves_the_bytes_on_their_way() {
    let case = Case {
        script: takes_large,
        round: || Box::pin(large_round()),
        ..Case::new(|point| {
            Box::pin(async move {
                let conn = Pool::local().unwrap().get(NAME).await.unwrap();
                conn.write_all(&[7; LARGE]).await.unwrap();
                let ended = point.cut(conn.flush()).await.is_some();
                // Dropped or not, what was written arrives and is answered.
                assert_eq!(conn.read_line(64).await.unwrap(), "ok");
                conn.release();
                ended
            })
        })
    };
    case.every_point();
}

#[test]
fn k4_k9_k10_k14_a_whole_exchange_dropped_anywhere() {
    let case = Case {
        met: UNTIMELY,
        ..Case::new(|point| Box::pin(async move { point.cut(small_round()).await.is_some() }))
    };
    case.every_point();
}

#[test]
fn k12_a_drain_dropped_goes_on() {
    every_point(|seed, point| {
        let at = format!("seed {seed}, {point:?}");
        let mut world = World::builder(seed);
        for fault in UNTIMELY {
            world = world.fault(*fault, 3_000);
        }
        let world = world.build().unwrap();
        let server = world.server(NAME, &["10.0.0.1"]).unwrap();
        server.on_connect(twice());
        let drained = world.run_on(0, drained(point)).expect(&at);
        world.run_for(AFTERWARDS).expect(&at);
        world.end_faults();
        nothing_is_left(&world, &server, &at);
        drained
    });
}

fn twice() -> Script {
    (0..2).fold(Script::new(), |script, _| answer(script.expect("go")))
}

/// Drops a drain while a connection is in use, and uses that to its end.
async fn drained(point: Point) -> bool {
    let pool = Pool::local().unwrap();
    small_round().await.unwrap();
    let busy = asked().await.unwrap();
    let user = ringpool::spawn(async move {
        let line = busy.read_line(64).await;
        busy.release();
        line
    });
    let ended = point
        .cut(pool.drain(Duration::from_secs(5)))
        .await
        .is_some();
    let refused = pool.get(NAME).await.is_err();
    let begun = !matches!(point, Point::Polls { count: 0, .. });
    assert!(refused || !begun, "it takes new work");
    assert_eq!(user.await.unwrap().unwrap(), "abcd");
    ended
}
