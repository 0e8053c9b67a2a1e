//! Limits and priorities with which the processes of a command begin. They need no cgroup: each process
//! inherits them from its parent and may lower them further.

use serde::{Deserialize, Serialize};

use crate::blob::bounded_list;

/// Limits and priorities of each process of a command.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessLimits {
    /// The nice value (sched(7)), in [`ProcessLimits::NICE`]; lower ones get more CPU time. `None`: 0.
    pub nice: Option<i32>,
    /// The adjustment of the out-of-memory score (proc_pid_oom_score_adj(5)), in
    /// [`ProcessLimits::OOM_SCORE_ADJUST`]; processes with lower ones are killed later. `None`: 0.
    pub oom_score_adjust: Option<i32>,
    /// Limits of single resources, each resource at most once. For all others: those of the launcher,
    /// with a soft limit of 1024 open files.
    #[serde(deserialize_with = "bounded_list")]
    pub rlimits: Vec<Rlimit>,
}

impl ProcessLimits {
    /// The nice values of Linux.
    pub const NICE: std::ops::RangeInclusive<i32> = -20..=19;
    /// The adjustments that Linux takes.
    pub const OOM_SCORE_ADJUST: std::ops::RangeInclusive<i32> = -1000..=1000;

    /// Returns whether nothing is set.
    #[must_use]
    pub const fn is_unset(&self) -> bool {
        self.nice.is_none() && self.oom_score_adjust.is_none() && self.rlimits.is_empty()
    }
}

/// The limit of one resource (setrlimit(2)), in its unit there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rlimit {
    /// Which resource.
    pub resource: RlimitResource,
    /// What the kernel enforces; at most `hard`.
    pub soft: u64,
    /// Up to where a process may raise `soft`.
    pub hard: u64,
}

impl Rlimit {
    /// The value for no limit (`RLIM_INFINITY`).
    pub const INFINITY: u64 = u64::MAX;
}

/// A resource that setrlimit(2) limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RlimitResource {
    /// CPU time, in seconds.
    Cpu,
    /// Length of a file, in bytes.
    FileSize,
    /// Data segment, in bytes.
    Data,
    /// Stack, in bytes.
    Stack,
    /// Core file, in bytes.
    Core,
    /// Resident memory, in bytes; without effect since Linux 2.4.30.
    ResidentSet,
    /// Open file descriptors.
    OpenFiles,
    /// Address space, in bytes.
    AddressSpace,
    /// Processes and threads of the user.
    Processes,
    /// Locked memory, in bytes.
    LockedMemory,
    /// File locks; without effect since Linux 2.4.25.
    FileLocks,
    /// Queued signals of the user.
    PendingSignals,
    /// POSIX message queues of the user, in bytes.
    MessageQueues,
    /// Up to where the nice value may be lowered: to 20 minus this.
    Nice,
    /// Real-time priority.
    RealtimePriority,
    /// CPU time of a real-time process without a blocking system call, in microseconds.
    RealtimeTime,
}

/// What the numbers of an [`Rlimit`] count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RlimitUnit {
    /// Things: descriptors, processes, locks, signals, or a priority.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// Microseconds.
    Microseconds,
    /// 20 minus a nice value.
    Nice,
}

impl RlimitResource {
    /// Every resource with its name in setrlimit(2) and systemd.exec(5), without `RLIMIT_` and `Limit`, in
    /// the order of the wire.
    pub const TABLE: [(RlimitResource, &'static str); 16] = [
        (RlimitResource::Cpu, "CPU"),
        (RlimitResource::FileSize, "FSIZE"),
        (RlimitResource::Data, "DATA"),
        (RlimitResource::Stack, "STACK"),
        (RlimitResource::Core, "CORE"),
        (RlimitResource::ResidentSet, "RSS"),
        (RlimitResource::OpenFiles, "NOFILE"),
        (RlimitResource::AddressSpace, "AS"),
        (RlimitResource::Processes, "NPROC"),
        (RlimitResource::LockedMemory, "MEMLOCK"),
        (RlimitResource::FileLocks, "LOCKS"),
        (RlimitResource::PendingSignals, "SIGPENDING"),
        (RlimitResource::MessageQueues, "MSGQUEUE"),
        (RlimitResource::Nice, "NICE"),
        (RlimitResource::RealtimePriority, "RTPRIO"),
        (RlimitResource::RealtimeTime, "RTTIME"),
    ];

    /// Returns the resource's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        Self::TABLE[self as usize].1
    }

    /// Returns what its limits count.
    #[must_use]
    pub const fn unit(self) -> RlimitUnit {
        match self {
            RlimitResource::Cpu => RlimitUnit::Seconds,
            RlimitResource::RealtimeTime => RlimitUnit::Microseconds,
            RlimitResource::Nice => RlimitUnit::Nice,
            RlimitResource::OpenFiles
            | RlimitResource::Processes
            | RlimitResource::FileLocks
            | RlimitResource::PendingSignals
            | RlimitResource::RealtimePriority => RlimitUnit::Count,
            RlimitResource::FileSize
            | RlimitResource::Data
            | RlimitResource::Stack
            | RlimitResource::Core
            | RlimitResource::ResidentSet
            | RlimitResource::AddressSpace
            | RlimitResource::LockedMemory
            | RlimitResource::MessageQueues => RlimitUnit::Bytes,
        }
    }

    /// Returns the resource with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let mut table = Self::TABLE.into_iter();
        table.find(|row| row.1 == name).map(|row| row.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resource_has_its_row() {
        for (row, (resource, name)) in RlimitResource::TABLE.into_iter().enumerate() {
            assert_eq!(resource as usize, row);
            assert_eq!(resource.name(), name);
            assert_eq!(RlimitResource::from_name(name), Some(resource));
        }
        assert_eq!(RlimitResource::from_name("nofile"), None);
    }
}
