//! Figures as people read them.

/// A count with its thousands apart: `20 000`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A number in few characters, for axes: `12.5k`.
pub(crate) fn short(n: f64) -> String {
    let (scaled, unit) = match n {
        n if n >= 1e6 => (n / 1e6, "M"),
        n if n >= 1e3 => (n / 1e3, "k"),
        n => (n, ""),
    };
    format!("{}{unit}", trimmed(scaled))
}

/// Microseconds with the unit that suits them: `850 µs`, `1.2 ms`.
pub(crate) fn micros(us: f64) -> String {
    let (scaled, unit) = match us {
        us if us >= 1e6 => (us / 1e6, "s"),
        us if us >= 1e3 => (us / 1e3, "ms"),
        us => (us, "µs"),
    };
    format!("{} {unit}", trimmed(scaled))
}

/// `value` with so many digits after the point.
pub(crate) fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

/// Three digits at most, and no zeros that say nothing.
fn trimmed(n: f64) -> String {
    let text = match n {
        n if n >= 100.0 => format!("{n:.0}"),
        n if n >= 10.0 => format!("{n:.1}"),
        n => format!("{n:.2}"),
    };
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_rounded_to_what_they_can_say() {
        assert_eq!(rounded(1.23456, 1), 1.2);
        assert_eq!(rounded(0.000_000_4, 6), 0.0);
    }

    #[test]
    fn figures_are_short() {
        assert_eq!(count(999), "999");
        assert_eq!(count(3_000_000), "3 000 000");
        assert_eq!(
            [0.0, 7.5, 950.0, 12_500.0, 3e6].map(short),
            ["0", "7.5", "950", "12.5k", "3M"]
        );
        assert_eq!(micros(850.4), "850 µs");
        assert_eq!(micros(1234.0), "1.23 ms");
        assert_eq!(micros(2_000_000.0), "2 s");
    }
}
