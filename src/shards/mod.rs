//! A service with a thread per core should not have to write the threads. [`Shards`] starts them,
//! each pinned to a core, with a runtime of its own (tokio-uring's, unless told otherwise) and a shard
//! of the pool.
//!
//! Promise: building fails as a whole if one thread cannot start, naming why; an error or a panic
//! of a future reaches the caller who sent it; shutting down drains every shard, in order, within
//! a deadline.

mod remote;
mod thread;

use std::fmt;
use std::future::Future;
use std::num::NonZeroUsize;
use std::time::Duration;

use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::group::Group;

pub use self::remote::Remote;
use self::thread::{Cpu, ShardThread};

/// Pinned threads, one per core, each with a runtime and a shard of one pool.
///
/// ```no_run
/// use ringpool::{Config, Pool, Shards};
///
/// fn main() -> ringpool::Result<()> {
///     Shards::builder().config(Config::default()).build()?.run_on_each(|| async {
///         let conn = Pool::local()?.get("localhost:80").await?;
///         conn.write_all(b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
///         let _head = conn.read_until(b"\r\n\r\n", 16 * 1024).await?;
///         conn.release();
///         Ok(())
///     })
/// }
/// ```
pub struct Shards {
    threads: Vec<ShardThread>,
    group: Group,
    drain: Duration,
}

impl Shards {
    /// How the threads are to be: one per core this process may use, pinned, with default settings.
    pub fn builder() -> ShardsBuilder {
        ShardsBuilder {
            config: Config::default(),
            shards: None,
            pin: true,
            drain: Duration::from_secs(10),
            runtime: TaskRuntime::default(),
        }
    }

    /// How many shards there are.
    pub fn len(&self) -> usize {
        self.threads.len()
    }

    /// Never true; here because `len` is.
    pub fn is_empty(&self) -> bool {
        self.threads.is_empty()
    }

    /// What the shards share; other threads may join it too.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// Runs a future on shard `n`: `work` is called there and what it returns is run to its end.
    /// The [`Remote`] can be awaited anywhere, or waited for by a plain thread.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if there is no shard `n`; [`ErrorKind::Exhausted`] if too many
    /// futures wait to start there; [`ErrorKind::NotOnShard`] if the shard has ended.
    pub fn run_on<F, Fut, T>(&self, n: usize, work: F) -> Result<Remote<T>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        let Some(thread) = self.threads.get(n) else {
            let text = format!(
                "there is no shard {n}, only 0 to {}",
                self.threads.len() - 1
            );
            return Err(Error::new(ErrorKind::InvalidInput, text));
        };
        thread.run(work)
    }

    /// Runs one future on every shard, waits for all of them and shuts down.
    ///
    /// # Errors
    ///
    /// The first error that a future returned, by order of the shards, once all have ended.
    ///
    /// # Panics
    ///
    /// If a future panicked, with its panic, once all have ended and the shards are shut down.
    pub fn run_on_each<F, Fut>(self, work: F) -> Result<()>
    where
        F: Fn() -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<()>> + 'static,
    {
        self.collect_from_each(work).map(drop)
    }

    /// As [`run_on_each`](Self::run_on_each), and returns what the futures returned.
    ///
    /// # Errors
    ///
    /// As [`run_on_each`](Self::run_on_each).
    ///
    /// # Panics
    ///
    /// As [`run_on_each`](Self::run_on_each).
    pub fn collect_from_each<F, Fut, T>(self, work: F) -> Result<Vec<T>>
    where
        F: Fn() -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<T>> + 'static,
        T: Send + 'static,
    {
        let running: Vec<Result<Remote<Result<T>>>> = self
            .threads
            .iter()
            .map(|thread| {
                let work = work.clone();
                thread.run(work)
            })
            .collect();
        let ended: Vec<_> = running
            .into_iter()
            .map(|remote| remote.map(Remote::join))
            .collect();
        self.shutdown();
        let mut values = Vec::with_capacity(ended.len());
        for outcome in ended {
            match outcome? {
                Ok(value) => values.push(value??),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(values)
    }

    /// Drains every shard and ends its thread. Dropping `Shards` does the same.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        for thread in &mut self.threads {
            thread.stop(self.drain);
        }
        for thread in &mut self.threads {
            thread.join();
        }
    }
}

impl fmt::Debug for Shards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shards")
            .field("shards", &self.len())
            .finish_non_exhaustive()
    }
}

/// What runs the tasks of a shard's thread. The pool's connections are on a ring of the pool's own
/// with either, and [`spawn`](crate::spawn), timers and channels of tokio work with either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum TaskRuntime {
    /// A tokio-uring runtime: tasks may use its files and sockets. Before the thread sleeps it enters
    /// the kernel for its own ring, whether anything is queued there or not. A request and its
    /// answer, on a thread with nothing else to do, cost three system calls, and five if the thread
    /// sleeps when the answer comes: that interrupts one sleep before it ends the next.
    #[default]
    TokioUring,
    /// A tokio runtime of the thread's own, without a second ring: two system calls for the same.
    /// tokio's sockets work; a task that uses a file or a socket of tokio-uring panics there.
    Tokio,
}

/// How [`Shards`] are to be.
#[derive(Debug)]
#[must_use = "nothing starts until `build` is called"]
pub struct ShardsBuilder {
    config: Config,
    shards: Option<NonZeroUsize>,
    pin: bool,
    drain: Duration,
    runtime: TaskRuntime,
}

impl ShardsBuilder {
    /// The pool's settings.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// How many shards; more than cores is allowed, they then share cores. Default: one for each
    /// core this process may use (sched_getaffinity(2)).
    pub fn shards(mut self, shards: NonZeroUsize) -> Self {
        self.shards = Some(shards);
        self
    }

    /// Whether each thread is pinned to one core (sched_setaffinity(2)). Default true.
    pub fn pin(mut self, pin: bool) -> Self {
        self.pin = pin;
        self
    }

    /// What runs the tasks of each thread. Default [`TaskRuntime::TokioUring`]. With
    /// [`TaskRuntime::Tokio`] a thread that sleeps makes fewer system calls, and files and sockets
    /// of tokio-uring panic where tasks use them.
    ///
    /// ```no_run
    /// use ringpool::{Shards, TaskRuntime};
    ///
    /// let shards = Shards::builder().runtime(TaskRuntime::Tokio).build()?;
    /// # Ok::<(), ringpool::Error>(())
    /// ```
    pub fn runtime(mut self, runtime: TaskRuntime) -> Self {
        self.runtime = runtime;
        self
    }

    /// How long shutting down lets busy connections finish. Default 10 s.
    pub fn drain(mut self, deadline: Duration) -> Self {
        self.drain = deadline;
        self
    }

    /// Starts the threads.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`], naming the field; [`ErrorKind::Unavailable`] if a thread, its
    /// runtime or its ring could not be made, with the likely reason. Nothing is left running then.
    pub fn build(self) -> Result<Shards> {
        let group = Group::new(self.config)?;
        let cpus = thread::allowed_cpus()?;
        let count = self.shards.map_or(cpus.len(), NonZeroUsize::get);
        let mut shards = Shards {
            threads: Vec::with_capacity(count),
            group,
            drain: self.drain,
        };
        for n in 0..count {
            let cpu: Option<Cpu> = self.pin.then(|| cpus[n % cpus.len()]);
            let thread = ShardThread::start(n, cpu, shards.group.clone(), self.runtime)
                .map_err(|error| error.context(format!("starting shard {n} of {count}")))?;
            shards.threads.push(thread);
        }
        Ok(shards)
    }
}
