//! Small disks.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system in memory, of a given size; gone with this value. For root only.
#[derive(Debug)]
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    /// One of `size` (as mount(8) takes it, `8m`) at `folder`, which is made.
    #[must_use]
    pub fn mount(folder: &Path, size: &str) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let options = format!("size={size},mode=0700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "escher-test"])
            .arg(folder)
            .status();
        assert!(mounted.expect("mount(8)").success());
        Tmpfs(folder.to_owned())
    }

    /// Fills it up but for less than a page.
    pub fn fill(&self) {
        let filler = std::fs::File::create(self.filler()).unwrap();
        let mut written = 0;
        while nix::unistd::write(&filler, &[0; 4096]).is_ok_and(|count| count > 0) {
            written += 4096;
            assert!(written < 1 << 30, "it does not fill up");
        }
    }

    /// Makes room again.
    pub fn empty(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: whoever still has a file open there keeps it to the end.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
