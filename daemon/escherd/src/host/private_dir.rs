//! Creation of private directories where other users can create files too, as in `/tmp`.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use nix::unistd::geteuid;

/// Creates the directory `path`, which only this user can access. An existing directory is accepted
/// if it belongs to this user and nobody else has access.
///
/// # Errors
/// When an existing file of this name is anything else, and errors of the file system.
pub(crate) fn create_private_dir(path: &Path) -> io::Result<()> {
    let failed = |error: io::Error| {
        let reason = format!("cannot create the directory {}: {error}", path.display());
        io::Error::new(error.kind(), reason)
    };
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    // A symbolic link is not followed: another user may have put it there.
    let metadata = fs::symlink_metadata(path).map_err(failed)?;
    let reason = if !metadata.is_dir() {
        "it is not a directory".to_owned()
    } else if metadata.uid() != geteuid().as_raw() {
        format!(
            "it belongs to user {}, not to {}",
            metadata.uid(),
            geteuid()
        )
    } else if metadata.mode() & 0o077 != 0 {
        format!("its mode is {:04o}, not 0700", metadata.mode() & 0o7777)
    } else {
        return Ok(());
    };
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!(
            "{} is not private, {reason}: others could change what is in it; remove it, or set other directories",
            path.display()
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn refusal(path: &Path) -> String {
        let error = create_private_dir(path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        error.to_string()
    }

    #[test]
    fn creates_a_directory_once() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("private");
        create_private_dir(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
        create_private_dir(&path).unwrap();
        let error = create_private_dir(&root.path().join("no/parent")).unwrap_err();
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
            create_private_dir(&foreign).unwrap();
            nix::unistd::chown(&foreign, Some(65534.into()), None).unwrap();
            assert!(refusal(&foreign).contains("65534"));
        }
    }
}
