//! Small disks.

use std::path::PathBuf;

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
