//! Times as configurations write them: RFC 3339, and SOURCE_DATE_EPOCH.
//!
//! This is all that is needed of a calendar, two conversions and no zones but offsets, so no crate is taken for it.

use std::env;

use anyhow::{Context, Result, ensure};

use crate::change::Time;

const DAY: i64 = 86_400;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH: i64 = 719_468;
/// Days in 400 years.
const ERA: i64 = 146_097;

/// Writes a time as RFC 3339 in UTC, with as many digits behind the seconds as it needs.
///
/// # Errors
/// The year is not between 0 and 9999, which RFC 3339 has no form for.
pub fn to_rfc3339(time: Time) -> Result<String> {
    let (day, second) = (time.secs.div_euclid(DAY), time.secs.rem_euclid(DAY));
    let (year, month, date) = civil(day);
    ensure!((0..=9999).contains(&year), "the time {} is not between the years 0 and 9999", time.secs);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let fraction = format!(".{:09}", time.nanos);
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    Ok(format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z"))
}

/// Reads an RFC 3339 time; a leap second counts as the second before it. `None` for what is none.
pub fn parse_rfc3339(text: &str) -> Option<Time> {
    let (date, clock) = (text.get(..10)?, text.get(11..)?);
    let number = |text: Option<&str>, max: i64| -> Option<i64> {
        let text = text.filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))?;
        text.parse().ok().filter(|&number| number <= max)
    };
    let separators = [date.as_bytes()[4], date.as_bytes()[7], text.as_bytes()[10].to_ascii_uppercase()];
    if separators != *b"--T" || clock.as_bytes().get(2) != Some(&b':') || clock.as_bytes().get(5) != Some(&b':') {
        return None;
    }
    let (year, month) = (number(date.get(..4), 9999)?, number(date.get(5..7), 12)?);
    let day = number(date.get(8..10), 31).filter(|&day| day > 0 && month > 0)?;
    let (hour, minute) = (number(clock.get(..2), 23)?, number(clock.get(3..5), 59)?);
    let second = number(clock.get(6..8), 60)?.min(59);
    let mut zone = clock.get(8..)?;
    let mut nanos = 0;
    if let Some(fraction) = zone.strip_prefix('.') {
        let digits = fraction.find(|c: char| !c.is_ascii_digit())?;
        let nine: String = fraction[..digits].chars().chain("000000000".chars()).take(9).collect();
        nanos = (digits > 0).then(|| nine.parse().ok())??;
        zone = &fraction[digits..];
    }
    let offset = match zone.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let minutes = number(zone.get(1..3), 23)? * 60 + number(zone.get(4..6), 59)?;
            if *sign == b'+' { minutes * 60 } else { -minutes * 60 }
        }
        _ => return None,
    };
    let days = days(year, month, day);
    // The 31st of a short month is another day once there and back.
    (civil(days) == (year, month, day)).then_some(())?;
    Some(Time { secs: days * DAY + hour * 3600 + minute * 60 + second - offset, nanos })
}

/// Returns the time that the environment's SOURCE_DATE_EPOCH sets, if it is set: no time that is written is later
/// (reproducible-builds.org's specification).
///
/// # Errors
/// It is set to something else than seconds since the epoch.
pub fn source_date_epoch() -> Result<Option<Time>> {
    env::var_os("SOURCE_DATE_EPOCH").map(|value| parse_epoch(&value.to_string_lossy())).transpose()
}

fn parse_epoch(value: &str) -> Result<Time> {
    let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    let secs = value.parse().ok().filter(|_| digits);
    let secs = secs.with_context(|| format!("SOURCE_DATE_EPOCH is `{value}`, expected seconds since 1970"))?;
    Ok(Time { secs, nanos: 0 })
}

/// Returns year, month and day of the month of a day since the epoch, in the proleptic Gregorian calendar: years that
/// begin in March end with the leap day.
fn civil(day: i64) -> (i64, i64, i64) {
    let day = day + EPOCH;
    let (era, day) = (day.div_euclid(ERA), day.rem_euclid(ERA));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, date)
}

/// Returns the day since the epoch: the inverse of [`civil`].
fn days(year: i64, month: i64, date: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    let month = (month + 9) % 12;
    era * ERA + year * 365 + year / 4 - year / 100 + (153 * month + 2) / 5 + date - 1 - EPOCH
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seconds are those of GNU date: `date -ud TEXT +%s`.
    #[test]
    fn times_are_written_and_read() {
        for (secs, nanos, text) in [
            (0, 0, "1970-01-01T00:00:00Z"),
            (-1, 999_000_000, "1969-12-31T23:59:59.999Z"),
            (951_782_400, 0, "2000-02-29T00:00:00Z"),
            (1_700_000_000, 1, "2023-11-14T22:13:20.000000001Z"),
            (4_107_542_399, 0, "2100-02-28T23:59:59Z"),
            (-62_135_596_800, 0, "0001-01-01T00:00:00Z"),
            (253_402_300_799, 999_999_999, "9999-12-31T23:59:59.999999999Z"),
        ] {
            let time = Time { secs, nanos };
            assert_eq!(to_rfc3339(time).unwrap(), text);
            assert_eq!(parse_rfc3339(text), Some(time), "{text}");
        }
    }

    #[test]
    fn every_day_comes_back() {
        for day in (-719_162..2_932_896).step_by(17) {
            let (year, month, date) = civil(day);
            assert_eq!(days(year, month, date), day);
        }
    }

    #[test]
    fn offsets_are_taken_off() {
        for (text, secs) in [
            ("2024-02-29T12:00:00+05:30", 1_709_188_200),
            ("2024-02-29t06:30:00z", 1_709_188_200),
            ("2024-02-28T22:30:00.5-08:00", 1_709_188_200),
            ("2016-12-31T23:59:60Z", 1_483_228_799),
        ] {
            assert_eq!(parse_rfc3339(text).unwrap().secs, secs, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2024",
            "2024-02-30T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-00-01T00:00:00Z",
            "2024-01-00T00:00:00Z",
            "2024-01-01 00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00.5",
            "2024-01-01T00:00:00+0530",
            "2024-01-01T00:00:00Zx",
            "+024-01-01T00:00:00Z",
            "2024-01-01T00:00:0\u{e9}Z",
            "202\u{e9}-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
        assert!(to_rfc3339(Time { secs: 253_402_300_800, nanos: 0 }).is_err());
        assert!(to_rfc3339(Time { secs: i64::MIN, nanos: 0 }).is_err());
        assert!(to_rfc3339(Time { secs: i64::MAX, nanos: 0 }).is_err());
    }

    #[test]
    fn the_epoch_is_seconds() {
        assert_eq!(parse_epoch("1700000000").unwrap().secs, 1_700_000_000);
        for value in ["", "-1", "+1", "1.5", "now", "99999999999999999999"] {
            assert!(parse_epoch(value).unwrap_err().to_string().contains("expected seconds"), "{value}");
        }
    }
}
