//! The configuration of an engine that is embedded in another program.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::default_paths::Installation;
use super::error::ConfigError;
use super::layers::Layers;
use super::load::{ConfigSources, LoadOptions, load_from, settings_from};
use super::private_dir::{make_private_dir, user_temporary_dir};
use super::profiles::Profile;
use super::settings::EngineConfig;

impl EngineConfig {
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
        read(None)
    }

    /// Returns the defaults, overridden by the file at `path`, and that by the environment.
    ///
    /// # Errors
    /// All problems of both.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        read(Some(path.to_owned()))
    }

    /// Makes the directory of logs if there is none. The default is a temporary directory of the
    /// user. If any directory of the engine is in there, it has to be private.
    ///
    /// # Errors
    /// When the temporary directory belongs to another user or is accessible to others, and errors
    /// of the file system.
    pub fn make_log_dir(&self) -> io::Result<()> {
        self.make_log_dir_with_temporary(&user_temporary_dir())
    }

    /// Does the same with the temporary directory at this path.
    pub(super) fn make_log_dir_with_temporary(&self, temporary: &Path) -> io::Result<()> {
        let mut dirs = [&self.log_dir, &self.state_dir, &self.runtime_dir].into_iter();
        if dirs.any(|dir| dir.starts_with(temporary)) {
            make_private_dir(temporary)?;
        }
        if self.launcher_socket.is_some() {
            // A launcher that is a service may be another user, and makes its directory itself.
            return Ok(());
        }
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(&self.log_dir);
        made.map_err(|error| {
            let dir = self.log_dir.display();
            io::Error::new(
                error.kind(),
                format!("cannot make the directory {dir}: {error}"),
            )
        })
    }
}

/// The defaults, with all directories in the user's temporary directory.
impl Default for EngineConfig {
    fn default() -> Self {
        from_layers(Layers::with_defaults())
    }
}

fn from_layers(mut layers: Layers) -> EngineConfig {
    // These paths need no variable, so there is no problem to report.
    Installation::Embedded.add_defaults(&mut layers, &|_| None);
    settings_from(&layers).engine
}

fn read(file: Option<PathBuf>) -> Result<EngineConfig, ConfigError> {
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
