//! Tasks on this core: the future stays on its thread, its panic is kept for who waits for it.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::error::{Error, ErrorKind, Result};

/// Starts a future as a task of the calling core's runtime. The task goes on if the handle is
/// dropped, and is dropped with the runtime.
///
/// # Panics
///
/// Outside of a runtime of tokio-uring and of a `LocalSet` of tokio.
pub(crate) fn spawn<F>(future: F) -> TaskHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    TaskHandle {
        task: tokio::task::spawn_local(future),
    }
}

/// Starts `task` on the calling thread's runtime.
///
/// # Errors
///
/// `NotOnShard` if the thread runs no runtime that takes tasks which are not `Send`.
pub(super) fn spawn_local<F>(task: F) -> Result<tokio::task::JoinHandle<F::Output>>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let refused = || {
        Error::new(
            ErrorKind::NotOnShard,
            "no tokio-uring runtime and no LocalSet of tokio on this thread",
        )
    };
    if !in_runtime() {
        return Err(refused());
    }
    // A runtime without a LocalSet can be told apart only by its panic.
    catch_unwind(AssertUnwindSafe(|| tokio::task::spawn_local(task))).map_err(|_| refused())
}

/// Whether the calling thread is inside of a runtime.
pub(crate) fn in_runtime() -> bool {
    tokio::runtime::Handle::try_current().is_ok()
}

/// A task started by [`spawn`].
#[derive(Debug)]
pub(crate) struct TaskHandle<T> {
    task: tokio::task::JoinHandle<T>,
}

impl<T> TaskHandle<T> {
    /// Drops the future where it waits.
    pub(crate) fn abort(&self) {
        self.task.abort();
    }

    /// What the future returned, or its panic; `None` if it was aborted or its runtime ended.
    pub(crate) fn poll_outcome(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<T, Box<dyn Any + Send>>>> {
        Pin::new(&mut self.task).poll(cx).map(|ended| match ended {
            Ok(value) => Some(Ok(value)),
            Err(error) => error.try_into_panic().ok().map(Err),
        })
    }
}
