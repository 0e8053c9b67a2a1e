//! The directories of an engine, which it creates and locks against other engines.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;

use super::start_error::StartError;
use crate::config::{EngineSettings, user_temporary_dirs};
use crate::host::private_dir::PrivateDir;
use crate::host::trusted_path::ensure_trusted;

/// The directories that an engine's settings name, locked: two engines on one state directory would
/// corrupt it, and in one runtime directory they would take each other's shims for theirs.
#[derive(Debug)]
pub(crate) struct LockedDirs {
    pub(super) settings: EngineSettings,
    pub(super) locks: DirectoryLocks,
}

/// The locks of the state directory and, where escherd owns it, of the runtime directory, and of those
/// directories around them that are in the system's temporary directory. Dropping them unlocks all.
#[derive(Debug)]
pub(super) struct DirectoryLocks {
    _temporary_dirs: Vec<PrivateDir>,
    _state_dir: Flock<File>,
    _runtime_dir: Option<Flock<File>>,
}

impl LockedDirs {
    /// Creates missing directories, and locks those of state and runtime.
    ///
    /// # Errors
    /// [`StartError::Config`], [`StartError::TemporaryDirectory`], [`StartError::LogDirectory`],
    /// [`StartError::Directory`], [`StartError::UntrustedDirectory`], [`StartError::DirectoryInUse`].
    pub(crate) fn lock(settings: EngineSettings) -> Result<Self, StartError> {
        settings.validate()?;
        let temporary_dirs = create_temporary_dirs(&settings, &user_temporary_dirs())
            .map_err(StartError::TemporaryDirectory)?;
        create_dir(&settings.runtime_dir, 0o755)?;
        create_dir(&settings.state_dir, 0o700)?;
        // Last, because it may be in the state directory, which has a stricter mode.
        create_log_dir(&settings).map_err(StartError::LogDirectory)?;
        for dir in [&settings.runtime_dir, &settings.state_dir] {
            ensure_trusted(dir)?;
        }
        if settings.launcher_socket.is_none() {
            ensure_trusted(&settings.log_dir)?;
        }
        // The runtime directory of a launcher that is a service belongs to that.
        let owns_runtime_dir = settings.launcher_socket.is_none();
        let runtime_dir = owns_runtime_dir.then(|| lock(&settings.runtime_dir));
        let locks = DirectoryLocks {
            _temporary_dirs: temporary_dirs,
            _state_dir: lock(&settings.state_dir)?,
            _runtime_dir: runtime_dir.transpose()?,
        };
        Ok(LockedDirs { settings, locks })
    }
}

/// Returns a function that adds the path to an error about a directory.
pub(super) fn directory_error(path: &Path) -> impl FnOnce(io::Error) -> StartError {
    let path = path.to_owned();
    move |source| StartError::Directory { path, source }
}

/// Creates and locks those directories of `temporary` that any directory of the engine is in; they must
/// be private.
fn create_temporary_dirs(
    settings: &EngineSettings,
    temporary: &[PathBuf],
) -> io::Result<Vec<PrivateDir>> {
    let dirs = [
        &settings.log_dir,
        &settings.state_dir,
        &settings.runtime_dir,
    ];
    let is_used = |temporary: &&PathBuf| dirs.iter().any(|dir| dir.starts_with(temporary));
    let used = temporary.iter().filter(is_used);
    used.map(|path| PrivateDir::create(path)).collect()
}

/// Creates the directory of logs, unless the launcher does.
fn create_log_dir(settings: &EngineSettings) -> io::Result<()> {
    if settings.launcher_socket.is_some() {
        // A launcher that is a service may run as another user, and creates its directory itself.
        return Ok(());
    }
    let log_dir = &settings.log_dir;
    // Root serves all users: each may enter it to read its own logs, and not list it.
    let mode = if geteuid().is_root() { 0o751 } else { 0o750 };
    builder(mode).create(log_dir).map_err(|error| {
        let message = format!("cannot create the directory {}: {error}", log_dir.display());
        io::Error::new(error.kind(), message)
    })
}

fn create_dir(path: &Path, mode: u32) -> Result<(), StartError> {
    builder(mode).create(path).map_err(directory_error(path))
}

fn builder(mode: u32) -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(mode);
    builder
}

/// Locks a directory by a file in it, which nobody else may open.
fn lock(directory: &Path) -> Result<Flock<File>, StartError> {
    let path = directory.join("lock");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(directory_error(&path))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, Errno::EWOULDBLOCK)) => Err(StartError::DirectoryInUse(directory.to_owned())),
        Err((_, error)) => Err(directory_error(&path)(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_log_directory_is_listed_by_its_group_at_most() {
        let dir = tempfile::tempdir().unwrap();
        let temporary = dir.path().join("temporary");
        let settings = EngineSettings {
            log_dir: dir.path().join("a/logs"),
            state_dir: dir.path().join("state"),
            runtime_dir: dir.path().join("run"),
            ..EngineSettings::default()
        };
        let locks = create_temporary_dirs(&settings, std::slice::from_ref(&temporary)).unwrap();
        assert!(locks.is_empty(), "no directory is in it");
        create_log_dir(&settings).unwrap();
        create_log_dir(&settings).unwrap();
        let metadata = fs::metadata(&settings.log_dir).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o026, 0);
        assert!(!temporary.exists(), "it is not used");
        let blocked = EngineSettings {
            log_dir: "/dev/null/logs".into(),
            ..settings
        };
        let error = create_log_dir(&blocked).unwrap_err();
        assert!(error.to_string().contains("/dev/null/logs"), "{error}");
    }

    #[test]
    fn the_state_directory_is_private_also_where_the_logs_are_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("new/state");
        let settings = EngineSettings {
            log_dir: state.join("logs"),
            state_dir: state.clone(),
            runtime_dir: dir.path().join("run"),
            ..EngineSettings::default()
        };
        let locked = LockedDirs::lock(settings.clone()).unwrap();
        let mode = fs::metadata(&state).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700);
        drop(locked);
        let _again = LockedDirs::lock(settings).unwrap();
    }

    #[test]
    fn two_engines_share_neither_state_nor_runtime_directory() {
        let dir = tempfile::tempdir().unwrap();
        let settings = |state: &str, runtime: &str| EngineSettings {
            log_dir: dir.path().join("logs"),
            state_dir: dir.path().join(state),
            runtime_dir: dir.path().join(runtime),
            ..EngineSettings::default()
        };
        let _first = LockedDirs::lock(settings("state", "run")).unwrap();
        for (state, runtime, shared) in [("state", "run-2", "state"), ("state-2", "run", "run")] {
            let error = LockedDirs::lock(settings(state, runtime)).unwrap_err();
            let StartError::DirectoryInUse(path) = error else {
                panic!("{error}");
            };
            assert_eq!(path, dir.path().join(shared));
        }
    }

    #[test]
    fn temporary_directory_is_private_if_it_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let temporary = dir.path().join("temporary");
        for (logs, state) in [
            (temporary.clone(), dir.path().join("state")),
            (dir.path().join("logs"), temporary.join("state")),
        ] {
            let settings = EngineSettings {
                log_dir: logs,
                state_dir: state,
                runtime_dir: dir.path().join("run"),
                ..EngineSettings::default()
            };
            let locks = create_temporary_dirs(&settings, std::slice::from_ref(&temporary)).unwrap();
            assert_eq!(locks.len(), 1);
            let mode = fs::metadata(&temporary).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o700);
            fs::set_permissions(&temporary, fs::Permissions::from_mode(0o755)).unwrap();
            let error =
                create_temporary_dirs(&settings, std::slice::from_ref(&temporary)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
            fs::remove_dir(&temporary).unwrap();
        }
    }
}
