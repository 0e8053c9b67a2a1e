//! Settings: from defaults, profiles, files, the environment and options to what is in force, checked.
//!
//! 1. [`sources`] finds the files; [`document`] takes each apart, TOML or JSON;
//! 2. [`layers`] lays one source over the other, files by way of [`file_layer`], by the table of all settings in
//!    [`schema`], and remembers where each value comes from; [`profiles`] and [`default_paths`] fill in what depends on
//!    the kind of use;
//! 3. [`validate`] judges values beside each other and on this host; [`settings`] is what comes of it.
//!
//! [`mod@merge`] is the way through these. Faults are collected, so that a person learns of all at once.

mod by_hand;
mod default_paths;
mod document;
mod error;
mod file_layer;
mod layers;
mod library;
mod load;
mod origin;
mod private_dir;
mod profiles;
mod schema;
mod settings;
mod sources;
#[cfg(test)]
mod tests;
mod validate;
mod value_type;

pub use error::{ConfigError, Fault};
pub use origin::Origin;
pub use private_dir::make_private_dir;
pub use profiles::Profile;
pub use settings::{EngineConfig, ExecutionSettings, Settings};

use std::fmt;

use self::default_paths::Installation;
use self::load::{Surroundings, merge};
use crate::cli::Arguments;

/// What is in force, and where each of it comes from.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// What is in force.
    pub settings: Settings,
    /// Every setting, always in the same order.
    pub rows: Vec<Row>,
}

/// One setting as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Section and key: `execution.max_timeout_ms`.
    pub name: &'static str,
    /// Its value.
    pub value: Value,
    /// Where that comes from.
    pub origin: Origin,
    /// Whether it can change while escherd runs.
    pub is_live: bool,
}

/// The value of a setting as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// It has none.
    Unset,
    /// On or off.
    Flag(bool),
    /// A number; its unit is in the setting's name.
    Number(u64),
    /// Anything else, as it is written in a file, without quotes.
    Text(String),
}

/// In what two configurations differ: names of settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// Those that can change while escherd runs.
    pub live: Vec<&'static str>,
    /// Those that need a restart.
    pub restart: Vec<&'static str>,
}

/// Reads everything that applies, and makes settings of it.
///
/// # Errors
/// Everything that is wrong, each with the file and line, the variable or the option.
pub fn load(arguments: &Arguments) -> Result<Configuration, ConfigError> {
    let installation = if arguments.user {
        Installation::User
    } else {
        Installation::System
    };
    let variable = |name: &str| std::env::var_os(name);
    let surroundings = Surroundings {
        installation,
        config_dirs: installation.config_dirs(&variable),
        variable: &variable,
    };
    merge(&surroundings, arguments)
}

impl Configuration {
    /// Names of the settings whose values are others in `other`.
    #[must_use]
    pub fn differences(&self, other: &Configuration) -> Differences {
        let mut differences = Differences::default();
        for (row, other) in self.rows.iter().zip(&other.rows) {
            if row.value != other.value {
                if row.is_live {
                    differences.live.push(row.name)
                } else {
                    differences.restart.push(row.name)
                }
            }
        }
        differences
    }

    /// Takes over from `read` what can change while escherd runs. What needs a restart stays.
    pub fn adopt(&mut self, read: Configuration) {
        self.settings.connections = read.settings.connections;
        self.settings.engine.executions = read.settings.engine.executions;
        for (row, read) in self.rows.iter_mut().zip(read.rows) {
            if row.is_live || row.value == read.value {
                *row = read;
            }
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Unset => f.pad("-"),
            Value::Flag(flag) => flag.fmt(f),
            Value::Number(number) => number.fmt(f),
            Value::Text(text) => f.pad(text),
        }
    }
}
