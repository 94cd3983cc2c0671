//! tokio's runtime for one thread, with deadpool.

use deadpool::managed::Pool;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::line::{check, mark};
use super::{Meter, phases};
use crate::Outcome;
use crate::dial::Dial;
use crate::harness::{Figures, Settings};

pub fn run(settings: &Settings) -> Outcome<Figures> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let dial = Dial(settings.server()?);
        let builder = Pool::builder(dial).max_size(settings.connections);
        let pool: Pool<Dial> = builder.build()?;
        let mut meter = Meter::new();
        let mut open = Vec::new();
        for _ in 0..settings.connections {
            open.push(pool.get().await.map_err(|error| error.to_string())?);
        }
        drop(open);
        for times in phases(settings) {
            meter.start();
            phase(&pool, settings, times).await?;
        }
        Outcome::Ok(meter.figures(settings))
    })
}

async fn phase(pool: &Pool<Dial>, settings: &Settings, times: usize) -> Outcome<()> {
    let client = |_| tokio::spawn(client(pool.clone(), settings.bytes, times));
    let clients: Vec<_> = (0..settings.connections).map(client).collect();
    for client in clients {
        client.await??;
    }
    Ok(())
}

async fn client(pool: Pool<Dial>, bytes: usize, times: usize) -> Outcome<()> {
    let mut message = vec![0; bytes];
    let mut echo = vec![0; bytes];
    for n in 0..times {
        let mut conn = pool.get().await.map_err(|error| error.to_string())?;
        mark(&mut message, n);
        conn.write_all(&message).await?;
        conn.read_exact(&mut echo).await?;
        check(&echo, bytes, n)?;
    }
    Ok(())
}
