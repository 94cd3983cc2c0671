//! What round trips on pooled connections cost: get, write, the echo read, release. Too much of it is the
//! kernel's for a clock to show what ours is; so its instructions are counted, by the difference of
//! two runs. The echoes come from a child process, which is not counted.
//!
//! ```sh
//! cargo bench --bench trip -- 20000 64 64 # round trips, connections, bytes
//! cargo bench --bench trip -- 20000 64 65536 256 4096 # and receive buffers, and their size
//! for n in 20000 40000; do
//!     valgrind --tool=callgrind target/release/deps/trip-… $n 64 64
//! done
//! ```

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::process::{Command, Stdio};
use std::time::Instant;
use std::{env, io, thread};

use ringpool::{
    Config, EndpointHandle, Error, ErrorKind, Pool, Result, Shards, TaskRuntime, spawn,
};

/// From this size on the kernel gets the message itself, not a copy, as in the comparison.
const OWNED: usize = 16 * 1024;

fn main() -> Result<()> {
    let failed = |error| Error::from_source(ErrorKind::Io, error);
    if env::args().nth(1).is_some_and(|arg| arg == "serve") {
        return serve().map_err(failed);
    }
    let numbers: Vec<usize> = env::args().filter_map(|arg| arg.parse().ok()).collect();
    let number = |at: usize, otherwise| numbers.get(at).map_or(otherwise, |n: &usize| (*n).max(1));
    let (trips, connections, bytes) = (number(0, 20_000), number(1, 1), number(2, 64));
    let usual = Config::default();
    let config = Config {
        max_connections_per_endpoint: connections,
        max_connections_per_shard: connections.max(512),
        recv_buffers: u16::try_from(number(3, usual.recv_buffers.into())).unwrap_or(u16::MAX),
        recv_buffer_size: number(4, usual.recv_buffer_size),
        ..usual
    };
    let mut server = Command::new(env::current_exe().map_err(failed)?)
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut address = String::new();
    if let Some(said) = server.stdout.take() {
        BufReader::new(said)
            .read_line(&mut address)
            .map_err(failed)?;
    }
    let time = measure(address.trim().to_owned(), trips, connections, bytes, config);
    // It ends with its input.
    drop(server.stdin.take());
    server.wait().map_err(failed)?;
    let each = time?.as_secs_f64() * 1e6 / trips as f64;
    println!("{each:.2} µs for each of {trips}, {connections} connections, {bytes} bytes");
    if let Some([user, system]) = processor_time() {
        let each = |time: f64| time * 1e6 / trips as f64;
        println!(
            "{:.2} µs of a processor as user, {:.2} as system",
            each(user),
            each(system)
        );
    }
    Ok(())
}

/// Seconds of this process without its child, in steps of 1/100 (proc_pid_stat(5)).
fn processor_time() -> Option<[f64; 2]> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit(") ").next()?.split(' ').skip(11);
    let mut next = || Some(fields.next()?.parse::<f64>().ok()? / 100.0);
    Some([next()?, next()?])
}

fn measure(
    address: String,
    trips: usize,
    connections: usize,
    bytes: usize,
    config: Config,
) -> Result<std::time::Duration> {
    let shards = Shards::builder()
        .shards(NonZeroUsize::MIN)
        .runtime(TaskRuntime::Tokio)
        .config(config)
        .build()?;
    let work = move || async move {
        let endpoint = Pool::local()?.endpoint(&*address)?;
        let begun = Instant::now();
        let share = trips.div_ceil(connections);
        let tasks: Vec<_> = (0..connections)
            .map(|_| spawn(client(endpoint.clone(), share, bytes)))
            .collect();
        for task in tasks {
            task.await??;
        }
        println!("{:?}", Pool::local()?.shard_stats());
        Ok::<_, Error>(begun.elapsed())
    };
    let time = shards.run_on(0, work)?.wait()??;
    shards.shutdown();
    Ok(time)
}

async fn client(endpoint: EndpointHandle, times: usize, bytes: usize) -> Result<()> {
    let mut message = vec![7; bytes];
    let mut echo = vec![0; bytes];
    for _ in 0..times {
        let conn = endpoint.get().await?;
        if bytes < OWNED {
            conn.write_all(&message).await?;
        } else {
            let (written, back) = conn.write_owned(message).await;
            message = back;
            written.map_err(|error| Error::from_source(ErrorKind::Io, error))?;
        }
        conn.read_exact(&mut echo).await?;
        conn.release();
    }
    assert_eq!(message, echo);
    Ok(())
}

/// Echoes, a thread for each connection, until its input ends.
fn serve() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::Builder::new()
                .stack_size(64 * 1024)
                .spawn(|| echo(stream))
                .map(drop)?;
        }
        Ok::<_, io::Error>(())
    });
    io::stdin().read_to_end(&mut Vec::new()).map(drop)
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut bytes)? {
            0 => return Ok(()),
            count => stream.write_all(&bytes[..count])?,
        }
    }
}
