//! The configuration of an engine inside of another program.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::default_paths::{Installation, library_dir};
use super::error::ConfigError;
use super::layers::Layers;
use super::load::{Surroundings, merge};
use super::private_dir::make_private_dir;
use super::profiles::Profile;
use super::settings::{EngineConfig, Settings};
use crate::cli::{Arguments, OnStop};

impl EngineConfig {
    /// The defaults with the figures of a profile over them. Nothing else is read.
    #[must_use]
    pub fn of_profile(profile: Profile) -> Self {
        let mut layers = Layers::of_defaults();
        layers.add_profile(profile);
        of(layers)
    }

    /// The defaults, and what the environment says (the `EXEC_…` variables).
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn from_environment() -> Result<Self, ConfigError> {
        read(None)
    }

    /// The defaults, over them what the file at `path` says, and over that the environment.
    ///
    /// # Errors
    /// Everything that is wrong with both.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        read(Some(path.to_owned()))
    }

    /// Makes the directory of the logs if it is not there. The temporary folder that is the default must be
    /// private, be it for the logs or for the other directories inside of it.
    ///
    /// # Errors
    /// What the file system says; and where the temporary folder is somebody else's, or open to others.
    pub fn make_log_dir(&self) -> io::Result<()> {
        self.make_log_dir_beside(&library_dir())
    }

    /// The same, with the path of the temporary folder.
    pub(super) fn make_log_dir_beside(&self, temporary: &Path) -> io::Result<()> {
        let mut dirs = [&self.log_dir, &self.state_dir, &self.runtime_dir].into_iter();
        if dirs.any(|dir| dir.starts_with(temporary)) {
            make_private_dir(temporary)?;
        }
        if self.launcher_socket.is_some() {
            // It is the launcher's business then, which may be another user.
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

/// The defaults, with everything in the temporary folder of this user's programs.
impl Default for EngineConfig {
    fn default() -> Self {
        of(Layers::of_defaults())
    }
}

fn of(mut layers: Layers) -> EngineConfig {
    // A library's places are always known.
    Installation::Library.complete(&mut layers, &|_| None);
    Settings::of(&layers).engine
}

fn read(config: Option<PathBuf>) -> Result<EngineConfig, ConfigError> {
    let surroundings = Surroundings {
        installation: Installation::Library,
        config_dirs: Vec::new(),
        variable: &|name| std::env::var_os(name),
    };
    let arguments = Arguments {
        config,
        profile: None,
        user: false,
        socket: None,
        runtime_dir: None,
        state_dir: None,
        log_dir: None,
        launcher: None,
        launcher_socket: None,
        on_stop: OnStop::Leave,
        check: false,
    };
    Ok(merge(&surroundings, &arguments)?.settings.engine)
}
