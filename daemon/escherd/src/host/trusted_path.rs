//! Paths that nobody else can change: of configuration files, and of the directories that escherd works in.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::geteuid;

/// Most symbolic links in one path, as in the kernel (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// The error for a path that others than root and the own user can change.
#[derive(Debug, thiserror::Error)]
pub enum UntrustedPath {
    /// A file, directory or link on the way belongs to somebody else.
    #[error(
        "{path} belongs to user {owner}, who could change it; it must belong to {}",
        trusted_owners()
    )]
    Owner {
        /// What belongs to somebody else.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// A file or directory on the way can be written by others.
    #[error("{path} can be written by others (mode {mode:04o}); run `chmod go-w {path}`")]
    Writable {
        /// What can be written.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The path cannot be examined.
    #[error("{path} cannot be examined: {source}")]
    Io {
        /// What cannot be examined.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn trusted_owners() -> String {
    match geteuid().as_raw() {
        0 => "root".to_owned(),
        own => format!("root or user {own}"),
    }
}

/// Checks that only root and the own user can change what `path` leads to: the file or directory itself, every
/// directory above it, and every link on the way. Others may write a directory with the sticky bit, in which they
/// cannot replace what is not theirs (unlink(2)).
///
/// # Errors
/// [`UntrustedPath`] with the first thing on the way that others can change.
pub fn ensure_trusted(path: &Path) -> Result<(), UntrustedPath> {
    let absolute = std::path::absolute(path).map_err(failed(path))?;
    let mut left: VecDeque<OsString> = components(&absolute);
    let mut links = 0;
    let mut reached = PathBuf::from("/");
    ensure_unchangeable(&reached, &metadata(&reached)?)?;
    while let Some(name) = left.pop_front() {
        if name == OsStr::new("..") {
            reached.pop();
            continue;
        }
        let next = reached.join(&name);
        let found = metadata(&next)?;
        ensure_unchangeable(&next, &found)?;
        if !found.is_symlink() {
            reached = next;
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(failed(&next)(Errno::ELOOP.into()));
        }
        let target = fs::read_link(&next).map_err(failed(&next))?;
        if target.is_absolute() {
            reached = PathBuf::from("/");
        }
        for component in components(&target).into_iter().rev() {
            left.push_front(component);
        }
    }
    Ok(())
}

/// Checks that only root and the own user can change the file `path`, which has this metadata.
pub fn ensure_unchangeable(path: &Path, metadata: &Metadata) -> Result<(), UntrustedPath> {
    let owner = metadata.uid();
    if owner != 0 && owner != geteuid().as_raw() {
        let path = path.to_owned();
        return Err(UntrustedPath::Owner { path, owner });
    }
    // Writing to a device or a pipe changes no file, and links have no permissions.
    let has_contents = metadata.is_file() || metadata.is_dir();
    let mode = metadata.mode() & 0o7777;
    let others = (Mode::S_IWGRP | Mode::S_IWOTH).bits();
    let is_sticky = metadata.is_dir() && mode & Mode::S_ISVTX.bits() != 0;
    if has_contents && mode & others != 0 && !is_sticky {
        let path = path.to_owned();
        return Err(UntrustedPath::Writable { path, mode });
    }
    Ok(())
}

fn metadata(path: &Path) -> Result<Metadata, UntrustedPath> {
    fs::symlink_metadata(path).map_err(failed(path))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> UntrustedPath {
    let path = path.to_owned();
    move |source| UntrustedPath::Io { path, source }
}

/// Returns the names in a path, without those that lead nowhere else.
fn components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    struct Tree {
        root: tempfile::TempDir,
    }

    impl Tree {
        /// `a/b/file`, which nobody else can change.
        fn new() -> Self {
            let tree = Tree {
                root: tempfile::tempdir().unwrap(),
            };
            fs::create_dir_all(tree.path("a/b")).unwrap();
            fs::write(tree.path("a/b/file"), "").unwrap();
            for (name, mode) in [
                ("", 0o700),
                ("a", 0o755),
                ("a/b", 0o755),
                ("a/b/file", 0o644),
            ] {
                tree.chmod(name, mode);
            }
            tree
        }

        fn path(&self, name: &str) -> PathBuf {
            self.root.path().join(name)
        }

        fn chmod(&self, name: &str, mode: u32) {
            fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
        }

        /// What is wrong with the path `name`, if anything is.
        fn problem(&self, name: &str) -> Option<String> {
            ensure_trusted(&self.path(name))
                .err()
                .map(|error| error.to_string())
        }
    }

    #[test]
    fn accepts_what_only_the_own_user_can_change() {
        let tree = Tree::new();
        assert_eq!(tree.problem("a/b/file"), None);
        assert_eq!(tree.problem("a/../a/./b/file"), None);
        // As /tmp, where the tree is.
        tree.chmod("a", 0o1777);
        assert_eq!(tree.problem("a/b/file"), None);
        symlink("/dev/null", tree.path("a/b/masked")).unwrap();
        assert_eq!(tree.problem("a/b/masked"), None, "a device that all write");
    }

    #[test]
    fn refuses_files_and_directories_that_others_can_write() {
        for (name, mode) in [
            ("a/b/file", 0o664),
            ("a/b/file", 0o646),
            ("a/b", 0o775),
            ("a", 0o757),
        ] {
            let tree = Tree::new();
            tree.chmod(name, mode);
            let problem = tree.problem("a/b/file").unwrap();
            let expected = format!("{} can be written by others", tree.path(name).display());
            assert!(problem.starts_with(&expected), "{problem}");
        }
        let tree = Tree::new();
        tree.chmod("a/b/file", 0o1666);
        assert!(
            tree.problem("a/b/file").is_some(),
            "a sticky file is no directory"
        );
    }

    #[test]
    fn examines_what_links_lead_to_and_the_way_there() {
        let tree = Tree::new();
        fs::create_dir(tree.path("c")).unwrap();
        symlink("../a/b", tree.path("c/to-b")).unwrap();
        symlink(tree.path("c/to-b/file"), tree.path("link")).unwrap();
        assert_eq!(tree.problem("link"), None);
        for changeable in ["c", "a", "a/b/file"] {
            let mode = fs::metadata(tree.path(changeable))
                .unwrap()
                .permissions()
                .mode();
            tree.chmod(changeable, mode | 0o002);
            let problem = tree.problem("link").unwrap();
            let expected = format!("{} can be written", tree.path(changeable).display());
            assert!(problem.starts_with(&expected), "{problem}");
            tree.chmod(changeable, mode);
        }
        symlink("loop", tree.path("loop")).unwrap();
        assert!(tree.problem("loop").unwrap().contains("cannot be examined"));
    }

    #[test]
    fn refuses_what_belongs_to_somebody_else() {
        if !geteuid().is_root() {
            return;
        }
        for name in ["a/b/file", "a/b", "a"] {
            let tree = Tree::new();
            chown(tree.path(name), Some(1000), None).unwrap();
            let problem = tree.problem("a/b/file").unwrap();
            let expected = format!("{} belongs to user 1000", tree.path(name).display());
            assert!(problem.starts_with(&expected), "{problem}");
        }
    }
}
