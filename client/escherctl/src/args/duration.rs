//! Durations: a number and a unit, or seconds.

use std::str::FromStr;
use std::time::Duration;

use escher_client::Timeout;

use super::invalid_value::{InvalidValue, invalid};
use crate::time;

/// `--timeout`: when to end a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CommandTimeout(pub(crate) Timeout);

impl FromStr for CommandTimeout {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if text == "none" {
            return Ok(CommandTimeout(Timeout::Unlimited));
        }
        match milliseconds(text)? {
            0 => invalid("must be greater than 0; use `none` for no timeout"),
            ms => Ok(CommandTimeout(Timeout::After { ms })),
        }
    }
}

/// `--kill-after`: milliseconds between SIGTERM and SIGKILL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KillGrace(pub(crate) u64);

impl FromStr for KillGrace {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        milliseconds(text).map(KillGrace)
    }
}

/// `--drain`: milliseconds from the end of the main process to SIGKILL for what it has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Drain(pub(crate) u64);

impl FromStr for Drain {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        milliseconds(text).map(Drain)
    }
}

/// `--timeout` of `wait`: how long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WaitTimeout(pub(crate) Duration);

impl FromStr for WaitTimeout {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        milliseconds(text).map(|ms| WaitTimeout(Duration::from_millis(ms)))
    }
}

/// `--reconnect`: how long to wait for an unavailable escherd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReconnectTimeout(pub(crate) Duration);

impl FromStr for ReconnectTimeout {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            "none" => Ok(ReconnectTimeout(Duration::ZERO)),
            text => milliseconds(text).map(|ms| ReconnectTimeout(Duration::from_millis(ms))),
        }
    }
}

/// `--interval`: the time between two measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MeasureInterval(pub(crate) Duration);

/// The shortest interval, so that measuring is not most of what is measured.
const MIN_MEASURE_INTERVAL_MS: u64 = 100;

impl FromStr for MeasureInterval {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match milliseconds(text)? {
            0..MIN_MEASURE_INTERVAL_MS => invalid("must be at least 100ms"),
            ms => Ok(MeasureInterval(Duration::from_millis(ms))),
        }
    }
}

/// Parses a duration, rounded up to microseconds.
pub(super) fn microseconds(text: &str) -> Option<u64> {
    u64::try_from(time::parse_duration(text)?.as_nanos().div_ceil(1_000)).ok()
}

/// Parses a duration, rounded up to milliseconds.
fn milliseconds(text: &str) -> Result<u64, InvalidValue> {
    let duration = time::parse_duration(text);
    match duration.map(|duration| u64::try_from(duration.as_nanos().div_ceil(1_000_000))) {
        Some(Ok(ms)) => Ok(ms),
        _ => invalid(format!(
            "expected seconds, or a number with a unit (ms, s, m, h or d), such as 90s or 1h30m{}",
            time::did_you_mean(text)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_without_a_unit_are_seconds() {
        for (text, ms) in [
            ("5", 5_000),
            ("1.5", 1_500),
            ("0", 0),
            ("5m", 300_000),
            ("90s", 90_000),
            ("1500ms", 1_500),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("1.5s", 1_500),
            ("2d", 172_800_000),
            ("1us", 1),
        ] {
            assert_eq!(milliseconds(text), Ok(ms), "{text}");
        }
        for text in ["", ".", "1e3", "-5", "-5s", "5 apples", "s", "5mm", "inf"] {
            let error = milliseconds(text).unwrap_err().to_string();
            assert!(error.contains("ms, s, m, h"), "{text}: {error}");
        }
    }

    #[test]
    fn a_timeout_may_be_none_but_not_zero() {
        assert_eq!("none".parse(), Ok(CommandTimeout(Timeout::Unlimited)));
        assert_eq!(
            "2s".parse(),
            Ok(CommandTimeout(Timeout::After { ms: 2_000 }))
        );
        assert!("0s".parse::<CommandTimeout>().is_err());
        let error = "2M".parse::<CommandTimeout>().unwrap_err().to_string();
        assert!(error.ends_with("did you mean 2m?"), "{error}");
        assert_eq!("0s".parse(), Ok(KillGrace(0)));
        assert_eq!("0s".parse(), Ok(Drain(0)));
    }

    #[test]
    fn what_is_used_is_not_measured_all_the_time() {
        let interval = |ms| Ok(MeasureInterval(Duration::from_millis(ms)));
        assert_eq!("100ms".parse(), interval(100));
        assert_eq!("1h".parse(), interval(3_600_000));
        for text in ["99ms", "0s"] {
            assert!(text.parse::<MeasureInterval>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_reconnect_timeout_may_be_none() {
        for (text, seconds) in [("none", 0), ("0", 0), ("0s", 0), ("2m", 120)] {
            let timeout = ReconnectTimeout(Duration::from_secs(seconds));
            assert_eq!(text.parse(), Ok(timeout), "{text}");
        }
        let minute = ReconnectTimeout(Duration::from_secs(60));
        assert_eq!("60".parse(), Ok(minute));
    }
}
