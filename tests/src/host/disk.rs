//! The disks of a machine.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::debian::{Debian, make_image};
use crate::{binaries, run_program};

/// Size of the file system of a kit.
const KIT_SIZE: &str = "512M";

/// Files that a test brings along. They are read-only at `/kit` in the machine.
#[derive(Debug)]
pub struct Kit {
    directory: TempDir,
}

impl Kit {
    /// Creates one with what every machine needs.
    #[must_use]
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // The users of the machine read it, too.
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        Kit { directory }.file(&binaries::host_agent())
    }

    /// Adds a copy of this file.
    #[must_use]
    pub fn file(self, path: &Path) -> Self {
        fs::copy(path, self.directory.path().join(path.file_name().unwrap())).unwrap();
        self
    }
}

impl Default for Kit {
    fn default() -> Self {
        Kit::new()
    }
}

/// The disks of a machine, deleted when dropped.
#[derive(Debug)]
pub struct Disk {
    directory: TempDir,
    kernel: PathBuf,
    initrd: PathBuf,
}

impl Disk {
    /// Creates a new installation, and a disk with a kit.
    #[must_use]
    pub fn new(debian: &Debian, kit: &Kit) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("escher-host-")
            .tempdir()
            .unwrap();
        let disk = Disk {
            directory,
            kernel: debian.kernel(),
            initrd: debian.initrd(),
        };
        let mut copy = Command::new("cp");
        copy.arg("--sparse=always")
            .args([debian.root(), disk.root()]);
        let _ = run_program(copy).expect(0);
        make_image(&disk.kit(), kit.directory.path(), KIT_SIZE);
        disk
    }

    pub(super) fn root(&self) -> PathBuf {
        self.directory.path().join("root.ext4")
    }

    pub(super) fn kit(&self) -> PathBuf {
        self.directory.path().join("kit.ext4")
    }

    /// What its machines have written to their consoles.
    pub(super) fn console(&self) -> PathBuf {
        self.directory.path().join("console")
    }

    /// The socket at which the test waits for its machine.
    pub(super) fn port(&self) -> PathBuf {
        self.directory.path().join("port")
    }

    pub(super) fn kernel(&self) -> &Path {
        &self.kernel
    }

    pub(super) fn initrd(&self) -> &Path {
        &self.initrd
    }
}
