//! What escherd's settings are, as it tells them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::blob::{Text, list};

/// One setting that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Its table and key: `execution.max_timeout_ms`.
    pub name: Text,
    /// Its value.
    pub value: SettingValue,
    /// Where that comes from, for people: `default`, a file and line, a variable, an option.
    pub origin: Text,
    /// Whether it can be changed without a restart of escherd.
    pub live: bool,
}

/// The value of a setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SettingValue {
    /// It has none.
    Unset,
    /// On or off.
    Flag(bool),
    /// A number; its unit is in the setting's name.
    Number(u64),
    /// Anything else, as it is written in a file.
    Text(Text),
}

impl fmt::Display for SettingValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingValue::Unset => f.pad("-"),
            SettingValue::Flag(value) => value.fmt(f),
            SettingValue::Number(value) => value.fmt(f),
            SettingValue::Text(value) => f.pad(value),
        }
    }
}

/// What came of reading the configuration again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Settings that have changed and are in force now.
    #[serde(deserialize_with = "list")]
    pub applied: Vec<Text>,
    /// Settings that have changed and wait for a restart of escherd.
    #[serde(deserialize_with = "list")]
    pub need_restart: Vec<Text>,
}
