//! The figures of an endpoint as cores publish them for each other: gauges first, then counters.
//! One place knows the order.

use crate::hooks::CloseReason;
use crate::policy::Counts;

/// How many figures are gauges.
pub(crate) const GAUGES: usize = 5;
/// How many figures are counters.
pub(crate) const COUNTERS: usize = 7 + CloseReason::ALL.len();

/// The figures of one core.
pub(crate) fn values(counts: &Counts) -> [u64; GAUGES + COUNTERS] {
    let mut values = [0; GAUGES + COUNTERS];
    let figures = [
        u64::from(counts.idle + counts.checking),
        u64::from(counts.in_use),
        u64::from(counts.connecting),
        u64::from(counts.closing),
        u64::from(counts.waiters),
        counts.created,
        counts.reused,
        counts.closed,
        counts.connect_errors,
        counts.get_timeouts,
        counts.refused,
        counts.received,
    ];
    values[..figures.len()].copy_from_slice(&figures);
    values[figures.len()..].copy_from_slice(&counts.closed_by);
    values
}

/// The figures of all cores, by name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Totals {
    pub(crate) idle: u64,
    pub(crate) in_use: u64,
    pub(crate) connecting: u64,
    pub(crate) closing: u64,
    pub(crate) waiters: u64,
    pub(crate) created: u64,
    pub(crate) reused: u64,
    pub(crate) closed: u64,
    pub(crate) errors: u64,
    pub(crate) get_timeouts: u64,
    pub(crate) refused: u64,
    pub(crate) received: u64,
    pub(crate) closed_by: [u64; CloseReason::ALL.len()],
}

impl Totals {
    /// From the sums of what the cores published; figures that are missing count as 0.
    pub(crate) fn from_values(values: &[u64]) -> Self {
        let at = |n: usize| values.get(n).copied().unwrap_or(0);
        Self {
            idle: at(0),
            in_use: at(1),
            connecting: at(2),
            closing: at(3),
            waiters: at(4),
            created: at(5),
            reused: at(6),
            closed: at(7),
            errors: at(8),
            get_timeouts: at(9),
            refused: at(10),
            received: at(11),
            closed_by: std::array::from_fn(|n| at(12 + n)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_what_is_read() {
        let mut counts = Counts {
            idle: 1,
            checking: 1,
            in_use: 3,
            connecting: 4,
            closing: 5,
            waiters: 6,
            created: 7,
            reused: 8,
            closed: 9,
            connect_errors: 10,
            get_timeouts: 11,
            refused: 12,
            received: 14,
            ..Counts::default()
        };
        counts.closed_by[CloseReason::Drained as usize] = 13;
        let totals = Totals::from_values(&values(&counts));
        assert_eq!(
            [
                totals.idle,
                totals.in_use,
                totals.connecting,
                totals.closing,
                totals.waiters
            ],
            [2, 3, 4, 5, 6]
        );
        assert_eq!([totals.created, totals.reused, totals.closed], [7, 8, 9]);
        assert_eq!(
            [
                totals.errors,
                totals.get_timeouts,
                totals.refused,
                totals.received
            ],
            [10, 11, 12, 14]
        );
        assert_eq!(totals.closed_by[CloseReason::Drained as usize], 13);
        assert_eq!(totals.closed_by.iter().sum::<u64>(), 13);
    }
}
