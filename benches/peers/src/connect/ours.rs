//! Ours: gets of connections that are not given back.

use std::num::NonZeroUsize;

use ringpool::{Config, Pool, Shards};

use super::{AT_ONCE, Meter, share};
use crate::Outcome;
use crate::harness::{Figures, Settings};

pub fn run(settings: &Settings) -> Outcome<Figures> {
    let settings = *settings;
    let name = settings.server()?.to_string();
    let shards = Shards::builder()
        .shards(NonZeroUsize::MIN)
        .config(Config {
            max_connections_per_endpoint: settings.count,
            max_connections_per_shard: settings.count,
            max_connecting: AT_ONCE,
            ..Config::default()
        })
        .build()?;
    let figures = shards.run_on(0, move || async move {
        let endpoint = Pool::local()?.endpoint(&*name)?;
        let meter = Meter::start();
        let start = |n| {
            let endpoint = endpoint.clone();
            ringpool::spawn(async move {
                let mut kept = Vec::new();
                for _ in 0..share(&settings, n) {
                    kept.push(endpoint.get().await?);
                }
                Ok::<_, ringpool::Error>(kept)
            })
        };
        let running: Vec<_> = (0..AT_ONCE).map(start).collect();
        let mut kept = Vec::new();
        for one in running {
            kept.push(one.await??);
        }
        let figures = meter.figures(&settings);
        drop(kept);
        Ok::<_, ringpool::Error>(figures)
    })?;
    let figures = figures.wait()?;
    shards.shutdown();
    Ok(figures?)
}
