//! Numbers as tar spells them: octal and base-256 fields, decimal PAX values, times with fractions.

use anyhow::{Result, bail};

use crate::change::{Escaped, Time};

/// Parses a numeric field of a header: octal digits among blanks and NULs, or, where the first bit is set, a big-endian
/// two's complement number (GNU). A blank field is 0. No field is long enough to overflow.
pub(super) fn parse_field(field: &[u8]) -> Result<i128> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => Ok(base256(*first, &field[1..])),
        _ => octal(field),
    }
}

/// The first byte has a marker in bit 7 and the sign in bit 6.
fn base256(first: u8, rest: &[u8]) -> i128 {
    let sign = if first & 0x40 != 0 { -1 } else { 0 };
    rest.iter().fold(sign << 6 | i128::from(first & 0x3f), |value, &byte| value << 8 | i128::from(byte))
}

fn octal(field: &[u8]) -> Result<i128> {
    let start = field.iter().position(|b| !matches!(b, b' ' | 0)).unwrap_or(field.len());
    let digits = until_nul(&field[start..]).trim_ascii_end();
    let mut value = 0;
    for &digit in digits {
        if !matches!(digit, b'0'..=b'7') {
            bail!("`{}` is not an octal number", Escaped(digits));
        }
        value = value << 3 | i128::from(digit - b'0');
    }
    Ok(value)
}

/// Returns the bytes before the first NUL, or all.
pub(super) fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&b| b == 0).next().unwrap_or_default()
}

/// Parses decimal digits and nothing else.
pub(super) fn parse_decimal(digits: &[u8]) -> Result<u64> {
    let value = digits.iter().try_fold(0u64, |value, &digit| {
        let digit = digit.is_ascii_digit().then_some(u64::from(digit.wrapping_sub(b'0')))?;
        value.checked_mul(10)?.checked_add(digit)
    });
    match value {
        Some(value) if !digits.is_empty() => Ok(value),
        _ => bail!("`{}` is not a number from 0 to 2^64-1", Escaped(&digits[..digits.len().min(80)])),
    }
}

/// Parses a PAX time: decimal seconds with an optional sign and fraction. Seconds beyond 64 bits become the nearest that
/// fit, digits beyond nanoseconds round down; what is no number is `None`.
pub(super) fn parse_time(text: &[u8]) -> Option<Time> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let mut parts = digits.splitn(2, |&b| b == b'.');
    let (whole, fraction) = (parts.next()?, parts.next().unwrap_or_default());
    if whole.is_empty() || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
        return None;
    }
    let secs = whole.iter().fold(0i64, |secs, b| secs.saturating_mul(10).saturating_add(i64::from(b - b'0')));
    let digit = |at: usize| fraction.get(at).map_or(0, |b| u32::from(b - b'0'));
    let nanos = (0..9).fold(0, |nanos, at| nanos * 10 + digit(at));
    if !negative {
        return Some(Time { secs, nanos });
    }
    // The magnitude rounds up where the time rounds down.
    let nanos = nanos + u32::from(fraction.iter().skip(9).any(|&b| b != b'0'));
    Some(if nanos == 0 {
        Time { secs: -secs, nanos: 0 }
    } else {
        Time { secs: (-secs).saturating_sub(1), nanos: 1_000_000_000 - nanos }
    })
}

/// Returns a time of whole seconds, the nearest that fits.
pub(super) fn whole_seconds(secs: i128) -> Time {
    let nearest = if secs < 0 { i64::MIN } else { i64::MAX };
    Time { secs: i64::try_from(secs).unwrap_or(nearest), nanos: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_octal_or_base_256() {
        for (field, want) in [
            (&b"0000644\0"[..], 0o644),
            (b"   644 \0", 0o644),
            (b"\0\0 12\0\0\0", 0o12),
            (b"        ", 0),
            (b"\0\0\0\0\0\0\0\0", 0),
            (b"12\0x4\0\0\0", 0o12),
            (b"777777777777", (1 << 36) - 1),
            (b"\x80\0\0\0\0\0\0\x0a", 10),
            (b"\x80\0\0\0\xff\xff\xff\xff", 0xffff_ffff),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", -1),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfc\x18", -1000),
            (b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", (1 << 94) - 1),
        ] {
            assert_eq!(parse_field(field).unwrap(), want, "{field:?}");
        }
        for field in [&b"12x4\0"[..], b"rootroot", b"-1\0", b"8\0", b"1 2", b"+1"] {
            assert!(parse_field(field).unwrap_err().to_string().contains("not an octal number"), "{field:?}");
        }
    }

    #[test]
    fn decimals_are_digits_alone() {
        assert_eq!(parse_decimal(b"18446744073709551615").unwrap(), u64::MAX);
        assert_eq!(parse_decimal(b"007").unwrap(), 7);
        for text in ["", "-1", "+1", "18446744073709551616", "0x200", "5.12e2", "512\0", " 1", "1 "] {
            assert!(parse_decimal(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn times_round_down_and_never_overflow() {
        let time = |secs, nanos| Some(Time { secs, nanos });
        for (text, want) in [
            ("0", time(0, 0)),
            ("1.5", time(1, 500_000_000)),
            ("1.999999999999999999999", time(1, 999_999_999)),
            ("1.", time(1, 0)),
            ("-1.5", time(-2, 500_000_000)),
            ("-0.5", time(-1, 500_000_000)),
            ("-1", time(-1, 0)),
            ("-1.0", time(-1, 0)),
            ("-1.0000000001", time(-2, 999_999_999)),
            ("-1.9999999999", time(-2, 0)),
            ("9223372036854775808", time(i64::MAX, 0)),
            ("-99999999999999999999", time(-i64::MAX, 0)),
            ("-9223372036854775808.999999999", time(i64::MIN, 1)),
            ("", None),
            ("-", None),
            (".5", None),
            ("nan", None),
            ("1e5", None),
            ("1,5", None),
            ("1.5.5", None),
            ("--1", None),
        ] {
            assert_eq!(parse_time(text.as_bytes()), want, "{text:?}");
        }
        assert_eq!(whole_seconds(i128::MAX).secs, i64::MAX);
        assert_eq!(whole_seconds(i128::MIN).secs, i64::MIN);
    }
}
