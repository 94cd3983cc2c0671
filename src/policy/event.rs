//! The vocabulary of the pool: every fact that reaches the policy is an [`Event`], everything it
//! wants done is an [`Action`]. Recorded in order they are the trace that tests compare.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::error::Error;
pub(crate) use crate::hooks::CloseReason;
use crate::slot::Key;
use crate::target::Target;
use crate::time::Tick;

/// An endpoint's entry in one core's policy.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct EndpointKey(pub(crate) Key);

/// A connection: its policy slot, its direct descriptor and the index in its `user_data`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct ConnKey(pub(crate) Key);

/// A get that waits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct WaiterKey(pub(crate) Key);

/// A fact, told to the policy by the shell.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// The answer to [`Action::Resolve`]: at least one target, good until `expires`. `is_fresh`: it
    /// is the whole of what the name's owner says now; one that is stale, or that lacks a family
    /// because its question failed, says nothing about what it does not name.
    Resolved {
        endpoint: EndpointKey,
        targets: Rc<[Target]>,
        expires: Tick,
        is_fresh: bool,
    },
    /// The other answer to [`Action::Resolve`].
    ResolveFailed { endpoint: EndpointKey, error: Error },
    /// What names are asked of is another than before, or this host may be elsewhere: what is known
    /// of the endpoint's addresses may be wrong, whatever time was given to it.
    NamesChanged { endpoint: EndpointKey },
    /// The answer to [`Action::AcquirePermit`]: one connection may exist. `held` has, for each
    /// target of the last `Resolved` in its order, how many connections all cores hold there.
    PermitGranted {
        endpoint: EndpointKey,
        held: Box<[u32]>,
    },
    /// The other answer to [`Action::AcquirePermit`]: the process is at its limit. The request
    /// stays queued with the permits; a `PermitGranted` follows when one becomes free, unless
    /// [`Action::WithdrawPermit`] takes the request back.
    PermitQueued { endpoint: EndpointKey },
    /// Another core waits for a permit of this endpoint, since the tick given. Told again whenever
    /// that changes; `None` when no other core waits any more.
    Demand {
        endpoint: EndpointKey,
        since: Option<Tick>,
    },
    /// What the demand last told has become: its oldest waiter was served and another is the oldest
    /// now, or nobody waits any more. Nothing is closed on this alone.
    DemandRenewed {
        endpoint: EndpointKey,
        since: Option<Tick>,
    },
    /// The stage Dialing ended well.
    Connected { conn: ConnKey },
    /// The stage Dialing failed; nothing remains of the socket.
    ConnectFailed { conn: ConnKey, error: Error },
    /// The stage Initialising ended well (asked for by [`Action::Initialise`]): up to `capacity`
    /// users may hold the connection at once; 1 is exclusive.
    Initialised { conn: ConnKey, capacity: u32 },
    /// The stage Initialising failed. The policy closes the connection.
    InitFailed { conn: ConnKey, error: Error },
    /// The connection cannot be used any more: the peer closed or reset it, or sent bytes that
    /// nobody takes. In any stage after Dialing. The policy closes it.
    Broken { conn: ConnKey, reason: CloseReason },
    /// The answer to [`Action::CheckHealth`].
    HealthChecked { conn: ConnKey, healthy: bool },
    /// The answer to [`Action::Close`]: the descriptor is closed and no operation refers to it.
    Closed { conn: ConnKey },
    /// No new gets, no new connections; waiters fail with `Draining`, idle connections close.
    Drain,
}

/// What the policy wants done. The shell does it and answers with an [`Event`] where one is named.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// Find the endpoint's addresses. Answer: `Resolved` or `ResolveFailed`. At most one is under
    /// way per endpoint.
    Resolve { endpoint: EndpointKey },
    /// Ask for the right to hold one more connection. Answer: `PermitGranted` or `PermitQueued`.
    /// At most one request per endpoint is unanswered or queued.
    AcquirePermit { endpoint: EndpointKey },
    /// The queued permit request is no longer wanted.
    WithdrawPermit { endpoint: EndpointKey },
    /// Give one permit back (after `Closed`, `ConnectFailed`, or when it was not needed).
    ReturnPermit { endpoint: EndpointKey },
    /// Open a socket in the descriptor slot `conn` and connect it to `address`.
    /// Answer: `Connected` or `ConnectFailed`.
    Dial {
        conn: ConnKey,
        endpoint: EndpointKey,
        address: SocketAddr,
        timeout: Duration,
    },
    /// Make the protocol's state. Answer: `Initialised` or `InitFailed`, or `Broken`.
    Initialise {
        conn: ConnKey,
        endpoint: EndpointKey,
        timeout: Duration,
    },
    /// Ask the protocol whether the connection is healthy; it is in nobody's hands meanwhile.
    /// Answer: `HealthChecked`.
    CheckHealth {
        conn: ConnKey,
        endpoint: EndpointKey,
    },
    /// Close the connection. Answer: `Closed`. Asked at most once per connection.
    Close { conn: ConnKey, reason: CloseReason },
    /// The waiter has a connection (a use of it, if it is shared).
    Grant {
        waiter: WaiterKey,
        conn: ConnKey,
        reused: bool,
    },
    /// The waiter gets this error.
    Fail { waiter: WaiterKey, error: Error },
    /// Tell the hooks.
    Notify {
        endpoint: EndpointKey,
        conn: ConnKey,
        hook: Hook,
    },
}

/// What a hook is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    /// A connection is ready for its first use.
    Created,
    /// An idle connection is handed out again.
    Reused,
    /// A connection that was ready has ended.
    Closed(CloseReason),
}

/// How a user gives a connection back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Return {
    /// At a message boundary, clean: reusable.
    Clean,
    /// Not reusable, for this reason.
    Discard(CloseReason),
}

#[cfg(feature = "sim")]
impl Event {
    /// Its name, for counting what was met.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Event::Resolved { .. } => "Resolved",
            Event::ResolveFailed { .. } => "ResolveFailed",
            Event::NamesChanged { .. } => "NamesChanged",
            Event::PermitGranted { .. } => "PermitGranted",
            Event::PermitQueued { .. } => "PermitQueued",
            Event::Demand { since: Some(_), .. } => "Demand",
            Event::Demand { since: None, .. } => "DemandEnds",
            Event::DemandRenewed { .. } => "DemandRenewed",
            Event::Connected { .. } => "Connected",
            Event::ConnectFailed { .. } => "ConnectFailed",
            Event::Initialised { .. } => "Initialised",
            Event::InitFailed { .. } => "InitFailed",
            Event::Broken { .. } => "Broken",
            Event::HealthChecked { healthy: true, .. } => "Healthy",
            Event::HealthChecked { healthy: false, .. } => "Unhealthy",
            Event::Closed { .. } => "Closed",
            Event::Drain => "Drain",
        }
    }
}
