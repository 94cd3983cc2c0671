//! The servers must not run on the cores' runtimes that they are there to measure. Each
//! [`ServerThread`] has a plain tokio runtime of its own.
//!
//! Promise: dropping it drops its tasks, closes their sockets and joins the thread.

use std::io;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

/// A thread that runs tasks until it is dropped.
#[derive(Debug)]
pub(crate) struct ServerThread {
    stop: Option<oneshot::Sender<()>>,
    handle: Option<JoinHandle<()>>,
}

impl ServerThread {
    /// Starts a thread with the tasks that `spawn` spawns; it is called on this thread, inside of
    /// the new thread's runtime.
    pub(crate) fn start(name: &str, spawn: impl FnOnce() -> io::Result<()>) -> io::Result<Self> {
        let runtime: Runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let entered = runtime.enter();
        spawn()?;
        drop(entered);
        let (stop, stopped) = oneshot::channel::<()>();
        let run = move || {
            runtime.block_on(async {
                // Both a message and a dropped sender mean the end.
                let _either = stopped.await;
            });
        };
        let handle = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)?;
        Ok(Self {
            stop: Some(stop),
            handle: Some(handle),
        })
    }
}

impl Drop for ServerThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(handle) = self.handle.take() {
            // A panic of a task stays with the task; the thread itself has nothing to say.
            let _ended = handle.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn dropping_it_drops_its_tasks() {
        let held = Arc::new(());
        let by_task = held.clone();
        let thread = ServerThread::start("test", || {
            tokio::spawn(async move {
                std::future::pending::<()>().await;
                drop(by_task);
            });
            Ok(())
        })
        .unwrap();
        drop(thread);
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
