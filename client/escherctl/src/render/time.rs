//! Points in time and durations.

use std::time::Duration;

use escher_client::Timestamp;

/// Returns RFC 3339 in UTC, to the microsecond.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    let time = jiff::Timestamp::from_microsecond(time.as_micros());
    // Out of range only if the clock is off by millennia.
    format!("{:.6}", time.unwrap_or(jiff::Timestamp::MAX))
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

    #[test]
    fn times_are_in_utc_to_the_microsecond() {
        let time = |micros| rfc3339(Timestamp::from_micros(micros));
        assert_eq!(time(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(time(1_700_000_000_123_456), "2023-11-14T22:13:20.123456Z");
        assert!(time(i64::MAX).ends_with('Z'));
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
