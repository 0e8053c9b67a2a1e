//! Detects whether the host has rebooted since the last escherd ran.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The kernel's ID of this boot (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The boot ID of the kernel, and the one that escherd has recorded.
#[derive(Debug)]
pub struct BootIds {
    /// Path of the record.
    path: PathBuf,
    current: String,
    recorded: Option<String>,
}

impl BootIds {
    /// Reads the kernel's boot ID, and the one that is recorded in `state_dir`.
    ///
    /// # Errors
    /// When one of the files cannot be read.
    pub fn read(state_dir: &Path) -> io::Result<Self> {
        let path = state_dir.join("boot-id");
        let recorded = match fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(BootIds {
            path,
            current: fs::read_to_string(BOOT_ID)?,
            recorded,
        })
    }

    /// Whether the host has rebooted since a boot ID was recorded.
    #[must_use]
    pub fn has_rebooted(&self) -> bool {
        self.recorded
            .as_ref()
            .is_some_and(|recorded| *recorded != self.current)
    }

    /// Whether the boot ID of this boot is recorded. If it is, the consequences of a reboot are on
    /// disk.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.recorded.as_ref() == Some(&self.current)
    }

    /// Records the boot ID of this boot. Must be called only once the consequences of a reboot are
    /// on disk: the next escherd relies on that.
    ///
    /// # Errors
    /// Errors of the file system. The earlier record is kept then.
    pub fn record(&self) -> io::Result<()> {
        if self.is_recorded() {
            return Ok(());
        }
        let new_file = self.path.with_extension("new");
        fs::write(&new_file, &self.current)?;
        fs::rename(&new_file, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detects_a_reboot_until_the_boot_is_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let first = BootIds::read(dir.path()).unwrap();
        assert!(!first.has_rebooted(), "no earlier boot is known");
        first.record().unwrap();
        assert!(!BootIds::read(dir.path()).unwrap().has_rebooted());
        fs::write(dir.path().join("boot-id"), "another\n").unwrap();
        let later = BootIds::read(dir.path()).unwrap();
        assert!(later.has_rebooted() && BootIds::read(dir.path()).unwrap().has_rebooted());
        later.record().unwrap();
        assert!(!BootIds::read(dir.path()).unwrap().has_rebooted());
    }
}
