//! The shard keeps connections of many protocols in one table; it sees each protocol through this
//! seam, without its types.

use std::any::{Any, TypeId};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use crate::error::Result;
use crate::policy::event::ConnKey;

use super::Shard;

/// A future that stays on its core.
pub(crate) type LocalFuture<T> = Pin<Box<dyn Future<Output = T>>>;

/// How many users may hold a connection at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// One.
    Exclusive,
    /// Up to this many; for protocols that carry many requests on one connection. 0 counts as 1.
    Shared(u32),
}

impl Access {
    pub(crate) fn capacity(self) -> u32 {
        match self {
            Access::Exclusive => 1,
            Access::Shared(n) => n.max(1),
        }
    }
}

/// What tells the connections of one protocol from those of another to the same server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ProtocolKey {
    kind: TypeId,
    value: Box<str>,
}

impl ProtocolKey {
    pub(crate) fn new(kind: TypeId, value: String) -> Self {
        Self {
            kind,
            value: value.into(),
        }
    }
}

/// A protocol's state on its way to another core.
pub type Packed = Box<dyn Any + Send>;

/// What `init` made.
pub(crate) struct Opened {
    pub(crate) state: Rc<dyn Any>,
    pub(crate) access: Access,
}

/// A protocol without its types. Every method is the user's code: it is called with nothing
/// borrowed (D36).
pub(crate) trait ConnectionProtocol {
    /// Whether there is nothing to initialise and no state.
    fn is_plain(&self) -> bool;
    fn checks_health(&self) -> bool;
    fn open(&self, shard: Rc<Shard>, conn: ConnKey) -> LocalFuture<Result<Opened>>;
    fn check(&self, shard: Rc<Shard>, conn: ConnKey, state: Rc<dyn Any>) -> LocalFuture<bool>;
    fn take_idle_bytes(&self, state: &dyn Any, bytes: &[u8]) -> bool;
    /// Whether its states can go to other cores.
    fn changes_cores(&self) -> bool;
    /// The state, if it is held elsewhere too or stays for another reason.
    fn pack(&self, state: Rc<dyn Any>) -> Result<Packed, Rc<dyn Any>>;
    fn unpack(&self, packed: Packed) -> Option<Rc<dyn Any>>;
    fn closed(&self, state: &dyn Any);
}
