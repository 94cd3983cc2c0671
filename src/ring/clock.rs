//! The pure layers compare moments of several cores, so all cores must count from one origin.
//!
//! Promise: [`now`] never goes back, and its ticks are comparable between threads. It costs a
//! clock read: once per turn, not once per get.

use std::sync::OnceLock;
use std::time::Instant;

use crate::time::Tick;

static ORIGIN: OnceLock<Instant> = OnceLock::new();

/// The moment now, by `CLOCK_MONOTONIC`, counted from the first call in the process.
pub(crate) fn now() -> Tick {
    let origin = *ORIGIN.get_or_init(Instant::now);
    Tick::ZERO.plus(origin.elapsed())
}

/// The same moment for the timer wheel of the runtime; `None` if it never comes.
pub(crate) fn instant_of(tick: Tick) -> Option<Instant> {
    if tick == Tick::NEVER {
        return None;
    }
    let origin = *ORIGIN.get_or_init(Instant::now);
    origin.checked_add(tick.since(Tick::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_the_origin_and_time_does_not_go_back() {
        let before = now();
        let other = std::thread::spawn(now).join().unwrap();
        let after = now();
        assert!(before <= other && other <= after);
        assert!(instant_of(Tick::NEVER).is_none());
        assert!(instant_of(after).unwrap() <= Instant::now());
    }
}
