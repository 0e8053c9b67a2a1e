//! What stays when a machine is off.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::debian::{Debian, make_image};
use crate::{binaries, finish};

/// As large as all that a test brings along may be.
const KIT_SIZE: &str = "512M";

/// What a test brings along. It is at `/kit` in the machine, for reading.
#[derive(Debug)]
pub struct Kit {
    folder: TempDir,
}

impl Kit {
    /// One with what every machine needs.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Users of the machine look at it, too.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        Kit { folder }.file(&binaries::host_agent())
    }

    /// With a copy of this file.
    #[must_use]
    pub fn file(self, path: &Path) -> Self {
        fs::copy(path, self.folder.path().join(path.file_name().unwrap())).unwrap();
        self
    }

    /// With a text under this name.
    #[must_use]
    pub fn text(self, name: &str, text: &str) -> Self {
        fs::write(self.folder.path().join(name), text).unwrap();
        self
    }
}

impl Default for Kit {
    fn default() -> Self {
        Kit::new()
    }
}

/// The disks of a machine; gone with this value.
#[derive(Debug)]
pub struct Disk {
    folder: TempDir,
    kernel: PathBuf,
    initrd: PathBuf,
}

impl Disk {
    /// A new installation, and a kit.
    #[must_use]
    pub fn new(debian: &Debian, kit: &Kit) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("escher-host-")
            .tempdir()
            .unwrap();
        let disk = Disk {
            folder,
            kernel: debian.kernel(),
            initrd: debian.initrd(),
        };
        let mut copy = Command::new("cp");
        copy.arg("--sparse=always")
            .args([debian.root(), disk.root()]);
        let _ = finish(copy).expect(0);
        make_image(&disk.kit(), kit.folder.path(), KIT_SIZE);
        disk
    }

    pub(super) fn root(&self) -> PathBuf {
        self.folder.path().join("root.ext4")
    }

    pub(super) fn kit(&self) -> PathBuf {
        self.folder.path().join("kit.ext4")
    }

    /// What the machines that ran on it have written to their console.
    pub(super) fn console(&self) -> PathBuf {
        self.folder.path().join("console")
    }

    /// The socket that a machine finds its test at.
    pub(super) fn port(&self) -> PathBuf {
        self.folder.path().join("port")
    }

    pub(super) fn kernel(&self) -> &Path {
        &self.kernel
    }

    pub(super) fn initrd(&self) -> &Path {
        &self.initrd
    }
}
