//! Private directories in places that everybody can write to.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

/// Returns the path of the temporary directory for the engines that this user's programs embed.
pub(super) fn user_temporary_dir() -> PathBuf {
    // A relative TMPDIR would mean another directory for each program.
    let temporary = Some(std::env::temp_dir()).filter(|dir| dir.is_absolute());
    let temporary = temporary.unwrap_or_else(|| "/tmp".into());
    temporary.join(format!("escher-executions-{}", geteuid()))
}

/// Makes the directory `path` for this user alone. One that is there already must be that.
///
/// # Errors
/// When something of that name belongs to another user or is accessible to others, and errors of
/// the file system.
pub(super) fn make_private_dir(path: &Path) -> io::Result<()> {
    let failed = |error: io::Error| {
        let reason = format!("cannot make the directory {}: {error}", path.display());
        io::Error::new(error.kind(), reason)
    };
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    // A link is not followed: it may lead anywhere.
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
        let error = make_private_dir(path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        error.to_string()
    }

    #[test]
    fn makes_a_directory_once() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("private");
        make_private_dir(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
        make_private_dir(&path).unwrap();
        let error = make_private_dir(&root.path().join("no/parent")).unwrap_err();
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
            make_private_dir(&foreign).unwrap();
            nix::unistd::chown(&foreign, Some(65534.into()), None).unwrap();
            assert!(refusal(&foreign).contains("65534"));
        }
    }
}
