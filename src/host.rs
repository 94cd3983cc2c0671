//! A shard needs a clock, tasks and chance. On a service's thread the runtime has them; in a
//! simulated world the world has, and nothing else may be asked.
//!
//! Promise: every wait, task, moment and seed of a shard comes from its [`Host`]; without the
//! feature `sim` that is the thread's runtime and costs nothing to ask.

use std::any::Any;
use std::future::Future;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
#[cfg(feature = "sim")]
use crate::machine;
use crate::ring::{self, budget, clock};
use crate::time::Tick;

/// Where a shard lives.
#[derive(Clone)]
pub(crate) enum Host {
    /// On a thread with a runtime that takes tasks which stay there: tokio-uring's, or a `LocalSet` of
    /// tokio's.
    Thread,
    /// On a core of a simulated machine.
    #[cfg(feature = "sim")]
    Machine(machine::Current),
}

/// One unit of a task's share of its turn.
pub(crate) enum Unit {
    Thread(budget::Unit),
    #[cfg(feature = "sim")]
    Machine,
}

impl Unit {
    /// Something was handed out: the unit is spent. Dropping it without gives it back.
    #[inline]
    pub(crate) fn spend(self) {
        match self {
            Unit::Thread(unit) => unit.made_progress(),
            #[cfg(feature = "sim")]
            Unit::Machine => {}
        }
    }
}

impl Host {
    /// The moment now.
    #[inline]
    pub(crate) fn now(&self) -> Tick {
        match self {
            Host::Thread => clock::now(),
            #[cfg(feature = "sim")]
            Host::Machine(place) => place.machine.now(),
        }
    }

    /// How long the machine has slept so far.
    pub(crate) fn slept(&self) -> Duration {
        match self {
            Host::Thread => clock::slept(),
            #[cfg(feature = "sim")]
            Host::Machine(place) => place.machine.slept(),
        }
    }

    /// A number that nobody can guess.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the system's random source cannot be read.
    pub(crate) fn random_seed(&self) -> Result<u64> {
        match self {
            Host::Thread => ring::random_seed(),
            #[cfg(feature = "sim")]
            Host::Machine(place) => Ok(place.machine.below(u64::MAX)),
        }
    }

    /// The local ports that the system keeps for others, of both families (ip(7),
    /// `ip_local_reserved_ports`); nothing if it does not say.
    pub(crate) fn reserved_ports(&self) -> String {
        match self {
            Host::Thread => {
                let path = "/proc/sys/net/ipv4/ip_local_reserved_ports";
                std::fs::read_to_string(path).unwrap_or_default()
            }
            #[cfg(feature = "sim")]
            Host::Machine(_) => String::new(),
        }
    }

    /// The ports that the kernel chooses from for a connect, of both families (ip(7),
    /// `ip_local_port_range`); nothing if it does not say.
    pub(crate) fn local_ports(&self) -> String {
        match self {
            Host::Thread => {
                let path = "/proc/sys/net/ipv4/ip_local_port_range";
                std::fs::read_to_string(path).unwrap_or_default()
            }
            #[cfg(feature = "sim")]
            Host::Machine(_) => String::new(),
        }
    }

    /// The address from which this host would send to `to`, if it has a way there.
    pub(crate) fn source_of(&self, to: IpAddr) -> Option<IpAddr> {
        match self {
            Host::Thread => ring::source_of(to),
            #[cfg(feature = "sim")]
            Host::Machine(place) => place.machine.source_of(place.core, to),
        }
    }

    /// Tells the operator something that must not be missed.
    pub(crate) fn warn(&self, text: &str) {
        match self {
            Host::Thread => eprintln!("ringpool: {text}"),
            #[cfg(feature = "sim")]
            Host::Machine(place) => place.machine.note(|| text.to_owned()),
        }
    }

    /// Counts what met what, in a simulated world.
    #[cfg(feature = "sim")]
    pub(crate) fn cover(&self, state: &'static str, event: &'static str) {
        if let Host::Machine(place) = self {
            place.machine.cover(state, event);
        }
    }

    /// Counts that a connection waits for a slot, in a simulated world.
    #[cfg(feature = "sim")]
    pub(crate) fn lacks_slot(&self) {
        if let Host::Machine(place) = self {
            let fault = machine::Fault::NoSlot;
            place.machine.with(|state| state.faults.count(fault));
        }
    }

    /// Starts a task on this core.
    pub(crate) fn spawn<F>(&self, future: F) -> TaskHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        match self {
            Host::Thread => TaskHandle::new(Handle::Thread(ring::spawn(future))),
            #[cfg(feature = "sim")]
            Host::Machine(place) => {
                let task = place.machine.spawn(place.core, "task", false, future);
                TaskHandle::new(Handle::Machine(task))
            }
        }
    }

    /// Runs `future` until `deadline` at most; `None` if it was not done by then.
    pub(crate) async fn until<F: Future>(&self, deadline: Tick, future: F) -> Option<F::Output> {
        match self {
            Host::Thread => ring::until(ring::sleep_until(deadline), future).await,
            #[cfg(feature = "sim")]
            Host::Machine(place) => ring::until(place.machine.sleep_until(deadline), future).await,
        }
    }

    /// A unit of the running task's share, or `Pending`, with the task queued again, when it has
    /// had its share of this turn.
    #[inline]
    pub(crate) fn poll_unit(&self, cx: &mut Context<'_>) -> Poll<Unit> {
        match self {
            Host::Thread => budget::poll_budget(cx).map(Unit::Thread),
            #[cfg(feature = "sim")]
            Host::Machine(place) => place.machine.poll_budget(cx).map(|()| Unit::Machine),
        }
    }
}

/// Starts a future as a task of the calling core's runtime, or of the simulated core that the
/// caller runs on. The task goes on if the handle is dropped, and is dropped with the runtime.
///
/// # Panics
///
/// Outside of a runtime of tokio-uring and of a `LocalSet` of tokio.
pub fn spawn<F>(future: F) -> TaskHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    #[cfg(feature = "sim")]
    if let Some(place) = machine::current() {
        return Host::Machine(place).spawn(future);
    }
    Host::Thread.spawn(future)
}

/// A task started by [`spawn`]. Awaiting it gives what the future returned.
///
/// Errors: [`ErrorKind::Panicked`] if the task panicked, [`ErrorKind::NotOnShard`] if it was
/// aborted or its runtime ended.
pub struct TaskHandle<T> {
    handle: Handle<T>,
    /// It stays on its core, whatever the features.
    _core: PhantomData<Rc<()>>,
}

enum Handle<T> {
    Thread(ring::TaskHandle<T>),
    #[cfg(feature = "sim")]
    Machine(machine::Join<T>),
}

/// What a panic carried.
pub(crate) type Panic = Box<dyn Any + Send>;

impl<T> TaskHandle<T> {
    fn new(handle: Handle<T>) -> Self {
        let _core = PhantomData;
        Self { handle, _core }
    }

    #[cfg(feature = "sim")]
    pub(crate) fn simulated(task: machine::Join<T>) -> Self {
        Self::new(Handle::Machine(task))
    }

    /// Drops the future where it waits.
    pub fn abort(&self) {
        match &self.handle {
            Handle::Thread(task) => task.abort(),
            #[cfg(feature = "sim")]
            Handle::Machine(task) => task.abort(),
        }
    }

    /// What the future returned, or its panic; `None` if it was aborted or its runtime ended.
    pub(crate) async fn outcome(mut self) -> Option<std::result::Result<T, Panic>> {
        std::future::poll_fn(|cx| self.poll_outcome(cx)).await
    }

    fn poll_outcome(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<T, Panic>>> {
        match &mut self.handle {
            Handle::Thread(task) => task.poll_outcome(cx),
            #[cfg(feature = "sim")]
            Handle::Machine(task) => task.poll_outcome(cx),
        }
    }
}

impl<T> Future for TaskHandle<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        self.poll_outcome(cx).map(|ended| match ended {
            Some(Ok(value)) => Ok(value),
            Some(Err(panic)) => Err(Error::new(ErrorKind::Panicked, message(&*panic))),
            None => Err(Error::new(ErrorKind::NotOnShard, "the task was aborted")),
        })
    }
}

impl<T> std::fmt::Debug for TaskHandle<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskHandle").finish_non_exhaustive()
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
