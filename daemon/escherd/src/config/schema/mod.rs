//! The table of all settings: the name of each, its type and default, its environment variable, and
//! the field that it sets.

mod definition;
mod unknown;

pub(super) use definition::SettingDefinition;
pub(super) use unknown::{explain_unknown_key, explain_unknown_section};

use std::ops::RangeInclusive;
use std::time::Duration;

use escher_launcher::ipc::wire::WhenLogFull;
use escher_protocol::ResourceLimits;

use super::settings::{DaemonSettings, OnBoot, ReloadableSettings};
use super::value_type::ValueType;
use crate::execution::MAX_KILL_GRACE_MS;
use crate::output::OversizedOutput;
use crate::store::Durability;
use definition::{choice, duration, flag, number, path, percent, setting};

/// The sections, which are the tables of a file.
pub(super) const SECTIONS: [&str; 5] = ["daemon", "execution", "users", "store", "history"];

/// The section whose keys may be at the top level of a JSON file.
pub(super) const FLAT_SECTION: &str = "execution";

/// Aliases, each with the name of its setting.
const ALIASES: [(&str, &str); 1] = [("daemon.log_dir", "execution.log_dir")];

const ANY_NUMBER: RangeInclusive<u64> = 0..=u64::MAX;
const AT_LEAST_ONE: RangeInclusive<u64> = 1..=u64::MAX;
const YEAR_SECS: u64 = 366 * 24 * 60 * 60;
const WEEK_SECS: u64 = 7 * 24 * 60 * 60;
const DAY: Duration = Duration::from_millis(MAX_KILL_GRACE_MS);
const CENTURY: Duration = Duration::from_secs(100 * YEAR_SECS);
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// The largest submission, decoded: with less, escherd could never accept it.
const MIN_CLIENT_MEMORY_BYTES_PER_USER: u64 = 32 * MIB;

/// Twice as much, because a user may hold as much as is left for others.
const MIN_CLIENT_MEMORY_BYTES: u64 = 2 * MIN_CLIENT_MEMORY_BYTES_PER_USER;

/// The table. Values are applied in its order.
pub(super) const SETTINGS: &[SettingDefinition] = &[
    path("daemon.socket", |s, path| s.socket.path = path),
    setting(
        "daemon.socket_mode",
        ValueType::Mode {
            default: 0o660,
            set: |s, mode| s.socket.mode = mode,
        },
    ),
    setting(
        "daemon.socket_group",
        ValueType::Name {
            set: |s, name| s.socket.group = Some(name),
        },
    ),
    path("daemon.metrics_socket", |s, path| {
        s.metrics_socket = Some(path)
    }),
    path("daemon.runtime_dir", |s, path| s.engine.runtime_dir = path),
    path("daemon.state_dir", |s, path| s.engine.state_dir = path),
    path("daemon.launcher", |s, path| s.engine.launcher = path),
    path("daemon.launcher_socket", |s, path| {
        s.engine.launcher_socket = Some(path)
    }),
    number("daemon.warm_shims", 4, ANY_NUMBER, |s, n| {
        s.engine.warm_shims = to_usize(n);
    })
    .memory_each(MIB),
    choice(
        "daemon.on_boot",
        &[
            ("resume", |s| s.engine.on_boot = OnBoot::Resume),
            ("drop", |s| s.engine.on_boot = OnBoot::Drop),
        ],
    ),
    duration("daemon.stop_grace", "20s", DAY, |s, duration| {
        s.engine.stop_grace = duration;
    }),
    number("daemon.max_connections", 4096, AT_LEAST_ONE, |s, n| {
        s.connections.max_connections = to_usize(n);
    })
    .memory_each(KIB)
    .reloadable(),
    number(
        "daemon.max_connections_per_user",
        1024,
        AT_LEAST_ONE,
        |s, n| {
            s.connections.max_connections_per_user = to_usize(n);
        },
    )
    .memory_each(KIB)
    .reloadable(),
    number(
        "daemon.max_client_memory_bytes",
        256 * MIB,
        MIN_CLIENT_MEMORY_BYTES..=u64::MAX,
        |s, n| {
            s.client_memory.max_bytes = to_usize(n);
        },
    )
    .memory_each(1)
    .reloadable(),
    number(
        "daemon.max_client_memory_bytes_per_user",
        64 * MIB,
        MIN_CLIENT_MEMORY_BYTES_PER_USER..=u64::MAX,
        |s, n| {
            s.client_memory.max_bytes_per_user = to_usize(n);
        },
    )
    .memory_each(1)
    .reloadable(),
    number(
        "execution.default_timeout_ms",
        120_000,
        ANY_NUMBER,
        |s, n| {
            reloadable(s).request.default_timeout_ms = n;
        },
    )
    .variable("EXEC_DEFAULT_TIMEOUT_MS")
    .reloadable(),
    number("execution.max_timeout_ms", 600_000, ANY_NUMBER, |s, n| {
        reloadable(s).request.max_timeout_ms = n;
    })
    .variable("EXEC_MAX_TIMEOUT_MS")
    .reloadable(),
    number(
        "execution.kill_grace_ms",
        10_000,
        0..=MAX_KILL_GRACE_MS,
        |s, n| reloadable(s).request.kill_grace_ms = n,
    )
    .reloadable(),
    duration("execution.max_kill_grace", "60s", DAY, |s, duration| {
        reloadable(s).request.max_kill_grace_ms = to_milliseconds(duration);
    })
    .reloadable(),
    duration("execution.drain", "2s", DAY, |s, duration| {
        reloadable(s).request.drain_ms = to_milliseconds(duration);
    })
    .reloadable(),
    duration("execution.max_drain", "60s", DAY, |s, duration| {
        reloadable(s).request.max_drain_ms = to_milliseconds(duration);
    })
    .reloadable(),
    flag("execution.stream_output", true, |s, on| {
        reloadable(s).output.stream = on;
    })
    .variable("EXEC_STREAM_OUTPUT")
    .reloadable(),
    path("execution.log_dir", |s, path| s.engine.log_dir = path).variable("EXEC_LOG_DIR"),
    number(
        "execution.max_concurrent_executions",
        100,
        AT_LEAST_ONE,
        |s, n| {
            reloadable(s).max_concurrent_executions = to_usize(n);
        },
    )
    .memory_each(KIB)
    .variable("EXEC_MAX_CONCURRENT")
    .reloadable(),
    number(
        "execution.max_pending_executions",
        10_000,
        ANY_NUMBER,
        |s, n| {
            reloadable(s).max_pending_executions = to_usize(n);
        },
    )
    .memory_each(KIB)
    .reloadable(),
    number(
        "execution.max_pending_bytes",
        256 * MIB,
        ANY_NUMBER,
        |s, n| {
            reloadable(s).max_pending_bytes = n;
        },
    )
    .reloadable(),
    number(
        "execution.max_launch_attempts",
        3,
        1..=u32::MAX as u64,
        |s, n| {
            reloadable(s).max_launch_attempts = u32::try_from(n).unwrap_or(u32::MAX);
        },
    )
    .reloadable(),
    number(
        "execution.max_in_memory_executions",
        1000,
        ANY_NUMBER,
        |s, n| {
            reloadable(s).max_in_memory_executions = to_usize(n);
        },
    )
    .memory_each(KIB)
    .variable("EXEC_MAX_IN_MEMORY")
    .reloadable(),
    number(
        "execution.execution_retention_secs",
        3600,
        ANY_NUMBER,
        |s, n| {
            reloadable(s).cleanup.retention = Duration::from_secs(n);
        },
    )
    .variable("EXEC_RETENTION_SECS")
    .reloadable(),
    flag("execution.enable_auto_cleanup", true, |s, on| {
        reloadable(s).cleanup.is_automatic = on;
    })
    .variable("EXEC_AUTO_CLEANUP")
    .reloadable(),
    number(
        "execution.cleanup_interval_secs",
        300,
        // Timers have a maximum; a year is below it.
        1..=YEAR_SECS,
        |s, n| reloadable(s).cleanup.interval = Duration::from_secs(n),
    )
    .reloadable(),
    number(
        "execution.max_output_size_bytes",
        10 * MIB,
        AT_LEAST_ONE,
        |s, n| {
            reloadable(s).output.max_bytes = n;
        },
    )
    .memory_each(1)
    .variable("EXEC_MAX_OUTPUT_BYTES")
    .reloadable(),
    number("execution.keep_tail_bytes", 0, ANY_NUMBER, |s, n| {
        reloadable(s).output.keep_tail_bytes = n;
    })
    .memory_each(1)
    .reloadable(),
    choice(
        "execution.oversized_output_strategy",
        &[
            ("truncate_with_warning", |s| {
                reloadable(s).output.oversized = OversizedOutput::Truncate;
            }),
            ("fail_execution", |s| {
                reloadable(s).output.oversized = OversizedOutput::Fail;
            }),
            ("stream_to_file", |s| {
                reloadable(s).output.oversized = OversizedOutput::ToFile;
            }),
        ],
    )
    .variable("EXEC_OVERSIZED_OUTPUT_STRATEGY")
    .reloadable(),
    // Comes after the strategy, because it may change what that has set.
    flag("execution.truncate_large_output", true, |s, on| {
        let oversized = &mut reloadable(s).output.oversized;
        if !on && *oversized == OversizedOutput::Truncate {
            *oversized = OversizedOutput::Fail;
        }
    })
    .variable("EXEC_TRUNCATE_LARGE_OUTPUT")
    .reloadable(),
    number("execution.max_log_bytes", 0, ANY_NUMBER, |s, n| {
        reloadable(s).log_limits.max_bytes = n;
    })
    .reloadable(),
    number(
        "execution.log_min_free_bytes",
        64 * MIB,
        ANY_NUMBER,
        |s, n| {
            reloadable(s).log_limits.min_free_bytes = n;
        },
    )
    .reloadable(),
    choice(
        "execution.log_full",
        &[
            ("drain", |s| {
                reloadable(s).log_limits.when_full = WhenLogFull::Drain;
            }),
            ("kill", |s| {
                reloadable(s).log_limits.when_full = WhenLogFull::Kill;
            }),
            ("forget_oldest", |s| {
                reloadable(s).log_limits.when_full = WhenLogFull::ForgetOldest;
            }),
        ],
    )
    .reloadable(),
    percent("users.queue_share", 50, |s, share| {
        reloadable(s).queue_share = share;
    })
    .reloadable(),
    percent("users.log_share", 25, |s, share| {
        reloadable(s).log_share = share;
    })
    .reloadable(),
    number("users.max_memory_bytes", 0, ANY_NUMBER, |s, n| {
        reloadable(s).user_limits.memory_max = unless_zero(n);
    })
    .reloadable(),
    number("users.max_cpu_percent", 0, 0..=u32::MAX as u64, |s, n| {
        let percent = unless_zero(n).map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        reloadable(s).user_limits.cpu_quota = percent;
    })
    .reloadable(),
    number(
        "users.max_tasks",
        0,
        0..=ResourceLimits::MOST_TASKS,
        |s, n| reloadable(s).user_limits.tasks_max = unless_zero(n),
    )
    .reloadable(),
    number("users.max_left", 100, 0..=u32::MAX as u64, |s, n| {
        reloadable(s).max_left = u32::try_from(n).unwrap_or(u32::MAX);
    })
    .reloadable(),
    choice(
        "store.durability",
        &[
            ("crash", |s| s.engine.durability = Durability::Crash),
            ("power", |s| s.engine.durability = Durability::Power),
        ],
    ),
    number("store.min_free_bytes", 16 * MIB, ANY_NUMBER, |s, n| {
        reloadable(s).store_min_free_bytes = n;
    })
    .reloadable(),
    duration("store.set_aside_age", "30d", CENTURY, |s, duration| {
        reloadable(s).cleanup.set_aside_age = duration;
    })
    .reloadable(),
    number("history.max_age_secs", WEEK_SECS, ANY_NUMBER, |s, n| {
        reloadable(s).cleanup.limits.max_age_secs = n;
    })
    .reloadable(),
    number("history.max_bytes", 1024 * MIB, ANY_NUMBER, |s, n| {
        reloadable(s).cleanup.limits.max_bytes = n;
    })
    .reloadable(),
    duration("history.min_age", "10m", CENTURY, |s, duration| {
        reloadable(s).cleanup.limits.min_age = duration;
    })
    .reloadable(),
    number("history.max_count", 1_000_000, ANY_NUMBER, |s, n| {
        reloadable(s).cleanup.limits.max_count = n;
    })
    .reloadable(),
];

fn reloadable(settings: &mut DaemonSettings) -> &mut ReloadableSettings {
    &mut settings.engine.reloadable
}

/// Converts a maximum number. A number above the range of `usize` is as good as unlimited.
fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Returns a limit, which 0 stands for the absence of.
fn unless_zero(limit: u64) -> Option<u64> {
    Some(limit).filter(|limit| *limit > 0)
}

fn to_milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the setting of this name.
pub(super) fn by_name(name: &str) -> Option<&'static SettingDefinition> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// Returns the setting that a key of a section names, and whether the key is an alias.
pub(super) fn find(section: &str, key: &str) -> Option<(&'static SettingDefinition, bool)> {
    let written = format!("{section}.{key}");
    match ALIASES.iter().find(|(alias, _)| *alias == written) {
        Some((_, name)) => by_name(name).map(|setting| (setting, true)),
        None => by_name(&written).map(|setting| (setting, false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_of_known_sections() {
        for (index, setting) in SETTINGS.iter().enumerate() {
            let (section, _) = setting.name.split_once('.').unwrap();
            assert!(SECTIONS.contains(&section), "{}", setting.name);
            assert!(
                SETTINGS[..index]
                    .iter()
                    .all(|other| other.name != setting.name)
            );
        }
    }

    #[test]
    fn each_setting_accepts_its_default() {
        for setting in SETTINGS {
            match (&setting.value_type, setting.value_type.default()) {
                (ValueType::Number { range, default, .. }, _) => assert!(range.contains(default)),
                (ValueType::Path { .. } | ValueType::Name { .. }, None) => {}
                (_, Some(_)) => {}
                (_, None) => panic!("{} has no default", setting.name),
            }
        }
    }
}
