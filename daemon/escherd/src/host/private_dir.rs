//! Private directories where other users can create files too, as in `/tmp`.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use escher_protocol::socket_paths::ensure_private;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::geteuid;

/// A directory to which only this user has access, locked: systemd-tmpfiles does not clean up what is in
/// a locked directory (tmpfiles.d(5)). Several programs of the user may share it.
#[derive(Debug)]
pub(crate) struct PrivateDir {
    _lock: Flock<File>,
}

impl PrivateDir {
    /// Creates the directory `path` and locks it. An existing directory is accepted if it belongs to this
    /// user and nobody else has access.
    ///
    /// # Errors
    /// When an existing file of this name is anything else, and errors of the file system.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let failed = |error: io::Error| {
            let reason = format!("cannot use the directory {}: {error}", path.display());
            io::Error::new(error.kind(), reason)
        };
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed(error));
            }
            _ => {}
        }
        ensure_private(path, geteuid().as_raw()).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => io::Error::new(
                error.kind(),
                format!(
                    "{error}. Others could change what is in it; remove it, or set other directories"
                ),
            ),
            _ => failed(error),
        })?;
        let directory = File::options()
            .read(true)
            .custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits())
            .open(path)
            .map_err(failed)?;
        match Flock::lock(directory, FlockArg::LockSharedNonblock) {
            Ok(_lock) => Ok(PrivateDir { _lock }),
            Err((_, error)) => Err(failed(error.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    use std::fs;
    use std::os::unix::fs::MetadataExt;

    fn refusal(path: &Path) -> String {
        let error = PrivateDir::create(path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        error.to_string()
    }

    #[test]
    fn creates_a_directory_once_and_keeps_it_from_being_cleaned_up() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("private");
        let first = PrivateDir::create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
        let second = PrivateDir::create(&path).unwrap();
        // systemd-tmpfiles takes such a lock on each directory that it cleans up.
        let lock = || Flock::lock(File::open(&path).unwrap(), FlockArg::LockExclusiveNonblock);
        drop(first);
        assert!(lock().is_err(), "the second program still uses it");
        drop(second);
        assert!(lock().is_ok());
        let error = PrivateDir::create(&root.path().join("no/parent")).unwrap_err();
        assert!(error.to_string().contains("no/parent"), "{error}");
    }

    #[test]
    fn refuses_what_others_own_or_can_access() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("open");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(refusal(&path).contains("0750"));

        let link = root.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(refusal(&link).contains("not a directory"));

        fs::write(root.path().join("file"), "").unwrap();
        assert!(refusal(&root.path().join("file")).contains("not a directory"));

        // Only root can give a directory away.
        if geteuid().is_root() {
            let foreign = root.path().join("foreign");
            fs::create_dir(&foreign).unwrap();
            nix::unistd::chown(&foreign, Some(65534.into()), None).unwrap();
            assert!(refusal(&foreign).contains("65534"));
        }
    }
}
