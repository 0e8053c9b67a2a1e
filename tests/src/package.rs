//! The Debian package, made of the programs under test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::binaries::target_folder;
use crate::{LONG_DEADLINE, Started, has_program, say_skipped};

/// A package in a folder of its own, gone with this value.
#[derive(Debug)]
pub struct Package {
    _folder: TempDir,
    path: PathBuf,
}

impl Package {
    /// The package, if it can be made here. Where it cannot, says loudly that `what` was not tested.
    #[must_use]
    pub fn for_testing(what: &str) -> Option<Self> {
        let tools = target_folder().with_file_name("tools");
        if !tools.join("bin/cargo-deb").exists() || !has_program("dpkg-shlibdeps") {
            let why = "needs cargo-deb and dpkg-dev, which ./check brings along";
            say_skipped(why, what);
            return None;
        }
        Some(Package::make(&[]))
    }

    /// The same under another version, where there is the one already.
    #[must_use]
    pub fn with_version(&self, version: &str) -> Self {
        Package::make(&["--deb-version", version])
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn make(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut build = Command::new(project.join("packaging/build"));
        build
            .arg("--programs")
            .arg(target_folder())
            .arg("--output")
            .arg(folder.path())
            .arg("--fast")
            .args(options);
        let _ = Started::new(build, LONG_DEADLINE).end().expect(0);
        let mut files = fs::read_dir(folder.path()).unwrap();
        let path = files.next().expect("a package").unwrap().path();
        assert!(files.next().is_none(), "one package");
        Package {
            _folder: folder,
            path,
        }
    }
}
