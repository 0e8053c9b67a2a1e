//! Why an engine cannot start.

use std::io;
use std::path::PathBuf;

use escher_protocol::ApiError;

use crate::config::ConfigError;
use crate::host::trusted_path::UntrustedPath;
use crate::launch::LauncherConnectionError;
use crate::store::StoreError;

/// The reason why an engine cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings are invalid. The message has one line for each problem.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// A directory cannot be created or used.
    #[error("cannot use the directory {path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The directory of logs cannot be created.
    #[error("{0}")]
    LogDirectory(#[source] io::Error),
    /// A directory in the system's temporary directory is not private.
    #[error("{0}")]
    TemporaryDirectory(#[source] io::Error),
    /// Others could change what is in a directory.
    #[error("a directory cannot be used, since others could change what is in it: {0}")]
    UntrustedDirectory(#[from] UntrustedPath),
    /// Another engine uses the state or runtime directory.
    #[error("another escherd uses the directory {0}")]
    DirectoryInUse(PathBuf),
    /// The launcher cannot be started or reached.
    #[error(transparent)]
    Launcher(#[from] LauncherConnectionError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The files of an earlier engine cannot be read.
    #[error("cannot read what an earlier escherd has left: {0}")]
    Recovery(#[source] io::Error),
    /// The user of this process cannot be determined.
    #[error("cannot determine the user of this process: {0}")]
    Identity(#[source] io::Error),
    /// The user database or the store cannot be read, or this user is not served.
    #[error(transparent)]
    Api(#[from] ApiError),
}
