//! Durations as Go writes them: `1h30m`, `1.5s`, `100ms`.

use anyhow::{Context, Result, ensure};

/// Units with their nanoseconds. A unit that another one begins with stands behind it.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// The shortest time between health checks that Docker takes.
const MINIMUM: u64 = 1_000_000;

/// Digits behind the point that count: an hour has 3.6 * 10^12 nanoseconds.
const FRACTION: usize = 13;

/// Parses a duration and returns its nanoseconds; what is below one of them is cut off.
///
/// # Errors
/// What is no duration, is negative or below 1 ms, or is over 292 years, which 63 bits hold.
pub(super) fn parse(text: &str) -> Result<u64> {
    let wrong = || format!("`{text}` is not a duration (`1m30s`, `500ms`)");
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    ensure!(!rest.is_empty(), wrong());
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').with_context(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let unit = UNITS.iter().find(|(name, _)| tail.starts_with(name)).with_context(wrong)?;
        let nanos = scale(number, unit.1).with_context(wrong)?;
        total = total.checked_add(nanos).filter(|&total| i64::try_from(total).is_ok()).with_context(wrong)?;
        rest = &tail[unit.0.len()..];
    }
    ensure!(total >= MINIMUM, "`{text}` is shorter than 1ms");
    Ok(total)
}

/// Multiplies a decimal number with a unit; `None` for what is no number or too large.
fn scale(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let numeric = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !numeric(whole) || !numeric(fraction) {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let digits = fraction.bytes().take(FRACTION);
    let part = digits.fold((0, 1), |(part, scale), digit| (part * 10 + u128::from(digit - b'0'), scale * 10));
    let below = u64::try_from(u128::from(unit) * part.0 / part.1).ok()?;
    whole.checked_mul(unit)?.checked_add(below)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn durations_are_nanoseconds() {
        for (text, want) in [
            ("1ms", 1_000_000),
            ("5m", 300_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("1h2m3s4ms5us6ns", 3_723_004_005_006),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("+5s", 5_000_000_000),
            ("1000\u{b5}s", 1_000_000),
            ("1.000000001s", 1_000_000_001),
            ("0.0019999999s", 1_999_999),
        ] {
            assert_eq!(parse(text).unwrap(), want, "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "+", "5", "s", ".s", "1..2s", "1x", "1s2", "-1s", "$A", "9999999h", "99999999999999999999s"] {
            assert!(parse(text).unwrap_err().to_string().contains("is not a duration"), "{text}");
        }
        for text in ["1us", "0s", "999us"] {
            assert!(parse(text).unwrap_err().to_string().contains("shorter than 1ms"), "{text}");
        }
    }
}
