//! The directories of an engine, which it locks against others.

use std::fs::File;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::start_error::StartError;
use crate::config::EngineConfig;

/// Directories that are locked for one engine: two on one state directory would corrupt it.
#[derive(Debug)]
pub(crate) struct LockedDirs {
    pub(super) config: EngineConfig,
    pub(super) lock: Flock<File>,
}

impl LockedDirs {
    /// Creates missing directories and locks the state directory.
    ///
    /// # Errors
    /// [`StartError::Config`], [`StartError::LogDirectory`], [`StartError::Directory`],
    /// [`StartError::InUse`].
    pub(crate) fn lock(config: EngineConfig) -> Result<Self, StartError> {
        config.validate()?;
        // First, because the others may be inside it, and it must be private.
        config.make_log_dir().map_err(StartError::LogDirectory)?;
        make_directory(&config.runtime_dir, 0o755)?;
        make_directory(&config.state_dir, 0o700)?;
        let lock = lock(&config.state_dir)?;
        Ok(LockedDirs { config, lock })
    }
}

/// Returns a function that adds the path to an error about a directory.
pub(super) fn directory_error(path: &Path) -> impl FnOnce(io::Error) -> StartError {
    let path = path.to_owned();
    move |source| StartError::Directory { path, source }
}

fn make_directory(path: &Path, mode: u32) -> Result<(), StartError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(mode);
    builder.create(path).map_err(directory_error(path))
}

fn lock(state_dir: &Path) -> Result<Flock<File>, StartError> {
    let path = state_dir.join("lock");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(directory_error(&path))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, Errno::EWOULDBLOCK)) => Err(StartError::InUse(state_dir.to_owned())),
        Err((_, error)) => Err(directory_error(&path)(error.into())),
    }
}
