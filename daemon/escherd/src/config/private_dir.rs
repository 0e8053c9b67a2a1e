//! A directory of one's own in a place that everybody can write to.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use nix::unistd::geteuid;

/// Makes the directory `path` for this user alone, or finds it to be that.
///
/// # Errors
/// Where something of that name is there that others have made or can get into, and what the file system says.
pub fn make_private_dir(path: &Path) -> io::Result<()> {
    let failed = |error: io::Error| {
        let reason = format!("cannot make the directory {}: {error}", path.display());
        io::Error::new(error.kind(), reason)
    };
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    // Not through a link: it may lead to anywhere.
    let found = fs::symlink_metadata(path).map_err(failed)?;
    let obstacle = if !found.is_dir() {
        "it is no directory".to_owned()
    } else if found.uid() != geteuid().as_raw() {
        format!("it belongs to user {}, not to {}", found.uid(), geteuid())
    } else if found.mode() & 0o077 != 0 {
        format!("its mode is {:04o}, not 0700", found.mode() & 0o7777)
    } else {
        return Ok(());
    };
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!(
            "{} is not private, {obstacle}: others could change what is in there; remove it, or name other directories",
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
    fn it_is_made_once_and_found_again() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("private");
        make_private_dir(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
        make_private_dir(&path).unwrap();
        let error = make_private_dir(&root.path().join("no/parent")).unwrap_err();
        assert!(error.to_string().contains("no/parent"), "{error}");
    }

    #[test]
    fn what_others_have_or_can_get_into_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("open");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(refusal(&path).contains("0750"));

        let link = root.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(refusal(&link).contains("no directory"));

        fs::write(root.path().join("file"), "").unwrap();
        assert!(refusal(&root.path().join("file")).contains("no directory"));

        // Only root can give a directory away.
        if geteuid().is_root() {
            let foreign = root.path().join("foreign");
            make_private_dir(&foreign).unwrap();
            nix::unistd::chown(&foreign, Some(65534.into()), None).unwrap();
            assert!(refusal(&foreign).contains("65534"));
        }
    }
}
