//! What a shard needs of the runtime it lives in, in one place: nothing outside of `ring/` names
//! tokio.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use crate::error::{Error, ErrorKind, Result};

use super::{Descriptor, Driver, Turn, spawn};

/// A tokio-uring runtime for the calling thread. Its ring is for the tasks' own files; the pool's
/// I/O goes through the shard's ring.
pub(crate) fn runtime() -> Result<tokio_uring::Runtime> {
    let mut builder = tokio_uring::builder();
    builder.entries(8);
    tokio_uring::Runtime::new(&builder)
        .map_err(|error| super::probe::unavailable(&error, "starting the tasks' runtime"))
}

/// Starts the driver of `turn` as a task of this thread's runtime.
pub(crate) fn drive<T: Turn>(driver: Driver<T, Descriptor>) -> Result<()> {
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
