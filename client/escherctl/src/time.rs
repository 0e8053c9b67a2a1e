//! Points in time and durations: how people write them, and how they are shown.
//!
//! A time without an offset is in the local time zone (`TZ`, else `/etc/localtime`, as for every other
//! program: tzset(3)), with its daylight saving. People are shown local times too, programs UTC.

use std::time::Duration;

use escher_client::Timestamp;
pub(crate) use escher_protocol::json::rfc3339;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, SpanRelativeTo, ToSpan, ZonedDateTime};

/// A text that is no point in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TimeError {
    /// It is in no known form.
    #[error(
        "expected an age such as 2h or 7d, now, today, yesterday, a date (2026-03-01), a local time \
         ('2026-03-01 12:30') or RFC 3339 (2026-03-01T12:30:00Z){}", did_you_mean(.text)
    )]
    UnknownForm {
        /// The text.
        text: String,
    },
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
    let unknown_form = || TimeError::UnknownForm {
        text: text.to_owned(),
    };
    match text {
        "now" => return Ok(now()?.timestamp()),
        "today" | "yesterday" => {
            let days = i64::from(text == "yesterday").days();
            let begin = now()?.checked_sub(days).and_then(|day| day.start_of_day());
            return begin
                .map(|begin| begin.timestamp())
                .map_err(|_| unknown_form());
        }
        _ => {}
    }
    if let Ok(local) = text.parse::<DateTime>() {
        // Of a time that is there twice this is the first; one that is left out counts on from before.
        let time = now()?.time_zone().to_timestamp(local);
        return time.map_err(|_| unknown_form());
    }
    let age = text.parse::<Span>().ok().filter(|age| age.is_positive());
    let age = age.ok_or_else(unknown_form)?;
    // In local time, so that a day ago is the same hour of yesterday.
    let time = now()?.checked_sub(age);
    time.map(|time| time.timestamp())
        .map_err(|_| unknown_form())
}

/// Returns the duration that `text` means: a number with a unit, or of seconds.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<f64>()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let span = text.parse::<Span>();
    let signed = span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()));
    Duration::try_from(signed.ok()?).ok()
}

/// Returns what a duration or an age with a unit in capitals was probably meant to be, for the end of an error
/// message.
pub(crate) fn did_you_mean(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    if lower != text && parse_duration(&lower).is_some() {
        format!("; did you mean {lower}?")
    } else {
        String::new()
    }
}

/// The time zone in which times are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Zone(TimeZone);

impl Zone {
    /// Returns the zone of this process; UTC where that is not known.
    pub(crate) fn local() -> Self {
        Zone(local_zone().unwrap_or(TimeZone::UTC))
    }

    pub(crate) fn utc() -> Self {
        Zone(TimeZone::UTC)
    }
}

/// Returns a time for people, to the second. Options take it as it is shown.
pub(crate) fn shown(time: Timestamp, zone: &Zone) -> String {
    let time = jiff::Timestamp::from_microsecond(time.as_micros());
    // Out of range only if the clock is off by millennia.
    let time = time.unwrap_or(jiff::Timestamp::MAX);
    let suffix = if zone.0 == TimeZone::UTC { "Z" } else { "" };
    let local = time.to_zoned_datetime(zone.0.clone());
    format!("{}{suffix}", local.strftime("%Y-%m-%d %H:%M:%S"))
}

/// Returns a time for people, and how long ago that was.
pub(crate) fn shown_with_age(time: Timestamp, zone: &Zone, now: Timestamp) -> String {
    format!("{} ({})", shown(time, zone), ago(between(time, now)))
}

/// Returns how long ago something was, in words.
fn ago(duration: Duration) -> String {
    let (number, unit) = largest_unit(duration);
    match number {
        0 => "just now".to_owned(),
        1 => format!("1 {} ago", unit.name),
        number => format!("{number} {}s ago", unit.name),
    }
}

/// Returns an age in its largest unit: `3s`, `2m`, `5h`, `4d`.
pub(crate) fn age(duration: Duration) -> String {
    let (number, unit) = largest_unit(duration);
    format!("{number}{}", unit.symbol)
}

struct Unit {
    seconds: u64,
    symbol: &'static str,
    name: &'static str,
}

fn largest_unit(duration: Duration) -> (u64, &'static Unit) {
    const UNITS: [Unit; 4] = [
        unit(86_400, "d", "day"),
        unit(3_600, "h", "hour"),
        unit(60, "m", "minute"),
        unit(1, "s", "second"),
    ];
    let seconds = duration.as_secs();
    let [.., second] = &UNITS;
    let found = UNITS.iter().find(|unit| seconds >= unit.seconds);
    let unit = found.unwrap_or(second);
    (seconds / unit.seconds, unit)
}

const fn unit(seconds: u64, symbol: &'static str, name: &'static str) -> Unit {
    Unit {
        seconds,
        symbol,
        name,
    }
}

/// Returns the duration from `start` to `end`; zero if the clock was set back in between.
pub(crate) fn between(start: Timestamp, end: Timestamp) -> Duration {
    let micros = end.as_micros().saturating_sub(start.as_micros());
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// Returns a duration in at most two units, as options take it.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        0 if duration.is_zero() => "0s".to_owned(),
        0 => format!("{}ms", duration.as_millis()),
        1..60 => match duration.subsec_millis() / 100 {
            0 => format!("{seconds}s"),
            tenths => format!("{seconds}.{tenths}s"),
        },
        60..3_600 => in_two_units((minutes, "m"), (seconds % 60, "s")),
        3_600..86_400 => in_two_units((hours, "h"), (minutes % 60, "m")),
        _ => in_two_units((days, "d"), (hours % 24, "h")),
    }
}

fn in_two_units(large: (u64, &str), small: (u64, &str)) -> String {
    match small.0 {
        0 => format!("{}{}", large.0, large.1),
        number => format!("{}{}{number:02}{}", large.0, large.1, small.1),
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
            ("now", "2026-03-10T10:00:00Z"),
            ("today", "2026-03-09T22:00:00Z"),
            ("yesterday", "2026-03-08T22:00:00Z"),
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
            "tomorrow",
            "2h from now",
            "-2h",
            "0s",
            "2026-13-01",
            "17",
        ] {
            assert_eq!(
                parse_at_noon(text, &zone),
                Err(TimeError::UnknownForm { text: text.into() }),
                "{text}"
            );
        }
    }

    #[test]
    fn a_unit_in_capitals_is_named_as_it_should_be() {
        let zone = TimeZone::UTC;
        let error = parse_at_noon("2H", &zone).unwrap_err().to_string();
        assert!(error.ends_with("; did you mean 2h?"), "{error}");
        assert_eq!(did_you_mean("2M"), "; did you mean 2m?");
        for text in ["2m", "SOON", "", "2MB"] {
            assert_eq!(did_you_mean(text), "", "{text}");
        }
    }

    #[test]
    fn days_begin_at_local_midnight_also_where_the_clock_changes() {
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let now: jiff::Timestamp = "2026-03-30T10:00:00Z".parse().unwrap();
        let parse = |text| parse_in(text, || Ok(now.to_zoned_datetime(berlin.clone())));
        assert_eq!(parse("today"), Ok("2026-03-29T22:00:00Z".parse().unwrap()));
        assert_eq!(
            parse("yesterday"),
            Ok("2026-03-28T23:00:00Z".parse().unwrap())
        );
    }

    #[test]
    fn people_are_shown_local_times_and_how_long_ago_they_were() {
        let zone = Zone(TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap());
        let time = Timestamp::from_micros(1_772_323_200_999_999);
        assert_eq!(shown(time, &zone), "2026-03-01 01:00:00");
        assert_eq!(shown(time, &Zone::utc()), "2026-03-01 00:00:00Z");
        for (seconds, expected) in [
            (0, "just now"),
            (1, "1 second ago"),
            (59, "59 seconds ago"),
            (180, "3 minutes ago"),
            (3_600, "1 hour ago"),
            (200_000, "2 days ago"),
        ] {
            let now = time.saturating_add(Duration::from_secs(seconds));
            assert_eq!(
                shown_with_age(time, &zone, now),
                format!("2026-03-01 01:00:00 ({expected})")
            );
        }
    }

    #[test]
    fn a_time_is_read_as_it_is_shown() {
        let zone = TimeZone::fixed(offset(2));
        let time = Timestamp::from_micros(1_772_323_200_000_000);
        for zone in [Zone(zone.clone()), Zone::utc()] {
            let text = shown(time, &zone);
            let read = parse_at_noon(&text, &zone.0).unwrap();
            assert_eq!(read.as_microsecond(), time.as_micros(), "{text}");
        }
    }

    #[test]
    fn ages_have_one_unit() {
        for (seconds, expected) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (7_199, "1h"),
            (90_000, "1d"),
        ] {
            assert_eq!(age(Duration::from_secs(seconds)), expected);
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
        let parse = |text: &str| parse_in(text, || Err(unknown.clone()));
        assert!(parse("2026-03-01T12:30:00Z").is_ok());
        for text in ["2026-03-01 12:30", "7d"] {
            assert_eq!(parse(text), Err(unknown.clone()));
        }
        let text = "soon".to_owned();
        assert_eq!(parse(&text), Err(TimeError::UnknownForm { text }));
    }

    #[test]
    fn durations_have_at_most_two_units() {
        for (ms, shown) in [
            (0, "0s"),
            (999, "999ms"),
            (1_000, "1s"),
            (1_250, "1.2s"),
            (120_000, "2m"),
            (61_000, "1m01s"),
            (3_600_000, "1h"),
            (3_660_000, "1h01m"),
            (90_000_000, "1d01h"),
        ] {
            assert_eq!(duration(Duration::from_millis(ms)), shown);
        }
    }
}
