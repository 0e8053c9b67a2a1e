//! The Debian package, made of the programs under test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::binaries::{target_directory, tools_directory};
use crate::{LONG_DEADLINE, RunningProgram, has_program, report_skipped};

/// A package in a directory of its own, removed when dropped.
#[derive(Debug)]
pub struct Package {
    _directory: TempDir,
    path: PathBuf,
}

impl Package {
    /// Builds the package. Where that is impossible, reports that `what` was not tested.
    #[must_use]
    pub fn build_or_skip(what: &str) -> Option<Self> {
        let cargo_deb = tools_directory().join("bin/cargo-deb");
        if !cargo_deb.exists() || !has_program("dpkg-shlibdeps") {
            let why = "needs cargo-deb and dpkg-dev, which ./check installs";
            report_skipped(why, what);
            return None;
        }
        Some(Package::build(&[]))
    }

    /// Builds the same under another version.
    #[must_use]
    pub fn with_version(&self, version: &str) -> Self {
        Package::build(&["--deb-version", version])
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn build(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut build = Command::new(project.join("packaging/build"));
        build
            .arg("--programs")
            .arg(target_directory())
            .arg("--output")
            .arg(directory.path())
            .arg("--fast")
            .args(options);
        let _ = RunningProgram::spawn(build, LONG_DEADLINE).wait().expect(0);
        let mut files = fs::read_dir(directory.path()).unwrap();
        let path = files.next().expect("a package").unwrap().path();
        assert!(files.next().is_none(), "one package");
        Package {
            _directory: directory,
            path,
        }
    }
}
