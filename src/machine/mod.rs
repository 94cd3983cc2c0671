//! Concurrency goes wrong in one order of events out of a million, and a real machine shows the
//! same few. This is a machine whose every choice comes from one number: it has cores, tasks, a
//! clock, a kernel for each ring and a network, and no thread, descriptor or real clock.
//!
//! Promise: the same seed and the same programs give the same trace, byte for byte. Time moves only
//! when nothing can run. What a kernel or a network may do, it does if its [`Faults`] say so, and
//! counts it; what they may never do, it does not.
//!
//! The pool's own code runs on it unchanged: the ring pushes its entries to a [`kernel`] here, the
//! driver sleeps in a [`Bell`] and tasks are polled by [`exec`]. Nothing here knows the pool.

mod exec;
pub(crate) mod faults;
pub(crate) mod kernel;
pub(crate) mod net;
mod schedule;
mod task;
mod time;
mod trace;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use self::exec::Tasks;
pub(crate) use self::exec::{Current, Scope, Step, current};
pub use self::faults::Fault;
pub(crate) use self::faults::Faults;
use self::kernel::{RingState, Socket};
use self::net::Net;
use self::schedule::Schedule;
pub(crate) use self::task::Join;
pub(crate) use self::time::Sleep;
use self::trace::Trace;
use crate::policy::Rng;
use crate::time::Tick;

/// The number of a core.
pub(crate) type Core = usize;

/// A machine. Cheap to clone; the clones are the same machine.
#[derive(Clone)]
pub(crate) struct Machine(Rc<Inner>);

/// A [`Machine`] that does not keep it.
#[derive(Clone)]
pub(crate) struct WeakMachine(Weak<Inner>);

impl WeakMachine {
    pub(crate) fn upgrade(&self) -> Option<Machine> {
        self.0.upgrade().map(Machine)
    }
}

struct Inner {
    state: RefCell<State>,
    tasks: Tasks,
    /// How many polls the running task may still use up in this turn.
    budget: Cell<u32>,
}

/// Everything but the tasks.
pub(crate) struct State {
    pub(crate) now: Tick,
    /// How long it has slept so far.
    slept: Duration,
    pub(crate) rng: Rng,
    pub(crate) faults: Faults,
    pub(crate) trace: Trace,
    events: Schedule,
    rings: BTreeMap<usize, RingState>,
    /// By number: a socket can be in the tables of several rings.
    sockets: BTreeMap<u64, Socket>,
    /// Rings made so far: the number of the next one.
    rings_made: usize,
    net: Net,
    /// Numbers for sockets, operations and connections; never used twice.
    next_id: u64,
    /// Until when a core does not run.
    frozen: BTreeMap<Core, Tick>,
    /// Timers do not fire any more.
    clock_stopped: bool,
    /// How often which state met which event.
    met: BTreeMap<(&'static str, &'static str), u64>,
    /// Rules that were broken, by whom they were seen.
    violations: Vec<String>,
}

impl State {
    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Notes that a rule was broken. The first one counts: the others may follow from it.
    pub(crate) fn violate(&mut self, text: impl Into<String>) {
        let text = text.into();
        self.trace.note(self.now, || format!("VIOLATION {text}"));
        self.violations.push(text);
    }

    /// Whether `fault` happens now, by its rate.
    pub(crate) fn hit(&mut self, fault: Fault) -> bool {
        let hit = self.faults.hit(&mut self.rng, fault);
        if hit {
            self.trace.note(self.now, || format!("fault {fault}"));
        }
        hit
    }
}

impl Machine {
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        let state = State {
            now: Tick::ZERO.plus(Duration::from_secs(1)),
            slept: Duration::ZERO,
            rng: Rng::new(seed),
            faults,
            trace: Trace::default(),
            events: Schedule::default(),
            rings: BTreeMap::new(),
            sockets: BTreeMap::new(),
            rings_made: 0,
            net: Net::default(),
            next_id: 0,
            frozen: BTreeMap::new(),
            clock_stopped: false,
            met: BTreeMap::new(),
            violations: Vec::new(),
        };
        Self(Rc::new(Inner {
            state: RefCell::new(state),
            tasks: Tasks::default(),
            budget: Cell::new(0),
        }))
    }

    pub(crate) fn downgrade(&self) -> WeakMachine {
        WeakMachine(Rc::downgrade(&self.0))
    }

    /// Borrows the state for `work`, which must not run anybody else's code.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        work(&mut self.0.state.borrow_mut())
    }

    pub(crate) fn now(&self) -> Tick {
        self.0.state.borrow().now
    }

    /// How long it has slept so far.
    pub(crate) fn slept(&self) -> Duration {
        self.0.state.borrow().slept
    }

    /// Sleeps for `time`: the clock goes on and nothing runs.
    pub(crate) fn suspend(&self, time: Duration) {
        self.with(|state| {
            state.slept += time;
            state.now = state.now.plus(time);
        });
    }

    /// A number below `bound` from the seed.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.with(|state| state.rng.below(bound))
    }

    /// Adds a line to the trace, if there is one.
    pub(crate) fn note(&self, line: impl FnOnce() -> String) {
        self.with(|state| state.trace.note(state.now, line));
    }

    /// Counts that a state met an event.
    pub(crate) fn cover(&self, state: &'static str, event: &'static str) {
        self.with(|machine| *machine.met.entry((state, event)).or_default() += 1);
    }

    /// How often which state met which event.
    pub(crate) fn met(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        self.0.state.borrow().met.clone()
    }

    /// Every core runs again.
    pub(crate) fn thaw(&self) {
        self.with(|state| state.frozen.clear());
    }

    /// The first rule that was broken, if one was.
    pub(crate) fn first_violation(&self) -> Option<String> {
        self.0.state.borrow().violations.first().cloned()
    }
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").finish_non_exhaustive()
    }
}
