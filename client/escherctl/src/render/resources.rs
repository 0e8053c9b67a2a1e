//! What executions may use, and what was not measured of what they have used.

use escher_client::{Measurements, ResourceLimits};

/// A figure that only a cgroup can give.
pub(crate) struct Figure {
    /// Its field in JSON.
    pub(crate) field: &'static str,
    /// What it is, for people.
    pub(crate) name: &'static str,
}

/// The figures that `measured` lacks.
pub(crate) fn not_measured(measured: &Measurements) -> impl Iterator<Item = Figure> {
    let figures = [
        ("io_read_bytes", "bytes read", measured.io_read_bytes),
        (
            "io_written_bytes",
            "bytes written",
            measured.io_written_bytes,
        ),
        ("peak_tasks", "peak tasks", measured.peak_tasks),
        (
            "oom_kills",
            "processes killed for want of memory",
            measured.oom_kills,
        ),
    ];
    let lacking = figures.into_iter().filter(|figure| figure.2.is_none());
    lacking.map(|(field, name, _)| Figure { field, name })
}

/// Limits as they are given on the command line; `None` where there are none.
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

/// Exact, in the largest unit of which it is a multiple.
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
    fn limits_are_shown_as_they_are_given() {
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
