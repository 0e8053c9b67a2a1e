//! Properties of the launcher's process from which every command has to be freed, or that limit it.

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::geteuid;

use crate::sys::process::ChildMemory;

/// What a launcher has inherited from its parent and from the system's settings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessBaseline {
    /// The memory in which a child may run until it executes its program.
    pub(super) child_memory: ChildMemory,
    /// Whether priority or out-of-memory score differ from 0 and can be reset.
    pub(super) resets_priority: bool,
    /// Hard limit of open descriptors.
    pub(super) open_files_hard: u64,
}

impl ProcessBaseline {
    /// Inspects this process.
    pub(crate) fn detect() -> Self {
        let is_privileged = geteuid().is_root();
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let is_zero = |text: String| text.trim() == "0";
        let open_files = getrlimit(Resource::RLIMIT_NOFILE);
        ProcessBaseline {
            // With fs.suid_dumpable = 1 (proc_sys_fs(5)) a process that gives up root becomes
            // traceable by the user, who could then write to memory that it shares with the shim.
            child_memory: match read("/proc/sys/fs/suid_dumpable").trim() {
                "1" => ChildMemory::Copied,
                _ => ChildMemory::Shared,
            },
            resets_priority: is_privileged
                && (nice_value() != 0 || !is_zero(read("/proc/self/oom_score_adj"))),
            open_files_hard: open_files.map_or(libc::RLIM_INFINITY, |limits| limits.1),
        }
    }
}

/// Returns this process's nice value (proc_pid_stat(5), field 19).
fn nice_value() -> i32 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let rest = stat.rsplit(')').next().unwrap_or_default();
    let field = rest.split_ascii_whitespace().nth(16);
    field.and_then(|text| text.parse().ok()).unwrap_or(0)
}
