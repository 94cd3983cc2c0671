//! The pure layers compare moments of several cores, so all cores must count from one origin. What
//! is kept for a time must not be kept longer because the machine slept meanwhile, so sleep counts.
//!
//! Promise: [`now`] never goes back, its ticks are comparable between threads, and the time that the
//! machine was suspended is part of it (`CLOCK_BOOTTIME`, clock_gettime(2)). It costs a clock read
//! without a system call: once per turn, not once per get. Timers of the runtime stand still while
//! the machine sleeps; what they are late for is found when they fire.

#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::time::Tick;

static ORIGIN: OnceLock<Duration> = OnceLock::new();

/// The moment now, counted from the first call in the process.
pub(crate) fn now() -> Tick {
    let now = read(libc::CLOCK_BOOTTIME);
    let origin = *ORIGIN.get_or_init(|| now);
    Tick::ZERO.plus(now.saturating_sub(origin))
}

/// How long the machine has slept since it was started.
pub(crate) fn slept() -> Duration {
    let boot = read(libc::CLOCK_BOOTTIME);
    // In this order, so that being interrupted in between does not look like sleep.
    boot.saturating_sub(read(libc::CLOCK_MONOTONIC))
}

fn read(clock: libc::clockid_t) -> Duration {
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: `time` is a place for a timespec, for the kernel to write to.
    let failed = unsafe { libc::clock_gettime(clock, time.as_mut_ptr()) } != 0;
    debug_assert!(!failed, "both clocks exist since Linux 2.6.39");
    // SAFETY: all zero is a timespec, and so is what the kernel wrote.
    let time = unsafe { time.assume_init() };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The same moment for the timer wheel of the runtime, or a little later if the thread is
/// interrupted here; `None` if it never comes.
pub(crate) fn instant_of(tick: Tick) -> Option<Instant> {
    if tick == Tick::NEVER {
        return None;
    }
    // In this order: a timer that fires early would be set again and again until its moment comes.
    let wait = tick.since(now());
    Instant::now().checked_add(wait)
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

    #[test]
    fn a_moment_to_come_is_as_far_for_the_timers() {
        let later = now().plus(Duration::from_secs(5));
        let wait = instant_of(later).unwrap() - Instant::now();
        assert!(wait <= Duration::from_secs(5) && wait > Duration::from_secs(4));
    }

    #[test]
    fn being_interrupted_is_not_sleep() {
        let before = slept();
        for _ in 0..1000 {
            assert!(slept() <= before + Duration::from_millis(1));
        }
    }

    #[test]
    fn a_timer_does_not_fire_before_its_moment() {
        // How far the runtime's clock is ahead, at least: the best of many guesses.
        let reference = Instant::now();
        let ahead = |instant: Instant, tick: Tick| {
            let reached = (instant - reference).as_nanos() as i128;
            reached - i128::from(tick.as_nanos())
        };
        let guesses = (0..20_000).map(|_| {
            let instant = Instant::now();
            ahead(instant, now())
        });
        let least = guesses.max().unwrap();
        for _ in 0..20_000 {
            let later = now().plus(Duration::from_secs(1));
            let early = least - ahead(instant_of(later).unwrap(), later);
            // The clocks are rounded apart.
            assert!(early <= 2, "{early} ns early");
        }
    }
}
