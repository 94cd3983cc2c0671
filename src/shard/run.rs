//! Running what was deferred: the user's hooks, wakers, protocol methods and tasks, with nothing
//! borrowed and panics contained.

use std::any::Any;
use std::rc::Rc;

use crate::error::{Error, ErrorKind};
use crate::host::TaskHandle;
use crate::policy::event::{CloseReason, ConnKey, Event};

use super::Shard;
use super::cells::Stage;
use super::deferred::{Call, contain};
use super::erased::ConnectionProtocol;

impl Shard {
    /// Runs all that is deferred, also what that defers in turn. An inner call leaves it to the
    /// outer one.
    pub(super) fn run_deferred(&self) {
        if self.running.replace(true) {
            return;
        }
        loop {
            let (waker, stale, call) = {
                let mut core = self.core.borrow_mut();
                let deferred = &mut core.deferred;
                // One at a time, so that the queues keep their memory: a wake allocates nothing.
                let (waker, stale) = (deferred.wakers.pop_front(), deferred.stale.pop_front());
                let idle = waker.is_none() && stale.is_none();
                (
                    waker,
                    stale,
                    idle.then(|| deferred.calls.pop_front()).flatten(),
                )
            };
            if waker.is_none() && stale.is_none() && call.is_none() {
                break;
            }
            self.count_panic(contain(move || drop(stale)).is_none());
            if let Some(waker) = waker {
                self.count_panic(contain(|| waker.wake()).is_none());
            }
            if let Some(call) = call {
                self.call(call);
            }
        }
        self.running.set(false);
    }

    fn call(&self, call: Call) {
        match call {
            Call::Open { conn, protocol } => self.open(conn, &protocol),
            Call::Check {
                conn,
                protocol,
                state,
            } => self.check(conn, &protocol, state),
            Call::CheckPlain { conn, check, info } => {
                let healthy = contain(|| check.call(&info));
                self.count_panic(healthy.is_none());
                self.enter(|core| core.health_checked(conn, healthy.unwrap_or(false)));
            }
            Call::IdleBytes { conn } => {
                if !self.offer(conn) {
                    let reason = CloseReason::Unsolicited;
                    self.enter(|core| {
                        core.tell(Event::Broken { conn, reason });
                        core.pump();
                    });
                }
            }
            Call::Greeting { conn, capacity } => match self.offer(conn) {
                true => self.enter(|core| core.opened(conn, capacity)),
                false => self.enter(|core| core.not_opened(conn)),
            },
            Call::Pack { conn, protocol } => self.pack(conn, &*protocol),
            Call::Unpack {
                conn,
                protocol,
                packed,
            } => self.unpack(conn, &*protocol, packed),
            Call::Ended { protocol, cell } => self.count_panic(
                contain(move || {
                    if let (Some(protocol), Some(state)) = (&protocol, &cell.state) {
                        protocol.closed(&**state);
                    }
                    drop(cell);
                })
                .is_none(),
            ),
            Call::Hook { hook, info } => {
                self.count_panic(contain(|| hook.call(&info)).is_none());
            }
            Call::Resolve {
                question,
                resolver,
                deadline,
            } => self.ask_resolver(question, resolver, deadline),
            Call::Job(job) => self.count_panic(contain(job).is_none()),
            Call::Drop(value) => self.count_panic(contain(move || drop(value)).is_none()),
        }
    }

    /// Starts `init` as a task of its own.
    fn open(&self, conn: ConnKey, protocol: &Rc<dyn ConnectionProtocol>) {
        let Some(shard) = self.me.upgrade() else {
            return;
        };
        let Some(opening) = contain(|| protocol.open(shard.clone(), conn)) else {
            self.count_panic(true);
            self.enter(|core| core.initialised(conn, Err(panicked("init"))));
            return;
        };
        let task = self.host().spawn(async move {
            let mut report = Report::new(shard, conn, What::Init);
            let opened = opening.await;
            report.done = true;
            report.shard.enter(|core| core.initialised(conn, opened));
        });
        self.keep_task(conn, task);
    }

    /// Starts a health check as a task of its own.
    fn check(&self, conn: ConnKey, protocol: &Rc<dyn ConnectionProtocol>, state: Rc<dyn Any>) {
        let Some(shard) = self.me.upgrade() else {
            return;
        };
        let Some(checking) = contain(|| protocol.check(shard.clone(), conn, state)) else {
            self.count_panic(true);
            self.enter(|core| core.health_checked(conn, false));
            return;
        };
        let task = self.host().spawn(async move {
            let mut report = Report::new(shard, conn, What::Check);
            let healthy = checking.await;
            report.done = true;
            report
                .shard
                .enter(|core| core.health_checked(conn, healthy));
        });
        self.keep_task(conn, task);
    }

    /// The task is ended with its connection.
    fn keep_task(&self, conn: ConnKey, task: TaskHandle<()>) {
        self.enter(|core| match core.cells.get_mut(conn) {
            Some(cell) if matches!(cell.stage, Stage::Initialising(_) | Stage::Checking(_)) => {
                cell.task = Some(task);
            }
            _ => task.abort(),
        });
    }

    /// Offers bytes that came while nobody held the connection to its protocol; `false` if that does
    /// not take them: they are nobody's, and the connection must close (I3).
    fn offer(&self, conn: ConnKey) -> bool {
        loop {
            let Some((chunk, protocol, state)) = self.enter(|core| core.idle_piece(conn)) else {
                return true;
            };
            let taken = match (&protocol, &state) {
                (Some(protocol), Some(state)) => {
                    contain(|| protocol.take_idle_bytes(&**state, &chunk))
                }
                _ => Some(false),
            };
            drop(chunk);
            self.count_panic(taken.is_none());
            if taken != Some(true) {
                return false;
            }
        }
    }

    /// Runs the user's code; `None`, and counted, if it panicked.
    pub(crate) fn contain<R>(&self, call: impl FnOnce() -> R) -> Option<R> {
        let value = contain(call);
        self.count_panic(value.is_none());
        value
    }

    pub(super) fn count_panic(&self, panicked: bool) {
        if panicked {
            self.panics.set(self.panics.get() + 1);
        }
    }
}

fn panicked(what: &str) -> Error {
    Error::new(
        ErrorKind::Panicked,
        format!("the protocol's {what} panicked"),
    )
}

enum What {
    Init,
    Check,
}

/// Tells the pool if the task of `init` or of a health check ends without an answer: by a panic, or
/// because it was aborted with its connection.
struct Report {
    shard: Rc<Shard>,
    conn: ConnKey,
    what: What,
    done: bool,
}

impl Report {
    fn new(shard: Rc<Shard>, conn: ConnKey, what: What) -> Self {
        Self {
            shard,
            conn,
            what,
            done: false,
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let conn = self.conn;
        self.shard.count_panic(std::thread::panicking());
        match self.what {
            What::Init => {
                self.shard
                    .enter(|core| core.initialised(conn, Err(panicked("init"))));
            }
            What::Check => self.shard.enter(|core| core.health_checked(conn, false)),
        }
    }
}
