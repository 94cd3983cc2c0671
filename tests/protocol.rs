//! Protocol state: a line-based protocol used by one at a time, a multiplexed one used by many.

mod support;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::io::{BufRead, BufReader, Read, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use ringpool::{
    Access, CloseReason, Config, Error, ErrorKind, Packed, Pool, Protocol, Result, Stream,
    TaskHandle,
};
use support::{Server, eventually_async, on_one_shard, short_pauses};

// -- a line-based protocol: the server greets, each line is answered by one line -----------------

struct Lines {
    user: &'static str,
    closed: Rc<Cell<u32>>,
}

struct Session {
    greeting: String,
    acquired: Cell<u32>,
    released: Cell<u32>,
}

impl Protocol for Lines {
    type State = Session;

    fn key(&self) -> String {
        self.user.to_owned()
    }

    async fn init(&self, stream: Stream) -> Result<Session> {
        let greeting = stream.read_line(128).await?;
        stream
            .write_all(format!("USER {}\n", self.user).as_bytes())
            .await?;
        let answer = stream.read_line(128).await?;
        if answer != "OK" {
            return Err(Error::new(
                ErrorKind::Protocol,
                format!("login refused: {answer}"),
            ));
        }
        Ok(Session {
            greeting,
            acquired: Cell::new(0),
            released: Cell::new(0),
        })
    }

    fn checks_health(&self) -> bool {
        true
    }

    async fn is_healthy(&self, stream: Stream, _state: Rc<Session>) -> bool {
        stream.write_all(b"PING\n").await.is_ok()
            && stream.read_line(128).await.is_ok_and(|line| line == "PONG")
    }

    fn on_acquire(&self, state: &Session) {
        state.acquired.set(state.acquired.get() + 1);
    }

    fn on_release(&self, state: &Session) {
        state.released.set(state.released.get() + 1);
    }

    fn on_close(&self, _state: &Session) {
        self.closed.set(self.closed.get() + 1);
    }
}

fn line_server() -> Server {
    Server::new(|stream, _counters| {
        let mut writer = stream.try_clone().unwrap();
        let _gone = writer.write_all(b"READY\n");
        let mut pings = 0;
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { return };
            let answer = match &*line {
                "USER mallory" => "NO\n".to_owned(),
                "PING" => {
                    pings += 1;
                    if pings > 1 {
                        "TIRED\n".to_owned()
                    } else {
                        "PONG\n".to_owned()
                    }
                }
                _ if line.starts_with("USER ") => "OK\n".to_owned(),
                _ => format!("you said {line}\n"),
            };
            if writer.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    })
}

#[test]
fn a_connection_is_initialised_before_it_is_handed_out() {
    let server = line_server();
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let closed = Rc::new(Cell::new(0));
        let pool = Pool::local()?.protocol(Lines {
            user: "ann",
            closed: closed.clone(),
        });
        for round in 1..=3 {
            let conn = pool.get(&*name).await?;
            let state = conn.state().unwrap();
            assert_eq!(state.greeting, "READY");
            assert_eq!(
                (state.acquired.get(), state.released.get()),
                (round, round - 1)
            );
            conn.write_all(b"hello\n").await?;
            assert_eq!(conn.read_line(128).await?, "you said hello");
            conn.release();
        }
        assert_eq!(pool.stats(&*name)?.created, 1);
        pool.clear_endpoint(&*name)?;
        eventually_async("on_close is told", || closed.get() == 1).await;
        Ok(())
    });
}

#[test]
fn s6_pools_whose_keys_differ_never_share_a_connection() {
    let server = line_server();
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let closed = Rc::new(Cell::new(0));
        let ann = Pool::local()?.protocol(Lines {
            user: "ann",
            closed: closed.clone(),
        });
        let bob = Pool::local()?.protocol(Lines {
            user: "bob",
            closed: closed.clone(),
        });
        ann.get(&*name).await?.release();
        let conn = bob.get(&*name).await?;
        assert!(!conn.is_reused());
        conn.release();
        let again = Pool::local()?.protocol(Lines {
            user: "ann",
            closed,
        });
        let conn = again.get(&*name).await?;
        assert!(conn.is_reused());
        conn.release();
        Ok(())
    });
    assert_eq!(server.accepted(), 2);
}

#[test]
fn c6_a_refused_init_fails_the_get_and_leaves_nothing() {
    let server = line_server();
    let name = server.name();
    on_one_shard(short_pauses(), async move || {
        let closed = Rc::new(Cell::new(0));
        let pool = Pool::local()?.protocol(Lines {
            user: "mallory",
            closed,
        });
        let error = pool.get(&*name).await.unwrap_err();
        assert!(
            error.to_string().starts_with("login refused: NO"),
            "{error}"
        );
        eventually_async("all closed", || pool.stats(&*name).unwrap().permits == 0).await;
        assert_eq!(pool.stats(&*name)?.created, 0);
        Ok(())
    });
}

#[test]
fn e12_an_unhealthy_connection_is_replaced() {
    let server = line_server();
    let name = server.name();
    let config = Config {
        health_check_after: Duration::from_millis(5),
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let closed = Rc::new(Cell::new(0));
        let pool = Pool::local()?.protocol(Lines {
            user: "ann",
            closed,
        });
        pool.get(&*name).await?.release();
        tokio::time::sleep(Duration::from_millis(20)).await; // bounded: it must have been idle
        // The first check is answered PONG, the second is not.
        pool.get(&*name).await?.release();
        tokio::time::sleep(Duration::from_millis(20)).await; // bounded: as above
        let conn = pool.get(&*name).await?;
        assert!(!conn.is_reused());
        conn.release();
        eventually_async("it closes", || pool.stats(&*name).unwrap().closed == 1).await;
        assert_eq!(pool.stats(&*name)?.closed_by(CloseReason::Unhealthy), 1);
        Ok(())
    });
}

// -- a multiplexed protocol: frames of an id and a number, answered in any order ------------------

struct Mux;

/// The answer of a call, once it is there, and who waits for it.
type Call = (Option<u32>, Option<Waker>);

struct Calls {
    stream: Stream,
    waiting: RefCell<HashMap<u32, Call>>,
    next: Cell<u32>,
    reader: RefCell<Option<TaskHandle<()>>>,
}

impl Calls {
    async fn double(&self, value: u32) -> Result<u32> {
        let id = self.next.get();
        self.next.set(id + 1);
        self.waiting.borrow_mut().insert(id, (None, None));
        let mut frame = id.to_be_bytes().to_vec();
        frame.extend_from_slice(&value.to_be_bytes());
        self.stream.write_all(&frame).await?;
        let answer = poll_fn(|cx| {
            let mut waiting = self.waiting.borrow_mut();
            let Some(entry) = waiting.get_mut(&id) else {
                return Poll::Ready(Err(Error::new(ErrorKind::Closed, "the reader has ended")));
            };
            match entry.0 {
                Some(answer) => Poll::Ready(Ok(answer)),
                None => {
                    entry.1 = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await;
        self.waiting.borrow_mut().remove(&id);
        answer
    }
}

impl Protocol for Mux {
    type State = Rc<Calls>;

    fn key(&self) -> String {
        String::new()
    }

    async fn init(&self, stream: Stream) -> Result<Rc<Calls>> {
        let calls = Rc::new(Calls {
            stream: stream.clone(),
            waiting: RefCell::default(),
            next: Cell::new(0),
            reader: RefCell::default(),
        });
        let reading = Rc::downgrade(&calls);
        let reader = ringpool::spawn(async move {
            let mut frame = [0; 8];
            while stream.read_exact(&mut frame).await.is_ok() {
                let id = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]);
                let value = u32::from_be_bytes([frame[4], frame[5], frame[6], frame[7]]);
                let Some(calls) = reading.upgrade() else {
                    return;
                };
                let waker = calls.waiting.borrow_mut().get_mut(&id).and_then(|entry| {
                    entry.0 = Some(value);
                    entry.1.take()
                });
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
        });
        *calls.reader.borrow_mut() = Some(reader);
        Ok(calls)
    }

    fn access(&self, _state: &Rc<Calls>) -> Access {
        Access::Shared(32)
    }

    fn on_close(&self, state: &Rc<Calls>) {
        if let Some(reader) = state.reader.borrow_mut().take() {
            reader.abort();
        }
    }
}

/// Answers pairs of frames in the opposite order.
fn mux_server() -> Server {
    Server::new(|mut stream, _counters| {
        let mut frame = [0; 8];
        let mut kept: Option<[u8; 8]> = None;
        while stream.read_exact(&mut frame).is_ok() {
            let value = u32::from_be_bytes([frame[4], frame[5], frame[6], frame[7]]) * 2;
            frame[4..].copy_from_slice(&value.to_be_bytes());
            let sent = match kept.take() {
                Some(first) => stream
                    .write_all(&frame)
                    .and_then(|()| stream.write_all(&first)),
                None => {
                    kept = Some(frame);
                    Ok(())
                }
            };
            if sent.is_err() {
                return;
            }
        }
    })
}

#[test]
fn many_users_share_one_connection() {
    let server = mux_server();
    let name = server.name();
    let config = Config {
        max_connections_per_endpoint: 1,
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?.protocol(Mux);
        let endpoint = pool.endpoint(&*name)?;
        let tasks: Vec<_> = (0..64u32)
            .map(|n| {
                let endpoint = endpoint.clone();
                ringpool::spawn(async move {
                    let conn = endpoint.get().await?;
                    let doubled = conn.state().unwrap().double(n).await?;
                    assert_eq!(doubled, 2 * n);
                    conn.release();
                    Ok::<_, ringpool::Error>(())
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        let stats = pool.stats(&*name)?;
        assert_eq!((stats.created, stats.closed, stats.permits), (1, 0, 1));
        Ok(())
    });
    assert_eq!(server.accepted(), 1);
}

#[test]
fn dropping_one_share_leaves_the_connection_to_the_others() {
    let server = mux_server();
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let pool = Pool::local()?.protocol(Mux);
        let one = pool.get(&*name).await?;
        let two = pool.get(&*name).await?;
        drop(one);
        let state = two.state().unwrap();
        let (a, b) = (state.double(4), state.double(5));
        let (a, b) = both(a, b).await;
        assert_eq!((a?, b?), (8, 10));
        two.release();
        assert_eq!(pool.stats(&*name)?.closed, 0);
        Ok(())
    });
    assert_eq!(server.accepted(), 1);
}

/// Runs two futures to their ends.
async fn both<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    let (mut a, mut b) = (Box::pin(a), Box::pin(b));
    let (mut left, mut right) = (None, None);
    poll_fn(move |cx| {
        if left.is_none()
            && let Poll::Ready(value) = a.as_mut().poll(cx)
        {
            left = Some(value);
        }
        if right.is_none()
            && let Poll::Ready(value) = b.as_mut().poll(cx)
        {
            right = Some(value);
        }
        match (left.take(), right.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (a, b) => {
                (left, right) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}

// -- panics ---------------------------------------------------------------------------------------

struct Panics;

impl Protocol for Panics {
    type State = ();

    fn key(&self) -> String {
        String::new()
    }

    async fn init(&self, _stream: Stream) -> Result<()> {
        panic!("init panics")
    }
}

#[test]
fn p6_a_panic_in_init_fails_the_get_and_leaves_the_shard_working() {
    let server = Server::echo();
    let name = server.name();
    on_one_shard(short_pauses(), async move || {
        let error = Pool::local()?
            .protocol(Panics)
            .get(&*name)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("init panicked"), "{error}");
        Pool::local()?.get(&*name).await?.release();
        Ok(())
    });
}

// -- secrets --------------------------------------------------------------------------------------

const SECRET: &str = "correct-horse";

/// Knows a password, and sends it.
struct Knows;

impl Protocol for Knows {
    type State = String;

    fn key(&self) -> String {
        format!("user:{SECRET}")
    }

    async fn init(&self, stream: Stream) -> Result<String> {
        stream.write_all(format!("{SECRET}\n").as_bytes()).await?;
        stream.read_line(64).await
    }
}

#[test]
fn s14_what_a_protocol_knows_and_what_is_sent_is_shown_nowhere() {
    let (server, greets) = (Server::echo(), line_server());
    let (name, greets) = (server.name(), greets.name());
    let refusing = format!("127.0.0.1:{}", support::refusing_port());
    let config = Config {
        max_connections_per_endpoint: 1,
        get_timeout: Duration::from_millis(500),
        ..short_pauses()
    };
    on_one_shard(config, async move || {
        let plain = Pool::local()?;
        plain.start_trace(1000);
        let pool = plain.protocol(Knows);
        let endpoint = pool.endpoint(&*name)?;
        // On a busy machine the server may take longer than a get waits; its answer is not lost.
        let mut answered = endpoint.get().await;
        eventually_async("it is ready", || {
            answered.is_ok() || endpoint.stats().idle == 1
        })
        .await;
        if answered.is_err() {
            answered = endpoint.get().await;
        }
        let conn = answered?;
        assert_eq!(conn.state().unwrap(), SECRET);
        let mut shown = vec![
            format!("{pool:?} {endpoint:?} {conn:?} {:?}", conn.stream()),
            format!("{:?}", endpoint.get()),
        ];
        let mut errors = vec![
            endpoint.get().await.unwrap_err(),
            pool.get(&*refusing).await.unwrap_err(),
        ];
        conn.write_all(format!("{SECRET} more\n").as_bytes())
            .await?;
        errors.push(conn.read_until(b"\n", 4).await.unwrap_err());
        let chunk = conn.read_chunk().await?;
        shown.push(format!("{chunk:?}"));
        drop(chunk);
        conn.release();
        // Its greeting is no answer to `init`, and what comes behind it may be there already.
        match pool.get(&*greets).await {
            Ok(conn) => conn.close(),
            Err(error) => errors.push(error),
        }
        for error in &errors {
            shown.push(format!("{error} {error:?} {:?}", error.exhaustion()));
        }
        let records = plain.take_trace().records.into_iter();
        shown.extend(records.map(|record| record.what.to_string()));
        shown.push(format!("{:?} {:?}", plain.all_stats(), plain.shard_stats()));
        assert!(shown.len() > 10);
        for text in shown {
            assert!(
                !text.contains(SECRET) && !text.contains("correct"),
                "{text}"
            );
        }
        Ok(())
    });
}

// -- connections with a state change cores ---------------------------------------------------------

/// A state that says how many lines it has sent, and goes to other cores unless it is told not to.
struct Counted {
    how: How,
    told: Arc<Told>,
}

#[derive(Clone, Copy, PartialEq)]
enum How {
    Moves,
    Stays,
    PackPanics,
    UnpackPanics,
    IsNotUnpacked,
}

#[derive(Default)]
struct Told {
    inits: AtomicUsize,
    closed: AtomicUsize,
}

struct Sent {
    sent: Cell<u32>,
}

impl Protocol for Counted {
    type State = Sent;

    fn key(&self) -> String {
        String::new()
    }

    async fn init(&self, stream: Stream) -> Result<Sent> {
        let _greeting = stream.read_line(128).await?;
        self.told.inits.fetch_add(1, Ordering::SeqCst);
        let sent = Cell::new(0);
        Ok(Sent { sent })
    }

    fn on_close(&self, _state: &Sent) {
        self.told.closed.fetch_add(1, Ordering::SeqCst);
    }

    fn changes_cores(&self) -> bool {
        true
    }

    fn pack(&self, state: Sent) -> std::result::Result<Packed, Sent> {
        match self.how {
            How::Stays => Err(state),
            How::PackPanics => panic!("on purpose"),
            _ => Ok(Box::new(state.sent.get())),
        }
    }

    fn unpack(&self, packed: Packed) -> Option<Sent> {
        match self.how {
            How::UnpackPanics => panic!("on purpose"),
            How::IsNotUnpacked => None,
            _ => {
                let sent = Cell::new(*packed.downcast().ok()?);
                Some(Sent { sent })
            }
        }
    }
}

/// What came of one core that has one idle connection, and another that wants it.
struct Moved {
    /// How many lines the state had sent before, as the second core found it.
    sent: u32,
    answer: String,
    inits: usize,
    closed: usize,
    received: u64,
    panics: u64,
}

fn one_core_after_the_other(how: How) -> Moved {
    let server = line_server();
    let name = server.name();
    let told = Arc::new(Told::default());
    // A core that panics prints where before it goes on: seconds, if all that is to be looked up on a
    // busy machine. The other one waits for it.
    let config = Config {
        max_connections_per_endpoint: 1,
        ..short_pauses()
    };
    let shards = support::shards(2, config);
    let run = |shard: usize, line: &'static str| {
        let (name, told) = (name.clone(), told.clone());
        let work = move || async move {
            let pool = Pool::local()?.protocol(Counted { how, told });
            let conn = pool.get(&*name).await?;
            let state = conn.state().unwrap();
            let before = state.sent.replace(state.sent.get() + 1);
            conn.write_all(format!("{line}\n").as_bytes()).await?;
            let answer = conn.read_line(128).await?;
            conn.release();
            Ok::<_, Error>((before, answer, pool.stats(&*name)?.received))
        };
        let done = shards.run_on(shard, work).unwrap().wait().unwrap();
        done.unwrap()
    };
    assert_eq!(run(0, "one").0, 0);
    let (sent, answer, received) = run(1, "two");
    let panics = |shard| {
        let count = move || async move { Ok::<_, Error>(Pool::local()?.shard_stats().panics) };
        shards
            .run_on(shard, count)
            .unwrap()
            .wait()
            .unwrap()
            .unwrap()
    };
    let panics = panics(0) + panics(1);
    shards.shutdown();
    Moved {
        sent,
        answer,
        inits: told.inits.load(Ordering::SeqCst),
        closed: told.closed.load(Ordering::SeqCst),
        received,
        panics,
    }
}

#[test]
fn a_state_that_can_be_packed_goes_with_its_connection() {
    let moved = one_core_after_the_other(How::Moves);
    assert_eq!((moved.sent, &*moved.answer), (1, "you said two"));
    assert_eq!((moved.inits, moved.received), (1, 1));
    assert_eq!(moved.closed, 1, "by the core where it ended");
}

#[test]
fn a_state_that_cannot_leave_its_core_ends_there_and_another_is_made() {
    let moved = one_core_after_the_other(How::Stays);
    assert_eq!((moved.sent, &*moved.answer), (0, "you said two"));
    assert_eq!((moved.inits, moved.received), (2, 0));
    assert_eq!(moved.closed, 2);
}

#[test]
fn p6_a_panic_while_a_state_is_packed_closes_that_connection_alone() {
    let moved = one_core_after_the_other(How::PackPanics);
    assert_eq!((moved.sent, moved.inits), (0, 2));
    assert_eq!((moved.received, moved.panics), (0, 1));
    assert_eq!(moved.closed, 1, "the other state was lost in the panic");
}

#[test]
fn p6_a_state_that_is_lost_on_the_way_closes_its_connection_before_anybody_has_it() {
    for (how, panics) in [(How::UnpackPanics, 1), (How::IsNotUnpacked, 0)] {
        let moved = one_core_after_the_other(how);
        assert_eq!((moved.sent, &*moved.answer), (0, "you said two"));
        assert_eq!((moved.inits, moved.received), (2, 1));
        assert_eq!((moved.panics, moved.closed), (panics, 1));
    }
}
