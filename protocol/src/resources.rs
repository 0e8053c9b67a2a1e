//! What a command may use, and what it has used, by its cgroup (cgroups(7)).

use serde::{Deserialize, Serialize};

/// What a command and everything below it may use together. A limit that cannot be enforced is refused, not
/// ignored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ResourceLimits {
    /// Most memory, in bytes; beyond it the kernel ends the command (`memory.max`). `None`: no limit.
    pub memory_max: Option<u64>,
    /// Most CPU time, in percent of one CPU: 200 is two (`cpu.max`). `None`: no limit.
    pub cpu_quota: Option<u32>,
    /// Most tasks, which are processes and threads, at once (`pids.max`), [`ResourceLimits::MOST_TASKS`] at the
    /// most. `None`: no limit.
    pub tasks_max: Option<u64>,
}

impl ResourceLimits {
    /// The largest `tasks_max` that Linux takes: there cannot be more tasks (`PID_MAX_LIMIT`).
    pub const MOST_TASKS: u64 = 4_194_304;

    /// Whether there is no limit at all.
    #[must_use]
    pub const fn is_unlimited(&self) -> bool {
        self.memory_max.is_none() && self.cpu_quota.is_none() && self.tasks_max.is_none()
    }
}

/// What a command and everything below it has used together, as its cgroup has counted. `None`: not measured,
/// because the kernel or the delegation does not provide it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measurements {
    /// CPU time in user mode, in microseconds (`cpu.stat`).
    pub user_us: Option<u64>,
    /// CPU time in the kernel, in microseconds (`cpu.stat`).
    pub system_us: Option<u64>,
    /// Most memory at once, in bytes (`memory.peak`, Linux 5.19).
    pub peak_memory_bytes: Option<u64>,
    /// Bytes read from block devices (`io.stat`).
    pub io_read_bytes: Option<u64>,
    /// Bytes written to block devices (`io.stat`).
    pub io_written_bytes: Option<u64>,
    /// Most tasks at once (`pids.peak`, Linux 6.1).
    pub peak_tasks: Option<u64>,
    /// How many processes the kernel has killed for want of memory (`memory.events`).
    pub oom_kills: Option<u64>,
}

/// What an execution may use and has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// What it may use.
    pub limits: ResourceLimits,
    /// Whether everything that it runs is stopped.
    pub paused: bool,
    /// What it has used. `None`: it is not over, or had no cgroup.
    pub measured: Option<Measurements>,
}

/// Which kinds of resources can be limited and measured for each execution.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Controllers {
    /// `memory_max`, peak memory, processes killed for want of memory.
    pub memory: bool,
    /// `cpu_quota`. CPU time is measured without it.
    pub cpu: bool,
    /// `tasks_max`, peak tasks.
    pub pids: bool,
    /// Bytes read and written.
    pub io: bool,
}
