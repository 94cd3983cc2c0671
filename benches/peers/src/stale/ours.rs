//! Ours: the kernel watches what is idle.

use std::num::NonZeroUsize;

use ringpool::{Config, Conn, EndpointHandle, Pool, Shards};

use super::{Tally, client};
use crate::Outcome;
use crate::harness::{Figures, Settings, cpu};

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
    let began = cpu::process_time();
    let tally = shards.run_on(0, move || async move {
        let endpoint = Pool::local()?.endpoint(&*name)?;
        let start = |n| {
            let endpoint = endpoint.clone();
            ringpool::spawn(client(n, settings, async move || get(&endpoint).await))
        };
        let clients: Vec<_> = (0..settings.connections).map(start).collect();
        let mut sum = Tally::default();
        for client in clients {
            sum.add(client.await??);
        }
        Outcome::Ok(sum)
    })?;
    let figures = tally.wait()??.figures(&settings, began);
    shards.shutdown();
    Ok(figures)
}

async fn get(endpoint: &EndpointHandle) -> ringpool::Result<bool> {
    let conn = endpoint.get().await?;
    match exchange(&conn).await {
        Ok(()) => conn.release(),
        Err(_) => {
            conn.close();
            return Ok(false);
        }
    }
    Ok(true)
}

async fn exchange(conn: &Conn) -> ringpool::Result<()> {
    conn.write_all(&[7; 64]).await?;
    conn.read_exact(&mut [0; 64]).await
}
