//! Points in time as people write them.

use std::str::FromStr;

use escher_client::Timestamp;
use jiff::civil::DateTime;
use jiff::{Span, ZonedDateTime};

use super::invalid_value::{InvalidValue, invalid};

/// A point in time; an age such as `2h` counts back from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PointInTime(pub(crate) Timestamp);

impl FromStr for PointInTime {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match parse(text, &ZonedDateTime::now()) {
            Some(time) => Ok(PointInTime(Timestamp::from_micros(time.as_microsecond()))),
            None => invalid(
                "expected an age such as 2h or 7d, a date (2026-03-01), a local time \
                 ('2026-03-01 12:30') or RFC 3339 (2026-03-01T12:30:00Z)",
            ),
        }
    }
}

fn parse(text: &str, now: &ZonedDateTime) -> Option<jiff::Timestamp> {
    // Before the local time, whose parser ignores an offset from UTC.
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(time);
    }
    if let Ok(local) = text.parse::<DateTime>() {
        return now.time_zone().to_timestamp(local).ok();
    }
    let age = text.parse::<Span>().ok().filter(|age| age.is_positive())?;
    // In local time, so that a day ago is the same hour of yesterday.
    now.checked_sub(age).ok().map(|time| time.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::{TimeZone, offset};

    #[test]
    fn accepts_ages_dates_local_times_and_timestamps() {
        let zone = TimeZone::fixed(offset(2));
        let now: jiff::Timestamp = "2026-03-10T10:00:00Z".parse().unwrap();
        let now = now.to_zoned_datetime(zone);
        for (text, expected) in [
            ("2h", "2026-03-10T08:00:00Z"),
            ("7d", "2026-03-03T10:00:00Z"),
            ("1h30m", "2026-03-10T08:30:00Z"),
            ("2026-03-01", "2026-02-28T22:00:00Z"),
            ("2026-03-01 12:30", "2026-03-01T10:30:00Z"),
            ("2026-03-01 12:30:15", "2026-03-01T10:30:15Z"),
            ("2026-03-01T12:30:00Z", "2026-03-01T12:30:00Z"),
            ("2026-03-01T12:30:00.5+05:00", "2026-03-01T07:30:00.5Z"),
        ] {
            let expected: jiff::Timestamp = expected.parse().unwrap();
            assert_eq!(parse(text, &now), Some(expected), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "2h from now",
            "-2h",
            "0s",
            "2026-13-01",
            "17",
        ] {
            assert_eq!(parse(text, &now), None, "{text}");
        }
        let error = "soon".parse::<PointInTime>().unwrap_err().to_string();
        assert!(error.contains("RFC 3339"), "{error}");
    }
}
