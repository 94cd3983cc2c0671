//! What a hit costs: a get that finds an idle connection, and its clean release, through an endpoint
//! handle. It is the operation that services do most and the only one that is measured in
//! nanoseconds, too few of them for a clock on a busy machine; so it is small enough to have its
//! instructions counted, by the difference of two runs:
//!
//! ```sh
//! cargo bench --bench hit -- 1000000
//! for n in 10000 20000; do valgrind --tool=callgrind target/release/deps/hit-… $n; done
//! ```

use std::net::{Ipv4Addr, TcpListener};
use std::num::NonZeroUsize;
use std::thread;
use std::time::Instant;

use ringpool::{Config, Error, ErrorKind, Pool, Result, Shards};

fn main() -> Result<()> {
    let failed = |error| Error::from_source(ErrorKind::Io, error);
    let mut numbers = std::env::args().filter_map(|arg| arg.parse::<u32>().ok());
    let count = numbers.next_back().unwrap_or(1_000_000).max(1);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?.to_string();
    thread::spawn(move || listener.incoming().collect::<Vec<_>>());
    let shards = Shards::builder()
        .shards(NonZeroUsize::MIN)
        .config(Config::default())
        .build()?;
    let work = move || async move {
        let endpoint = Pool::local()?.endpoint(&*address)?;
        endpoint.get().await?.release();
        let begun = Instant::now();
        for _ in 0..count {
            endpoint.get().await?.release();
        }
        Ok::<_, Error>(begun.elapsed())
    };
    let time = shards.run_on(0, work)?.wait()??;
    shards.shutdown();
    let each = time.as_secs_f64() * 1e9 / f64::from(count);
    println!("{each:.1} ns for each of {count}");
    Ok(())
}
