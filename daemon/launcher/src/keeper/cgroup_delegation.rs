//! The cgroup that systemd has delegated to the keeper's unit.
//!
//! A cgroup that enables controllers for its children must not contain processes itself. So the
//! keeper moves into a leaf, in which launcher and shims stay as well, and then enables the
//! controllers for the cgroups of users beside that leaf, and of their executions.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;

use crate::os::execution_cgroups::{CONTROLLERS, SUBTREE_CONTROL, is_of_user};

/// Name of the leaf.
const LEAF: &str = "keeper";

/// How often disabling the controllers is tried. The kernel refuses it while the cgroup of a user has
/// them enabled, and a shim that still starts commands may create another one.
const RELEASE_ATTEMPTS: usize = 8;

/// A cgroup whose children the keeper manages.
#[derive(Debug)]
pub(super) struct DelegatedCgroup {
    root: PathBuf,
}

impl DelegatedCgroup {
    /// Moves the keeper into the leaf of its own cgroup and enables the available controllers.
    ///
    /// # Errors
    /// When there are no cgroups of version 2, or the keeper's is not delegated.
    pub(super) fn enter() -> io::Result<Self> {
        let current = own_cgroup()?;
        // A keeper that was executed by its predecessor is in the leaf already.
        let root = if current.file_name().is_some_and(|name| name == LEAF) {
            current.parent().unwrap_or(&current).to_owned()
        } else {
            current
        };
        // The root of the hierarchy, which alone lacks this file, contains all processes of the
        // host.
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
        let cgroup = DelegatedCgroup { root };
        cgroup.enable_controllers()?;
        Ok(cgroup)
    }

    /// Returns the directory in which the cgroups of executions are.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether a process is in this cgroup or one below it.
    pub(super) fn contains(&self, process: Pid) -> bool {
        cgroup_of(&process.to_string()).is_ok_and(|cgroup| cgroup.starts_with(&self.root))
    }

    /// Returns the processes in the leaf.
    pub(super) fn leaf_processes(&self) -> Vec<Pid> {
        let list = fs::read_to_string(self.root.join(LEAF).join("cgroup.procs"));
        let list = list.unwrap_or_default();
        let pids = list.lines().filter_map(|line| line.parse().ok());
        pids.map(Pid::from_raw).collect()
    }

    /// Enables the available controllers from the top down: a cgroup can have those that its parent
    /// enables.
    fn enable_controllers(&self) -> io::Result<()> {
        set_controllers(&self.root, '+')?;
        for user in self.users()? {
            // It may have been removed meanwhile.
            let _ = set_controllers(&user, '+');
        }
        Ok(())
    }

    /// Disables the controllers from the bottom up.
    fn disable_controllers(&self) -> io::Result<()> {
        for _ in 0..RELEASE_ATTEMPTS {
            for user in self.users()? {
                let _ = set_controllers(&user, '-');
            }
            set_controllers(&self.root, '-')?;
            let enabled = fs::read_to_string(self.root.join(SUBTREE_CONTROL))?;
            if enabled.trim().is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Returns the directories of the cgroups of users.
    fn users(&self) -> io::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.root)?.flatten();
        let of_users = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_of_user));
        Ok(of_users.map(|entry| entry.path()).collect())
    }
}

/// Enables (`+`) or disables (`-`) the available controllers for the children of a cgroup.
fn set_controllers(cgroup: &Path, sign: char) -> io::Result<()> {
    let available = fs::read_to_string(cgroup.join("cgroup.controllers"))?;
    let is_available = |controller: &&str| {
        available
            .split_ascii_whitespace()
            .any(|it| it == *controller)
    };
    for controller in CONTROLLERS.into_iter().filter(is_available) {
        // One at a time, so that one that fails does not prevent the others. The launcher reads
        // which are enabled.
        let _ = fs::write(cgroup.join(SUBTREE_CONTROL), format!("{sign}{controller}"));
    }
    Ok(())
}

/// Disables the controllers in the unit's cgroup and below, so that systemd can start a keeper there after
/// one that was killed while commands ran. systemd runs `ExecStopPost=` in the child `.control` of
/// the delegated cgroup.
///
/// # Errors
/// Those of finding the cgroup.
pub fn release_controllers() -> io::Result<()> {
    let current = own_cgroup()?;
    match current.parent() {
        Some(root) if current.file_name().is_some_and(|name| name == ".control") => {
            let root = root.to_owned();
            DelegatedCgroup { root }.disable_controllers()
        }
        // Without delegation no keeper has enabled any.
        _ => Ok(()),
    }
}

/// Returns the directory of this process's cgroup.
fn own_cgroup() -> io::Result<PathBuf> {
    cgroup_of("self")
}

/// Returns the directory of the cgroup of a process, given by its name in /proc, in the hierarchy
/// of version 2 (cgroups(7)).
fn cgroup_of(process: &str) -> io::Result<PathBuf> {
    let missing = |what| io::Error::new(io::ErrorKind::NotFound, what);
    let memberships = fs::read_to_string(format!("/proc/{process}/cgroup"))?;
    let path = memberships
        .lines()
        .find_map(|line| line.strip_prefix("0::/"));
    let path = path.ok_or_else(|| missing("this kernel has no cgroups of version 2"))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mount = mounts.lines().find_map(cgroup2_mount_point);
    let mount = mount.ok_or_else(|| missing("no cgroups of version 2 are mounted"))?;
    Ok(Path::new(mount).join(path))
}

/// Returns the mount point in a line of /proc/PID/mountinfo (proc_pid_mountinfo(5)) if the whole
/// hierarchy of version 2 is mounted there.
fn cgroup2_mount_point(line: &str) -> Option<&str> {
    let (mount, kind) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    (kind.starts_with("cgroup2 ") && root == "/").then_some(point)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ordinary files in the place of the kernel's: each has what was written last.
    #[test]
    fn the_controllers_of_users_are_enabled_and_disabled_with_those_of_the_unit() {
        let root = tempfile::tempdir().unwrap();
        let directories = ["", "user-0", "user-1000"].map(|name| root.path().join(name));
        for directory in &directories {
            fs::create_dir_all(directory).unwrap();
            fs::write(directory.join("cgroup.controllers"), "pids rdma memory\n").unwrap();
        }
        fs::create_dir(root.path().join(LEAF)).unwrap();
        let written = || {
            let files = directories
                .iter()
                .map(|directory| directory.join(SUBTREE_CONTROL));
            files
                .map(|file| fs::read_to_string(file).unwrap())
                .collect::<Vec<_>>()
        };
        let cgroup = DelegatedCgroup {
            root: root.path().to_owned(),
        };
        cgroup.enable_controllers().unwrap();
        assert_eq!(written(), ["+pids"; 3]);
        cgroup.disable_controllers().unwrap();
        assert_eq!(written(), ["-pids"; 3]);
        assert!(!root.path().join(LEAF).join(SUBTREE_CONTROL).exists());
    }

    #[test]
    fn finds_only_a_whole_mount_of_version_2() {
        let at = |root: &str, point: &str, kind: &str| {
            format!("35 24 0:30 {root} {point} rw,nosuid shared:9 - {kind} cgroup2 rw")
        };
        let line = at("/", "/sys/fs/cgroup", "cgroup2");
        assert_eq!(cgroup2_mount_point(&line), Some("/sys/fs/cgroup"));
        let version_1 = at("/", "/sys/fs/cgroup", "cgroup");
        assert_eq!(cgroup2_mount_point(&version_1), None);
        assert_eq!(cgroup2_mount_point(&at("/a", "/mnt", "cgroup2")), None);
        assert_eq!(cgroup2_mount_point(""), None);
    }
}
