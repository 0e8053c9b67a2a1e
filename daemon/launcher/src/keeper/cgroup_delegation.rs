//! The cgroup that systemd has delegated to the keeper's unit.
//!
//! A cgroup whose controllers are on for those below it may hold no process itself. So the keeper moves into a leaf,
//! where launcher and shims are with it, and then turns the controllers on for the cgroups of executions beside
//! that leaf.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;

/// Name of the leaf.
const LEAF: &str = "keeper";

/// The controllers that are of use here.
const CONTROLLERS: [&str; 4] = ["cpu", "memory", "pids", "io"];

/// The keeper's place.
#[derive(Debug)]
pub(super) struct Ground {
    root: PathBuf,
}

impl Ground {
    /// Moves into the leaf and turns on what controllers there are.
    ///
    /// # Errors
    /// Why there is no such place: no cgroup v2, or the keeper's cgroup is not its own to divide.
    pub(super) fn take() -> io::Result<Self> {
        let place = own_cgroup()?;
        // A keeper that has just executed its successor is there already.
        let root = if place.file_name().is_some_and(|name| name == LEAF) {
            place.parent().unwrap_or(&place).to_owned()
        } else {
            place
        };
        // The uppermost one is nobody's: all others are in there.
        if !root.join("cgroup.events").exists() {
            let reason = format!("{} is the root of all cgroups", root.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
        }
        let leaf = root.join(LEAF);
        match fs::create_dir(&leaf) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        fs::write(leaf.join("cgroup.procs"), "0")?;
        let ground = Ground { root };
        ground.turn('+')?;
        Ok(ground)
    }

    /// Where executions have their cgroups.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The processes in the leaf.
    pub(super) fn inhabitants(&self) -> Vec<Pid> {
        let list = fs::read_to_string(self.root.join(LEAF).join("cgroup.procs"));
        let list = list.unwrap_or_default();
        let numbers = list.lines().filter_map(|line| line.parse().ok());
        numbers.map(Pid::from_raw).collect()
    }

    /// Turns the controllers that there are on (`+`) or off (`-`) for those below.
    fn turn(&self, sign: char) -> io::Result<()> {
        let available = fs::read_to_string(self.root.join("cgroup.controllers"))?;
        for controller in CONTROLLERS {
            if available
                .split_ascii_whitespace()
                .any(|it| it == controller)
            {
                // Each by itself: one that cannot be had is no reason to go without the others. What there is in
                // the end, `cgroup.subtree_control` tells.
                let control = self.root.join("cgroup.subtree_control");
                let _ = fs::write(control, format!("{sign}{controller}"));
            }
        }
        Ok(())
    }
}

/// Turns the controllers off, so that systemd can start a keeper in the unit's cgroup: what an earlier one that
/// was killed has left there may still hold commands. systemd runs what follows the end of a service
/// (`ExecStopPost=`) in `.control`, below the cgroup that is delegated.
///
/// # Errors
/// Those of finding the cgroup.
pub fn make_room() -> io::Result<()> {
    let place = own_cgroup()?;
    match place.parent() {
        Some(root) if place.file_name().is_some_and(|name| name == ".control") => Ground {
            root: root.to_owned(),
        }
        .turn('-'),
        // There was none, so there is nothing in the way.
        _ => Ok(()),
    }
}

/// The directory of this process's cgroup, in the hierarchy of version 2 (cgroups(7)).
fn own_cgroup() -> io::Result<PathBuf> {
    let missing = |what| io::Error::new(io::ErrorKind::NotFound, what);
    let memberships = fs::read_to_string("/proc/self/cgroup")?;
    let path = memberships
        .lines()
        .find_map(|line| line.strip_prefix("0::/"));
    let path = path.ok_or_else(|| missing("this kernel has no cgroups of version 2"))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mount = mounts.lines().find_map(mount_of_cgroup2);
    let mount = mount.ok_or_else(|| missing("no cgroups of version 2 are mounted"))?;
    Ok(Path::new(mount).join(path))
}

/// The mount point in a line of /proc/PID/mountinfo (proc_pid_mountinfo(5)), if a whole hierarchy of version 2 is
/// mounted there.
fn mount_of_cgroup2(line: &str) -> Option<&str> {
    let (mount, kind) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    (kind.starts_with("cgroup2 ") && root == "/").then_some(point)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_of_version_2_is_told_from_others() {
        let at = |root: &str, point: &str, kind: &str| {
            format!("35 24 0:30 {root} {point} rw,nosuid shared:9 - {kind} cgroup2 rw")
        };
        let line = at("/", "/sys/fs/cgroup", "cgroup2");
        assert_eq!(mount_of_cgroup2(&line), Some("/sys/fs/cgroup"));
        assert_eq!(mount_of_cgroup2(&at("/", "/sys/fs/cgroup", "cgroup")), None);
        assert_eq!(mount_of_cgroup2(&at("/a", "/mnt", "cgroup2")), None);
        assert_eq!(mount_of_cgroup2(""), None);
    }
}
