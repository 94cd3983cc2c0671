//! Which task runs next is a choice, and every choice is a schedule that some day happens. The
//! executor draws it from the seed.
//!
//! Promise: one step is one poll, one drop of an aborted task, or one event; between two steps
//! nothing runs. A task that is woken runs again; wake-ups from another core may come late. Time
//! moves only when no task can run, to the next event.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::mem::take;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::schedule::Event;
use super::task::{Body, Join, Panic, Task, Wakeup, Woken, join};
use super::{Core, Fault, Machine};
use crate::time::Tick;

/// What one poll may use up before it must wait for its next turn; tokio's number.
const BUDGET: u32 = 128;
/// Steps without time moving that no healthy program needs.
const MOST_AT_ONCE: u32 = 100_000;
/// The most that a wake-up from another core is late.
const CROSSING: Duration = Duration::from_millis(2);

/// Something that holds around every poll and drop of a core's tasks.
pub(crate) trait Scope {
    fn enter(&self);
    fn leave(&self);
}

/// The tasks of the machine.
#[derive(Default)]
pub(super) struct Tasks {
    inner: RefCell<Inner>,
    woken: Woken,
}

#[derive(Default)]
struct Inner {
    tasks: BTreeMap<u64, Task>,
    ready: Vec<u64>,
    scopes: BTreeMap<Core, Rc<dyn Scope>>,
    fresh: Vec<u64>,
    made: u64,
    at_once: u32,
    steps: u64,
    polls: u64,
}

/// What a step was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A task of this core ran.
    Ran(Core),
    /// Something happened outside of the tasks.
    Happened,
    /// No task can run and nothing will happen.
    Stuck,
}

/// A task that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) name: Rc<str>,
    pub(crate) core: Core,
    pub(crate) waker: Waker,
    pub(crate) awaited: bool,
}

/// Where the calling code runs.
#[derive(Clone)]
pub(crate) struct Current {
    pub(crate) machine: Machine,
    pub(crate) core: Core,
}

thread_local! {
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
}

/// The machine and core on which the caller runs, if it does.
pub(crate) fn current() -> Option<Current> {
    let current = CURRENT.try_with(|current| current.borrow().clone());
    current.ok().flatten()
}

impl Machine {
    /// Makes `scope` hold around whatever tasks of `core` do.
    pub(crate) fn set_scope(&self, core: Core, scope: Rc<dyn Scope>) {
        let mut inner = self.0.tasks.inner.borrow_mut();
        inner.scopes.insert(core, scope);
    }

    /// Lets go of what was put into it, when its world has ended: scopes and servers hold the
    /// machine that holds them. Where one of them ends, it may still use the machine.
    pub(crate) fn forget(&self) {
        let scopes = take(&mut self.0.tasks.inner.borrow_mut().scopes);
        drop(scopes);
        let world = self.with(|state| {
            let events = take(&mut state.events);
            let rings = (take(&mut state.rings), take(&mut state.sockets));
            (events, rings, take(&mut state.net))
        });
        drop(world);
    }

    /// Starts a task. The run is not over while an `awaited` one goes on.
    pub(crate) fn spawn<F>(
        &self,
        core: Core,
        name: &str,
        awaited: bool,
        future: F,
    ) -> Join<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let mut inner = self.0.tasks.inner.borrow_mut();
        inner.made += 1;
        let id = inner.made;
        let (promise, handle) = join(self.downgrade(), id);
        let contained = Contained(Box::pin(future));
        let future = async move { promise.keep(contained.await) };
        let wakeup = Wakeup::new(id, &self.0.tasks.woken);
        let waker = Waker::from(wakeup.clone());
        waker.wake_by_ref();
        let task = Task {
            name: name.into(),
            core,
            future: Some(Box::pin(future)),
            wakeup,
            waker,
            aborted: false,
            awaited,
        };
        inner.tasks.insert(id, task);
        handle
    }

    pub(super) fn abort(&self, id: u64) {
        let mut inner = self.0.tasks.inner.borrow_mut();
        if let Some(task) = inner.tasks.get_mut(&id) {
            task.aborted = true;
            task.waker.wake_by_ref();
        }
    }

    /// Drops every task of `core`, as the end of its runtime does: in any order.
    pub(crate) fn end_core(&self, core: Core) {
        loop {
            let mut inner = self.0.tasks.inner.borrow_mut();
            let ours = inner.tasks.iter().filter(|(_, task)| task.core == core);
            let ours: Vec<u64> = ours.map(|(id, _)| *id).collect();
            if ours.is_empty() {
                return;
            }
            let id = ours[self.below(ours.len() as u64) as usize];
            let task = inner.tasks.remove(&id);
            drop(inner);
            self.inside(core, || drop(task));
        }
    }

    /// Whether an awaited task goes on.
    pub(crate) fn is_awaiting(&self) -> bool {
        let inner = self.0.tasks.inner.borrow();
        inner.tasks.values().any(|task| task.awaited)
    }

    /// The tasks there are.
    pub(crate) fn waiting(&self) -> Vec<Waiting> {
        let inner = self.0.tasks.inner.borrow();
        let tasks = inner.tasks.values();
        tasks
            .map(|task| Waiting {
                name: task.name.clone(),
                core: task.core,
                waker: task.waker.clone(),
                awaited: task.awaited,
            })
            .collect()
    }

    /// Steps taken so far.
    pub(crate) fn steps(&self) -> u64 {
        self.0.tasks.inner.borrow().steps
    }

    /// Spends one unit of the running task's share of its turn.
    pub(crate) fn poll_budget(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self.0.budget.get() {
            0 => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            left => {
                self.0.budget.set(left - 1);
                Poll::Ready(())
            }
        }
    }

    /// Lets nothing run on `core` until `until`.
    pub(crate) fn freeze(&self, core: Core, until: Tick) {
        self.with(|state| {
            state.frozen.insert(core, until);
        });
    }

    /// Timers stop: what waits for one waits for ever.
    pub(crate) fn stop_clock(&self) {
        self.with(|state| state.clock_stopped = true);
    }

    /// Lets time pass in which nothing happens.
    pub(crate) fn pass_until(&self, until: Tick) {
        self.with(|state| state.now = state.now.max(until));
    }

    /// Takes one step.
    pub(crate) fn step(&self) -> Step {
        self.gather(None);
        let step = match self.pick() {
            Some(id) => self.run(id),
            None => self.advance(),
        };
        let mut inner = self.0.tasks.inner.borrow_mut();
        inner.steps += 1;
        inner.at_once += 1;
        if inner.at_once > MOST_AT_ONCE {
            inner.at_once = 0;
            drop(inner);
            let text = format!("livelock: {MOST_AT_ONCE} steps and no time has passed");
            self.with(|state| state.violate(text));
        }
        step
    }

    /// Moves what was woken to the ready tasks; wake-ups that cross cores may take a while.
    fn gather(&self, from: Option<Core>) {
        let mut inner = self.0.tasks.inner.borrow_mut();
        let inner = &mut *inner;
        self.0.tasks.woken.take(&mut inner.fresh);
        for id in inner.fresh.drain(..) {
            let Some(task) = inner.tasks.get(&id) else {
                continue;
            };
            let crosses = from.is_some_and(|from| from != task.core);
            let late = self.with(|state| {
                let late = crosses && state.hit(Fault::LateWake);
                if late {
                    let at = state.now.plus(state.rng.part_of(CROSSING));
                    state.events.plan(at, Event::Deliver(id));
                }
                late
            });
            if !late {
                inner.ready.push(id);
            }
        }
    }

    /// Draws one of the ready tasks, or none if an event that is due goes first.
    fn pick(&self) -> Option<u64> {
        let mut inner = self.0.tasks.inner.borrow_mut();
        let inner = &mut *inner;
        self.with(|state| {
            let now = state.now;
            state.frozen.retain(|_, until| *until > now);
            let due = state.next_event().is_some_and(|at| at <= now);
            if due && state.rng.below(4) == 0 {
                return None;
            }
            let count = inner.ready.len() as u64;
            if count == 0 {
                return None;
            }
            let first = state.rng.below(count) as usize;
            let can_run = |at: &usize| {
                let task = inner.tasks.get(&inner.ready[*at]);
                task.is_none_or(|task| !state.frozen.contains_key(&task.core))
            };
            let mut places = (first..inner.ready.len()).chain(0..first);
            let place = match state.frozen.is_empty() {
                true => first,
                false => places.find(can_run)?,
            };
            Some(inner.ready.swap_remove(place))
        })
    }

    /// Polls a task, or drops it if it was aborted.
    fn run(&self, id: u64) -> Step {
        let mut inner = self.0.tasks.inner.borrow_mut();
        let Some(task) = inner.tasks.get_mut(&id) else {
            return Step::Happened;
        };
        task.wakeup.begin();
        let (core, aborted, waker) = (task.core, task.aborted, task.waker.clone());
        let name = task.name.clone();
        let Some(mut future) = task.future.take() else {
            return Step::Happened;
        };
        inner.polls += 1;
        drop(inner);
        self.note(|| match aborted {
            true => format!("core {core} drops {name}"),
            false => format!("core {core} runs {name}"),
        });
        let ended = self.inside(core, || {
            if aborted {
                drop(future);
                return None;
            }
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Pending => Some(future),
                Poll::Ready(()) => {
                    drop(future);
                    None
                }
            }
        });
        let gone = self.keep(id, ended);
        if let Some(future) = gone {
            // Its core ended meanwhile.
            self.inside(core, || drop(future));
        }
        self.note(|| format!("core {core} ran {name}"));
        self.gather(Some(core));
        Step::Ran(core)
    }

    /// Puts the future of a task back, or ends the task; gives it back if there is no such task.
    fn keep(&self, id: u64, future: Option<Body>) -> Option<Body> {
        let mut inner = self.0.tasks.inner.borrow_mut();
        let Some(future) = future else {
            let task = inner.tasks.remove(&id);
            drop(inner);
            drop(task);
            return None;
        };
        match inner.tasks.get_mut(&id) {
            Some(task) => {
                task.future = Some(future);
                None
            }
            None => Some(future),
        }
    }

    /// Runs `work` as code of `core`.
    pub(crate) fn inside<R>(&self, core: Core, work: impl FnOnce() -> R) -> R {
        let scope = self.0.tasks.inner.borrow().scopes.get(&core).cloned();
        let current = Current {
            machine: self.clone(),
            core,
        };
        let before = CURRENT.replace(Some(current));
        self.0.budget.set(BUDGET);
        if let Some(scope) = &scope {
            scope.enter();
        }
        let value = work();
        if let Some(scope) = &scope {
            scope.leave();
        }
        CURRENT.replace(before);
        value
    }

    /// Lets the next event happen, and time pass until it does.
    fn advance(&self) -> Step {
        let before = self.now();
        let next = self.with(|state| {
            let thaw = state.frozen.values().min().copied();
            let thaw = thaw.filter(|_| !self.0.tasks.inner.borrow().ready.is_empty());
            let next = state.next_event();
            match (next, thaw) {
                (None, None) => None,
                (next, Some(thaw)) if next.is_none_or(|next| next > thaw) => {
                    state.now = state.now.max(thaw);
                    Some(None)
                }
                _ => state.pop_event().map(|(at, event)| {
                    state.now = state.now.max(at);
                    Some(event)
                }),
            }
        });
        if self.now() > before {
            self.0.tasks.inner.borrow_mut().at_once = 0;
        }
        match next {
            None => return Step::Stuck,
            Some(None) => {}
            Some(Some(Event::Wake(waker))) => waker.wake(),
            Some(Some(Event::Deliver(id))) => self.0.tasks.inner.borrow_mut().ready.push(id),
            Some(Some(Event::Operation { ring, op })) => {
                self.with(|state| state.operation_due(ring, op))
            }
            Some(Some(Event::Interrupt { ring })) => self.with(|state| state.let_go(ring)),
            Some(Some(Event::Limit { ring, op })) => self.with(|state| state.limit_due(ring, op)),
            Some(Some(Event::Net(event))) => self.happen_in_net(event),
        }
        Step::Happened
    }
}

impl super::State {
    fn next_event(&self) -> Option<Tick> {
        match self.clock_stopped {
            true => self.events.next_without_timers(),
            false => self.events.next(),
        }
    }

    fn pop_event(&mut self) -> Option<(Tick, Event)> {
        match self.clock_stopped {
            true => self.events.pop_without_timers(),
            false => self.events.pop(),
        }
    }
}

/// Keeps a panic for who waits for the task.
struct Contained<F: Future>(Pin<Box<F>>);

impl<F: Future> Future for Contained<F> {
    type Output = Result<F::Output, Panic>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let future = &mut self.0;
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}
