//! Points in time and durations: how people write them, and how they are shown.
//!
//! A time without an offset is in the local time zone (`TZ`, else `/etc/localtime`, as for every other
//! program: tzset(3)), with its daylight saving. Times are shown in UTC.

use std::time::Duration;

use escher_client::Timestamp;
pub(crate) use escher_protocol::json::rfc3339;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, ZonedDateTime};

/// A text that is no point in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TimeError {
    /// It is in no known form.
    #[error(
        "expected an age such as 2h or 7d, a date (2026-03-01), a local time ('2026-03-01 12:30') or RFC 3339 \
         (2026-03-01T12:30:00Z)"
    )]
    UnknownForm,
    /// It is a local time, or an age, and nobody knows in which zone.
    #[error(
        "the time zone TZ={zone:?} is not known: set TZ to a name in /usr/share/zoneinfo, such as Europe/Berlin, or \
         give the time in RFC 3339 (2026-03-01T12:30:00Z)"
    )]
    UnknownZone {
        /// The value of `TZ`.
        zone: String,
    },
}

/// Returns the point in time that `text` means; an age such as `2h` counts back from now.
///
/// # Errors
/// [`TimeError`] when it is none, or its zone is not known.
pub(crate) fn parse(text: &str) -> Result<Timestamp, TimeError> {
    let time = parse_in(text, || {
        Ok(ZonedDateTime::now().with_time_zone(local_zone()?))
    })?;
    Ok(Timestamp::from_micros(time.as_microsecond()))
}

/// Returns the zone of this process. UTC where none is set: so does the C library.
fn local_zone() -> Result<TimeZone, TimeError> {
    TimeZone::try_system().or_else(|_| match std::env::var_os("TZ") {
        None => Ok(TimeZone::UTC),
        Some(zone) => Err(TimeError::UnknownZone {
            zone: zone.to_string_lossy().into_owned(),
        }),
    })
}

fn parse_in(
    text: &str,
    now: impl FnOnce() -> Result<ZonedDateTime, TimeError>,
) -> Result<jiff::Timestamp, TimeError> {
    // Before the local time, whose parser ignores an offset from UTC.
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time);
    }
    if let Ok(local) = text.parse::<DateTime>() {
        // Of a time that is there twice this is the first; one that is left out counts on from before.
        let time = now()?.time_zone().to_timestamp(local);
        return time.map_err(|_| TimeError::UnknownForm);
    }
    let age = text.parse::<Span>().ok().filter(|age| age.is_positive());
    let age = age.ok_or(TimeError::UnknownForm)?;
    // In local time, so that a day ago is the same hour of yesterday.
    let time = now()?.checked_sub(age);
    time.map(|time| time.timestamp())
        .map_err(|_| TimeError::UnknownForm)
}

/// Returns the duration from `start` to `end`; zero if the clock was set back in between.
pub(crate) fn between(start: Timestamp, end: Timestamp) -> Duration {
    let micros = end.as_micros().saturating_sub(start.as_micros());
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// Returns a duration in at most two units.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..60 => format!("{seconds}.{}s", duration.subsec_millis() / 100),
        60..3_600 => format!("{minutes}m{:02}s", seconds % 60),
        3_600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::offset;

    /// Parses `text` at a fixed time in `zone`.
    fn parse_at_noon(text: &str, zone: &TimeZone) -> Result<jiff::Timestamp, TimeError> {
        let now: jiff::Timestamp = "2026-03-10T10:00:00Z".parse().unwrap();
        parse_in(text, || Ok(now.to_zoned_datetime(zone.clone())))
    }

    #[test]
    fn accepts_ages_dates_local_times_and_timestamps() {
        let zone = TimeZone::fixed(offset(2));
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
            assert_eq!(
                parse_at_noon(text, &zone),
                Ok(expected.parse().unwrap()),
                "{text}"
            );
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
            assert_eq!(
                parse_at_noon(text, &zone),
                Err(TimeError::UnknownForm),
                "{text}"
            );
        }
    }

    #[test]
    fn local_times_follow_daylight_saving() {
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let st_johns = TimeZone::posix("NST3:30NDT,M3.2.0,M11.1.0").unwrap();
        for (zone, text, expected) in [
            (&berlin, "2026-03-29 01:59", "2026-03-29T00:59:00Z"),
            // Left out: the clock goes from 02:00 to 03:00.
            (&berlin, "2026-03-29 02:30", "2026-03-29T01:30:00Z"),
            (&berlin, "2026-03-29 03:00", "2026-03-29T01:00:00Z"),
            // Twice: the first.
            (&berlin, "2026-10-25 02:30", "2026-10-25T00:30:00Z"),
            (&berlin, "2026-11-30 08:30", "2026-11-30T07:30:00Z"),
            (&st_johns, "2026-03-10", "2026-03-10T02:30:00Z"),
            // The same hour of a day before the clock went forward.
            (&st_johns, "7d", "2026-03-03T11:00:00Z"),
            (&st_johns, "168h", "2026-03-03T10:00:00Z"),
        ] {
            assert_eq!(
                parse_at_noon(text, zone),
                Ok(expected.parse().unwrap()),
                "{text}"
            );
        }
    }

    #[test]
    fn a_time_with_an_offset_needs_no_zone() {
        let unknown = TimeError::UnknownZone {
            zone: "Mars/Phobos".to_owned(),
        };
        let parse = |text| parse_in(text, || Err(unknown.clone()));
        assert!(parse("2026-03-01T12:30:00Z").is_ok());
        for text in ["2026-03-01 12:30", "7d"] {
            assert_eq!(parse(text), Err(unknown.clone()));
        }
        assert_eq!(parse("soon"), Err(TimeError::UnknownForm));
    }

    #[test]
    fn durations_have_at_most_two_units() {
        for (ms, shown) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_250, "1.2s"),
            (61_000, "1m01s"),
            (3_660_000, "1h01m"),
            (90_000_000, "1d01h"),
        ] {
            assert_eq!(duration(Duration::from_millis(ms)), shown);
        }
    }
}
