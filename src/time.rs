//! The pure layers may not read a clock, yet every limit is a time. A [`Tick`] is a moment that
//! the shell read once for a whole turn and passes down.
//!
//! Promise: arithmetic saturates at both ends, so no duration, however large, overflows or panics.

use std::fmt;
use std::time::Duration;

/// Nanoseconds since an origin that all cores of the process share. Monotonic.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tick(u64);

impl Tick {
    /// The origin.
    pub(crate) const ZERO: Tick = Tick(0);
    /// The end of time: a deadline that never comes.
    pub(crate) const NEVER: Tick = Tick(u64::MAX);

    /// The moment `nanos` nanoseconds after the origin.
    pub(crate) const fn from_nanos(nanos: u64) -> Self {
        Tick(nanos)
    }

    /// Nanoseconds since the origin.
    pub(crate) const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The moment `after` this one; [`Tick::NEVER`] if that is beyond the end.
    #[must_use]
    #[inline]
    pub(crate) fn plus(self, after: Duration) -> Self {
        let nanos = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        Tick(self.0.saturating_add(nanos))
    }

    /// The time from `earlier` to this moment; zero if `earlier` is later.
    #[inline]
    pub(crate) fn since(self, earlier: Tick) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Debug for Tick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Tick::NEVER {
            return f.write_str("never");
        }
        write!(
            f,
            "{}.{:09}s",
            self.0 / 1_000_000_000,
            self.0 % 1_000_000_000
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m4_m6_arithmetic_saturates_at_both_ends() {
        assert_eq!(Tick::from_nanos(5).plus(Duration::MAX), Tick::NEVER);
        assert_eq!(Tick::ZERO.since(Tick::from_nanos(9)), Duration::ZERO);
        assert_eq!(
            Tick::from_nanos(9).since(Tick::from_nanos(4)),
            Duration::from_nanos(5)
        );
    }

    #[test]
    fn debug_is_readable() {
        assert_eq!(
            format!("{:?}", Tick::from_nanos(1_500_000_000)),
            "1.500000000s"
        );
        assert_eq!(format!("{:?}", Tick::NEVER), "never");
    }
}
