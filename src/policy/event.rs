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
    /// How busy all cores keep each target of the last `Resolved`, in its order. Told before
    /// `PermitGranted`, if the endpoint's balance wants to know.
    Busy {
        endpoint: EndpointKey,
        busy: Box<[Busy]>,
    },
    /// For each target of the last `Resolved`, in its order: if it is out for all cores, when it may be
    /// probed. Told whenever one goes out or comes back, and in answer to [`Action::Probe`].
    Ejected {
        endpoint: EndpointKey,
        out: Box<[Option<Tick>]>,
    },
    /// The answer to [`Action::Probe`] if it is this core that is to dial the address, with what all
    /// cores hold.
    Probe {
        endpoint: EndpointKey,
        address: SocketAddr,
        held: Box<[u32]>,
    },
    /// The answer to [`Action::AcquirePermit`]: one connection may exist. `held` has, for each
    /// target of the last `Resolved` in its order, how many connections all cores hold there.
    PermitGranted {
        endpoint: EndpointKey,
        held: Box<[u32]>,
    },
    /// After [`Action::ReturnPermit`]: that permit went to another core, and this one's request is
    /// queued as before.
    StillQueued { endpoint: EndpointKey },
    /// The answer to [`Action::Survey`]: `held` as in `PermitGranted`.
    Surveyed {
        endpoint: EndpointKey,
        held: Box<[u32]>,
    },
    /// The answer to [`Action::AcquirePermit`] when the process is at its limit: the request
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
    /// Somebody waits, since the tick given, for a permit of the process, which only a connection of
    /// any endpoint sets free. Told again whenever that changes, and after each permit that was
    /// returned; `None` when nobody waits any more.
    TotalDemand { since: Option<Tick> },
    /// As [`Event::DemandRenewed`], for the permits of the process.
    TotalDemandRenewed { since: Option<Tick> },
    /// The stage Dialing ended well.
    Connected { conn: ConnKey },
    /// The stage Dialing failed; nothing remains of the socket.
    ConnectFailed { conn: ConnKey, error: Error },
    /// The stage Initialising ended well (asked for by [`Action::Initialise`]): up to `capacity`
    /// users may hold the connection at once; 1 is exclusive. Unless it is `watched`, it is looked at
    /// before it is anybody's.
    Initialised {
        conn: ConnKey,
        capacity: u32,
        watched: bool,
    },
    /// The stage Initialising failed. The policy closes the connection.
    InitFailed { conn: ConnKey, error: Error },
    /// The connection cannot be used any more: the peer closed or reset it, or sent bytes that
    /// nobody takes. In any stage after Dialing. The policy closes it.
    Broken { conn: ConnKey, reason: CloseReason },
    /// An answer to [`Action::Give`]: the connection, and its permit, are another core's.
    Given { conn: ConnKey },
    /// The other answer: it is still this core's, and watched as before, or all the time if it was
    /// `untouched`. `since`: how long the oldest waits of those other cores to which nothing is on
    /// its way.
    GiveFailed {
        conn: ConnKey,
        since: Option<Tick>,
        untouched: bool,
    },
    /// Another core's connection is in the slot of [`Action::Expect`], and a permit came with it in
    /// place of the one that was queued for.
    Received { conn: ConnKey, what: Received },
    /// The answer to [`Action::CheckHealth`] and [`Action::Look`].
    HealthChecked { conn: ConnKey, healthy: bool },
    /// The answer to [`Action::Close`] and [`Action::Unexpect`]: the descriptor is closed and no
    /// operation refers to it. For a slot that is still expected: it cannot be.
    Closed { conn: ConnKey },
    /// No new gets, no new connections; waiters fail with `Draining`, idle connections close.
    Drain,
}

/// How busy an address is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Busy {
    /// Users of its connections.
    pub(crate) uses: u32,
    /// How long they keep one, if that is known.
    pub(crate) latency: Option<Duration>,
}

/// What speaks against an address, or for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A connect failed.
    Failed,
    /// A connection ended soon after it was ready, and nobody had used it.
    DiedEarly,
    /// A connection is ready.
    Back,
    /// The first use of a connection ended well.
    Works,
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
    /// Count what all cores hold of the endpoint. Answer, at once: `Surveyed`.
    Survey { endpoint: EndpointKey },
    /// The queued permit request is no longer wanted.
    WithdrawPermit { endpoint: EndpointKey },
    /// Give one permit back (after `Closed`, `ConnectFailed`, or when it was not needed).
    ReturnPermit { endpoint: EndpointKey },
    /// The connection that is closed next makes way for who waits for a permit of the process.
    MakeWay,
    /// Open a socket in the descriptor slot `conn` and connect it to `address`.
    /// Answer: `Connected` or `ConnectFailed`.
    Dial {
        conn: ConnKey,
        endpoint: EndpointKey,
        address: SocketAddr,
        timeout: Duration,
    },
    /// Tell all cores what was learned of an address. `chance` is a random number.
    Report {
        endpoint: EndpointKey,
        address: SocketAddr,
        verdict: Verdict,
        chance: u64,
    },
    /// Ask whether this core is to probe an address that is out. Answer: `Ejected`, and `Probe` if it
    /// is.
    Probe {
        endpoint: EndpointKey,
        address: SocketAddr,
        chance: u64,
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
    /// Nobody has watched the connection for a while: see whether anything has come for it, or its
    /// end, as soon as it is watched; it is in nobody's hands meanwhile. Answer: `HealthChecked`.
    Look {
        conn: ConnKey,
        endpoint: EndpointKey,
    },
    /// Give the connection, which is idle, to the core that has waited longest. Answer: `Given` or
    /// `GiveFailed`.
    Give {
        conn: ConnKey,
        endpoint: EndpointKey,
    },
    /// The connection that is being given is wanted back, if no other core has taken it yet. Its answer
    /// is that of `Give`.
    Recall {
        conn: ConnKey,
        endpoint: EndpointKey,
    },
    /// Other cores may put a connection into the slot `conn`, instead of the permit that is queued
    /// for. `Received` or `Closed` may follow.
    Expect {
        conn: ConnKey,
        endpoint: EndpointKey,
    },
    /// They may no more. Answer: `Closed`, once none can be on its way any more.
    Unexpect {
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

/// A connection that changes its core, as far as the policy is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) address: SocketAddr,
    pub(crate) capacity: u32,
    pub(crate) total_uses: u64,
    pub(crate) idle_since: Tick,
    /// When it was ready for its first use.
    pub(crate) opened: Tick,
    /// The end of its life.
    pub(crate) deadline: Tick,
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
    /// The same, but its receive has stopped and is about to be armed again, or the kernel has not had
    /// that yet: reusable once it was looked at. Only of a connection that has one user.
    Unwatched,
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
            Event::Busy { .. } => "Busy",
            Event::Surveyed { .. } => "Surveyed",
            Event::StillQueued { .. } => "StillQueued",
            Event::Ejected { .. } => "Ejected",
            Event::Probe { .. } => "Probe",
            Event::PermitGranted { .. } => "PermitGranted",
            Event::PermitQueued { .. } => "PermitQueued",
            Event::Demand { since: Some(_), .. } => "Demand",
            Event::Demand { since: None, .. } => "DemandEnds",
            Event::DemandRenewed { .. } => "DemandRenewed",
            Event::TotalDemand { since: Some(_) } => "TotalDemand",
            Event::TotalDemand { since: None } => "TotalDemandEnds",
            Event::TotalDemandRenewed { .. } => "TotalDemandRenewed",
            Event::Connected { .. } => "Connected",
            Event::ConnectFailed { .. } => "ConnectFailed",
            Event::Initialised { .. } => "Initialised",
            Event::InitFailed { .. } => "InitFailed",
            Event::Broken { .. } => "Broken",
            Event::Given { .. } => "Given",
            Event::GiveFailed { .. } => "GiveFailed",
            Event::Received { .. } => "Received",
            Event::HealthChecked { healthy: true, .. } => "Healthy",
            Event::HealthChecked { healthy: false, .. } => "Unhealthy",
            Event::Closed { .. } => "Closed",
            Event::Drain => "Drain",
        }
    }
}
