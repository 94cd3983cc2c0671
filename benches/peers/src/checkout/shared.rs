//! Pools whose gets are awaited, in a tokio runtime of each thread.

use std::convert::Infallible;
use std::future::{Ready, poll_fn, ready};
use std::hint::black_box;
use std::task::{Context, Poll};

use deadpool::managed::{Manager, Metrics, RecycleResult};
use hyper_util::client::pool::cache;
use tokio::runtime::{Builder, Runtime};
use tower_service::Service;

use crate::Outcome;
use crate::harness::race::{Operation, race};
use crate::harness::{Figures, Settings};

/// Makes connections that are numbers, for each pool in its way.
#[derive(Debug, Clone)]
struct Numbers;

impl Manager for Numbers {
    type Type = u64;
    type Error = Infallible;

    async fn create(&self) -> Result<u64, Infallible> {
        Ok(7)
    }

    async fn recycle(&self, _: &mut u64, _: &Metrics) -> RecycleResult<Infallible> {
        Ok(())
    }
}

impl bb8::ManageConnection for Numbers {
    type Connection = u64;
    type Error = Infallible;

    async fn connect(&self) -> Result<u64, Infallible> {
        Ok(7)
    }

    async fn is_valid(&self, _: &mut u64) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _: &mut u64) -> bool {
        false
    }
}

#[mobc::async_trait]
impl mobc::Manager for Numbers {
    type Connection = u64;
    type Error = Infallible;

    async fn connect(&self) -> Result<u64, Infallible> {
        Ok(7)
    }

    async fn check(&self, one: u64) -> Result<u64, Infallible> {
        Ok(one)
    }
}

impl Service<()> for Numbers {
    type Response = u64;
    type Error = Infallible;
    type Future = Ready<Result<u64, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(7))
    }
}

/// A pool, and what a get and its release are there.
struct Gets<P, F> {
    runtime: Runtime,
    pool: P,
    get: F,
}

impl<P, F> Operation for Gets<P, F>
where
    F: AsyncFn(&mut P) -> Outcome<()>,
{
    fn times(&mut self, count: usize) -> Outcome<()> {
        let Self { runtime, pool, get } = self;
        runtime.block_on(async {
            for _ in 0..count {
                get(&mut *pool).await?;
            }
            Ok(())
        })
    }
}

/// Races with a clone of the pool on each thread.
fn race_pool<P, F>(settings: &Settings, pool: &P, get: F) -> Outcome<Figures>
where
    P: Clone + Sync,
    F: AsyncFn(&mut P) -> Outcome<()> + Copy + Sync,
{
    race(settings, &|| {
        Ok(Gets {
            runtime: runtime()?,
            pool: pool.clone(),
            get,
        })
    })
}

fn runtime() -> Outcome<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

pub fn deadpool(settings: &Settings) -> Outcome<Figures> {
    type Pool = deadpool::managed::Pool<Numbers>;
    let pool = Pool::builder(Numbers)
        .max_size(settings.connections)
        .build()?;
    race_pool(settings, &pool, async |pool: &mut Pool| {
        let one = pool.get().await.map_err(|error| error.to_string())?;
        drop(black_box(one));
        Ok(())
    })
}

pub fn bb8(settings: &Settings) -> Outcome<Figures> {
    type Pool = bb8::Pool<Numbers>;
    let builder = Pool::builder().max_size(settings.connections as u32);
    let builder = builder.test_on_check_out(false);
    // It starts tasks of its own, on the runtime that built it.
    let runtime = runtime()?;
    let pool = runtime.block_on(builder.build(Numbers))?;
    race_pool(settings, &pool, async |pool: &mut Pool| {
        drop(black_box(pool.get().await?));
        Ok(())
    })
}

pub fn mobc(settings: &Settings) -> Outcome<Figures> {
    type Pool = mobc::Pool<Numbers>;
    let open = settings.connections as u64;
    let builder = Pool::builder().max_open(open).max_idle(open);
    let pool = builder.test_on_check_out(false).build(Numbers);
    race_pool(settings, &pool, async |pool: &mut Pool| {
        drop(black_box(pool.get().await?));
        Ok(())
    })
}

pub fn hyper(settings: &Settings) -> Outcome<Figures> {
    let pool = cache::builder().build(Numbers);
    race_pool(settings, &pool, async |pool: &mut _| {
        drop(black_box(hyper_get(pool).await?));
        Ok(())
    })
}

/// Its types have no names, so this is said of any service.
async fn hyper_get<S: Service<(), Error = Infallible>>(cache: &mut S) -> Outcome<S::Response> {
    poll_fn(|cx| cache.poll_ready(cx)).await?;
    Ok(cache.call(()).await?)
}
