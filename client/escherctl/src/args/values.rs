//! The values that options take.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::str::FromStr;
use std::time::Duration;

use escher_client::{RunAs, Status, Text, Timeout};
use jiff::{Span, SpanRelativeTo};
use nix::sys::signal::Signal;

/// What is wrong with a value, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadValue(String);

pub(super) fn bad<T>(message: impl Into<String>) -> Result<T, BadValue> {
    Err(BadValue(message.into()))
}

/// `K=V`, or `K` for the caller's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EnvironmentEntry {
    Set(OsString, OsString),
    Pass(OsString),
}

impl EnvironmentEntry {
    pub(crate) fn parse(entry: OsString) -> Result<Self, BadValue> {
        let bytes = entry.as_bytes();
        match bytes.iter().position(|&byte| byte == b'=') {
            Some(0) => bad("a variable needs a name before the `=`"),
            None if bytes.is_empty() => bad("a variable needs a name"),
            None => Ok(EnvironmentEntry::Pass(entry)),
            Some(at) => Ok(EnvironmentEntry::Set(
                OsString::from_vec(bytes[..at].to_vec()),
                OsString::from_vec(bytes[at + 1..].to_vec()),
            )),
        }
    }

    /// The variable and its value; `None` where the caller has no such variable.
    pub(crate) fn resolve(self) -> Option<(OsString, OsString)> {
        match self {
            EnvironmentEntry::Set(name, value) => Some((name, value)),
            EnvironmentEntry::Pass(name) => std::env::var_os(&name).map(|value| (name, value)),
        }
    }
}

/// A label and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label(pub(crate) Text, pub(crate) Text);

impl FromStr for Label {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Label(key.into(), value.into())),
            _ => bad("a label is KEY=VALUE"),
        }
    }
}

/// Which executions to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Filter {
    Status(Status),
    User(Text),
    Name(Text),
    Label(Text, Text),
}

impl FromStr for Filter {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        let Some((key, value)) = text.split_once('=') else {
            return bad("a filter is KEY=VALUE; KEY is status, user, name or label.KEY");
        };
        match (key, key.strip_prefix("label.")) {
            (_, Some(label)) if !label.is_empty() => Ok(Filter::Label(label.into(), value.into())),
            ("user", _) => Ok(Filter::User(value.into())),
            ("name", _) => Ok(Filter::Name(value.into())),
            ("status", _) => Status::from_name(value).map(Filter::Status).map_or_else(
                || {
                    let names = Status::TABLE.map(|row| row.1).join(", ");
                    bad(format!("there is no such status; there are {names}"))
                },
                Ok,
            ),
            _ => bad("the key of a filter is status, user, name or label.KEY"),
        }
    }
}

/// As whom to run: a login name, or a number after `#`, because a login name may look like a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UserName(pub(crate) RunAs);

impl FromStr for UserName {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        match text.strip_prefix('#') {
            Some(number) if number.bytes().all(|digit| digit.is_ascii_digit()) => number
                .parse()
                .map(|uid| UserName(RunAs::Uid(uid)))
                .or_else(|_| bad("after `#` comes a user's number, as in #1000")),
            Some(_) => bad("after `#` comes a user's number, as in #1000"),
            None if text.is_empty() => bad("a user is a login name, or a number as #1000"),
            None => Ok(UserName(RunAs::Name(text.into()))),
        }
    }
}

/// When to end a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeoutValue(pub(crate) Timeout);

impl FromStr for TimeoutValue {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        if text == "none" {
            return Ok(TimeoutValue(Timeout::Unlimited));
        }
        match milliseconds(text)? {
            0 => bad("a timeout of 0 would end it before it began; `none` is for no timeout"),
            ms => Ok(TimeoutValue(Timeout::After { ms })),
        }
    }
}

/// Milliseconds between SIGTERM and SIGKILL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KillAfter(pub(crate) u64);

impl FromStr for KillAfter {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        milliseconds(text).map(KillAfter)
    }
}

/// How long to wait for an escherd that went away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patience(pub(crate) Duration);

impl FromStr for Patience {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        match text {
            "none" | "0" => Ok(Patience(Duration::ZERO)),
            text => milliseconds(text).map(|ms| Patience(Duration::from_millis(ms))),
        }
    }
}

const UNITS: &str =
    "a time is a number with a unit: ms, s, m, h or d, as in 90s, 5m, 1h30m, 1500ms";

fn milliseconds(text: &str) -> Result<u64, BadValue> {
    if text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        return bad(format!("`{text}` has no unit; {UNITS}"));
    }
    let duration = text
        .parse::<Span>()
        .and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()))
        .ok()
        .and_then(|signed| Duration::try_from(signed).ok());
    match duration.map(|duration| u64::try_from(duration.as_nanos().div_ceil(1_000_000))) {
        Some(Ok(ms)) => Ok(ms),
        _ => bad(UNITS),
    }
}

/// A signal by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SignalNumber(pub(crate) i32);

impl FromStr for SignalNumber {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        let upper = text.to_ascii_uppercase();
        let short = upper.strip_prefix("SIG").unwrap_or(&upper);
        let (lowest, highest) = (nix::libc::SIGRTMIN(), nix::libc::SIGRTMAX());
        let real_time = |rest: &str, from: i32| match rest {
            "" => Some(from),
            rest => rest.parse::<i32>().ok().and_then(|by| from.checked_add(by)),
        };
        let number = if let Ok(number) = short.parse::<i32>() {
            Some(number).filter(|number| (1..=highest).contains(number))
        } else if let Some(rest) = short.strip_prefix("RTMIN") {
            real_time(rest, lowest).filter(|number| (lowest..=highest).contains(number))
        } else if let Some(rest) = short.strip_prefix("RTMAX") {
            real_time(rest, highest).filter(|number| (lowest..=highest).contains(number))
        } else {
            Signal::from_str(&format!("SIG{short}"))
                .ok()
                .map(|signal| signal as i32)
        };
        number.map_or_else(
            || bad("there is no such signal; TERM, SIGTERM and 15 are the same one"),
            |number| Ok(SignalNumber(number)),
        )
    }
}

/// The name of a signal: `SIGTERM`.
pub(crate) fn signal_name(number: i32) -> String {
    Signal::try_from(number).map_or_else(
        |_| format!("signal {number}"),
        |signal| signal.as_str().to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, ms) in [
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
        for text in ["", "5", "1.5", "-5s", "5 apples", "s", "5mm"] {
            let error = milliseconds(text).unwrap_err().to_string();
            assert!(error.contains("ms, s, m, h"), "{text}: {error}");
        }
    }

    #[test]
    fn a_timeout_may_be_none_but_not_zero() {
        assert_eq!("none".parse(), Ok(TimeoutValue(Timeout::Unlimited)));
        assert_eq!("2s".parse(), Ok(TimeoutValue(Timeout::After { ms: 2_000 })));
        assert!("0s".parse::<TimeoutValue>().is_err());
        assert_eq!("0s".parse(), Ok(KillAfter(0)));
    }

    #[test]
    fn patience_may_be_none() {
        for (text, seconds) in [("none", 0), ("0", 0), ("0s", 0), ("2m", 120)] {
            let patience = Patience(Duration::from_secs(seconds));
            assert_eq!(text.parse(), Ok(patience), "{text}");
        }
        assert!("60".parse::<Patience>().is_err());
    }

    #[test]
    fn environment_entries() {
        let parse = |text: &str| EnvironmentEntry::parse(text.into());
        let set = |name: &str, value: &str| Ok(EnvironmentEntry::Set(name.into(), value.into()));
        assert_eq!(parse("A=b=c"), set("A", "b=c"));
        assert_eq!(parse("A="), set("A", ""));
        assert_eq!(parse("A"), Ok(EnvironmentEntry::Pass("A".into())));
        assert!(parse("=b").is_err() && parse("").is_err());
        assert_eq!(parse("ESCHER_NO_SUCH_VARIABLE").unwrap().resolve(), None);
    }

    #[test]
    fn labels_and_filters() {
        assert_eq!("a=b=c".parse(), Ok(Label("a".into(), "b=c".into())));
        assert!("a".parse::<Label>().is_err() && "=b".parse::<Label>().is_err());
        assert_eq!("status=lost".parse(), Ok(Filter::Status(Status::Lost)));
        assert_eq!(
            "label.a.b=c".parse(),
            Ok(Filter::Label("a.b".into(), "c".into()))
        );
        for text in ["status=gone", "label.=x", "colour=red", "status"] {
            assert!(text.parse::<Filter>().is_err(), "{text}");
        }
    }

    #[test]
    fn users_by_name_and_number() {
        assert_eq!("#1000".parse(), Ok(UserName(RunAs::Uid(1000))));
        assert_eq!("1000".parse(), Ok(UserName(RunAs::Name("1000".into()))));
        for text in ["", "#", "#x", "#+1", "#4294967296"] {
            assert!(text.parse::<UserName>().is_err(), "{text}");
        }
    }

    #[test]
    fn signals_by_name_and_number() {
        for (text, number) in [
            ("TERM", 15),
            ("sigterm", 15),
            ("9", 9),
            ("RTMIN+1", 35),
            ("64", 64),
        ] {
            assert_eq!(text.parse(), Ok(SignalNumber(number)), "{text}");
        }
        for text in ["", "0", "65", "-1", "SIGNAL", "RTMIN+99", "RTMAX+1"] {
            assert!(text.parse::<SignalNumber>().is_err(), "{text}");
        }
        assert_eq!(signal_name(9), "SIGKILL");
        assert_eq!(signal_name(40), "signal 40");
    }
}
