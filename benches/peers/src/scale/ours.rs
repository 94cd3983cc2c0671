//! Ours: as many shards as threads, each with one connection.

use std::hint::black_box;
use std::num::NonZeroUsize;

use ringpool::{Config, Pool, Shards};

use super::MEMORY;
use crate::Outcome;
use crate::harness::race::{WARM, race_shards};
use crate::harness::{Figures, Settings, alloc};

pub fn run(settings: &Settings) -> Outcome<Figures> {
    let held = alloc::live();
    let threads = NonZeroUsize::new(settings.threads).ok_or("no threads")?;
    let config = Config {
        max_connections_per_endpoint: settings.connections,
        ..Config::default()
    };
    let shards = Shards::builder().shards(threads).config(config).build()?;
    let name = settings.server()?.to_string();
    let mut figures = race_shards(&shards, settings, move |race, count| {
        let name = name.clone();
        async move {
            let endpoint = Pool::local()?.endpoint(&*name)?;
            for _ in 0..WARM {
                endpoint.get().await?.release();
            }
            let began = race.start();
            for _ in 0..count {
                black_box(endpoint.get().await?).release();
            }
            Ok(race.end(began))
        }
    })?;
    let each = (alloc::live() - held) as f64 / settings.threads as f64;
    figures.insert(MEMORY.name.into(), each);
    shards.shutdown();
    Ok(figures)
}
