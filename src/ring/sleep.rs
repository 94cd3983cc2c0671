//! Waiting for a [`Tick`] in the runtime. For waits that are not the driver's own deadline.

use crate::ring::clock;
use crate::time::Tick;

/// Ends at `tick`, up to the runtime's timer granularity later; never for [`Tick::NEVER`].
pub(crate) async fn sleep_until(tick: Tick) {
    match clock::instant_of(tick) {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
