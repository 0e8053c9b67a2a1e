//! Small disks.

use std::path::PathBuf;

use crate::Launcher;

/// Starts a launcher whose directory `option` (such as `--log-dir`) is a file system of `kib` KiB
/// in a mount namespace of its own, which ends with the last of its processes. Returns the path by
/// which the test sees it.
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
