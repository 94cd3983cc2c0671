//! The first gets of a service are as important as the others, and would have to wait for a name, a
//! connect and an `init`. A core can be told to have `min_idle` connections ready before.
//!
//! Promise: whoever waits for that is woken whenever the driver may have changed something, and at
//! the end of the core.

use std::future::poll_fn;
use std::task::{Context, Poll};

use crate::error::{Error, ErrorKind, Result};

use super::core::Core;
use super::endpoints::EndpointRef;

impl super::Shard {
    /// Opens connections until `min_idle` are idle, or as many as the limits allow.
    pub(crate) async fn warm_up(&self, endpoint: &EndpointRef) -> Result<()> {
        let until = self.enter(|core| {
            core.alive()?;
            let key = core.current_key(endpoint)?;
            core.refresh();
            core.endpoints.touch(key);
            core.policy.warm_up(core.now, key);
            core.pump();
            core.wake_if_due_earlier();
            Ok::<_, Error>(core.now.plus(core.config.get_timeout))
        })?;
        let warm = poll_fn(|cx| self.enter(|core| core.poll_warm(endpoint, cx)));
        let warm = self.host.until(until, warm).await;
        warm.unwrap_or_else(|| {
            let text = "not all connections were ready in time";
            Err(Error::new(ErrorKind::GetTimeout, text))
        })
        .map_err(|error| error.context(format!("warming {} up", endpoint.endpoint())))
    }
}

impl Core {
    fn poll_warm(&mut self, endpoint: &EndpointRef, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.alive()?;
        let key = self.current_key(endpoint)?;
        if let Some(outcome) = self.policy.is_warm(self.now, key) {
            return Poll::Ready(outcome);
        }
        if !self.warming.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.warming.push(cx.waker().clone());
        }
        Poll::Pending
    }
}
