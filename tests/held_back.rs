//! What came while the shard's thread ran on, and no entry of the kernel has posted.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use ringpool::{Config, Pool};
use support::{eventually, on_one_shard};

/// Whether the kernel has the end of what `client` receives from `server` (CLOSE_WAIT in proc(5),
/// net/tcp).
fn has_end(client: SocketAddr, server: SocketAddr) -> bool {
    let [client, server] = [client, server].map(|it| match it {
        SocketAddr::V4(it) => {
            let ip = u32::from_ne_bytes(it.ip().octets());
            format!("{ip:08X}:{:04X}", it.port())
        }
        SocketAddr::V6(it) => panic!("{it} is not in this table"),
    });
    let entry = format!("{client} {server} 08");
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().any(|line| line.contains(&entry))
}

/// Answers each message of 4 bytes; ends its connections one after the other, when it is told to,
/// and says when the client's kernel knows.
fn server(ends: mpsc::Receiver<()>, ended: Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (streams, newest) = mpsc::channel::<TcpStream>();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            streams.send(stream.try_clone().unwrap()).unwrap();
            thread::spawn(move || {
                let (mut stream, mut bytes) = (stream, [0; 4]);
                while stream.read_exact(&mut bytes).is_ok() && stream.write_all(&bytes).is_ok() {}
            });
        }
    });
    thread::spawn(move || {
        for () in ends {
            let stream = newest.recv().unwrap();
            let client = stream.peer_addr().unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            eventually("the end arrives", || has_end(client, address));
            ended.fetch_add(1, Ordering::Release);
        }
    });
    address
}

/// Runs on without a system call until `condition` holds.
fn spin_until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "it never came");
        std::hint::spin_loop();
    }
}

#[test]
fn e3_a_close_that_only_the_kernel_has_seen_is_known_to_the_get() {
    const ROUNDS: usize = 30;
    let (end, ends) = mpsc::channel();
    let ended = Arc::new(AtomicUsize::new(0));
    let name = server(ends, ended.clone()).to_string();
    let errors = on_one_shard(Config::default(), async move || {
        let endpoint = Pool::local()?.endpoint(&*name)?;
        let mut errors = 0;
        for round in 0..ROUNDS {
            let conn = endpoint.get().await?;
            let exchange = async || {
                conn.write_all(b"ping").await?;
                conn.read_exact(&mut [0; 4]).await?;
                Ok::<_, ringpool::Error>(())
            };
            if exchange().await.is_err() {
                errors += 1;
                continue;
            }
            conn.release();
            let released = Instant::now();
            spin_until(|| released.elapsed() > Duration::from_millis(1));
            // Told here, for to tell is a system call.
            end.send(()).unwrap();
            spin_until(|| ended.load(Ordering::Acquire) > round - errors);
        }
        Ok(errors)
    });
    assert_eq!(errors, 0, "of {ROUNDS}");
}
