//! Where an escherd listens by default: the system's, and that of each user.
//!
//! escherd and its clients find the socket by this module, so they look in the same place.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The runtime directory of the system's escherd.
pub const SYSTEM_RUNTIME_DIR: &str = "/run/escher";

/// The name of the socket in a runtime directory.
pub const SOCKET_NAME: &str = "escherd.sock";

/// Where the system keeps the runtime directories of logged-in users (pam_systemd(8)).
const RUNTIME_DIRS: &str = "/run/user";

/// The temporary directory where `TMPDIR` names none.
const TEMPORARY_DIR: &str = "/tmp";

/// Returns the path of the socket of the system's escherd.
#[must_use]
pub fn system_socket() -> PathBuf {
    Path::new(SYSTEM_RUNTIME_DIR).join(SOCKET_NAME)
}

/// The runtime directory of a user's own escherd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRuntimeDir {
    /// The path.
    pub path: PathBuf,
    /// Whether it is in the temporary directory, where others can create files of its name too: it is to
    /// be used only if it is [private](ensure_private).
    pub is_temporary: bool,
}

impl UserRuntimeDir {
    /// Returns that of the user `uid`, who has these environment variables: `escher` in
    /// `$XDG_RUNTIME_DIR`, else in `/run/user/<uid>` if that is there and the user's own, else
    /// `escher-<uid>` in the temporary directory.
    #[must_use]
    pub fn of(uid: u32, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        Self::below(Path::new(RUNTIME_DIRS), uid, variable)
    }

    fn below(runtime_dirs: &Path, uid: u32, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let named = absolute(&variable, "XDG_RUNTIME_DIR");
        let login = || {
            let dir = runtime_dirs.join(uid.to_string());
            let metadata = fs::symlink_metadata(&dir).ok()?;
            (metadata.is_dir() && metadata.uid() == uid).then_some(dir)
        };
        match named.or_else(login) {
            Some(dir) => UserRuntimeDir {
                path: dir.join("escher"),
                is_temporary: false,
            },
            None => UserRuntimeDir {
                path: temporary_dir(variable).join(format!("escher-{uid}")),
                is_temporary: true,
            },
        }
    }

    /// Returns the path of the socket in it.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path.join(SOCKET_NAME)
    }
}

/// Returns the directory for temporary files: `$TMPDIR`, else `/tmp`. A relative one would be another
/// directory for each program.
#[must_use]
pub fn temporary_dir(variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    absolute(variable, "TMPDIR").unwrap_or_else(|| TEMPORARY_DIR.into())
}

fn absolute(variable: impl Fn(&str) -> Option<OsString>, name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(variable(name)?);
    path.is_absolute().then_some(path)
}

/// Checks that `path` is a directory of the user `uid` to which nobody else has access. A symbolic link
/// is not followed: another user may have put it there.
///
/// # Errors
/// `PermissionDenied` with what is wrong with it, and errors of the file system.
pub fn ensure_private(path: &Path, uid: u32) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    match fault(&metadata, uid) {
        None => Ok(()),
        Some(fault) => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{} is not private: {fault}", path.display()),
        )),
    }
}

fn fault(metadata: &Metadata, uid: u32) -> Option<String> {
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if !metadata.is_dir() {
        Some("it is not a directory".to_owned())
    } else if owner != uid {
        Some(format!("it belongs to user {owner}, not to user {uid}"))
    } else if mode & 0o077 != 0 {
        Some(format!("its mode is {mode:04o}, not 0700"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// The user who runs the tests, as the owner of what they create.
    fn own_uid(dir: &Path) -> u32 {
        fs::metadata(dir).unwrap().uid()
    }

    #[test]
    fn a_user_has_the_named_directory_else_that_of_the_login_else_a_temporary_one() {
        let root = tempfile::tempdir().unwrap();
        let uid = own_uid(root.path());
        let find = |uid: u32, variables: &[(&str, &str)]| {
            let variable = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| value.into())
            };
            UserRuntimeDir::below(root.path(), uid, variable)
        };
        let dir = |path: &str, is_temporary: bool| UserRuntimeDir {
            path: path.into(),
            is_temporary,
        };
        let fallback = format!("/tmp/escher-{uid}");
        assert_eq!(find(uid, &[]), dir(&fallback, true));
        assert_eq!(find(uid, &[("TMPDIR", "relative")]), dir(&fallback, true));
        let elsewhere = format!("/var/tmp/escher-{uid}");
        assert_eq!(find(uid, &[("TMPDIR", "/var/tmp")]), dir(&elsewhere, true));

        let login = root.path().join(uid.to_string());
        fs::create_dir(&login).unwrap();
        let found = find(uid, &[("XDG_RUNTIME_DIR", "relative")]);
        assert_eq!(found, dir(login.join("escher").to_str().unwrap(), false));
        assert_eq!(found.socket(), login.join("escher/escherd.sock"));
        let named = find(uid, &[("XDG_RUNTIME_DIR", "/named")]);
        assert_eq!(named, dir("/named/escher", false));

        // One that is another user's, and one that leads somewhere else, are not used.
        let other = uid + 1;
        fs::create_dir(root.path().join(other.to_string())).unwrap();
        assert!(find(other, &[]).is_temporary);
        fs::remove_dir(&login).unwrap();
        symlink(root.path(), &login).unwrap();
        assert!(find(uid, &[]).is_temporary);
    }

    #[test]
    fn only_a_directory_without_access_for_others_is_private() {
        let root = tempfile::tempdir().unwrap();
        let uid = own_uid(root.path());
        let dir = root.path().join("dir");
        fs::create_dir(&dir).unwrap();
        let judge = |path: &Path, uid: u32| match ensure_private(path, uid) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        };
        for (mode, fault) in [
            (0o700, ""),
            (0o710, "mode is 0710"),
            (0o701, "mode is 0701"),
        ] {
            fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).unwrap();
            let judged = judge(&dir, uid);
            assert!(judged.contains(fault) && judged.is_empty() == fault.is_empty());
        }
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(judge(&dir, uid + 1).contains(&format!("belongs to user {uid}")));
        symlink(&dir, root.path().join("link")).unwrap();
        assert!(judge(&root.path().join("link"), uid).contains("not a directory"));
        let missing = ensure_private(&root.path().join("none"), uid).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
