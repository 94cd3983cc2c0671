//! One thread of [`Shards`](super::Shards): it starts, runs what is sent to it, drains and ends.

use std::future::Future;
use std::io;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::error::{Error, ErrorKind, Result};
use crate::group::Group;
use crate::host::spawn;
use crate::ring;
use crate::shard::{Inbox, Job};

use super::TaskRuntime;
use super::remote::{Promise, Remote, remote};

/// The number of a CPU.
pub(crate) type Cpu = usize;

/// The CPUs this process may use.
pub(crate) fn allowed_cpus() -> Result<Vec<Cpu>> {
    let set = sched_getaffinity(None)
        .map_err(|errno| unavailable("reading the CPU affinity", errno.into()))?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect())
}

/// A started thread.
pub(crate) struct ShardThread {
    inbox: Inbox,
    stop: Option<Promise<Duration>>,
    handle: Option<JoinHandle<()>>,
}

impl ShardThread {
    /// Starts thread `n` on `cpu` and waits until its shard works.
    pub(crate) fn start(
        n: usize,
        cpu: Option<Cpu>,
        group: Group,
        runtime: TaskRuntime,
    ) -> Result<Self> {
        let (ready, started) = mpsc::sync_channel(1);
        let (stop, stopped) = remote();
        let run = move || {
            if let Some(cpu) = cpu
                && let Err(error) = pin(cpu)
            {
                let _caller_gone = ready.send(Err(error));
                return;
            }
            run_shard(&group, runtime, &ready, stopped);
        };
        let handle = std::thread::Builder::new()
            .name(format!("ringpool-{n}"))
            .spawn(run)
            .map_err(|error| unavailable("starting a thread", error))?;
        let inbox = match started.recv() {
            Ok(Ok(inbox)) => inbox,
            Ok(Err(error)) => {
                let _ended = handle.join();
                return Err(error);
            }
            Err(mpsc::RecvError) => {
                let _ended = handle.join();
                return Err(Error::new(
                    ErrorKind::Panicked,
                    "the thread ended while starting",
                ));
            }
        };
        Ok(Self {
            inbox,
            stop: Some(stop),
            handle: Some(handle),
        })
    }

    /// Runs a future there.
    pub(crate) fn run<F, Fut, T>(&self, work: F) -> Result<Remote<T>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        let (promise, remote) = remote();
        let job: Job = Box::new(move || {
            // The future is made inside its task, so that a panic in `work` is the task's.
            let task = spawn(async move { work().await });
            spawn(async move {
                match task.outcome().await {
                    Some(outcome) => promise.keep(outcome),
                    None => drop(promise),
                }
            });
        });
        self.inbox.send(job)?;
        Ok(remote)
    }

    /// Asks the thread to drain for `deadline` at most, and to end.
    pub(crate) fn stop(&mut self, deadline: Duration) {
        if let Some(stop) = self.stop.take() {
            stop.keep(Ok(deadline));
        }
    }

    /// Waits for its end.
    pub(crate) fn join(&mut self) {
        if let Some(handle) = self.handle.take() {
            // Panics of futures reach their `Remote`; the thread itself has nothing to add.
            let _ended = handle.join();
        }
    }
}

fn pin(cpu: Cpu) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set)
        .map_err(|errno| unavailable(&format!("pinning a thread to CPU {cpu}"), errno.into()))
}

fn run_shard(
    group: &Group,
    runtime: TaskRuntime,
    ready: &mpsc::SyncSender<Result<Inbox>>,
    stopped: Remote<Duration>,
) {
    let started = match runtime {
        TaskRuntime::TokioUring => ring::Runtime::tokio_uring(),
        TaskRuntime::Tokio => ring::Runtime::tokio(),
    };
    let runtime = match started {
        Ok(runtime) => runtime,
        Err(error) => {
            let _caller_gone = ready.send(Err(error));
            return;
        }
    };
    runtime.block_on(async {
        let member = match group.join() {
            Ok(member) => member,
            Err(error) => {
                let _caller_gone = ready.send(Err(error));
                return;
            }
        };
        let shard = member.shard().clone();
        let _caller_gone = ready.send(Ok(shard.inbox()));
        // An error: the owner of the thread is gone without a word.
        let deadline = stopped.await.unwrap_or_default();
        shard.drain(deadline).await;
    });
}

fn unavailable(doing: &str, error: io::Error) -> Error {
    Error::from_source(ErrorKind::Unavailable, error).context(doing.to_owned())
}
