//! What an execution used, uses, and may use.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::missing_measurements::{not_measured, not_measured_now, peak_memory};
use crate::{CurrentUsage, Measurements, Resources, Rlimit};

/// What a command used that has ended.
#[derive(Debug, Serialize)]
pub(super) struct Usage {
    cpu_user_ms: u64,
    cpu_system_ms: u64,
    /// This and the following fields are `null` if they were not measured.
    peak_memory_bytes: Option<u64>,
    io_read_bytes: Option<u64>,
    io_written_bytes: Option<u64>,
    peak_tasks: Option<u64>,
    oom_kills: Option<u64>,
    /// The names of the fields that were not measured.
    not_measured: Vec<&'static str>,
}

impl Usage {
    /// Makes the object of what a command used that has ended.
    pub(super) fn new(usage: &crate::Usage, measured: &Measurements) -> Self {
        Usage {
            cpu_user_ms: usage.user_us / 1_000,
            cpu_system_ms: usage.system_us / 1_000,
            peak_memory_bytes: peak_memory(usage),
            io_read_bytes: measured.io_read_bytes,
            io_written_bytes: measured.io_written_bytes,
            peak_tasks: measured.peak_tasks,
            oom_kills: measured.oom_kills,
            not_measured: not_measured(usage, measured)
                .map(|value| value.field)
                .collect(),
        }
    }
}

/// What is used at the moment; `null` if it is not measured.
#[derive(Debug, Serialize)]
pub(super) struct UsageNow {
    memory_bytes: Option<u64>,
    tasks: Option<u64>,
    cpu_user_ms: Option<u64>,
    cpu_system_ms: Option<u64>,
    io_read_bytes: Option<u64>,
    io_written_bytes: Option<u64>,
    /// The names of the fields that are not measured.
    not_measured: Vec<&'static str>,
}

impl From<&CurrentUsage> for UsageNow {
    fn from(usage: &CurrentUsage) -> Self {
        UsageNow {
            memory_bytes: usage.memory_bytes,
            tasks: usage.tasks,
            cpu_user_ms: usage.user_us.map(|micros| micros / 1_000),
            cpu_system_ms: usage.system_us.map(|micros| micros / 1_000),
            io_read_bytes: usage.io_read_bytes,
            io_written_bytes: usage.io_written_bytes,
            not_measured: not_measured_now(usage).map(|value| value.field).collect(),
        }
    }
}

/// Limits of the request; `null` means that it sets none.
#[derive(Debug, Serialize)]
pub(super) struct Limits {
    memory_max: Option<u64>,
    memory_high: Option<u64>,
    cpu_quota: Option<u32>,
    cpu_weight: Option<u32>,
    io_weight: Option<u32>,
    tasks_max: Option<u64>,
    nice: Option<i32>,
    oom_score_adjust: Option<i32>,
    /// By the name of the resource, in lower case.
    rlimits: BTreeMap<String, Limit>,
}

impl From<&Resources> for Limits {
    fn from(resources: &Resources) -> Self {
        let (limits, process) = (&resources.limits, &resources.process);
        let named = |limit: &Rlimit| (limit.resource.name().to_lowercase(), Limit::from(limit));
        Limits {
            memory_max: limits.memory_max,
            memory_high: limits.memory_high,
            cpu_quota: limits.cpu_quota,
            cpu_weight: limits.cpu_weight,
            io_weight: limits.io_weight,
            tasks_max: limits.tasks_max,
            nice: process.nice,
            oom_score_adjust: process.oom_score_adjust,
            rlimits: process.rlimits.iter().map(named).collect(),
        }
    }
}

/// A limit of setrlimit(2); `null` means infinity.
#[derive(Debug, Serialize)]
pub(super) struct Limit {
    soft: Option<u64>,
    hard: Option<u64>,
}

impl From<&Rlimit> for Limit {
    fn from(limit: &Rlimit) -> Self {
        let finite = |value| Some(value).filter(|value| *value != Rlimit::INFINITY);
        Limit {
            soft: finite(limit.soft),
            hard: finite(limit.hard),
        }
    }
}
