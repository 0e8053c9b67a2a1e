//! Named sets of defaults for common uses.

use std::fmt;

use super::temporary_dir::user_temporary_dir;
use super::value_type::TypedValue;

/// A set of values that replaces some defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// A server.
    Production,
    /// A developer's machine: lower limits, logs in the temporary directory.
    Development,
    /// Automatic tests: short timeouts, one command at a time, no automatic cleanup.
    Testing,
    /// A high rate of short commands.
    HighVolume,
    /// A host with little memory.
    MemoryConstrained,
}

const MIB: u64 = 1024 * 1024;

impl Profile {
    /// All profiles.
    pub const ALL: [Profile; 5] = [
        Profile::Production,
        Profile::Development,
        Profile::Testing,
        Profile::HighVolume,
        Profile::MemoryConstrained,
    ];

    /// Returns the name, as it is written.
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

    /// Returns the profile of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Profile> {
        Profile::ALL
            .into_iter()
            .find(|profile| profile.name() == name)
    }

    /// Explains which names there are.
    pub(super) fn expected() -> String {
        let names = Profile::ALL.map(Profile::name).join(", ");
        format!("must be one of {names}")
    }

    /// Returns the values by the names of settings.
    pub(super) fn values(self) -> Vec<(&'static str, TypedValue)> {
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
        let numbers = [
            ("execution.default_timeout_ms", default_timeout),
            ("execution.max_timeout_ms", max_timeout),
            ("execution.max_concurrent_executions", concurrent),
            ("execution.max_in_memory_executions", in_memory),
            ("execution.execution_retention_secs", retention),
            ("execution.max_output_size_bytes", output),
        ];
        let mut values = numbers
            .map(|(name, number)| (name, TypedValue::Number(number)))
            .to_vec();
        if matches!(self, Profile::Testing | Profile::MemoryConstrained) {
            values.push(("execution.stream_output", TypedValue::Flag(false)));
        }
        if self == Profile::Testing {
            values.push(("execution.enable_auto_cleanup", TypedValue::Flag(false)));
        }
        if self == Profile::Development {
            let dir = user_temporary_dir();
            values.push(("execution.log_dir", TypedValue::Text(dir.into())));
        }
        values
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
