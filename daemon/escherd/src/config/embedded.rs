//! The settings of an engine that is embedded in another program.

use std::path::{Path, PathBuf};

use super::default_paths::Installation;
use super::error::ConfigError;
use super::layers::Layers;
use super::load::{ConfigSources, LoadOptions, load_from, settings_from};
use super::profiles::Profile;
use super::settings::EngineSettings;

impl EngineSettings {
    /// Returns the defaults with the values of a profile. Reads no file and no variable.
    #[must_use]
    pub fn from_profile(profile: Profile) -> Self {
        let mut layers = Layers::with_defaults();
        layers.add_profile(profile);
        from_layers(layers)
    }

    /// Returns the defaults, overridden by the environment (the `EXEC_…` variables).
    ///
    /// # Errors
    /// All problems of the environment.
    pub fn from_environment() -> Result<Self, ConfigError> {
        load_embedded(None)
    }

    /// Returns the defaults, overridden by the file at `path`, and both by the environment.
    ///
    /// # Errors
    /// All problems of the file and the environment.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        load_embedded(Some(path.to_owned()))
    }
}

/// The defaults, with all directories in the user's temporary directory.
impl Default for EngineSettings {
    fn default() -> Self {
        from_layers(Layers::with_defaults())
    }
}

fn from_layers(mut layers: Layers) -> EngineSettings {
    // The defaults of an embedded engine need no variable, so there are no problems.
    Installation::Embedded.add_defaults(&mut layers, &|_| None);
    settings_from(&layers).engine
}

fn load_embedded(file: Option<PathBuf>) -> Result<EngineSettings, ConfigError> {
    let sources = ConfigSources {
        installation: Installation::Embedded,
        config_dirs: Vec::new(),
        variable: &|name| std::env::var_os(name),
    };
    let options = LoadOptions {
        file,
        ..LoadOptions::default()
    };
    Ok(load_from(&sources, &options)?.settings.engine)
}
