//! The types of settings: which values each type accepts, and how a value is applied.

use std::ffi::{OsStr, OsString};
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use escher_protocol::SettingValue;
use jiff::SignedDuration;

use super::document::RawValue;
use super::number_unit::{NumberUnit, parse_duration};
use super::percent::Percent;
use super::settings::DaemonSettings;

/// A value that its setting accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TypedValue {
    Flag(bool),
    Number(u64),
    Percent(Percent),
    Text(OsString),
}

/// A word, and the function that applies it.
pub(super) type Choice = (&'static str, fn(&mut DaemonSettings));

/// The type of a setting. `set` applies a value.
#[derive(Debug)]
pub(super) enum ValueType {
    Flag {
        default: bool,
        set: fn(&mut DaemonSettings, bool),
    },
    Number {
        default: u64,
        range: RangeInclusive<u64>,
        unit: NumberUnit,
        /// Bytes of memory that each unit may take; 0: none. The number of units is limited to what
        /// fits into the host's memory.
        memory_each: u64,
        set: fn(&mut DaemonSettings, u64),
    },
    /// A share, written as `50%`.
    Percent {
        default: Percent,
        set: fn(&mut DaemonSettings, Percent),
    },
    /// A length of time, written with units: `"90s"`, `"1h30m"`.
    Duration {
        default: &'static str,
        max: Duration,
        set: fn(&mut DaemonSettings, Duration),
    },
    /// One of some words. The first is the default.
    Choice { choices: &'static [Choice] },
    /// Permissions, written in octal.
    Mode {
        default: u32,
        set: fn(&mut DaemonSettings, u32),
    },
    /// A name. The default depends on the installation.
    Name {
        set: fn(&mut DaemonSettings, String),
    },
    /// An absolute path. The default depends on the installation.
    Path {
        set: fn(&mut DaemonSettings, PathBuf),
    },
}

impl ValueType {
    /// Returns the default; `None` where it depends on the installation.
    pub(super) fn default(&self) -> Option<TypedValue> {
        match self {
            ValueType::Flag { default, .. } => Some(TypedValue::Flag(*default)),
            ValueType::Number { default, .. } => Some(TypedValue::Number(*default)),
            ValueType::Percent { default, .. } => Some(TypedValue::Percent(*default)),
            ValueType::Duration { default, .. } => Some(TypedValue::Text((*default).into())),
            ValueType::Choice { choices } => choices
                .first()
                .map(|choice| TypedValue::Text(choice.0.into())),
            ValueType::Mode { default, .. } => Some(TypedValue::Number((*default).into())),
            ValueType::Name { .. } | ValueType::Path { .. } => None,
        }
    }

    /// Accepts the value of a file.
    ///
    /// # Errors
    /// What is expected in its place.
    pub(super) fn accept(&self, value: &RawValue) -> Result<TypedValue, String> {
        self.typed(value).ok_or_else(|| {
            if self.has_syntax_of(value) {
                self.expected()
            } else {
                let quotes = if self.is_quoted() { " in quotes" } else { "" };
                format!("{}{quotes}, not {}", self.expected(), value.describe())
            }
        })
    }

    /// Parses the value of a variable or an option, which is always text.
    ///
    /// # Errors
    /// What is expected in its place.
    pub(super) fn parse(&self, text: &OsStr) -> Result<TypedValue, String> {
        let raw = match (self, text.to_str()) {
            (ValueType::Flag { .. }, Some("true" | "1")) => RawValue::Flag(true),
            (ValueType::Flag { .. }, Some("false" | "0")) => RawValue::Flag(false),
            (ValueType::Number { unit, .. }, Some(text)) if unit.parse(text.as_ref()).is_none() => {
                RawValue::number(text, 10)
            }
            _ => RawValue::Text(text.to_owned()),
        };
        self.typed(&raw).ok_or_else(|| self.expected())
    }

    fn typed(&self, value: &RawValue) -> Option<TypedValue> {
        match (self, value) {
            (ValueType::Flag { .. }, RawValue::Flag(flag)) => Some(TypedValue::Flag(*flag)),
            (ValueType::Number { range, .. }, RawValue::Number(number)) => range
                .contains(number)
                .then_some(TypedValue::Number(*number)),
            (ValueType::Number { range, unit, .. }, RawValue::Text(text)) => {
                let number = unit.parse(text)?;
                range
                    .contains(&number)
                    .then_some(TypedValue::Number(number))
            }
            (ValueType::Percent { .. }, RawValue::Text(text)) => {
                Some(TypedValue::Percent(Percent::parse(text.to_str()?)?))
            }
            (ValueType::Duration { max, .. }, RawValue::Text(text)) => {
                let duration = parse_duration(text)?;
                (duration <= *max).then(|| TypedValue::Text(text.clone()))
            }
            (ValueType::Choice { choices }, RawValue::Text(text)) => {
                let choice = choices.iter().find(|choice| *text == *choice.0)?;
                Some(TypedValue::Text(choice.0.into()))
            }
            (ValueType::Mode { .. }, RawValue::Text(text)) => {
                Some(TypedValue::Number(parse_mode(text)?))
            }
            (ValueType::Name { .. }, RawValue::Text(text)) => {
                let name = text.to_str()?;
                let is_name = !name.is_empty() && !name.chars().any(char::is_control);
                is_name.then(|| TypedValue::Text(text.clone()))
            }
            (ValueType::Path { .. }, RawValue::Text(text)) => {
                let is_path = Path::new(text).is_absolute() && !text.as_bytes().contains(&0);
                is_path.then(|| TypedValue::Text(text.clone()))
            }
            _ => None,
        }
    }

    /// Says what a value must be, in words that follow "must be".
    pub(super) fn expected(&self) -> String {
        match self {
            ValueType::Flag { .. } => "true or false".to_owned(),
            ValueType::Number { range, unit, .. } => {
                let number = match (*range.start(), *range.end()) {
                    (0, u64::MAX) => "a whole number".to_owned(),
                    (start, u64::MAX) => format!("a whole number, at least {start}"),
                    (start, end) => format!("a whole number from {start} to {end}"),
                };
                number + unit.example()
            }
            ValueType::Percent { .. } => "a share from 1% to 100%".to_owned(),
            ValueType::Duration { max, .. } => format!(
                "a time with a unit (ms, s, m, h or d), such as 90s or 1h30m, at most {max:#}",
                max = SignedDuration::try_from(*max).unwrap_or(SignedDuration::MAX)
            ),
            ValueType::Choice { choices } => {
                let words: Vec<&str> = choices.iter().map(|choice| choice.0).collect();
                match words.split_last() {
                    Some((last, others)) => format!("{} or {last}", others.join(", ")),
                    None => String::new(),
                }
            }
            ValueType::Mode { .. } => "permissions in octal, such as 0660".to_owned(),
            ValueType::Name { .. } => "a name".to_owned(),
            ValueType::Path { .. } => "an absolute path".to_owned(),
        }
    }

    /// Whether a value of this type is written in quotes.
    fn is_quoted(&self) -> bool {
        !matches!(self, ValueType::Flag { .. } | ValueType::Number { .. })
    }

    /// Whether values of this type are written like `value`, which may be out of range.
    fn has_syntax_of(&self, value: &RawValue) -> bool {
        match self {
            ValueType::Flag { .. } => matches!(value, RawValue::Flag(_)),
            ValueType::Number { unit, .. } => match value {
                RawValue::Number(_) => true,
                RawValue::Text(_) => *unit != NumberUnit::None,
                _ => false,
            },
            _ => matches!(value, RawValue::Text(_)),
        }
    }

    /// Whether `value` leaves the setting unset: null does, if the default depends on the
    /// installation.
    pub(super) fn is_unset_by(&self, value: &RawValue) -> bool {
        self.default().is_none() && *value == RawValue::Null
    }

    /// Returns the value as people see it.
    pub(super) fn display(&self, value: &TypedValue) -> SettingValue {
        match (self, value) {
            (ValueType::Mode { .. }, TypedValue::Number(mode)) => {
                SettingValue::Text(format!("{mode:04o}").into())
            }
            (_, TypedValue::Flag(flag)) => SettingValue::Flag(*flag),
            (_, TypedValue::Number(number)) => SettingValue::Number(*number),
            (_, TypedValue::Percent(share)) => SettingValue::Text(share.to_string().into()),
            (_, TypedValue::Text(text)) => {
                SettingValue::Text(text.to_string_lossy().into_owned().into())
            }
        }
    }

    /// Applies the value, which this type has accepted.
    pub(super) fn apply(&self, settings: &mut DaemonSettings, value: &TypedValue) {
        match (self, value) {
            (ValueType::Flag { set, .. }, TypedValue::Flag(flag)) => set(settings, *flag),
            (ValueType::Number { set, .. }, TypedValue::Number(number)) => set(settings, *number),
            (ValueType::Percent { set, .. }, TypedValue::Percent(share)) => set(settings, *share),
            (ValueType::Duration { set, .. }, TypedValue::Text(text)) => {
                if let Some(duration) = parse_duration(text) {
                    set(settings, duration);
                }
            }
            (ValueType::Choice { choices }, TypedValue::Text(text)) => {
                if let Some((_, set)) = choices.iter().find(|choice| *text == *choice.0) {
                    set(settings);
                }
            }
            (ValueType::Mode { set, .. }, TypedValue::Number(mode)) => {
                set(settings, u32::try_from(*mode).unwrap_or_default());
            }
            (ValueType::Name { set }, TypedValue::Text(name)) => {
                set(settings, name.to_string_lossy().into_owned());
            }
            (ValueType::Path { set }, TypedValue::Text(path)) => set(settings, path.into()),
            _ => {}
        }
    }
}

fn parse_mode(text: &OsStr) -> Option<u64> {
    let digits = text.to_str()?;
    let has_digits_only = digits.bytes().all(|digit| digit.is_ascii_digit());
    let mode = u64::from_str_radix(digits, 8).ok()?;
    (has_digits_only && mode <= 0o777).then_some(mode)
}
