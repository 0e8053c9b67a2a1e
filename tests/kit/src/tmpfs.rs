//! Small disks.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system in memory of a given size, unmounted when dropped. For root only.
#[derive(Debug)]
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts one of `size` (as mount(8) takes it, `8m`) at `directory`, which is created.
    #[must_use]
    pub fn mount(directory: &Path, size: &str) -> Self {
        std::fs::create_dir_all(directory).unwrap();
        let options = format!("size={size},mode=0700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "escher-test"])
            .arg(directory)
            .status();
        assert!(mounted.expect("mount(8)").success());
        Tmpfs(directory.to_owned())
    }

    /// Fills it up to the last page.
    pub fn fill(&self) {
        let _ = fill_disk(&self.0, 0);
    }

    /// Frees what [`Tmpfs::fill`] has used.
    pub fn empty(&self) {
        std::fs::remove_file(self.0.join(FILLER)).unwrap();
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: processes that still have a file open there keep it until they exit.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A file system in memory that cannot free a part of a file, unmounted when dropped. For root only.
#[derive(Debug)]
pub struct Ramfs(PathBuf);

impl Ramfs {
    /// Mounts one at `directory`, which is created.
    #[must_use]
    pub fn mount(directory: &Path) -> Self {
        std::fs::create_dir_all(directory).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "ramfs", "-o", "mode=0700", "escher-test"])
            .arg(directory)
            .status();
        assert!(mounted.expect("mount(8)").success());
        Ramfs(directory.to_owned())
    }
}

impl Drop for Ramfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

const FILLER: &str = "filler";

/// Fills the small disk that `directory` is on up to `left` bytes. Returns the file that does it.
pub fn fill_disk(directory: &Path, left: u64) -> PathBuf {
    const MAX_BYTES: u64 = 1 << 30;
    let path = directory.join(FILLER);
    let mut file = File::create(&path).unwrap();
    let mut length = 0;
    while file.write_all(&[b'x'; 4096]).is_ok() {
        length += 4096;
        assert!(length < MAX_BYTES, "it does not fill up");
    }
    file.set_len(length.saturating_sub(left)).unwrap();
    path
}
