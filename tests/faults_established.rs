//! What may happen to a connection that is open: it ends while idle or as it is handed out, the
//! server restarts, an answer comes in pieces, in part, or not at all.

mod support;

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::Poll;
use std::time::Duration;

use ringpool::{CloseReason, Config, Conn, ErrorKind, Pool, Protocol, Result, Stream};
use support::{Server, eventually, eventually_async, on_one_shard};

/// Answers a line with itself, to the user of `conn`.
async fn echoes(conn: &Conn, line: &str) -> Result<()> {
    conn.write_all(format!("{line}\n").as_bytes()).await?;
    assert_eq!(conn.read_line(64).await?, line);
    Ok(())
}

/// Makes the end of `stream` a reset.
fn reset_at_end(stream: &TcpStream) {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
}

/// A server that resets its first three connections when `told`, and keeps those that come later.
fn resets_three_when(told: Arc<AtomicBool>) -> Server {
    let served = AtomicUsize::new(0);
    Server::new(move |stream, counters| {
        if served.fetch_add(1, Ordering::SeqCst) >= 3 {
            return support::echo(stream, counters);
        }
        reset_at_end(&stream);
        eventually("the test says so", || told.load(Ordering::SeqCst));
    })
}

#[test]
fn e1_e2_what_ends_while_idle_is_closed_and_replaced_without_a_get() {
    let told = Arc::new(AtomicBool::new(false));
    let table = [
        (Server::echo(), CloseReason::PeerClosed),
        (resets_three_when(told.clone()), CloseReason::Reset),
    ];
    for (server, reason) in table {
        let (name, told) = (server.name(), told.clone());
        let config = Config {
            min_idle: 2,
            ..Config::default()
        };
        on_one_shard(config, async move || {
            let pool = Pool::local()?;
            let held = pool.get(&*name).await?;
            eventually_async("two are ready", || pool.stats(&*name).unwrap().idle == 2).await;
            held.release();
            eventually("the server has all", || server.open() == 3);
            match reason {
                CloseReason::Reset => told.store(true, Ordering::SeqCst),
                _ => server.close_all(),
            }
            eventually_async("all ends are noticed, two are ready again", || {
                let stats = pool.stats(&*name).unwrap();
                stats.closed == 3 && stats.idle == 2
            })
            .await;
            assert_eq!(pool.stats(&*name)?.closed_by(reason), 3);
            echoes(&pool.get(&*name).await?, "alive").await
        });
    }
}

#[test]
fn e3_an_end_that_meets_the_get_is_replaced_and_one_after_it_is_an_error() {
    let server = Server::echo();
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let pool = Pool::local()?;
        let conn = pool.get(&*name).await?;
        echoes(&conn, "first").await?;
        conn.release();
        // No turn of the driver lies between the end and the get.
        server.close_all();
        let conn = pool.get(&*name).await?;
        assert!(!conn.is_reused());
        echoes(&conn, "second").await?;
        conn.release();
        let conn = pool.get(&*name).await?;
        assert!(conn.is_reused());
        server.close_all();
        // The request may still be taken by the kernel: what comes back is an end, typed.
        let written = conn.write_all(b"third\n").await;
        let error = match written {
            Ok(()) => conn.read_line(64).await.unwrap_err(),
            Err(error) => error,
        };
        assert!(error.is_closed(), "{error}");
        conn.release();
        eventually_async("it closes", || pool.stats(&*name).unwrap().closed == 2).await;
        assert_eq!(server.accepted(), 2, "nothing is sent again by itself");
        Ok(())
    });
}

/// Takes bytes that nobody asked for, if they are the ones it knows.
struct Notices(Rc<RefCell<Vec<u8>>>);

impl Protocol for Notices {
    type State = ();

    fn key(&self) -> String {
        String::new()
    }

    async fn init(&self, _stream: Stream) -> Result<()> {
        Ok(())
    }

    fn on_idle_bytes(&self, (): &(), bytes: &[u8]) -> bool {
        self.0.borrow_mut().extend_from_slice(bytes);
        bytes == b"notice"
    }
}

#[test]
fn e4_s8_unsolicited_bytes_go_to_the_protocol_or_end_the_connection() {
    let (say, said) = mpsc::channel::<&[u8]>();
    let said = Mutex::new(said);
    // The first connection says what the test says, and nothing that was asked for.
    let server = Server::new(move |mut stream, counters| {
        if let Ok(said) = said.try_lock() {
            said.iter()
                .try_for_each(|bytes| stream.write_all(bytes))
                .unwrap();
        }
        support::echo(stream, counters);
    });
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let heard = Rc::new(RefCell::default());
        let pool = Pool::local()?.protocol(Notices(heard.clone()));
        pool.get(&*name).await?.release();
        eventually("it is accepted", || server.accepted() == 1);
        say.send(b"notice").unwrap();
        eventually_async("the protocol hears it", || *heard.borrow() == b"notice").await;
        assert_eq!(
            (pool.stats(&*name)?.idle, pool.stats(&*name)?.closed),
            (1, 0)
        );
        say.send(b"what?").unwrap();
        eventually_async("it closes", || pool.stats(&*name).unwrap().closed == 1).await;
        assert_eq!(pool.stats(&*name)?.closed_by(CloseReason::Unsolicited), 1);
        let next = pool.get(&*name).await?;
        assert!(!next.is_reused());
        next.write_all(b"mine\n").await?;
        assert_eq!(next.read_line(64).await?, "mine");
        next.release();
        // The first one ends, so that the server does.
        drop(say);
        Ok(())
    });
}

#[test]
fn e5_a_half_close_in_the_middle_of_an_answer_is_an_end_and_no_reuse() {
    let server = Server::new(|mut stream, counters| {
        let mut byte = [0];
        if stream.read_exact(&mut byte).is_ok() {
            stream.write_all(b"half of it").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        }
        support::swallow(stream, counters);
    });
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let pool = Pool::local()?;
        let conn = pool.get(&*name).await?;
        conn.write_all(b"?").await?;
        let error = conn.read_line(64).await.unwrap_err();
        assert!(error.is_closed(), "{error}");
        assert_eq!(conn.read_to_end(64).await?, b"half of it");
        // The user took all there was; the connection is no good all the same.
        conn.release();
        assert!(!pool.get(&*name).await?.is_reused());
        assert_eq!(pool.stats(&*name)?.closed_by(CloseReason::PeerClosed), 1);
        Ok(())
    });
}

#[test]
fn e6_silence_in_the_middle_of_an_answer_ends_at_the_read_deadline() {
    let said = Arc::new(AtomicBool::new(false));
    let says = said.clone();
    let server = Server::new(move |mut stream, counters| {
        let mut byte = [0];
        if stream.read_exact(&mut byte).is_ok() {
            stream.write_all(b"half of it").unwrap();
            says.store(true, Ordering::SeqCst);
        }
        support::swallow(stream, counters);
    });
    let name = server.name();
    let config = Config {
        read_timeout: Duration::from_millis(50),
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        let conn = pool.get(&*name).await?;
        conn.write_all(b"?").await?;
        eventually_async("half of it is there", || said.load(Ordering::SeqCst)).await;
        let error = conn.read_line(64).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ReadTimeout, "{error}");
        conn.release();
        eventually_async("it closes", || pool.stats(&*name).unwrap().closed == 1).await;
        assert_eq!(pool.stats(&*name)?.closed_by(CloseReason::Unread), 1);
        Ok(())
    });
}

#[test]
fn e7_a_peer_that_takes_nothing_does_not_hold_up_the_others() {
    let done = Arc::new(AtomicBool::new(false));
    let stuck = {
        let done = done.clone();
        Server::new(move |stream, _counters| {
            eventually("the test is done", || done.load(Ordering::SeqCst));
            drop(stream);
        })
    };
    let server = Server::echo();
    let (stuck_name, name) = (stuck.name(), server.name());
    let config = Config {
        write_timeout: Duration::from_millis(200),
        send_limit: 64 * 1024,
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        let conn = pool.get(&*stuck_name).await?;
        let writing = ringpool::spawn(async move {
            let sent = conn.write_all(&vec![7; 64 * 1024 * 1024]).await;
            conn.release();
            sent
        });
        for _ in 0..50 {
            let conn = pool.get(&*name).await?;
            echoes(&conn, "not held up").await?;
            conn.release();
        }
        let error = writing.await?.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WriteTimeout, "{error}");
        eventually_async("it closes", || {
            pool.stats(&*stuck_name).unwrap().permits == 0
        })
        .await;
        done.store(true, Ordering::SeqCst);
        Ok(())
    });
}

/// Polls `future` until its task was woken once more, which shows that the first piece came.
async fn second_poll<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    let mut polls = 0;
    std::future::poll_fn(|cx| {
        polls += 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if polls == 2 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[test]
fn e10_an_answer_cut_at_every_byte_is_read_whole() {
    const ANSWER: &[u8] = b"head\r\nof it\r\n\r\nbody\n";
    // Sends the answer in two pieces, cut where the byte that it hears says; the second piece goes
    // after another byte.
    let server = Server::new(|mut stream, _counters| {
        let mut byte = [0];
        while stream.read_exact(&mut byte).is_ok() {
            let (one, two) = ANSWER.split_at(usize::from(byte[0]));
            stream.write_all(one).unwrap();
            stream.read_exact(&mut byte).unwrap();
            stream.write_all(two).unwrap();
        }
    });
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let pool = Pool::local()?;
        for at in 1..ANSWER.len() {
            let conn = pool.get(&*name).await?;
            conn.write_all(&[at as u8]).await?;
            {
                let mut reading = pin!(async {
                    let head = conn.read_until(b"\r\n\r\n", 64).await?;
                    let body = conn.read_line(64).await?;
                    Ok::<_, ringpool::Error>((head, body))
                });
                assert!(second_poll(reading.as_mut()).await.is_none(), "cut at {at}");
                conn.write_all(b".").await?;
                let (head, body) = reading.await?;
                assert_eq!((&head[..], &*body), (&ANSWER[..15], "body"), "cut at {at}");
            }
            conn.write_all(&[at as u8]).await?;
            let mut all = [0; ANSWER.len()];
            {
                let mut reading = pin!(conn.read_exact(&mut all));
                assert!(second_poll(reading.as_mut()).await.is_none(), "cut at {at}");
                conn.write_all(b".").await?;
                reading.await?;
            }
            assert_eq!(all, ANSWER, "cut at {at}");
            conn.release();
        }
        assert_eq!(pool.stats(&*name)?.created, 1);
        Ok(())
    });
}

#[test]
fn e11_after_a_restart_of_the_server_nobody_gets_a_dead_connection() {
    let server = Server::echo();
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let pool = Pool::local()?;
        let mut held = Vec::new();
        for _ in 0..5 {
            let conn = pool.get(&*name).await?;
            echoes(&conn, "from the old one").await?;
            held.push(conn);
        }
        held.into_iter().for_each(Conn::release);
        let address = server.address();
        drop(server);
        let server = Server::start(address.ip(), address.port(), support::echo);
        for _ in 0..5 {
            let conn = pool.get(&*name).await?;
            assert!(!conn.is_reused());
            echoes(&conn, "from the new one").await?;
        }
        eventually_async("the old ones are closed", || {
            pool.stats(&*name)
                .unwrap()
                .closed_by(CloseReason::PeerClosed)
                == 5
        })
        .await;
        assert_eq!(server.accepted(), 5);
        Ok(())
    });
}

#[test]
fn e13_an_idle_connection_that_the_kernel_gives_up_is_closed() {
    let done = Arc::new(AtomicBool::new(false));
    let server = {
        let done = done.clone();
        Server::new(move |stream, _counters| {
            eventually("the test is done", || done.load(Ordering::SeqCst));
            drop(stream);
        })
    };
    let name = server.name();
    // ETIMEDOUT, as from keepalive: bytes that the peer never takes reach the same limit.
    let config = Config {
        // Longer than this thread may stand still between its flush and its look at the counts.
        tcp_user_timeout: Some(Duration::from_secs(1)),
        send_limit: 1 << 20,
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?;
        let conn = pool.get(&*name).await?;
        // The peer's window is full, the rest lies in our kernel.
        conn.write_all(&[7; 512 * 1024]).await?;
        conn.flush().await?;
        conn.release();
        assert_eq!(pool.stats(&*name)?.idle, 1);
        eventually_async("it is given up", || {
            pool.stats(&*name).unwrap().permits == 0
        })
        .await;
        let stats = pool.stats(&*name)?;
        assert_eq!((stats.closed, stats.closed_by(CloseReason::Reset)), (1, 1));
        assert!(!pool.get(&*name).await?.is_reused());
        done.store(true, Ordering::SeqCst);
        Ok(())
    });
}

/// A protocol whose check of health waits for the server.
struct Pings;

impl Protocol for Pings {
    type State = ();

    fn key(&self) -> String {
        String::new()
    }

    async fn init(&self, _stream: Stream) -> Result<()> {
        Ok(())
    }

    fn checks_health(&self) -> bool {
        true
    }

    async fn is_healthy(&self, stream: Stream, _state: Rc<()>) -> bool {
        stream.write_all(b"ping\n").await.is_ok()
            && stream.read_line(16).await.is_ok_and(|line| line == "ping")
    }
}

#[test]
fn k11_a_get_dropped_in_the_health_check_loses_nothing() {
    let server = Server::echo();
    let name = server.name();
    let config = Config {
        health_check_after: Duration::ZERO,
        max_connections_per_endpoint: 1,
        ..Config::default()
    };
    on_one_shard(config, async move || {
        let pool = Pool::local()?.protocol(Pings);
        pool.get(&*name).await?.release();
        for times in 1..30 {
            tokio::time::sleep(Duration::from_millis(1)).await; // bounded: it must have been idle
            drop(support::poll_times(pool.get(&*name), times).await);
            eventually_async("all settles", || {
                let stats = pool.stats(&*name).unwrap();
                stats.waiters + stats.connecting + stats.in_use + stats.closing == 0
                    && stats.permits == stats.idle
            })
            .await;
            let conn = pool.get(&*name).await?;
            // The answer to the check is not left over for the user.
            conn.write_all(b"mine\n").await?;
            assert_eq!(conn.read_line(16).await?, "mine");
            conn.release();
        }
        assert_eq!(pool.stats(&*name)?.closed_by(CloseReason::Unhealthy), 0);
        Ok(())
    });
}

#[test]
fn e8_bytes_that_trickle_in_move_neither_the_users_deadline_nor_the_maximum() {
    // A byte now and then, and never the end of the line.
    let server = Server::new(|mut stream, _counters| {
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(2)); // bounded: the connection ends
        }
    });
    let name = server.name();
    on_one_shard(Config::default(), async move || {
        let pool = Pool::local()?;
        let conn = pool.get(&*name).await?;
        let limit = Duration::from_millis(50);
        let late = tokio::time::timeout(limit, conn.read_line(usize::MAX)).await;
        assert!(late.is_err(), "the user's deadline holds");
        let error = conn.read_line(100).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLong, "{error}");
        // No byte was lost on the way.
        conn.read_exact(&mut [0; 100]).await?;
        conn.release();
        eventually_async("it closes", || pool.stats(&*name).unwrap().permits == 0).await;
        Ok(())
    });
}
