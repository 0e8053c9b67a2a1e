//! Values of the options of `run` and `submit`.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::str::FromStr;

use escher_client::{RunAs, Text};

use super::invalid_value::{InvalidValue, invalid};

/// `-e`: `K=V`, or `K` for the caller's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EnvironmentEntry {
    Set(OsString, OsString),
    Pass(OsString),
}

impl EnvironmentEntry {
    pub(crate) fn parse(entry: OsString) -> Result<Self, InvalidValue> {
        let bytes = entry.as_bytes();
        match bytes.iter().position(|&byte| byte == b'=') {
            Some(0) => invalid("the name before `=` is missing"),
            None if bytes.is_empty() => invalid("the name of the variable is missing"),
            None => Ok(EnvironmentEntry::Pass(entry)),
            Some(at) => Ok(EnvironmentEntry::Set(
                OsString::from_vec(bytes[..at].to_vec()),
                OsString::from_vec(bytes[at + 1..].to_vec()),
            )),
        }
    }

    /// Returns name and value; `None` if the variable is to be passed and the caller has none.
    pub(crate) fn resolve(self) -> Option<(OsString, OsString)> {
        match self {
            EnvironmentEntry::Set(name, value) => Some((name, value)),
            EnvironmentEntry::Pass(name) => std::env::var_os(&name).map(|value| (name, value)),
        }
    }
}

/// `-l`: a label's key and value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label(pub(crate) Text, pub(crate) Text);

impl FromStr for Label {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Label(key.into(), value.into())),
            _ => invalid("expected KEY=VALUE"),
        }
    }
}

/// `-u`: a login name, or a uid after `#`, because a login name may look like a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunAsUser(pub(crate) RunAs);

impl FromStr for RunAsUser {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let uid = match text.strip_prefix('#') {
            None if text.is_empty() => None,
            None => return Ok(RunAsUser(RunAs::Name(text.into()))),
            Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
                digits.parse().ok()
            }
            Some(_) => None,
        };
        match uid {
            Some(uid) => Ok(RunAsUser(RunAs::Uid(uid))),
            None => invalid("expected a login name, or a uid as #1000"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_entries_set_a_value_or_pass_the_callers() {
        let parse = |text: &str| EnvironmentEntry::parse(text.into());
        let set = |name: &str, value: &str| Ok(EnvironmentEntry::Set(name.into(), value.into()));
        assert_eq!(parse("A=b=c"), set("A", "b=c"));
        assert_eq!(parse("A="), set("A", ""));
        assert_eq!(parse("A"), Ok(EnvironmentEntry::Pass("A".into())));
        assert!(parse("=b").is_err() && parse("").is_err());
        assert_eq!(parse("ESCHER_NO_SUCH_VARIABLE").unwrap().resolve(), None);
    }

    #[test]
    fn labels_need_a_key_and_a_value() {
        assert_eq!("a=b=c".parse(), Ok(Label("a".into(), "b=c".into())));
        assert!("a".parse::<Label>().is_err() && "=b".parse::<Label>().is_err());
    }

    #[test]
    fn users_are_names_or_numbers() {
        assert_eq!("#1000".parse(), Ok(RunAsUser(RunAs::Uid(1000))));
        assert_eq!("1000".parse(), Ok(RunAsUser(RunAs::Name("1000".into()))));
        for text in ["", "#", "#x", "#+1", "#4294967296"] {
            assert!(text.parse::<RunAsUser>().is_err(), "{text}");
        }
    }
}
