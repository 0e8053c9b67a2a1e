//! Small disks, and full ones.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::Launcher;

/// A launcher whose directory `option` (`--log-dir` or its like) is a file system of so many KiB
/// that nobody else sees; it goes away with the last of its processes. With the path at which the
/// test sees it.
pub(crate) fn with_a_small_disk(option: &str, kib: usize) -> (Launcher, PathBuf) {
    let script = format!(
        r#"for part; do shift; set -- "$@" "$part"; [ "$last" = {option} ] && place=$part; last=$part; done
        mkdir "$place" && mount -t tmpfs -o size={kib}k tmpfs "$place" && exec "$0" "$@""#
    );
    let launcher = Launcher::start_by(&["unshare", "--mount", "/bin/sh", "-c", &script]);
    let place = match option {
        "--log-dir" => launcher.log_dir(),
        _ => launcher.exit_dir(),
    };
    let seen = format!("/proc/{}/root{}", launcher.pid(), place.display());
    (launcher, seen.into())
}

/// Fills the disk but for `left` bytes.
pub(crate) fn fill(folder: &Path, left: usize) -> PathBuf {
    let path = folder.join("ballast");
    let mut file = fs::File::create(&path).unwrap();
    let mut length = 0;
    while file.write_all(&[b'x'; 4096]).is_ok() {
        length += 4096;
    }
    file.set_len(length - left as u64).unwrap();
    path
}
