//! Properties of the launcher's process from which every command has to be freed, or that limit it.

use std::fs;

use nix::sys::resource::{Resource, getrlimit};

/// What a launcher has inherited from its parent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessBaseline {
    /// Whether the nice value differs from 0.
    pub(super) resets_nice: bool,
    /// Whether the out-of-memory score differs from 0 and can be reset.
    pub(super) resets_oom_score: bool,
    /// Whether the audit subsystem knows who has logged in, or there is none.
    pub(super) has_login_uid: bool,
    /// Hard limit of open descriptors.
    pub(super) open_files_hard: u64,
}

impl ProcessBaseline {
    /// Inspects this process.
    pub(crate) fn detect() -> Self {
        let open_files = getrlimit(Resource::RLIMIT_NOFILE);
        ProcessBaseline {
            resets_nice: nice_value() != 0,
            resets_oom_score: can_reset_oom_score(),
            has_login_uid: has_login_uid(),
            open_files_hard: open_files.map_or(libc::RLIM_INFINITY, |limits| limits.1),
        }
    }
}

/// Returns this process's nice value (proc_pid_stat(5), field 19).
fn nice_value() -> i32 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let rest = stat.rsplit(')').next().unwrap_or_default();
    let field = rest.split_ascii_whitespace().nth(16);
    field.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Whether this process has a login user id (proc_pid_loginuid(5)), or the kernel has none.
fn has_login_uid() -> bool {
    let uid = fs::read_to_string("/proc/self/loginuid").unwrap_or_default();
    uid.trim() != u32::MAX.to_string()
}

/// Whether the out-of-memory score differs from 0 and may be set to it. Every process may raise its
/// score. Who may lower it depends on a capability, which root may lack in a container, and on the
/// lowest score that a process with the capability has set (proc_pid_oom_score_adj(5)), which cannot
/// be read. So this tries it.
fn can_reset_oom_score() -> bool {
    const PATH: &str = "/proc/self/oom_score_adj";
    let inherited = fs::read_to_string(PATH).unwrap_or_default();
    match inherited.trim().parse::<i32>() {
        Ok(..0) => true,
        Ok(1..) => fs::write(PATH, "0")
            .and_then(|()| fs::write(PATH, inherited))
            .is_ok(),
        Ok(0) | Err(_) => false,
    }
}
