//! The same operation on one thread or on several at once, each on a core of its own: they start
//! together, and the slowest one counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use super::row::Metric;
use super::workload::{Figures, Settings, figures};
use super::{alloc, cpu};
use crate::Outcome;

pub const TIME: Metric = Metric::time("processor time of one", "ns");
pub const ALLOCATIONS: Metric = Metric::count("allocations of one", "allocations");

/// What the racing threads share.
pub struct Race {
    barrier: Barrier,
    threads: usize,
    allocated: AtomicU64,
}

impl Race {
    pub fn new(threads: usize) -> Arc<Self> {
        Arc::new(Self {
            barrier: Barrier::new(threads),
            threads,
            allocated: AtomicU64::new(0),
        })
    }

    /// Waits for the others; to be called when all is warm.
    pub fn start(&self) -> Duration {
        if self.barrier.wait().is_leader() {
            self.allocated.store(alloc::calls(), Relaxed);
        }
        self.barrier.wait();
        cpu::thread_time()
    }

    /// What the thread has used since `began`; waits for the others.
    pub fn end(&self, began: Duration) -> Duration {
        let taken = cpu::thread_time() - began;
        if self.barrier.wait().is_leader() {
            let allocated = alloc::calls() - self.allocated.load(Relaxed);
            self.allocated.store(allocated, Relaxed);
        }
        self.barrier.wait();
        taken
    }

    /// When all have ended, each after `count` operations.
    pub fn figures(&self, count: usize, taken: &[Duration]) -> Figures {
        let slowest = taken.iter().max().copied().unwrap_or_default();
        let all = (count * self.threads) as f64;
        figures([
            (&TIME, slowest.as_nanos() as f64 / count as f64),
            (&ALLOCATIONS, self.allocated.load(Relaxed) as f64 / all),
        ])
    }
}

/// Something that can be done many times, on the thread that made it.
pub trait Operation {
    fn times(&mut self, count: usize) -> Outcome<()>;
}

/// Enough to fill caches and pools.
pub const WARM: usize = 1000;

/// Races on threads of our own. `make` is called on each of them.
pub fn race<O: Operation>(
    settings: &Settings,
    make: &(dyn Fn() -> Outcome<O> + Sync),
) -> Outcome<Figures> {
    let Settings { threads, count, .. } = *settings;
    let race = Race::new(threads);
    let taken: Outcome<Vec<Duration>> = std::thread::scope(|scope| {
        let start = |core| {
            let race = race.clone();
            scope.spawn(move || -> Outcome<Duration> {
                cpu::pin(core)?;
                let mut operation = make()?;
                operation.times(WARM)?;
                let began = race.start();
                operation.times(count)?;
                Ok(race.end(began))
            })
        };
        let running: Vec<_> = (0..threads).map(start).collect();
        let ended = running.into_iter().map(std::thread::ScopedJoinHandle::join);
        ended
            .map(|taken| taken.map_err(|_| "a thread panicked")?)
            .collect()
    });
    Ok(race.figures(count, &taken?))
}

/// Races on shards of ours. `make` is called on each of them, and what it returns runs there.
pub fn race_shards<F, Fut>(
    shards: &ringpool::Shards,
    settings: &Settings,
    work: F,
) -> Outcome<Figures>
where
    F: Fn(Arc<Race>, usize) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ringpool::Result<Duration>> + 'static,
{
    let Settings { threads, count, .. } = *settings;
    let race = Race::new(threads);
    let mut running = Vec::new();
    for shard in 0..threads {
        let (race, work) = (race.clone(), work.clone());
        running.push(shards.run_on(shard, move || work(race, count))?);
    }
    let mut taken = Vec::new();
    for shard in running {
        taken.push(shard.wait()??);
    }
    Ok(race.figures(count, &taken))
}
