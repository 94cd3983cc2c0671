//! Ours: a shard for each thread.

use std::hint::black_box;
use std::num::NonZeroUsize;

use ringpool::{Config, Conn, Pool, Shards};

use crate::Outcome;
use crate::harness::race::{WARM, race_shards};
use crate::harness::{Figures, Settings};

pub fn run(settings: &Settings) -> Outcome<Figures> {
    let threads = NonZeroUsize::new(settings.threads).ok_or("no threads")?;
    let shards = Shards::builder()
        .shards(threads)
        .config(Config::default())
        .build()?;
    let (name, connections) = (settings.server()?.to_string(), settings.connections);
    let measured = race_shards(&shards, settings, move |race, count| {
        let name = name.clone();
        async move {
            let endpoint = Pool::local()?.endpoint(&*name)?;
            let mut held = Vec::new();
            for _ in 0..connections {
                held.push(endpoint.get().await?);
            }
            held.into_iter().for_each(Conn::release);
            for _ in 0..WARM {
                endpoint.get().await?.release();
            }
            let began = race.start();
            for _ in 0..count {
                black_box(endpoint.get().await?).release();
            }
            Ok(race.end(began))
        }
    });
    shards.shutdown();
    measured
}
