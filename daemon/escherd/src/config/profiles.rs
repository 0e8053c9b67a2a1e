//! Sets of figures for common uses.

use std::fmt;

use super::default_paths::library_dir;
use super::value_type::Given;

/// A set of figures that stands in place of the defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// A host that works for others.
    Production,
    /// A person's own machine: less of everything, logs in the temporary folder.
    Development,
    /// Automatic tests: short, one command at a time, nothing by itself.
    Testing,
    /// Very many short commands.
    HighVolume,
    /// A host with little memory.
    MemoryConstrained,
}

const MIB: u64 = 1024 * 1024;

impl Profile {
    /// All there are.
    pub const ALL: [Profile; 5] = [
        Profile::Production,
        Profile::Development,
        Profile::Testing,
        Profile::HighVolume,
        Profile::MemoryConstrained,
    ];

    /// Its name, as it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Profile::Production => "production",
            Profile::Development => "development",
            Profile::Testing => "testing",
            Profile::HighVolume => "high-volume",
            Profile::MemoryConstrained => "memory-constrained",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Profile> {
        Profile::ALL
            .into_iter()
            .find(|profile| profile.name() == name)
    }

    /// What would be right where one is named that is not there.
    pub(super) fn wanted() -> String {
        format!(
            "must be one of {}",
            Profile::ALL.map(Profile::name).join(", ")
        )
    }

    /// What it says, by the names of settings.
    pub(super) fn values(self) -> Vec<(&'static str, Given)> {
        let [
            default_timeout,
            max_timeout,
            concurrent,
            in_memory,
            retention,
            output,
        ] = match self {
            Profile::Production => [300_000, 1_800_000, 100, 2000, 7200, 50 * MIB],
            Profile::Development => [60_000, 300_000, 10, 100, 1800, 10 * MIB],
            Profile::Testing => [10_000, 30_000, 1, 10, 300, MIB],
            Profile::HighVolume => [300_000, 1_800_000, 200, 5000, 300, 5 * MIB],
            Profile::MemoryConstrained => [120_000, 600_000, 5, 50, 600, MIB],
        };
        let mut values = vec![
            (
                "execution.default_timeout_ms",
                Given::Number(default_timeout),
            ),
            ("execution.max_timeout_ms", Given::Number(max_timeout)),
            (
                "execution.max_concurrent_executions",
                Given::Number(concurrent),
            ),
            (
                "execution.max_in_memory_executions",
                Given::Number(in_memory),
            ),
            (
                "execution.execution_retention_secs",
                Given::Number(retention),
            ),
            ("execution.max_output_size_bytes", Given::Number(output)),
        ];
        if matches!(self, Profile::Testing | Profile::MemoryConstrained) {
            values.push(("execution.stream_output", Given::Flag(false)));
        }
        if self == Profile::Testing {
            values.push(("execution.enable_auto_cleanup", Given::Flag(false)));
        }
        if self == Profile::Development {
            values.push(("execution.log_dir", Given::Text(library_dir().into())));
        }
        values
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
