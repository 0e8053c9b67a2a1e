//! Properties of the launcher's process from which every command has to be freed, or that limit it.

use std::fs;

use escher_protocol::{Rlimit, RlimitResource};
use nix::sys::resource::{Resource, getrlimit};

use crate::ipc::wire::ProcessDefaults;
use crate::sys::process::set_nice;

/// What a launcher has inherited from its parent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessBaseline {
    /// Whether the nice value differs from that of a command.
    pub(super) resets_nice: bool,
    /// Whether the adjustment of the out-of-memory score differs from that of a command.
    pub(super) resets_oom_score: bool,
    /// Whether the audit subsystem knows who has logged in, or there is none.
    pub(super) has_login_uid: bool,
    /// What a command gets that sets nothing else.
    pub(super) defaults: ProcessDefaults,
}

impl ProcessBaseline {
    /// Inspects this process.
    pub(crate) fn detect() -> Self {
        let (nice, oom_score) = (nice_value(), oom_score_adjust());
        let hard_limit = |(resource, _)| {
            let limits = getrlimit(system_resource(resource));
            limits.map_or(Rlimit::INFINITY, |(_, hard)| hard)
        };
        let defaults = ProcessDefaults {
            nice: default_nice(nice),
            oom_score_adjust: default_oom_score(oom_score),
            hard_limits: RlimitResource::TABLE.map(hard_limit),
        };
        ProcessBaseline {
            resets_nice: nice != defaults.nice,
            resets_oom_score: oom_score != defaults.oom_score_adjust,
            has_login_uid: has_login_uid(),
            defaults,
        }
    }

    /// Returns what a command gets that sets nothing else.
    pub(crate) fn defaults(&self) -> ProcessDefaults {
        self.defaults
    }
}

/// Returns a resource as system calls name it.
pub(super) fn system_resource(resource: RlimitResource) -> Resource {
    match resource {
        RlimitResource::Cpu => Resource::RLIMIT_CPU,
        RlimitResource::FileSize => Resource::RLIMIT_FSIZE,
        RlimitResource::Data => Resource::RLIMIT_DATA,
        RlimitResource::Stack => Resource::RLIMIT_STACK,
        RlimitResource::Core => Resource::RLIMIT_CORE,
        RlimitResource::ResidentSet => Resource::RLIMIT_RSS,
        RlimitResource::OpenFiles => Resource::RLIMIT_NOFILE,
        RlimitResource::AddressSpace => Resource::RLIMIT_AS,
        RlimitResource::Processes => Resource::RLIMIT_NPROC,
        RlimitResource::LockedMemory => Resource::RLIMIT_MEMLOCK,
        RlimitResource::FileLocks => Resource::RLIMIT_LOCKS,
        RlimitResource::PendingSignals => Resource::RLIMIT_SIGPENDING,
        RlimitResource::MessageQueues => Resource::RLIMIT_MSGQUEUE,
        RlimitResource::Nice => Resource::RLIMIT_NICE,
        RlimitResource::RealtimePriority => Resource::RLIMIT_RTPRIO,
        RlimitResource::RealtimeTime => Resource::RLIMIT_RTTIME,
    }
}

/// Returns this process's nice value (proc_pid_stat(5), field 19).
fn nice_value() -> i32 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let rest = stat.rsplit(')').next().unwrap_or_default();
    let field = rest.split_ascii_whitespace().nth(16);
    field.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Returns the nice value of commands: 0, unless the inherited one may not be lowered. Every process may
/// raise its own; lowering it takes a capability, which root may lack in a container, or a resource limit
/// (`RLIMIT_NICE`). So this tries it.
fn default_nice(inherited: i32) -> i32 {
    let can_reset = || set_nice(0).and_then(|()| set_nice(inherited)).is_ok();
    if inherited <= 0 || can_reset() {
        0
    } else {
        inherited
    }
}

/// Whether this process has a login user id (proc_pid_loginuid(5)), or the kernel has none.
fn has_login_uid() -> bool {
    let uid = fs::read_to_string("/proc/self/loginuid").unwrap_or_default();
    uid.trim() != u32::MAX.to_string()
}

const OOM_SCORE_ADJUST: &str = "/proc/self/oom_score_adj";

fn oom_score_adjust() -> i32 {
    let text = fs::read_to_string(OOM_SCORE_ADJUST).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// Returns the adjustment of the out-of-memory score of commands: 0, unless the inherited one may not be
/// lowered. Every process may raise its own. Who may lower it depends on a capability, and on the lowest
/// one that a process with the capability has set (proc_pid_oom_score_adj(5)), which cannot be read. So
/// this tries it.
fn default_oom_score(inherited: i32) -> i32 {
    let set = |score: i32| fs::write(OOM_SCORE_ADJUST, score.to_string());
    if inherited <= 0 || set(0).and_then(|()| set(inherited)).is_ok() {
        0
    } else {
        inherited
    }
}
