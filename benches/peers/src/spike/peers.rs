//! Pools of tokio connections whose managers take their time.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use deadpool::managed::{Manager, Metrics, RecycleResult};
use tokio::net::TcpStream;

use super::{MINIMUM, PREPARED, prepare, spike_figures, wait};
use crate::Outcome;
use crate::dial::Dial;
use crate::harness::{Figures, Settings};

#[derive(Clone)]
struct Slow(Dial);

impl Slow {
    async fn open(&self) -> io::Result<TcpStream> {
        let stream = self.0.open().await?;
        prepare().await;
        Ok(stream)
    }
}

impl Manager for Slow {
    type Type = TcpStream;
    type Error = io::Error;

    async fn create(&self) -> io::Result<TcpStream> {
        self.open().await
    }

    async fn recycle(&self, _: &mut TcpStream, _: &Metrics) -> RecycleResult<io::Error> {
        Ok(())
    }
}

impl bb8::ManageConnection for Slow {
    type Connection = TcpStream;
    type Error = io::Error;

    async fn connect(&self) -> io::Result<TcpStream> {
        self.open().await
    }

    async fn is_valid(&self, _: &mut TcpStream) -> io::Result<()> {
        Ok(())
    }

    fn has_broken(&self, _: &mut TcpStream) -> bool {
        false
    }
}

pub fn deadpool(settings: &Settings) -> Outcome<Figures> {
    in_tokio(async {
        let manager = Slow(Dial(settings.server()?));
        let builder = deadpool::managed::Pool::builder(manager);
        let pool: deadpool::managed::Pool<Slow> = builder.max_size(settings.connections).build()?;
        let mut open = Vec::new();
        for _ in 0..MINIMUM {
            open.push(pool.get().await.map_err(|error| error.to_string())?);
        }
        drop(open);
        let before = PREPARED.load(Relaxed);
        let start = |_| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let gotten = wait(pool.get()).await;
                Outcome::Ok(gotten.map_err(|error| error.to_string())?.1)
            })
        };
        let waits = all((0..settings.count).map(start).collect()).await?;
        Ok(spike_figures(before, &waits))
    })
}

pub fn bb8(settings: &Settings) -> Outcome<Figures> {
    in_tokio(async {
        let builder = bb8::Pool::builder().max_size(settings.connections as u32);
        let builder = builder.min_idle(MINIMUM as u32).test_on_check_out(false);
        let pool = builder.build(Slow(Dial(settings.server()?))).await?;
        let before = PREPARED.load(Relaxed);
        let start = |_| {
            let pool = pool.clone();
            tokio::spawn(async move { Outcome::Ok(wait(pool.get()).await?.1) })
        };
        let waits = all((0..settings.count).map(start).collect()).await?;
        Ok(spike_figures(before, &waits))
    })
}

fn in_tokio(work: impl Future<Output = Outcome<Figures>>) -> Outcome<Figures> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(work)
}

async fn all(running: Vec<tokio::task::JoinHandle<Outcome<Duration>>>) -> Outcome<Vec<Duration>> {
    let mut waits = Vec::new();
    for one in running {
        waits.push(one.await??);
    }
    Ok(waits)
}
