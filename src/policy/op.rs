//! What a history of the policy is made of: what happens in it, and what differs from run to run.

#[derive(Debug, Clone)]
pub(super) enum Op {
    Get(usize),
    TryGet(usize),
    Cancel(usize),
    /// Whether it is clean, and whether it is watched.
    Put(usize, bool, bool),
    Answer(usize),
    Refuse(usize),
    Pass(u64),
    Demand(usize, bool),
    /// What names are asked of has changed.
    Renew(usize),
    Break(usize),
    Clear(usize),
    /// From now on names have those of five addresses whose bits are set; whether answers are fresh.
    Change(u8, bool),
    /// An event for a connection in whatever stage, or none.
    Stray(u32, u8),
    /// A connection of another core comes into one of the open slots, to one of the addresses.
    Receive(usize, usize),
    /// Those addresses of an endpoint are out for all cores whose bits are set, to be probed in so
    /// many milliseconds.
    Eject(usize, u8, u64),
    Drain,
}

/// What differs from run to run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Permits that exist, over all endpoints.
    pub(super) limit: usize,
    pub(super) addresses: u8,
    pub(super) capacity: u32,
    pub(super) min_idle: usize,
    pub(super) max_connections: usize,
    pub(super) uses: u64,
    pub(super) health_check: bool,
    /// Whether hooks want to be told of everything.
    pub(super) notify: bool,
    /// Seconds for which answers are good.
    pub(super) ttl: u64,
    /// Permits beside those of `limit` that another core holds, if connections change cores.
    pub(super) elsewhere: Option<usize>,
}
