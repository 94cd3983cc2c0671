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
/// Outside of a tokio-uring runtime.
pub fn spawn<F>(future: F) -> TaskHandle<F::Output>
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
            "no tokio-uring runtime on this thread",
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

/// A task started by [`spawn`]. Awaiting it gives what the future returned.
///
/// Errors: [`ErrorKind::Panicked`] if the task panicked, [`ErrorKind::NotOnShard`] if it was
/// aborted or its runtime ended.
#[derive(Debug)]
pub struct TaskHandle<T> {
    task: tokio::task::JoinHandle<T>,
}

impl<T> TaskHandle<T> {
    /// Drops the future where it waits.
    pub fn abort(&self) {
        self.task.abort();
    }

    /// What the future returned, or its panic; `None` if it was aborted or its runtime ended.
    pub(crate) async fn outcome(self) -> Option<std::result::Result<T, Box<dyn Any + Send>>> {
        match self.task.await {
            Ok(value) => Some(Ok(value)),
            Err(error) => error.try_into_panic().ok().map(Err),
        }
    }
}

impl<T> Future for TaskHandle<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        Pin::new(&mut self.task).poll(cx).map(|ended| {
            ended.map_err(|error| match error.try_into_panic() {
                Ok(panic) => Error::new(ErrorKind::Panicked, message(&*panic)),
                Err(_) => Error::new(ErrorKind::NotOnShard, "the task was aborted"),
            })
        })
    }
}

/// What a panic said.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!(
        "the task panicked: {}",
        text.unwrap_or_else(|| "no message".to_owned())
    )
}
