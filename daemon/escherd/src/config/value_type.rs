//! What kinds of settings there are: which values each takes, and how one is put in force.

use std::ffi::{OsStr, OsString};
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::Value;
use super::document::Typed;
use super::settings::Settings;

/// A value that its setting takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Given {
    Flag(bool),
    Number(u64),
    Text(OsString),
}

/// A word, and how what it means is put in force.
pub(super) type Word = (&'static str, fn(&mut Settings));

/// A kind of setting, with what it takes besides. `set` puts a value in force.
#[derive(Debug)]
pub(super) enum Kind {
    Flag {
        default: bool,
        set: fn(&mut Settings, bool),
    },
    Number {
        default: u64,
        range: RangeInclusive<u64>,
        /// Bytes of memory that each one may take: so many must fit into the host's. 0: none.
        memory: u64,
        set: fn(&mut Settings, u64),
    },
    /// One of some words. The first is the default.
    Word { words: &'static [Word] },
    /// Permissions, written in octal.
    Mode {
        default: u32,
        set: fn(&mut Settings, u32),
    },
    /// A name. Its default is the installation's.
    Name { set: fn(&mut Settings, String) },
    /// An absolute path. Its default is the installation's.
    Path { set: fn(&mut Settings, PathBuf) },
}

impl Kind {
    /// What is in force where nobody says anything; `None`: the installation decides.
    pub(super) fn default(&self) -> Option<Given> {
        match self {
            Kind::Flag { default, .. } => Some(Given::Flag(*default)),
            Kind::Number { default, .. } => Some(Given::Number(*default)),
            Kind::Word { words } => words.first().map(|word| Given::Text(word.0.into())),
            Kind::Mode { default, .. } => Some(Given::Number((*default).into())),
            Kind::Name { .. } | Kind::Path { .. } => None,
        }
    }

    /// The value, if it is one that this kind takes.
    pub(super) fn judge(&self, value: &Typed) -> Option<Given> {
        match (self, value) {
            (Kind::Flag { .. }, Typed::Flag(flag)) => Some(Given::Flag(*flag)),
            (Kind::Number { range, .. }, Typed::Number(number)) => {
                range.contains(number).then_some(Given::Number(*number))
            }
            (Kind::Word { words }, Typed::Text(text)) => {
                let word = words.iter().find(|word| *text == *word.0)?;
                Some(Given::Text(word.0.into()))
            }
            (Kind::Mode { .. }, Typed::Text(text)) => Some(Given::Number(mode(text)?)),
            (Kind::Name { .. }, Typed::Text(text)) => {
                let name = text.to_str()?;
                let is_name = !name.is_empty() && !name.chars().any(char::is_control);
                is_name.then(|| Given::Text(text.clone()))
            }
            (Kind::Path { .. }, Typed::Text(text)) => {
                let is_path = Path::new(text).is_absolute() && !text.as_bytes().contains(&0);
                is_path.then(|| Given::Text(text.clone()))
            }
            _ => None,
        }
    }

    /// The value that a variable or an option has, where there is nothing but text.
    pub(super) fn read(&self, text: &OsStr) -> Option<Given> {
        let typed = match (self, text.to_str()) {
            (Kind::Flag { .. }, Some("true" | "1")) => Typed::Flag(true),
            (Kind::Flag { .. }, Some("false" | "0")) => Typed::Flag(false),
            (Kind::Number { .. }, Some(text)) => Typed::number(text, 10),
            _ => Typed::Text(text.to_owned()),
        };
        self.judge(&typed)
    }

    /// What a value must be, as words that follow "must be".
    pub(super) fn wanted(&self) -> String {
        match self {
            Kind::Flag { .. } => "true or false".to_owned(),
            Kind::Number { range, .. } => match (*range.start(), *range.end()) {
                (0, u64::MAX) => "a whole number".to_owned(),
                (start, u64::MAX) => format!("a whole number, at least {start}"),
                (start, end) => format!("a whole number from {start} to {end}"),
            },
            Kind::Word { words } => {
                let words: Vec<&str> = words.iter().map(|word| word.0).collect();
                match words.split_last() {
                    Some((last, others)) => format!("{} or {last}", others.join(", ")),
                    None => String::new(),
                }
            }
            Kind::Mode { .. } => "permissions in octal, such as 0660".to_owned(),
            Kind::Name { .. } => "a name".to_owned(),
            Kind::Path { .. } => "an absolute path".to_owned(),
        }
    }

    /// Whether files have this kind in quotes.
    pub(super) fn is_quoted(&self) -> bool {
        !matches!(self, Kind::Flag { .. } | Kind::Number { .. })
    }

    /// Whether `value` says that there is none: null, where it is for the installation to decide.
    pub(super) fn is_absent(&self, value: &Typed) -> bool {
        self.default().is_none() && *value == Typed::Nothing
    }

    /// Whether this kind is written as `value` is, be it one that it takes or not.
    pub(super) fn is_written_as(&self, value: &Typed) -> bool {
        match self {
            Kind::Flag { .. } => matches!(value, Typed::Flag(_)),
            Kind::Number { .. } => matches!(value, Typed::Number(_)),
            _ => matches!(value, Typed::Text(_)),
        }
    }

    /// The value as people see it.
    pub(super) fn show(&self, value: &Given) -> Value {
        match (self, value) {
            (Kind::Mode { .. }, Given::Number(mode)) => Value::Text(format!("{mode:04o}")),
            (_, Given::Flag(flag)) => Value::Flag(*flag),
            (_, Given::Number(number)) => Value::Number(*number),
            (_, Given::Text(text)) => Value::Text(text.to_string_lossy().into_owned()),
        }
    }

    /// Puts the value in force.
    pub(super) fn put(&self, settings: &mut Settings, value: &Given) {
        match (self, value) {
            (Kind::Flag { set, .. }, Given::Flag(flag)) => set(settings, *flag),
            (Kind::Number { set, .. }, Given::Number(number)) => set(settings, *number),
            (Kind::Word { words }, Given::Text(text)) => {
                if let Some((_, set)) = words.iter().find(|word| *text == *word.0) {
                    set(settings);
                }
            }
            (Kind::Mode { set, .. }, Given::Number(mode)) => {
                set(settings, u32::try_from(*mode).unwrap_or_default());
            }
            (Kind::Name { set }, Given::Text(name)) => {
                set(settings, name.to_string_lossy().into_owned());
            }
            (Kind::Path { set }, Given::Text(path)) => set(settings, path.into()),
            // A setting's value is of its kind: its kind has judged it.
            _ => {}
        }
    }
}

fn mode(text: &OsStr) -> Option<u64> {
    let digits = text.to_str()?;
    let is_octal = digits.bytes().all(|digit| digit.is_ascii_digit());
    let mode = u64::from_str_radix(digits, 8).ok()?;
    (is_octal && mode <= 0o777).then_some(mode)
}
