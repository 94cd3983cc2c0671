//! Tasks that wait for an endpoint's addresses themselves. Between the answer and a task's next poll
//! the answer rests here.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::Held;
use crate::error::{Error, ErrorKind, Result};
use crate::policy::event::EndpointKey;
use crate::shard::cells::keep_waker;
use crate::shard::core::Core;
use crate::shard::{EndpointRef, Shard};
use crate::time::Tick;

/// A task that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TaskId(u64);

/// The tasks of one core that wait, or were answered and have not looked yet. Bounded by
/// [`Config::max_waiters`](crate::Config::max_waiters).
#[derive(Default)]
pub(crate) struct Tasks {
    tasks: BTreeMap<TaskId, Task>,
    made: u64,
}

#[derive(Default)]
struct Task {
    waker: Option<Waker>,
    result: Option<Result<Rc<Held>>>,
}

/// What a task that asks has at once.
pub(crate) enum Finding {
    /// With the moment at which it was looked for.
    Held(Rc<Held>, Tick),
    Waiting(TaskId),
}

impl Tasks {
    pub(super) fn finish(
        &mut self,
        task: TaskId,
        result: Result<Rc<Held>>,
        wakers: &mut VecDeque<Waker>,
    ) {
        if let Some(task) = self.tasks.get_mut(&task) {
            task.result = Some(result);
            wakers.extend(task.waker.take());
        }
    }

    #[cfg(feature = "sim")]
    pub(crate) fn len(&self) -> usize {
        self.tasks.len()
    }

    pub(super) fn fail_all(&mut self, error: &Error, wakers: &mut VecDeque<Waker>) {
        for task in self.tasks.values_mut() {
            task.result.get_or_insert_with(|| Err(error.clone()));
            wakers.extend(task.waker.take());
        }
    }
}

impl Shard {
    /// What the core holds of `endpoint`, if there is nothing else to do: no lock, no call, no write
    /// that another core could see.
    #[inline]
    pub(crate) fn look_up(&self, endpoint: &EndpointRef) -> Option<(Rc<Held>, Tick)> {
        let core = self.core.borrow();
        let held = core.quiet(endpoint)?.clone();
        Some((held, core.now))
    }

    /// What the core holds of `endpoint`, or has begun to find out.
    pub(crate) fn find(&self, endpoint: &EndpointRef) -> Result<Finding> {
        self.enter(|core| {
            core.alive()?;
            let key = core.current_key(endpoint)?;
            core.find(key)
        })
    }

    pub(crate) fn poll_found(
        &self,
        task: TaskId,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(Rc<Held>, Tick)>> {
        self.enter(|core| {
            let found = core.poll_found(task, cx);
            found.map_ok(|held| (held, core.now))
        })
    }

    /// The task does not wait any more.
    pub(crate) fn forget_task(&self, task: TaskId) {
        self.enter(|core| {
            if let Some(task) = core.lookups.tasks.tasks.remove(&task) {
                core.deferred.stale.extend(task.waker);
            }
        });
    }
}

impl Core {
    fn find(&mut self, endpoint: EndpointKey) -> Result<Finding> {
        self.refresh();
        if let Some(held) = self.held(endpoint) {
            self.renew(endpoint, &held);
            self.wake_if_due_earlier();
            return Ok(Finding::Held(held, self.now));
        }
        self.begin_find(endpoint)
    }

    fn begin_find(&mut self, endpoint: EndpointKey) -> Result<Finding> {
        let most = self.config.max_waiters;
        if self.lookups.tasks.tasks.len() >= most {
            let text = format!("{most} tasks already wait for addresses on this core");
            return Err(Error::new(ErrorKind::Exhausted, text));
        }
        // Whoever waits can pay for a look at the clock.
        self.now = self.host.now().max(self.now);
        let tasks = &mut self.lookups.tasks;
        tasks.made += 1;
        let id = TaskId(tasks.made);
        tasks.tasks.insert(id, Task::default());
        self.begin_resolution(endpoint, |resolving| resolving.tasks.push(id));
        self.settle_names();
        self.pump();
        self.wake_if_due_earlier();
        Ok(Finding::Waiting(id))
    }

    fn poll_found(&mut self, id: TaskId, cx: &Context<'_>) -> Poll<Result<Rc<Held>>> {
        let Some(task) = self.lookups.tasks.tasks.get_mut(&id) else {
            let text = "the endpoint is not known to this core any more";
            return Poll::Ready(Err(Error::new(ErrorKind::NotOnShard, text)));
        };
        if let Some(result) = task.result.take() {
            self.deferred.stale.extend(task.waker.take());
            self.lookups.tasks.tasks.remove(&id);
            return Poll::Ready(result);
        }
        keep_waker(&mut task.waker, cx, &mut self.deferred.stale);
        Poll::Pending
    }
}
