//! Ours: armed receives, and a figure of what is idle.

use std::num::NonZeroUsize;
use std::time::Duration;

use ringpool::{Config, Conn, Pool, Shards};

use super::watch;
use crate::Outcome;
use crate::harness::{Figures, Settings, alloc};

pub fn run(settings: &Settings) -> Outcome<Figures> {
    let settings = *settings;
    let name = settings.server()?.to_string();
    let held = alloc::live();
    let shards = Shards::builder()
        .shards(NonZeroUsize::MIN)
        .config(Config {
            max_connections_per_endpoint: settings.connections,
            max_connections_per_shard: settings.connections,
            // Nothing ends of itself while it is watched.
            max_idle_time: Duration::from_secs(600),
            ..Config::default()
        })
        .build()?;
    let figures = shards.run_on(0, move || async move {
        let endpoint = Pool::local()?.endpoint(&*name)?;
        {
            let mut open = Vec::new();
            for _ in 0..settings.connections {
                open.push(endpoint.get().await?);
            }
            open.into_iter().for_each(Conn::release);
        }
        watch(&settings, held, || endpoint.stats().idle as usize).await
    })?;
    let figures = figures.wait()?;
    shards.shutdown();
    figures
}
