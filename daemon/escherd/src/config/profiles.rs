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
    /// A host whose users run what they like: no timeout unless a request sets one, and bounded logs.
    Host,
}

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;

impl Profile {
    /// All profiles.
    pub const ALL: [Profile; 6] = [
        Profile::Production,
        Profile::Development,
        Profile::Testing,
        Profile::HighVolume,
        Profile::MemoryConstrained,
        Profile::Host,
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
            Profile::Host => "host",
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
        let mut values = match self {
            Profile::Production => sizes([300_000, 1_800_000, 100, 2000, 7200, 50 * MIB]),
            Profile::Development => sizes([60_000, 300_000, 10, 100, 1800, 10 * MIB]),
            Profile::Testing => sizes([10_000, 30_000, 1, 10, 300, MIB]),
            Profile::HighVolume => sizes([300_000, 1_800_000, 200, 5000, 300, 5 * MIB]),
            Profile::MemoryConstrained => sizes([120_000, 600_000, 5, 50, 600, MIB]),
            Profile::Host => numbers([
                ("execution.default_timeout_ms", 0),
                ("execution.max_timeout_ms", 0),
                ("execution.max_log_bytes", 10 * GIB),
            ]),
        };
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

/// Returns the values of a profile that says how long and how many: timeouts, numbers of executions, their time in
/// memory, output.
fn sizes(values: [u64; 6]) -> Vec<(&'static str, TypedValue)> {
    let [
        default_timeout,
        max_timeout,
        concurrent,
        in_memory,
        retention,
        output,
    ] = values;
    numbers([
        ("execution.default_timeout_ms", default_timeout),
        ("execution.max_timeout_ms", max_timeout),
        ("execution.max_concurrent_executions", concurrent),
        ("execution.max_in_memory_executions", in_memory),
        ("execution.execution_retention_secs", retention),
        ("execution.max_output_size_bytes", output),
    ])
}

fn numbers<const N: usize>(values: [(&'static str, u64); N]) -> Vec<(&'static str, TypedValue)> {
    values
        .map(|(name, number)| (name, TypedValue::Number(number)))
        .to_vec()
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
