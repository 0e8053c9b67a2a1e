//! escherd's settings in force, and the result of a reload.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::blob::{Text, bounded_list};

/// A setting in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Table and key: `execution.max_timeout_ms`.
    pub name: Text,
    /// The value.
    pub value: SettingValue,
    /// Where the value comes from, for people: `default`, a file and line, a variable, an option.
    pub origin: Text,
    /// Whether a reload can change it without a restart of escherd.
    pub is_reloadable: bool,
}

/// The value of a setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SettingValue {
    /// The setting has no value.
    Unset,
    /// On or off.
    Flag(bool),
    /// A number; its unit is in the setting's name.
    Number(u64),
    /// Any other value, as written in a configuration file.
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

/// The result of reading the configuration again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Settings that have changed and are in force now.
    #[serde(deserialize_with = "bounded_list")]
    pub applied: Vec<Text>,
    /// Settings that have changed and take effect at the next start of escherd.
    #[serde(deserialize_with = "bounded_list")]
    pub need_restart: Vec<Text>,
}
