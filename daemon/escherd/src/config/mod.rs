//! Configuration: settings from defaults, a profile, files, the environment and options, merged and
//! validated.
//!
//! 1. [`config_files`] finds the files; [`document`] parses each, TOML or JSON.
//! 2. [`layers`] puts the values of one source over those of another and remembers where each value
//!    comes from. Files are added by [`file_layer`]. The table of all settings is [`schema`], and
//!    [`value_type`] says which values each of them accepts. [`profiles`] and [`default_paths`]
//!    have the defaults that are not the same everywhere.
//! 3. [`validate`] checks the merged values against each other and against this host.
//!
//! The result is a [`Configuration`]: the values, as [`DaemonSettings`], and the list of all
//! settings with the origin of each. The values for the engine are [`EngineSettings`], and those
//! among them that can change while it runs are [`ReloadableSettings`].
//!
//! [`mod@load`] goes through these steps. Problems are collected, so that a person learns of all of
//! them at once. [`embedded`] configures an engine inside another program by the same means.

mod config_files;
mod configuration;
mod default_paths;
mod document;
mod embedded;
mod error;
mod file_layer;
mod layers;
mod load;
mod number_unit;
mod origin;
mod percent;
mod profiles;
mod schema;
mod settings;
mod temporary_dir;
#[cfg(test)]
mod tests;
mod validate;
mod value_type;

pub use configuration::{Configuration, Differences, EffectiveSetting};
pub use error::{ConfigError, ConfigProblem};
pub use load::{LoadOptions, PathOption, load};
pub use origin::Origin;
pub use percent::Percent;
pub use profiles::Profile;
pub use settings::{
    CleanupSettings, ClientMemoryLimits, ConnectionLimits, DaemonSettings, EngineSettings, OnBoot,
    OnStop, ReloadableSettings, SocketSettings,
};
pub(crate) use temporary_dir::user_temporary_dirs;
