//! Resource limits, and the measurements that are missing.

use escher_client::protocol::Usage;
use escher_client::{Measurements, ResourceLimits};

/// A measurement that was not made, usually because the command had no cgroup.
pub(crate) struct MissingMeasurement {
    /// Its field in JSON.
    pub(crate) field: &'static str,
    /// Its name in text.
    pub(crate) name: &'static str,
}

/// Returns the most memory that a command used at once, if it was measured.
pub(crate) fn peak_memory(usage: &Usage) -> Option<u64> {
    Some(usage.peak_memory_bytes).filter(|bytes| *bytes > 0)
}

/// Returns what `usage` and `measured` lack.
pub(crate) fn not_measured(
    usage: &Usage,
    measured: &Measurements,
) -> impl Iterator<Item = MissingMeasurement> {
    let measurements = [
        ("peak_memory_bytes", "peak memory", peak_memory(usage)),
        ("io_read_bytes", "bytes read", measured.io_read_bytes),
        (
            "io_written_bytes",
            "bytes written",
            measured.io_written_bytes,
        ),
        ("peak_tasks", "peak tasks", measured.peak_tasks),
        ("oom_kills", "OOM kills", measured.oom_kills),
    ];
    let missing = measurements
        .into_iter()
        .filter(|(_, _, value)| value.is_none());
    missing.map(|(field, name, _)| MissingMeasurement { field, name })
}

/// Returns limits as the command line takes them; `None` if there are none.
pub(crate) fn limits(limits: &ResourceLimits) -> Option<String> {
    let parts = [
        limits
            .memory_max
            .map(|bytes| format!("MemoryMax={}", memory(bytes))),
        limits
            .cpu_quota
            .map(|percent| format!("CPUQuota={percent}%")),
        limits.tasks_max.map(|tasks| format!("TasksMax={tasks}")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

/// Returns the exact value, in the largest unit that divides it.
fn memory(bytes: u64) -> String {
    let units = [("T", 40), ("G", 30), ("M", 20), ("K", 10)];
    let unit = units
        .into_iter()
        .find(|(_, shift)| bytes > 0 && bytes.trailing_zeros() >= *shift);
    match unit {
        Some((name, shift)) => format!("{}{name}", bytes >> shift),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_limits_as_the_command_line_takes_them() {
        assert_eq!(limits(&ResourceLimits::default()), None);
        for (bytes, shown) in [
            (1, "1"),
            (1_024, "1K"),
            (1_536, "1536"),
            (512 << 20, "512M"),
            (3 << 40, "3T"),
        ] {
            let all = ResourceLimits {
                memory_max: Some(bytes),
                cpu_quota: Some(150),
                tasks_max: Some(7),
            };
            let expected = format!("MemoryMax={shown} CPUQuota=150% TasksMax=7");
            assert_eq!(limits(&all), Some(expected));
        }
    }
}
