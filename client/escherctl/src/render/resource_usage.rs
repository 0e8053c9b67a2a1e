//! Resource limits as the command line takes them.

use escher_client::{ProcessLimits, ResourceLimits, Resources, Rlimit, RlimitUnit};

use crate::args::property_value::BYTE_UNITS;

/// Returns limits as the command line takes them; `None` if there are none.
pub(crate) fn limits(resources: &Resources) -> Option<String> {
    let groups = [
        memory_limits(&resources.limits),
        cpu_limits(&resources.limits),
        io_limits(&resources.limits),
        task_limits(&resources.limits),
        process_limits(&resources.process),
    ];
    joined(groups.into_iter().flatten())
}

/// Returns limits of memory in the same form.
pub(crate) fn memory_limits(limits: &ResourceLimits) -> Option<String> {
    let limit = |name, bytes: Option<u64>| bytes.map(|bytes| format!("{name}={}", memory(bytes)));
    let parts = [
        limit("MemoryMax", limits.memory_max),
        limit("MemoryHigh", limits.memory_high),
    ];
    joined(parts.into_iter().flatten())
}

/// Returns limits of CPU time in the same form.
pub(crate) fn cpu_limits(limits: &ResourceLimits) -> Option<String> {
    let quota = limits
        .cpu_quota
        .map(|percent| format!("CPUQuota={percent}%"));
    let weight = limits
        .cpu_weight
        .map(|weight| format!("CPUWeight={weight}"));
    joined(quota.into_iter().chain(weight))
}

/// Returns limits of I/O in the same form.
pub(crate) fn io_limits(limits: &ResourceLimits) -> Option<String> {
    limits.io_weight.map(|weight| format!("IOWeight={weight}"))
}

/// Returns limits of tasks in the same form.
pub(crate) fn task_limits(limits: &ResourceLimits) -> Option<String> {
    limits.tasks_max.map(|tasks| format!("TasksMax={tasks}"))
}

fn process_limits(limits: &ProcessLimits) -> Option<String> {
    let nice = limits.nice.map(|nice| format!("Nice={nice}"));
    let score = limits
        .oom_score_adjust
        .map(|score| format!("OOMScoreAdjust={score}"));
    let rlimits = limits.rlimits.iter().map(rlimit);
    joined(nice.into_iter().chain(score).chain(rlimits))
}

fn rlimit(limit: &Rlimit) -> String {
    let value = |value| match (value, limit.resource.unit()) {
        (Rlimit::INFINITY, _) => "infinity".to_owned(),
        (bytes, RlimitUnit::Bytes) => memory(bytes),
        (number, _) => number.to_string(),
    };
    let (name, soft, hard) = (limit.resource.name(), value(limit.soft), value(limit.hard));
    if soft == hard {
        format!("Limit{name}={soft}")
    } else {
        format!("Limit{name}={soft}:{hard}")
    }
}

fn joined(parts: impl Iterator<Item = String>) -> Option<String> {
    let parts: Vec<String> = parts.collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

/// Returns the exact value, in the largest unit that divides it.
fn memory(bytes: u64) -> String {
    let mut units = BYTE_UNITS.into_iter();
    let unit = units.find(|(_, shift)| bytes > 0 && bytes.trailing_zeros() >= *shift);
    match unit {
        Some((name, shift)) => format!("{}{name}", bytes >> shift),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escher_client::RlimitResource;

    #[test]
    fn shows_limits_as_the_command_line_takes_them() {
        assert_eq!(limits(&Resources::default()), None);
        for (bytes, shown) in [
            (1, "1"),
            (1_024, "1K"),
            (1_536, "1536"),
            (512 << 20, "512M"),
            (3 << 40, "3T"),
            (1 << 60, "1E"),
        ] {
            let limit = |resource, soft, hard| Rlimit {
                resource,
                soft,
                hard,
            };
            let all = Resources {
                limits: ResourceLimits {
                    memory_max: Some(bytes),
                    memory_high: Some(bytes),
                    cpu_quota: Some(150),
                    cpu_weight: Some(20),
                    io_weight: Some(30),
                    tasks_max: Some(7),
                },
                process: ProcessLimits {
                    nice: Some(-5),
                    oom_score_adjust: Some(100),
                    rlimits: vec![
                        limit(RlimitResource::Cpu, 60, 60),
                        limit(RlimitResource::Core, 0, Rlimit::INFINITY),
                        limit(RlimitResource::Stack, bytes, bytes),
                        limit(RlimitResource::OpenFiles, 1024, 4096),
                    ],
                },
                ..Resources::default()
            };
            let expected = format!(
                "MemoryMax={shown} MemoryHigh={shown} CPUQuota=150% CPUWeight=20 IOWeight=30 TasksMax=7 \
                 Nice=-5 OOMScoreAdjust=100 LimitCPU=60 LimitCORE=0:infinity LimitSTACK={shown} \
                 LimitNOFILE=1024:4096"
            );
            assert_eq!(limits(&all), Some(expected));
        }
    }
}
