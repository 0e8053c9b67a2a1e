//! Measurements of what a command used that were not made, usually because it had no cgroup.

use crate::execution::Usage;
use crate::resources::{CurrentUsage, Measurements};

/// A measurement that was not made, usually because the command had no cgroup.
pub struct MissingMeasurement {
    /// Its field in JSON.
    pub field: &'static str,
    /// Its name in text.
    pub name: &'static str,
}

/// Returns the most memory that a command used at once, if it was measured.
#[must_use]
pub fn peak_memory(usage: &Usage) -> Option<u64> {
    Some(usage.peak_memory_bytes).filter(|bytes| *bytes > 0)
}

/// Returns what `usage` and `measured` lack.
pub fn not_measured(
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

/// Returns what `usage` lacks.
pub fn not_measured_now(usage: &CurrentUsage) -> impl Iterator<Item = MissingMeasurement> {
    let measurements = [
        ("memory_bytes", "memory", usage.memory_bytes),
        ("tasks", "tasks", usage.tasks),
        ("cpu_user_ms", "CPU time in user mode", usage.user_us),
        ("cpu_system_ms", "CPU time in the kernel", usage.system_us),
        ("io_read_bytes", "bytes read", usage.io_read_bytes),
        ("io_written_bytes", "bytes written", usage.io_written_bytes),
    ];
    let missing = measurements
        .into_iter()
        .filter(|(_, _, value)| value.is_none());
    missing.map(|(field, name, _)| MissingMeasurement { field, name })
}
