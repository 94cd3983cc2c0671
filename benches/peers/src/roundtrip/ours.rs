//! Ours: one shard, and its pool, on a tokio runtime of its own.

use std::num::NonZeroUsize;
use std::time::Duration;

use ringpool::{Config, Conn, EndpointHandle, ErrorKind, Pool, Shards, TaskRuntime};

use super::line::mark;
use super::{Meter, OPENED, phases};
use crate::Outcome;
use crate::harness::{Figures, Settings};

/// From this size on the kernel gets the message itself, not a copy.
const OWNED: usize = 16 * 1024;

pub fn run(settings: &Settings) -> Outcome<Figures> {
    let settings = *settings;
    let name = settings.server()?.to_string();
    let shards = Shards::builder()
        .shards(NonZeroUsize::MIN)
        .runtime(TaskRuntime::Tokio)
        .config(Config {
            max_connections_per_endpoint: settings.connections,
            max_connections_per_shard: settings.connections.max(512),
            max_connecting: 64,
            // As docs/tuning.md says: twice the answers that may come in one turn, of their size.
            recv_buffers: buffers(settings.connections),
            recv_buffer_size: settings.bytes.clamp(4096, 32 * 1024),
            get_timeout: Duration::from_secs(30),
            ..Config::default()
        })
        .build()?;
    let measured = shards.run_on(0, move || async move {
        let endpoint = Pool::local()?.endpoint(&*name)?;
        let mut meter = Meter::new();
        let mut open = Vec::new();
        for _ in 0..settings.connections {
            open.push(endpoint.get().await?);
        }
        open.into_iter().for_each(Conn::release);
        for times in phases(&settings) {
            meter.start();
            phase(&endpoint, &settings, times).await?;
        }
        let mut figures = meter.figures(&settings);
        let again = endpoint
            .stats()
            .created
            .saturating_sub(settings.connections as u64);
        let all = phases(&settings).iter().sum::<usize>() * settings.connections;
        figures.insert(OPENED.name.into(), again as f64 / all as f64);
        Ok::<_, ringpool::Error>(figures)
    })?;
    let measured = measured.wait()?;
    shards.shutdown();
    Ok(measured?)
}

fn buffers(connections: usize) -> u16 {
    let most = (2 * connections).next_power_of_two().clamp(256, 4096);
    u16::try_from(most).unwrap_or(4096)
}

async fn phase(
    endpoint: &EndpointHandle,
    settings: &Settings,
    times: usize,
) -> ringpool::Result<()> {
    let client = |_| ringpool::spawn(client(endpoint.clone(), settings.bytes, times));
    let clients: Vec<_> = (0..settings.connections).map(client).collect();
    for client in clients {
        client.await??;
    }
    Ok(())
}

async fn client(endpoint: EndpointHandle, bytes: usize, times: usize) -> ringpool::Result<()> {
    let mut message = vec![0; bytes];
    let mut echo = vec![0; bytes];
    for n in 0..times {
        let conn = endpoint.get().await?;
        mark(&mut message, n);
        if bytes < OWNED {
            conn.write_all(&message).await?;
        } else {
            let (written, back) = conn.write_owned(message).await;
            message = back;
            written.map_err(|error| failed(error.to_string()))?;
        }
        conn.read_exact(&mut echo).await?;
        super::line::check(&echo, bytes, n).map_err(|error| failed(error.to_string()))?;
        conn.release();
    }
    Ok(())
}

fn failed(text: String) -> ringpool::Error {
    ringpool::Error::new(ErrorKind::Protocol, text)
}
