//! Limits and measurements of resources, by cgroups (cgroups(7)).

use serde::{Deserialize, Serialize};

use crate::id::ExecutionId;
use crate::process_limits::ProcessLimits;

/// Limits for a command and all its descendants together. A limit that cannot be enforced is
/// refused, not ignored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ResourceLimits {
    /// Most memory, in bytes (`memory.max`); beyond it the kernel kills processes of the command.
    /// `None`: no limit.
    pub memory_max: Option<u64>,
    /// Memory beyond which the kernel slows the command down and takes memory back, in bytes
    /// (`memory.high`). `None`: no limit.
    pub memory_high: Option<u64>,
    /// Most CPU time, in percent of one CPU (`cpu.max`): 200 is two CPUs. `None`: no limit.
    pub cpu_quota: Option<u32>,
    /// Share of the CPU time of its user's commands (`cpu.weight`), in [`ResourceLimits::WEIGHT`].
    /// `None`: [`ResourceLimits::DEFAULT_WEIGHT`].
    pub cpu_weight: Option<u32>,
    /// Share of the I/O of its user's commands (`io.weight`, `io.bfq.weight`), in
    /// [`ResourceLimits::WEIGHT`]. `None`: [`ResourceLimits::DEFAULT_WEIGHT`].
    pub io_weight: Option<u32>,
    /// Most tasks (processes and threads) at once (`pids.max`); at most
    /// [`ResourceLimits::MOST_TASKS`]. `None`: no limit.
    pub tasks_max: Option<u64>,
}

impl ResourceLimits {
    /// The largest `tasks_max` that Linux accepts (`PID_MAX_LIMIT`).
    pub const MOST_TASKS: u64 = 4_194_304;
    /// The weights that Linux takes.
    pub const WEIGHT: std::ops::RangeInclusive<u32> = 1..=10_000;
    /// The weight of a cgroup for which none is set.
    pub const DEFAULT_WEIGHT: u32 = 100;

    /// Returns whether no limit is set.
    #[must_use]
    pub const fn is_unlimited(&self) -> bool {
        let ResourceLimits {
            memory_max,
            memory_high,
            cpu_quota,
            cpu_weight,
            io_weight,
            tasks_max,
        } = self;
        memory_max.is_none()
            && memory_high.is_none()
            && cpu_quota.is_none()
            && cpu_weight.is_none()
            && io_weight.is_none()
            && tasks_max.is_none()
    }
}

/// Resources that a command and all its descendants used together, as counted by their cgroup.
/// `None`: not measured, because the kernel or the delegation does not provide it.
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
    /// Processes that the kernel killed for lack of memory (`memory.events`).
    pub oom_kills: Option<u64>,
}

/// Resources that a running command and all its descendants use at the moment, as counted by their
/// cgroup. `None`: not measured, because there is no cgroup, or the kernel or the delegation does not
/// provide it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CurrentUsage {
    /// Memory, in bytes (`memory.current`).
    pub memory_bytes: Option<u64>,
    /// Tasks: processes and threads (`pids.current`).
    pub tasks: Option<u64>,
    /// CPU time in user mode so far, in microseconds (`cpu.stat`).
    pub user_us: Option<u64>,
    /// CPU time in the kernel so far, in microseconds (`cpu.stat`).
    pub system_us: Option<u64>,
    /// Bytes read from block devices so far (`io.stat`).
    pub io_read_bytes: Option<u64>,
    /// Bytes written to block devices so far (`io.stat`).
    pub io_written_bytes: Option<u64>,
}

/// What one of several running executions uses at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionUsage {
    /// The execution.
    pub id: ExecutionId,
    /// The execution's number.
    pub number: u64,
    /// What it uses.
    pub usage: CurrentUsage,
}

/// Limits and measurements of an execution.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// The limits of its request.
    pub limits: ResourceLimits,
    /// The limits of each of its processes, of its request.
    pub process: ProcessLimits,
    /// Whether all its processes are stopped
    /// ([`Request::Pause`](crate::message::Request::Pause)).
    pub paused: bool,
    /// What it used. `None`: it is not finished, or had no cgroup.
    pub measured: Option<Measurements>,
}

/// Which resources can be limited and measured for each execution.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Controllers {
    /// `memory_max`, `memory_high`, peak memory, processes killed for lack of memory.
    pub memory: bool,
    /// `cpu_quota`, `cpu_weight`. CPU time is measured without this controller too.
    pub cpu: bool,
    /// `tasks_max`, peak tasks.
    pub pids: bool,
    /// Bytes read and written.
    pub io: bool,
    /// `io_weight`: whether the kernel has a scheduler for it, too.
    pub io_weight: bool,
}
