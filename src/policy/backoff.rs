//! Cores that retry at the same moments strike a recovering server together. The pause between
//! rounds doubles up to a cap, and a quarter of it, more or less, is chance.

use std::time::Duration;

use super::rng::Rng;

/// The pause after the `failures`-th failure in a row (counted from 1).
pub(crate) fn delay(failures: u32, first: Duration, cap: Duration, rng: &mut Rng) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    let middle = first.saturating_mul(1 << doublings).min(cap);
    let quarter = middle / 4;
    let low = middle.saturating_sub(quarter);
    low.saturating_add(rng.part_of(quarter.saturating_mul(2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c10_m3_the_pause_doubles_up_to_the_cap_and_stays_within_a_quarter() {
        let mut rng = Rng::new(3);
        let (first, cap) = (Duration::from_millis(100), Duration::from_secs(1));
        for (failures, middle) in [
            (1, 100),
            (2, 200),
            (3, 400),
            (4, 800),
            (5, 1000),
            (99, 1000),
        ] {
            for _ in 0..100 {
                let pause = delay(failures, first, cap, &mut rng);
                let middle = Duration::from_millis(middle);
                assert!(pause >= middle * 3 / 4, "{failures}: {pause:?}");
                assert!(pause <= middle * 5 / 4, "{failures}: {pause:?}");
            }
        }
    }

    #[test]
    fn m4_extreme_settings_do_not_overflow() {
        let mut rng = Rng::new(3);
        delay(u32::MAX, Duration::MAX, Duration::MAX, &mut rng);
        assert_eq!(
            delay(0, Duration::ZERO, Duration::ZERO, &mut rng),
            Duration::ZERO
        );
    }
}
