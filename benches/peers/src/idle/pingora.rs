//! pingora-pool: a task for each idle connection waits for its end.

use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use pingora_pool::{ConnectionMeta, ConnectionPool};
use tokio::sync::Mutex;

use super::watch;
use crate::Outcome;
use crate::dial::Dial;
use crate::harness::{Figures, Settings, alloc};

/// The endpoint, as a hash of it.
const KEY: u64 = 7;

pub fn run(settings: &Settings) -> Outcome<Figures> {
    let held = alloc::live();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let dial = Dial(settings.server()?);
        let pool = Arc::new(ConnectionPool::new(settings.connections));
        let left = Arc::new(AtomicUsize::new(settings.connections));
        for _ in 0..settings.connections {
            let shared = Arc::new(Mutex::new(dial.open().await?));
            let locked = shared.clone().try_lock_owned()?;
            let meta = ConnectionMeta::new(KEY, locked.as_raw_fd());
            let (evicted, used) = pool.put(&meta, shared);
            let (pool, left) = (pool.clone(), left.clone());
            tokio::spawn(async move {
                pool.idle_poll(locked, &meta, None, evicted, used).await;
                left.fetch_sub(1, Relaxed);
            });
        }
        // Their tasks begin to wait.
        tokio::task::yield_now().await;
        watch(settings, held, || left.load(Relaxed)).await
    })
}
