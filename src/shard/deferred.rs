//! Hooks, wakers, a protocol's methods and the drop of its state are the user's code, and may call
//! back into the pool. What is to be called is collected here while the shard is borrowed, and run
//! when it no longer is (D36).

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use crate::policy::event::ConnKey;

use super::cells::{ConnCell, Waiting};
use super::erased::{ConnectionProtocol, Packed};
use crate::dns::Question;
use crate::hooks::{ConnectionInfo, HealthCheck, Hook};
use crate::resolver::Resolve;
use crate::time::Tick;

/// One call into the user's code.
pub(crate) enum Call {
    /// Make the protocol's state.
    Open {
        conn: ConnKey,
        protocol: Rc<dyn ConnectionProtocol>,
    },
    /// Ask whether it is healthy.
    Check {
        conn: ConnKey,
        protocol: Rc<dyn ConnectionProtocol>,
        state: Rc<dyn Any>,
    },
    /// Ask the user's own health check for connections without a protocol.
    CheckPlain {
        conn: ConnKey,
        check: HealthCheck,
        info: ConnectionInfo,
    },
    /// Offer bytes that came while idle.
    IdleBytes { conn: ConnKey },
    /// Offer bytes that came behind what the protocol's `init` read.
    Greeting { conn: ConnKey, capacity: u32 },
    /// Take its state apart, for it is given to another core.
    Pack {
        conn: ConnKey,
        protocol: Rc<dyn ConnectionProtocol>,
    },
    /// Put its state together, for it came from another core, or came back.
    Unpack {
        conn: ConnKey,
        protocol: Rc<dyn ConnectionProtocol>,
        packed: Packed,
    },
    /// Tell the protocol that a connection has ended, then drop what is left of it.
    Ended {
        protocol: Option<Rc<dyn ConnectionProtocol>>,
        cell: Box<ConnCell>,
    },
    /// Tell a hook.
    Hook { hook: Hook, info: ConnectionInfo },
    /// Ask the user's own resolver.
    Resolve {
        question: Question,
        resolver: Arc<dyn Resolve>,
        deadline: Tick,
    },
    /// Run what another thread sent.
    Job(Job),
    /// Drop a value of the user's.
    Drop(Box<dyn Any>),
}

/// What another thread wants run on this core.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// What is to be called once nothing is borrowed.
#[derive(Default)]
pub(crate) struct Deferred {
    pub(crate) wakers: VecDeque<Waker>,
    /// Wakers to drop: the drop of one is the user's code as well.
    pub(crate) stale: VecDeque<Waker>,
    pub(crate) calls: VecDeque<Call>,
    /// Waits that are over, for those to come.
    #[allow(clippy::vec_box)] // they go back as they are
    pub(super) spare: Vec<Box<Waiting>>,
}

impl Deferred {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.wakers.is_empty() && self.calls.is_empty() && self.stale.is_empty()
    }
}

/// Runs the user's code; `None` if it panicked.
pub(crate) fn contain<R>(call: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(call)).ok()
}
