//! A pool that cannot say what it holds and why it closed what it no longer holds cannot be
//! operated. [`Stats`] is the account of one endpoint over all cores.
//!
//! Promise: `created - closed` is what is open; every close is counted under exactly one reason. A
//! connection that changes cores is neither closed nor created.

use std::net::SocketAddr;

use crate::hooks::CloseReason;
use crate::shard::Account;

/// The account of one endpoint, all cores together.
#[non_exhaustive]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections that nobody holds.
    pub idle: u64,
    /// Connections that users hold.
    pub in_use: u64,
    /// Connections being opened.
    pub connecting: u64,
    /// Connections being closed.
    pub closing: u64,
    /// Gets that wait.
    pub waiters: u64,
    /// Connections that became ready for use.
    pub created: u64,
    /// Gets that were served by a connection that had been used before.
    pub reused: u64,
    /// Connections that were ready and have ended.
    pub closed: u64,
    /// Connections that a core gave to another that waited for one; the same number as
    /// `closed_by(CloseReason::HandedOver)`.
    pub handed_over: u64,
    /// Connections that a core got so: the same number but for those under way just now, and for
    /// what was on its way when a core ended.
    pub received: u64,
    /// Connects that failed, each address and attempt counted.
    pub errors: u64,
    /// Connects that were given up before they succeeded or failed: another address of the name was
    /// faster (RFC 8305), or was to be tried in their place because the limit allowed no more. The
    /// same number as `closed_by(CloseReason::ConnectCancelled)`; not among `errors`.
    pub connects_cancelled: u64,
    /// Gets that timed out.
    pub get_timeouts: u64,
    /// Gets that were refused because too many waited.
    pub rejected: u64,
    /// Permits in use over all cores: never above `max_connections_per_endpoint`.
    pub permits: u64,
    /// How many connections were opened to each address and how many are open, in the order in
    /// which the addresses became known.
    pub addresses: Vec<AddressStats>,
    /// What each core holds now, by the number of its shard; a core that never asked for the
    /// endpoint is not among them, and one that has ended holds nothing.
    pub cores: Vec<CoreStats>,
    pub(crate) closed_by: [u64; CloseReason::ALL.len()],
}

/// The account of one address of an endpoint, all cores together.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressStats {
    /// The address.
    pub address: SocketAddr,
    /// Connections opened to it so far.
    pub opened: u64,
    /// Connections that exist now: opening, open and closing.
    pub open: u64,
}

/// What one core holds of an endpoint.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoreStats {
    /// The number of its shard: that of [`Shards::run_on`](crate::Shards::run_on), unless other
    /// threads joined the [`Group`](crate::Group) too.
    pub shard: usize,
    /// Connections that nobody holds.
    pub idle: u64,
    /// Connections that users hold.
    pub in_use: u64,
    /// Connections being opened.
    pub connecting: u64,
    /// Connections being closed.
    pub closing: u64,
    /// Gets that wait.
    pub waiters: u64,
}

impl Stats {
    pub(crate) fn new(account: Account) -> Self {
        let totals = account.totals;
        let columns = account.addresses.into_iter();
        Self {
            idle: totals.idle,
            in_use: totals.in_use,
            connecting: totals.connecting,
            closing: totals.closing,
            waiters: totals.waiters,
            created: totals.created,
            reused: totals.reused,
            closed: totals.closed,
            handed_over: totals.closed_by[CloseReason::HandedOver as usize],
            received: totals.received,
            errors: totals.errors,
            connects_cancelled: totals.closed_by[CloseReason::ConnectCancelled as usize],
            get_timeouts: totals.get_timeouts,
            rejected: totals.refused,
            permits: u64::from(account.permits),
            addresses: columns
                .map(|column| AddressStats {
                    address: column.address,
                    opened: column.opened,
                    open: u64::from(column.open),
                })
                .collect(),
            cores: account
                .cores
                .into_iter()
                .map(|(shard, core)| CoreStats {
                    shard,
                    idle: core.idle,
                    in_use: core.in_use,
                    connecting: core.connecting,
                    closing: core.closing,
                    waiters: core.waiters,
                })
                .collect(),
            closed_by: totals.closed_by,
        }
    }

    /// How many connections were closed for `reason`, those included that never became ready.
    pub fn closed_by(&self, reason: CloseReason) -> u64 {
        self.closed_by[reason as usize]
    }
}
