//! pingora-pool: a task waits for the end of each idle connection.

use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use pingora_pool::{ConnectionMeta, ConnectionPool};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::{client, echo, in_tokio, tally};
use crate::Outcome;
use crate::dial::Dial;
use crate::harness::{Figures, Settings};

/// The endpoint, as a hash of it.
const KEY: u64 = 7;

type Shared = Arc<Mutex<TcpStream>>;
type Pool = ConnectionPool<Shared>;

pub fn run(settings: &Settings) -> Outcome<Figures> {
    let settings = *settings;
    in_tokio(&settings, || async move {
        let dial = Dial(settings.server()?);
        let pool = Arc::new(Pool::new(settings.connections));
        let start = |n| {
            let pool = pool.clone();
            tokio::task::spawn_local(client(n, settings, async move || {
                let shared = match pool.get(&KEY) {
                    Some(shared) => shared,
                    None => Arc::new(Mutex::new(dial.open().await?)),
                };
                let went_well = {
                    // The task that watched it lets go of it when it hears of the get.
                    let mut stream = shared.lock().await;
                    echo(&mut stream, settings.bytes).await.is_ok()
                };
                if went_well {
                    put(&pool, shared)?;
                }
                Outcome::Ok(went_well)
            }))
        };
        tally((0..settings.connections).map(start).collect()).await
    })
}

fn put(pool: &Arc<Pool>, shared: Shared) -> Outcome<()> {
    let locked = shared.clone().try_lock_owned()?;
    let meta = ConnectionMeta::new(KEY, locked.as_raw_fd());
    let (evicted, used) = pool.put(&meta, shared);
    let pool = pool.clone();
    tokio::task::spawn_local(async move {
        pool.idle_poll(locked, &meta, None, evicted, used).await;
    });
    Ok(())
}
