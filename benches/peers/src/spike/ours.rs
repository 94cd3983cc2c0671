//! Ours: a protocol that takes its time to greet.

use std::num::NonZeroUsize;
use std::sync::atomic::Ordering::Relaxed;

use ringpool::{Config, Conn, Pool, Protocol, Shards, Stream};

use super::{MINIMUM, PREPARED, prepare, spike_figures, wait};
use crate::Outcome;
use crate::harness::{Figures, Settings};

struct Slow;

impl Protocol for Slow {
    type State = ();

    fn key(&self) -> String {
        String::new()
    }

    async fn init(&self, _stream: Stream) -> ringpool::Result<()> {
        prepare().await;
        Ok(())
    }
}

pub fn run(settings: &Settings) -> Outcome<Figures> {
    let settings = *settings;
    let name = settings.server()?.to_string();
    let shards = Shards::builder()
        .shards(NonZeroUsize::MIN)
        .config(Config {
            max_connections_per_endpoint: settings.connections,
            ..Config::default()
        })
        .build()?;
    let figures = shards.run_on(0, move || async move {
        let endpoint = Pool::local()?.protocol(Slow).endpoint(&*name)?;
        let mut open = Vec::new();
        for _ in 0..MINIMUM {
            open.push(endpoint.get().await?);
        }
        open.into_iter().for_each(Conn::release);
        let before = PREPARED.load(Relaxed);
        let start = |_| {
            let endpoint = endpoint.clone();
            ringpool::spawn(async move {
                let (conn, waited) = wait(endpoint.get()).await?;
                conn.release();
                Ok::<_, ringpool::Error>(waited)
            })
        };
        let running: Vec<_> = (0..settings.count).map(start).collect();
        let mut waits = Vec::new();
        for one in running {
            waits.push(one.await??);
        }
        Ok::<_, ringpool::Error>(spike_figures(before, &waits))
    })?;
    let figures = figures.wait()?;
    shards.shutdown();
    Ok(figures?)
}
