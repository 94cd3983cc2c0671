//! A core's pool is one value that tasks, timers, completions and other cores all want at once.
//! [`Shard`] is its door: whoever enters borrows the core for a moment, and what must call the
//! user's code runs after the borrow is given back (D36).
//!
//! Promise: `enter` never runs user code under the borrow; after the runtime has ended every
//! method is a no-op or an error, never a panic.

mod again;
mod arrive;
mod ask;
#[cfg(feature = "sim")]
mod audit;
mod busy;
mod cells;
mod changes;
mod chunk;
mod core;
mod counts;
mod deadlines;
mod deferred;
mod eject;
mod ending;
mod endpoints;
mod erased;
mod fetch;
#[cfg(feature = "sim")]
mod gossip;
mod handover;
mod inbox;
mod io;
mod judge;
mod links;
mod own_port;
mod packing;
mod perform;
mod permits;
mod report;
mod resolve;
mod routes;
mod run;
mod sources;
mod tap;
mod total;
mod turn;
mod waiters;
mod warm;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::error::Result;
use crate::host::Host;
use crate::local;
use crate::policy::event::{ConnKey, Return, WaiterKey};
use crate::ring::{self, Next, Turn};
use crate::share::ShardId;
use crate::time::Tick;

pub(crate) use self::cells::Use;
pub use self::chunk::Chunk;
pub(crate) use self::core::Core;
pub(crate) use self::deferred::Job;
pub(crate) use self::endpoints::{Account, EndpointRef};
pub use self::erased::{Access, Packed};
pub(crate) use self::erased::{ConnectionProtocol, Opened, ProtocolKey};
pub(crate) use self::inbox::Inbox;
pub(crate) use self::io::Fill;
pub(crate) use self::links::{Links, SharedState};
pub use self::report::{ShardStats, Trace, TraceRecord};
pub(crate) use self::resolve::{Finding, Held, TaskId};
#[cfg(feature = "sim")]
pub(crate) use self::sources::Stamp;
pub(crate) use self::sources::{Disk, RealDisk};

/// What a get has at once.
pub(crate) enum Gotten {
    Ready {
        checkout: Checkout,
        reused: bool,
    },
    /// `since`: when the get began.
    Waiting {
        waiter: WaiterKey,
        since: Tick,
    },
}

/// A connection in a user's hands.
pub(crate) struct Checkout {
    pub(crate) at: Use,
    /// What the protocol keeps for it.
    pub(crate) state: Option<Rc<dyn Any>>,
    /// Whether others may hold it too.
    pub(crate) shared: bool,
}

/// One core's pool.
pub(crate) struct Shard {
    id: ShardId,
    host: Host,
    me: Weak<Shard>,
    core: RefCell<Core>,
    /// The user's code is being run by an outer frame, which will also run what is added.
    running: Cell<bool>,
    panics: Cell<u64>,
    /// The driver's descriptor of the ring.
    descriptor: RefCell<Option<ring::SharedDescriptor>>,
    /// What users' buffers were in.
    boxes: RefCell<io::Boxes>,
}

impl Shard {
    pub(crate) fn new(core: Core) -> Rc<Self> {
        Rc::new_cyclic(|me| Self {
            id: core.links.shard(),
            host: core.host.clone(),
            me: me.clone(),
            core: RefCell::new(core),
            running: Cell::new(false),
            panics: Cell::new(0),
            descriptor: RefCell::default(),
            boxes: RefCell::default(),
        })
    }

    /// The driver sleeps on this descriptor; it goes when the shard ends.
    pub(crate) fn watch(&self, descriptor: ring::SharedDescriptor) {
        *self.descriptor.borrow_mut() = Some(descriptor);
    }

    pub(crate) fn id(&self) -> ShardId {
        self.id
    }

    /// Whether it has ended.
    #[cfg(feature = "sim")]
    pub(crate) fn has_ended(&self) -> bool {
        self.enter(|core| core.ended)
    }

    /// Where it lives.
    #[inline]
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    pub(crate) fn has_health_check(&self) -> bool {
        self.enter(|core| core.config.health_check.is_some())
    }

    /// Borrows the core for `work`, then runs what the work deferred.
    #[inline]
    pub(crate) fn enter<R>(&self, work: impl FnOnce(&mut Core) -> R) -> R {
        let (value, idle) = {
            let mut core = self.core.borrow_mut();
            let value = work(&mut core);
            (value, core.deferred.is_empty())
        };
        if !idle {
            self.run_deferred();
        }
        value
    }

    #[inline]
    pub(crate) fn get(&self, endpoint: &EndpointRef, since: Option<Tick>) -> Result<Gotten> {
        self.enter(|core| {
            core.alive()?;
            let key = core.current_key(endpoint)?;
            if let Some(cell) = core.get_again(key, |_| true) {
                return Ok(Gotten::Ready {
                    checkout: cell.checkout(),
                    reused: true,
                });
            }
            core.get(key, since)
        })
    }

    pub(crate) fn try_get(&self, endpoint: &EndpointRef) -> Result<Option<Checkout>> {
        self.enter(|core| {
            core.alive()?;
            let key = core.current_key(endpoint)?;
            Ok(core.try_get(key))
        })
    }

    pub(crate) fn poll_waiter(
        &self,
        waiter: WaiterKey,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(ConnKey, bool)>> {
        self.enter(|core| core.waiters.poll(waiter, cx, &mut core.deferred.stale))
    }

    pub(crate) fn cancel(&self, waiter: WaiterKey) {
        self.enter(|core| core.cancel(waiter));
    }

    pub(crate) fn put(&self, conn: ConnKey, how: Return) {
        self.enter(|core| {
            if core.is_alive() {
                core.put(conn, how);
            }
        });
    }

    /// Marks the connection as one whose protocol may read for itself, until what this returns is
    /// dropped.
    pub(crate) fn begin_life(&self, conn: ConnKey) -> Rc<()> {
        let life = Rc::new(());
        self.enter(|core| {
            if let Some(cell) = core.cells.get_mut(conn) {
                cell.life = Rc::downgrade(&life);
            }
        });
        life
    }

    pub(crate) fn address(&self, conn: ConnKey) -> Option<SocketAddr> {
        self.enter(|core| core.cells.get(conn).map(|cell| cell.address))
    }

    /// What a user who was granted `conn` needs to know of it.
    pub(crate) fn checkout(&self, conn: ConnKey) -> Checkout {
        self.enter(|core| match core.cells.get(conn) {
            Some(cell) => cell.checkout(),
            None => Checkout {
                at: Use::for_life(conn),
                state: None,
                shared: false,
            },
        })
    }

    /// Lets busy connections finish, closes idle ones, and returns when none is left, or closes the
    /// rest at `deadline` and returns how many that were.
    pub(crate) async fn drain(&self, deadline: Duration) -> usize {
        let until = self.enter(|core| {
            core.refresh();
            core.start_drain();
            core.now.plus(deadline)
        });
        let drained = poll_fn(|cx| self.enter(|core| core.poll_drained(cx)));
        if self.host.until(until, drained).await.is_some() {
            return 0;
        }
        let (cut, until) = self.enter(|core| (core.cut_busy(), core.now.plus(GRACE)));
        let drained = poll_fn(|cx| self.enter(|core| core.poll_drained(cx)));
        // Who does not give back what was cut keeps a dead connection until the runtime ends.
        let _kept = self.host.until(until, drained).await;
        cut
    }

    /// The way for other threads to have something run here.
    pub(crate) fn inbox(&self) -> Inbox {
        self.enter(|core| core.links.inbox.clone())
    }

    /// Ends the shard: waiting gets fail, connections close, the ring is drained.
    pub(crate) fn end(&self) {
        local::unset(self);
        // First: a second descriptor of the ring would keep its sockets when it is closed.
        drop(self.descriptor.take());
        self.enter(Core::end);
    }
}

impl Turn for Shard {
    fn turn(&self, cx: &mut Context<'_>) -> bool {
        self.enter(|core| {
            core.links.wake().register(cx.waker());
            core.turn();
            !core.deferred.wakers.is_empty()
        })
    }

    fn queued(&self) -> usize {
        self.core.borrow_mut().backend.queued()
    }

    fn settle(&self, turned: bool) -> Next {
        self.enter(|core| core.settle(turned))
    }

    fn has_come(&self) -> bool {
        // The thread may awake anywhere.
        self.core.try_borrow().is_ok_and(|core| core.has_come())
    }

    fn wants_turn(&self) -> bool {
        // One that can do no more ends in its next turn.
        let core = self.core.borrow();
        core.dead.is_some() || core.backend.wants_turn()
    }

    fn stops(&self) -> bool {
        self.core.borrow().backend.stops()
    }

    fn end(&self) {
        Shard::end(self);
    }
}

/// How long a drain waits for users to give back what it has cut.
const GRACE: Duration = Duration::from_millis(100);
