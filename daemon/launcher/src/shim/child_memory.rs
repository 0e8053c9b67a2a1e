//! Whether a child may run in its shim's memory until it executes its program.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::ProcessBaseline;
use crate::ipc::wire::Assignment;
use crate::sys::process::ChildMemory;

/// The setting `fs.suid_dumpable` (proc_sys_fs(5)), which an administrator may change at any time.
pub(super) struct SuidDumpable(Option<File>);

impl SuidDumpable {
    pub(super) fn open() -> Self {
        SuidDumpable(File::open("/proc/sys/fs/suid_dumpable").ok())
    }

    /// Whether a process that gives up root becomes traceable by its new user. Assumed where the
    /// setting cannot be read.
    fn makes_traceable(&self) -> bool {
        let mut digit = [0];
        let read = self.0.as_ref().map(|file| file.read_at(&mut digit, 0));
        !matches!((read, digit), (Some(Ok(1)), [b'0' | b'2']))
    }
}

/// Chooses the memory of the child for `assignment`: the shim's, unless that would harm the shim.
pub(super) fn choose(
    assignment: &Assignment,
    baseline: &ProcessBaseline,
    suid_dumpable: &SuidDumpable,
) -> ChildMemory {
    // The OOM killer kills all processes that share the victim's memory, and a child that has
    // entered the limited cgroup would share the shim's.
    let limits = [&assignment.limits, &assignment.user_limits];
    let is_limited = limits.iter().any(|limits| limits.memory_max.is_some());
    // The kernel changes the out-of-memory score of all processes that share memory at once
    // (proc_pid_oom_score_adj(5)).
    let changes_score =
        baseline.resets_oom_score || assignment.spec.process.oom_score_adjust.is_some();
    // The user could write to the memory through the child.
    let is_exposed = || assignment.spec.identity.is_some() && suid_dumpable.makes_traceable();
    if is_limited || changes_score || is_exposed() {
        ChildMemory::Copied
    } else {
        ChildMemory::Shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_is_read_anew_and_the_worst_is_assumed_of_what_cannot_be_read() {
        let file = tempfile::tempfile().unwrap();
        let setting = SuidDumpable(Some(file.try_clone().unwrap()));
        for (text, expected) in [("", true), ("0\n", false), ("1\n", true), ("2\n", false)] {
            file.set_len(0).unwrap();
            file.write_all_at(text.as_bytes(), 0).unwrap();
            assert_eq!(setting.makes_traceable(), expected, "{text}");
        }
        assert!(SuidDumpable(None).makes_traceable());
    }
}
