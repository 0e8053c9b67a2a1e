//! The definition of one setting, and how the table writes it down.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::number_unit::NumberUnit;
use crate::config::percent::Percent;
use crate::config::settings::DaemonSettings;
use crate::config::value_type::{Choice, ValueType};

/// What the program knows of one setting, whatever its value.
#[derive(Debug)]
pub(in crate::config) struct SettingDefinition {
    /// Section and key: `execution.max_timeout_ms`.
    pub(in crate::config) name: &'static str,
    pub(in crate::config) value_type: ValueType,
    /// The environment variable that overrides files, if there is one.
    pub(in crate::config) variable: Option<&'static str>,
    /// Whether a reload applies a new value.
    pub(in crate::config) is_reloadable: bool,
}

impl SettingDefinition {
    pub(super) const fn variable(mut self, variable: &'static str) -> Self {
        self.variable = Some(variable);
        self
    }

    pub(super) const fn reloadable(mut self) -> Self {
        self.is_reloadable = true;
        self
    }

    /// Sets how many bytes of memory each unit of this number may take.
    pub(super) const fn memory_each(mut self, bytes: u64) -> Self {
        if let ValueType::Number { memory_each, .. } = &mut self.value_type {
            *memory_each = bytes;
        }
        self
    }
}

pub(super) const fn setting(name: &'static str, value_type: ValueType) -> SettingDefinition {
    SettingDefinition {
        name,
        value_type,
        variable: None,
        is_reloadable: false,
    }
}

pub(super) const fn flag(
    name: &'static str,
    default: bool,
    set: fn(&mut DaemonSettings, bool),
) -> SettingDefinition {
    setting(name, ValueType::Flag { default, set })
}

pub(super) const fn number(
    name: &'static str,
    default: u64,
    range: RangeInclusive<u64>,
    set: fn(&mut DaemonSettings, u64),
) -> SettingDefinition {
    let value_type = ValueType::Number {
        default,
        range,
        unit: NumberUnit::of_key(name),
        memory_each: 0,
        set,
    };
    setting(name, value_type)
}

pub(super) const fn percent(
    name: &'static str,
    default: u8,
    set: fn(&mut DaemonSettings, Percent),
) -> SettingDefinition {
    let default = match Percent::new(default) {
        Some(default) => default,
        None => Percent::ALL,
    };
    setting(name, ValueType::Percent { default, set })
}

pub(super) const fn duration(
    name: &'static str,
    default: &'static str,
    max: Duration,
    set: fn(&mut DaemonSettings, Duration),
) -> SettingDefinition {
    let value_type = ValueType::Duration { default, max, set };
    setting(name, value_type)
}

pub(super) const fn choice(name: &'static str, choices: &'static [Choice]) -> SettingDefinition {
    setting(name, ValueType::Choice { choices })
}

pub(super) const fn path(
    name: &'static str,
    set: fn(&mut DaemonSettings, PathBuf),
) -> SettingDefinition {
    setting(name, ValueType::Path { set })
}
