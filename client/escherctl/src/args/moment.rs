//! Points in time as people write them.

use std::str::FromStr;

use escher_client::Timestamp;
use jiff::civil::DateTime;
use jiff::{Span, ZonedDateTime};

use super::values::{BadValue, bad};

const FORMS: &str = "a time is an age such as 2h or 7d, a date (2026-03-01), a local time \
                     ('2026-03-01 12:30') or RFC 3339 (2026-03-01T12:30:00Z)";

/// A point in time; an age counts from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment(pub(crate) Timestamp);

impl FromStr for Moment {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        match moment(text, &ZonedDateTime::now()) {
            Some(moment) => Ok(Moment(Timestamp::from_micros(moment.as_microsecond()))),
            None => bad(FORMS),
        }
    }
}

fn moment(text: &str, now: &ZonedDateTime) -> Option<jiff::Timestamp> {
    // With an offset from UTC it says more than a local time, so this comes first.
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(time);
    }
    if let Ok(local) = text.parse::<DateTime>() {
        return now.time_zone().to_timestamp(local).ok();
    }
    let age = text.parse::<Span>().ok().filter(|age| age.is_positive())?;
    // Calendar units in local time: a day ago is the same hour of yesterday.
    now.checked_sub(age).ok().map(|then| then.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::{TimeZone, offset};

    #[test]
    fn moments_are_ages_dates_local_times_and_timestamps() {
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
            assert_eq!(moment(text, &now), Some(expected), "{text}");
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
            assert_eq!(moment(text, &now), None, "{text}");
        }
        let error = "soon".parse::<Moment>().unwrap_err().to_string();
        assert!(error.contains("RFC 3339"), "{error}");
    }
}
