//! The cgroups of all executions, in a subtree delegated to the launcher: `user-<uid>/<number>-<id>`.
//!
//! The user is the one who is charged for the execution. So whatever a user runs is below one
//! cgroup, where it can be limited together. That cgroup is made by the first execution of its user,
//! and goes with the last. Launcher and shims stay in a leaf beside, so that killing, freezing or
//! limiting a command never affects its shim.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use escher_protocol::{Controllers, ExecutionId, ResourceLimits};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::cgroup::{Cgroup, IO_WEIGHTS, open, read, remove_with_descendants, write};
use super::descriptor_path::descriptor_path;

/// The controllers that limit or measure commands.
pub(crate) const CONTROLLERS: [&str; 4] = ["cpu", "memory", "pids", "io"];

/// The file of a cgroup that says which controllers its children have.
pub(crate) const SUBTREE_CONTROL: &str = "cgroup.subtree_control";

const USER_PREFIX: &str = "user-";

/// How often the creation of a cgroup is tried. It fails where the last other execution of the same
/// user ends between two system calls, and that of the user goes with it.
const CREATE_ATTEMPTS: usize = 16;

/// Whether a cgroup in the subtree is that of a user.
pub(crate) fn is_of_user(name: &str) -> bool {
    name.strip_prefix(USER_PREFIX)
        .is_some_and(|uid| uid.parse::<u32>().is_ok())
}

/// The name of an execution's cgroup: `user-<uid>/<number>-<id>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CgroupName {
    user: String,
    execution: String,
}

impl CgroupName {
    /// Returns the name for an execution for which this user is charged.
    pub(crate) fn new(uid: u32, number: u64, id: ExecutionId) -> Self {
        CgroupName {
            user: format!("{USER_PREFIX}{uid}"),
            execution: format!("{number}-{id}"),
        }
    }
}

/// Limits of an execution, and of everything that its user runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CgroupLimits<'l> {
    pub(crate) execution: &'l ResourceLimits,
    pub(crate) user: &'l ResourceLimits,
}

impl CgroupLimits<'_> {
    pub(crate) fn are_unlimited(&self) -> bool {
        self.execution.is_unlimited() && self.user.is_unlimited()
    }
}

/// The subtree in which executions have their cgroups.
#[derive(Debug)]
pub(crate) struct ExecutionCgroups {
    root: OwnedFd,
    controllers: Controllers,
}

impl ExecutionCgroups {
    /// Opens the subtree at `path` and reads which controllers it has.
    ///
    /// # Errors
    /// Those of open(2) and read(2).
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let root = fs::OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(path)?;
        let root = OwnedFd::from(root);
        let enabled = read(root.as_fd(), SUBTREE_CONTROL)?;
        let has_file = |name| open(root.as_fd(), name, OFlag::O_PATH).is_ok();
        let controllers = Controllers {
            memory: has_word(&enabled, "memory"),
            cpu: has_word(&enabled, "cpu"),
            pids: has_word(&enabled, "pids"),
            io: has_word(&enabled, "io"),
            io_weight: has_word(&enabled, "io") && IO_WEIGHTS.into_iter().any(has_file),
        };
        Ok(ExecutionCgroups { root, controllers })
    }

    /// Returns which resources can be limited and measured.
    pub(crate) fn controllers(&self) -> Controllers {
        self.controllers
    }

    /// Creates the cgroup of an execution, and that of its user where it does not exist, and sets
    /// the limits of both.
    ///
    /// # Errors
    /// Those of mkdir(2): `EAGAIN` at the limit of cgroups. For a limit without a controller
    /// `ENOENT`. No cgroup is left behind.
    pub(crate) fn create(&self, name: &CgroupName, limits: CgroupLimits<'_>) -> io::Result<Cgroup> {
        let created = self
            .create_unlimited(name)
            .and_then(|cgroup| self.set_limits(name, limits).map(|()| cgroup));
        if created.is_err() {
            self.remove(name);
        }
        created
    }

    fn create_unlimited(&self, name: &CgroupName) -> io::Result<Cgroup> {
        let mode = Mode::from_bits_truncate(0o755);
        let mut attempts = 1..=CREATE_ATTEMPTS;
        loop {
            match mkdirat(&self.root, name.user.as_str(), mode) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let created = self.open_user(name).and_then(|user| {
                self.enable_controllers(user.as_fd());
                mkdirat(&user, name.execution.as_str(), mode)?;
                Ok(user)
            });
            match created {
                Ok(user) => return Cgroup::open(user.as_fd(), &name.execution),
                Err(error) if has_vanished(&error) && attempts.next().is_some() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Enables the controllers of the subtree for the executions of a user. A failure shows where a
    /// limit cannot be set.
    fn enable_controllers(&self, user: BorrowedFd<'_>) {
        let enabled = read(user, SUBTREE_CONTROL).unwrap_or_default();
        let Controllers {
            memory,
            cpu,
            pids,
            io,
            io_weight: _,
        } = self.controllers;
        for (name, is_available) in CONTROLLERS.into_iter().zip([cpu, memory, pids, io]) {
            if is_available && !has_word(&enabled, name) {
                let _ = write(user, SUBTREE_CONTROL, &format!("+{name}"));
            }
        }
    }

    /// Sets the limits of an execution's cgroup and of its user's. A limit that is `None` stays as
    /// it is.
    ///
    /// # Errors
    /// Those of open(2) and write(2); `ENOENT` where the controller is missing.
    pub(crate) fn set_limits(&self, name: &CgroupName, limits: CgroupLimits<'_>) -> io::Result<()> {
        if limits.are_unlimited() {
            return Ok(());
        }
        let user = self.open_user(name)?;
        Cgroup::open(self.root.as_fd(), &name.user)?.set_limits(limits.user)?;
        let cgroup = Cgroup::open(user.as_fd(), &name.execution)?;
        cgroup.set_limits(limits.execution)?;
        if limits.execution.memory_max.is_some() || limits.user.memory_max.is_some() {
            cgroup.kill_all_when_out_of_memory()?;
        }
        Ok(())
    }

    /// Returns the names of all executions' cgroups. Its cost is that of listing them all.
    ///
    /// # Errors
    /// Those of open(2) and readdir(3).
    pub(crate) fn list(&self) -> io::Result<HashMap<ExecutionId, CgroupName>> {
        let mut found = HashMap::new();
        for user in children(self.root.as_fd())? {
            if !is_of_user(&user) {
                continue;
            }
            let directory = match open(self.root.as_fd(), &user, OFlag::O_DIRECTORY) {
                Ok(directory) => directory,
                Err(error) if has_vanished(&error) => continue,
                Err(error) => return Err(error),
            };
            for execution in children(directory.as_fd())? {
                let id = execution.split_once('-').map(|(_, id)| id.parse());
                if let Some(Ok(id)) = id {
                    let user = user.clone();
                    found.insert(id, CgroupName { user, execution });
                }
            }
        }
        Ok(found)
    }

    /// Opens the cgroup of an execution; `None` when it does not exist.
    ///
    /// # Errors
    /// Those of open(2).
    pub(crate) fn open_existing(&self, name: &CgroupName) -> io::Result<Option<Cgroup>> {
        let opened = self
            .open_user(name)
            .and_then(|user| Cgroup::open(user.as_fd(), &name.execution));
        match opened {
            Ok(cgroup) => Ok(Some(cgroup)),
            Err(error) if has_vanished(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes the cgroup of an execution, unless it has processes, and that of its user with its
    /// last one. Returns whether there is none any more.
    pub(crate) fn remove(&self, name: &CgroupName) -> bool {
        let is_removed = match self.open_user(name) {
            Ok(user) => remove_with_descendants(user.as_fd(), &name.execution),
            Err(error) => has_vanished(&error),
        };
        // Fails while others are in it.
        let _ = unlinkat(&self.root, name.user.as_str(), UnlinkatFlags::RemoveDir);
        is_removed
    }

    fn open_user(&self, name: &CgroupName) -> io::Result<OwnedFd> {
        open(self.root.as_fd(), &name.user, OFlag::O_DIRECTORY).map(OwnedFd::from)
    }
}

/// Whether a cgroup was removed: `ENODEV` is the kernel's answer to what is done in one that is
/// still open.
fn has_vanished(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

fn has_word(text: &str, word: &str) -> bool {
    text.split_ascii_whitespace().any(|found| found == word)
}

/// Returns the names of the cgroups in a cgroup.
fn children(directory: BorrowedFd<'_>) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(descriptor_path(directory))?.flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(directories
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Directories in the place of the kernel's.
    fn subtree() -> (tempfile::TempDir, ExecutionCgroups) {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join(SUBTREE_CONTROL), "memory pids\n").unwrap();
        let cgroups = ExecutionCgroups::open(root.path()).unwrap();
        (root, cgroups)
    }

    #[test]
    fn weights_of_io_need_the_controller_and_a_scheduler() {
        for (enabled, file, expected) in [
            ("io\n", Some("io.weight"), true),
            ("io\n", Some("io.bfq.weight"), true),
            ("io\n", None, false),
            ("cpu\n", Some("io.weight"), false),
        ] {
            let root = tempfile::tempdir().unwrap();
            fs::write(root.path().join(SUBTREE_CONTROL), enabled).unwrap();
            if let Some(file) = file {
                fs::write(root.path().join(file), "").unwrap();
            }
            let cgroups = ExecutionCgroups::open(root.path()).unwrap();
            assert_eq!(
                cgroups.controllers().io_weight,
                expected,
                "{enabled}{file:?}"
            );
        }
    }

    #[test]
    fn only_cgroups_of_users_have_those_of_executions() {
        for (name, is_users) in [
            ("user-0", true),
            ("user-4294967295", true),
            ("user-4294967296", false),
            ("user-", false),
            ("user-x", false),
            ("keeper", false),
        ] {
            assert_eq!(is_of_user(name), is_users, "{name}");
        }
    }

    #[test]
    fn executions_of_all_users_are_listed_by_their_ids() {
        let (root, cgroups) = subtree();
        let mut expected = HashMap::new();
        for (uid, number) in [(0, 1), (1000, 2), (1000, 30)] {
            let id = ExecutionId::generate();
            let name = CgroupName::new(uid, number, id);
            fs::create_dir_all(root.path().join(&name.user).join(&name.execution)).unwrap();
            expected.insert(id, name);
        }
        for other in ["keeper/1-x", "user-0/odd", "user-0/1-odd"] {
            fs::create_dir_all(root.path().join(other)).unwrap();
        }
        assert_eq!(cgroups.list().unwrap(), expected);
    }

    #[test]
    fn the_cgroup_of_a_user_goes_with_its_last_execution() {
        let (root, cgroups) = subtree();
        let names = [1, 2].map(|number| CgroupName::new(7, number, ExecutionId::generate()));
        for name in &names {
            fs::create_dir_all(root.path().join(&name.user).join(&name.execution)).unwrap();
        }
        assert!(cgroups.remove(&names[0]));
        assert!(root.path().join("user-7").exists());
        assert!(cgroups.remove(&names[1]));
        assert!(!root.path().join("user-7").exists());
        assert!(cgroups.remove(&names[1]), "it is gone already");
        assert!(cgroups.open_existing(&names[1]).unwrap().is_none());
    }
}
