//! What a shard needs of the runtime it lives in, in one place: nothing outside of `ring/` names
//! tokio.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use tokio::task::LocalSet;

use crate::error::{Error, ErrorKind, Result};

use super::{Descriptor, Driver, Turn, spawn, unpark};

/// What runs the tasks of one thread, of which it lets none go to another.
pub(crate) enum Runtime {
    /// With a ring of its own, for the tasks' own files and sockets.
    TokioUring(tokio_uring::Runtime),
    /// Without: a thread that sleeps has no second ring to look after.
    Tokio {
        // First: tasks go before what they run on.
        tasks: LocalSet,
        runtime: tokio::runtime::Runtime,
    },
}

impl Runtime {
    /// A tokio-uring runtime for the calling thread. The pool's I/O does not go through its ring.
    pub(crate) fn tokio_uring() -> Result<Self> {
        let mut builder = tokio_uring::builder();
        builder.entries(8);
        tokio_uring::Runtime::new(&builder)
            .map(Runtime::TokioUring)
            .map_err(|error| super::probe::unavailable(&error, STARTING))
    }

    /// A tokio runtime for the calling thread.
    pub(crate) fn tokio() -> Result<Self> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().on_thread_unpark(unpark::unparked);
        let runtime = builder
            .build()
            .map_err(|error| Error::from_source(ErrorKind::Unavailable, error).context(STARTING))?;
        let tasks = LocalSet::new();
        Ok(Runtime::Tokio { tasks, runtime })
    }

    /// Runs `future`, and the tasks that it starts, until it has ended.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        match self {
            Runtime::TokioUring(runtime) => runtime.block_on(future),
            Runtime::Tokio { tasks, runtime } => runtime.block_on(tasks.run_until(future)),
        }
    }
}

const STARTING: &str = "starting the tasks' runtime";

/// Starts the driver of `turn` as a task of this thread's runtime.
pub(crate) fn drive<T: Turn>(driver: Driver<T, Descriptor>) -> Result<()> {
    driver.listen();
    spawn::spawn_local(driver).map(drop)
}

/// Runs `future` until `late` has ended at most; `None` if it was not done by then.
pub(crate) async fn until<F: Future>(
    late: impl Future<Output = ()>,
    future: F,
) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut late = pin!(late);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => late.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// A seed from the system's random source (getrandom(2)).
pub(crate) fn random_seed() -> Result<u64> {
    let mut seed = [0; 8];
    let mut filled = 0;
    while filled < seed.len() {
        match rustix::rand::getrandom(&mut seed[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => filled += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => {
                let error = Error::from_errno(ErrorKind::Unavailable, errno.raw_os_error());
                return Err(error.context("reading the system's random source"));
            }
        }
    }
    Ok(u64::from_ne_bytes(seed))
}
