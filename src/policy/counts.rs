//! A pool without figures cannot be told from a broken one. [`Counts`] is what one core knows of
//! one endpoint: gauges (how many now) and counters (how many so far).
//!
//! Promise: idle + checking + in use + connecting + closing is the number of descriptor slots
//! with a connection that the endpoint holds on this core, at every moment; one that is kept for
//! another core's connection is not among them. Every update is O(1).

use super::event::CloseReason;

/// The figures of one endpoint on one core.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Ready connections in nobody's hands.
    pub(crate) idle: u32,
    /// Connections being asked whether they are healthy, in nobody's hands.
    pub(crate) checking: u32,
    /// Ready connections in somebody's hands.
    pub(crate) in_use: u32,
    /// Connections being opened: dialing or initialising.
    pub(crate) connecting: u32,
    /// Connections whose close is under way, or that are being given to another core.
    pub(crate) closing: u32,
    /// Gets that wait.
    pub(crate) waiters: u32,
    /// Connections that became ready.
    pub(crate) created: u64,
    /// Connections that another core gave.
    pub(crate) received: u64,
    /// Gets served by a connection that had been handed out before.
    pub(crate) reused: u64,
    /// Connections that were ready and have ended.
    pub(crate) closed: u64,
    /// Connections that another core has taken.
    pub(crate) handed_over: u64,
    /// Connects, initialisations included, that failed; each address counts.
    pub(crate) connect_errors: u64,
    /// Resolutions that failed.
    pub(crate) resolve_errors: u64,
    /// Gets, and `try_get`s that got something.
    pub(crate) gets: u64,
    /// Gets that had to wait.
    pub(crate) waited: u64,
    /// Gets that ended by `get_timeout`.
    pub(crate) get_timeouts: u64,
    /// Gets refused because `max_waiters` waited already.
    pub(crate) refused: u64,
    /// Waiting gets that were dropped.
    pub(crate) cancelled: u64,
    /// Waiting gets that ended with an error other than the timeout.
    pub(crate) failed: u64,
    /// Closes asked for, by reason, in the order of [`CloseReason::ALL`].
    pub(crate) closed_by: [u64; CloseReason::ALL.len()],
}

impl Counts {
    /// Nothing is there any more; what happened stays counted.
    pub(crate) fn clear_gauges(&mut self) {
        *self = Self {
            idle: 0,
            checking: 0,
            in_use: 0,
            connecting: 0,
            closing: 0,
            waiters: 0,
            ..*self
        };
    }

    /// Ready connections: idle, being checked or in use.
    pub(crate) fn live(&self) -> u32 {
        self.idle + self.checking + self.in_use
    }

    /// Descriptor slots with a connection.
    pub(crate) fn slots(&self) -> u32 {
        self.live() + self.connecting + self.closing
    }

    /// How many closes were asked for with `reason`.
    #[cfg(test)]
    pub(crate) fn closed_by(&self, reason: CloseReason) -> u64 {
        self.closed_by[reason as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_s_place_in_the_list_is_its_number() {
        for (index, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }

    #[test]
    fn without_gauges_only_what_happened_is_left() {
        let mut counts = Counts {
            idle: 1,
            checking: 1,
            in_use: 1,
            connecting: 1,
            closing: 1,
            waiters: 1,
            created: 7,
            ..Counts::default()
        };
        counts.clear_gauges();
        let left = Counts {
            created: 7,
            ..Counts::default()
        };
        assert_eq!(counts, left);
    }
}
