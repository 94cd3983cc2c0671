//! Waiting for a moment of the machine's clock.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::schedule::{Event, Place};
use super::{Fault, Machine};
use crate::time::Tick;

/// The most that a coarse timer is late.
const COARSE: Duration = Duration::from_millis(50);

/// Ends at a moment.
pub(crate) struct Sleep {
    machine: Machine,
    at: Tick,
    planned: Option<(Place, Waker)>,
}

impl Machine {
    pub(crate) fn sleep_until(&self, at: Tick) -> Sleep {
        Sleep {
            machine: self.clone(),
            at,
            planned: None,
        }
    }
}

impl Sleep {
    /// Sets another moment.
    pub(crate) fn reset(&mut self, at: Tick) {
        if self.at != at {
            self.at = at;
            self.cancel();
        }
    }

    fn cancel(&mut self) {
        if let Some((place, _)) = self.planned.take() {
            self.machine.with(|state| state.events.cancel(place));
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.at <= self.machine.now() {
            self.cancel();
            return Poll::Ready(());
        }
        let known = self.planned.as_ref();
        if self.at == Tick::NEVER || known.is_some_and(|(_, waker)| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        self.cancel();
        let (at, waker) = (self.at, cx.waker().clone());
        let place = self.machine.with(|state| {
            let late = match state.hit(Fault::CoarseTimer) {
                true => state.rng.part_of(COARSE),
                false => Duration::ZERO,
            };
            state.events.plan(at.plus(late), Event::Wake(waker))
        });
        self.planned = Some((place, cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.cancel();
    }
}
